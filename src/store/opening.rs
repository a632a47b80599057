//! Opening a database to work with it: it is looked at, opened and brought up to date.
//!
//! What SQLite says when that fails is the same for a disk that is short of room and for one that is broken: it cannot make the file that
//! its connections share, and calls that "disk I/O error" or "unable to open database file". The disk itself knows better, and none of it
//! says anything about the database.

use diesel::result::Error as DieselError;

use super::condition::shortage;
use super::connection::{Conn, DatabaseUrl, Purpose};
use super::{Fault, StoreError, encoding, migrations, soundness};

/// A connection that writes, to a database that is sound and has this version's schema.
pub(super) fn prepare(url: &DatabaseUrl) -> Result<Conn, StoreError> {
    look_and_open(url).map_err(|error| match url.file() {
        Some(path) if may_be_a_shortage(&error) => {
            shortage(path).map_or(error, |why| Fault::NotWritable(why).into())
        }
        _ => error,
    })
}

fn look_and_open(url: &DatabaseUrl) -> Result<Conn, StoreError> {
    soundness::check_before_use(url)?;
    let mut conn = url.connect(Purpose::Write)?;
    encoding::check(&mut conn, url)?;
    let applied = migrations::migrate(&mut conn)?;
    if !applied.is_empty() {
        tracing::info!(migrations = applied.join(", "), "database schema brought up to date");
    }
    Ok(conn)
}

fn may_be_a_shortage(error: &StoreError) -> bool {
    match error {
        StoreError::Fault(Fault::Disk(_)) => true,
        StoreError::Database(DieselError::DatabaseError(_, information)) => {
            information.message() == "unable to open database file"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::DatabaseErrorKind;

    use super::*;

    fn said(message: &str) -> StoreError {
        let information = Box::new(message.to_owned());
        DieselError::DatabaseError(DatabaseErrorKind::Unknown, information).into()
    }

    #[test]
    fn b1_the_disk_is_asked_about_what_sqlite_says_of_a_full_one_and_about_nothing_else() {
        assert!(may_be_a_shortage(&said("disk I/O error")));
        assert!(may_be_a_shortage(&said("unable to open database file")));
        assert!(!may_be_a_shortage(&said("file is not a database")));
        assert!(!may_be_a_shortage(&said("database or disk is full")), "it is said already");
        assert!(!may_be_a_shortage(&StoreError::Busy));
    }
}
