//! Whether what PostgreSQL acknowledges is on its disk. SQLite is told that it has to be, and is asked by nobody else.

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{Conn, StoreError};

/// What a server does with commits, as its settings say it.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
struct ServerSettings {
    #[diesel(sql_type = Text)]
    fsync: String,
    #[diesel(sql_type = Text)]
    full_page_writes: String,
    /// What counts for sessions that do not say.
    #[diesel(sql_type = Text)]
    synchronous_commit: String,
}

/// Why what is acknowledged could be lost, each with what to do about it; none where it cannot.
///
/// # Errors
/// When the database refuses.
pub fn doubts(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    const SETTINGS: &str = "SELECT current_setting('fsync') AS fsync, \
         current_setting('full_page_writes') AS full_page_writes, \
         (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS synchronous_commit";
    match conn {
        Conn::Sqlite(_) => Ok(Vec::new()),
        Conn::Postgres(conn) => {
            Ok(judge(&diesel::sql_query(SETTINGS).get_result::<ServerSettings>(conn)?))
        }
    }
}

fn judge(settings: &ServerSettings) -> Vec<String> {
    let mut doubts = Vec::new();
    if settings.fsync == "off" {
        doubts.push(
            "fsync is off: after a power cut the database can be damaged; set `fsync = on` in postgresql.conf"
                .to_owned(),
        );
    }
    if settings.full_page_writes == "off" {
        doubts.push(
            "full_page_writes is off: after a power cut the database can be damaged; set `full_page_writes = on` in postgresql.conf"
                .to_owned(),
        );
    }
    if settings.synchronous_commit == "off" {
        doubts.push(
            "synchronous_commit is off: jobs that were acknowledged can be lost. Sexton turns it on in each of its sessions, which a pooler \
             that works by transaction may forget; say `ALTER ROLE … SET synchronous_commit = on` for its user"
                .to_owned(),
        );
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(fsync: &str, full_page_writes: &str, synchronous_commit: &str) -> ServerSettings {
        ServerSettings {
            fsync: fsync.to_owned(),
            full_page_writes: full_page_writes.to_owned(),
            synchronous_commit: synchronous_commit.to_owned(),
        }
    }

    #[test]
    fn m4_a_server_that_acknowledges_what_is_not_on_its_disk_is_doubted() {
        assert_eq!(judge(&settings("on", "on", "on")), [""; 0]);
        for waits_for_standbys in ["local", "remote_write", "remote_apply"] {
            assert_eq!(judge(&settings("on", "on", waits_for_standbys)), [""; 0]);
        }
        let doubts = judge(&settings("off", "off", "off"));
        assert_eq!(doubts.len(), 3);
        for (doubt, cure) in
            doubts.iter().zip(["fsync = on", "full_page_writes = on", "synchronous_commit = on"])
        {
            assert!(doubt.contains(cure), "{doubt}");
        }
    }
}
