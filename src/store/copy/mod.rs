//! A whole history in another database: out of SQLite into PostgreSQL when one node is not enough any more, or any other way.
//!
//! All of it is one snapshot of the source and one transaction of the target: a copy that is interrupted leaves the target as empty as it
//! was. Both stand still meanwhile. A daemon that is started on the target too early waits until the copy is there; none can be at work on
//! the source.

pub(super) mod table;
pub(super) mod text;

use std::os::unix::fs::MetadataExt;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use jiff::Timestamp;

use super::schema::{TABLES, meta, nodes};
use super::{
    Conn, DatabaseUrl, Fault, Purpose, StoreError, audit, encoding, migrations, sequences,
    soundness,
};

pub use table::Table;

/// How long PostgreSQL waits for those who write to a table just now.
const LOCK_PATIENCE: &str = "10s";

/// The advisory lock of a database that is copied from or to. Its number is a text, so that nothing else takes the same.
const COPYING: i64 = i64::from_be_bytes(*b"sextoncp");

/// The table of facts about the database itself.
const META: &str = meta::table::WHOLE.name;

/// Why there is no copy. The target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source cannot be read.
    #[error("cannot copy from {url}")]
    Source {
        /// The source.
        url: DatabaseUrl,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The target cannot be written.
    #[error("cannot copy to {url}; no row of it was changed")]
    Target {
        /// The target.
        url: DatabaseUrl,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// They are the same.
    #[error("{0} cannot be copied onto itself, nor into or out of a database that is being copied")]
    Same(DatabaseUrl),
    /// A daemon works on the source.
    #[error(
        "the daemon on `{node}`, process {pid}, uses {url}: stop it first. One that was killed counts as alive until {until}"
    )]
    InUse {
        /// The source.
        url: DatabaseUrl,
        /// Its host.
        node: String,
        /// Its process.
        pid: i64,
        /// The end of its lease.
        until: Timestamp,
    },
    /// Something is in the target.
    #[error(
        "{url} is not empty: its table `{table}` has rows ({rows}). Give the copy a new database"
    )]
    NotEmpty {
        /// The target.
        url: DatabaseUrl,
        /// The first table with rows.
        table: &'static str,
        /// How many.
        rows: i64,
    },
    /// Something else is in its place.
    #[error(
        "{0} is neither new nor a database of Sexton's that can be written, and was left as it is. Give the copy a new database"
    )]
    Foreign(DatabaseUrl),
    /// A table could not be read here or written there.
    #[error("the table `{table}` cannot be copied; the copy was taken back")]
    Table {
        /// The table.
        table: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// What arrived is not what was there.
    #[error(
        "the table `{table}` has {there} rows and {arrived} of them arrived; the copy was taken back"
    )]
    Incomplete {
        /// The table.
        table: &'static str,
        /// In the source.
        there: i64,
        /// In the target.
        arrived: i64,
    },
    /// A transaction could not be begun or ended.
    #[error("the copy was not committed")]
    Transaction(#[source] StoreError),
}

impl From<diesel::result::Error> for CopyError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Transaction(error.into())
    }
}

/// A table that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has, in both databases.
    pub rows: i64,
    /// How many of its texts had a NUL, which PostgreSQL cannot keep, and have U+FFFD in its place now.
    pub changed: u64,
}

/// A copy that can begin, because its source is one.
pub struct Copying<'a> {
    from: &'a DatabaseUrl,
    to: &'a DatabaseUrl,
    source: Conn,
}

impl<'a> Copying<'a> {
    /// Looks at the source, and at nothing of the target but whether it is another database, and no file of somebody else's.
    ///
    /// # Errors
    /// When the source is not there, is damaged, or has another schema than this version's, or the target is something else.
    pub fn prepare(from: &'a DatabaseUrl, to: &'a DatabaseUrl) -> Result<Self, CopyError> {
        let failed = |source| CopyError::Source { url: from.clone(), source };
        if is_same_file(from, to) {
            return Err(CopyError::Same(from.clone()));
        }
        soundness::check_before_use(from).map_err(failed)?;
        // Its tables cannot be locked on a connection that is for reading only.
        let purpose = match from {
            DatabaseUrl::Sqlite(_) => Purpose::Read,
            DatabaseUrl::Postgres(_) => Purpose::Write,
        };
        let mut source = from.connect(purpose).map_err(failed)?;
        migrations::require_current(&mut source).map_err(failed)?;
        refuse_foreign(to)?;
        Ok(Self { from, to, source })
    }

    /// Copies. Whoever calls it holds what keeps daemons away from SQLite files; on PostgreSQL locks of the tables do.
    ///
    /// `logs` are the names under which the two databases know this host's audit log; `progress` is told, table by table, how many rows
    /// have been copied so far.
    ///
    /// # Errors
    /// When a daemon uses the source, the target is not empty, or one of them fails.
    pub fn run(
        self,
        logs: (&str, &str),
        now: Timestamp,
        progress: &mut dyn FnMut(&'static str, usize),
    ) -> Result<Vec<Copied>, CopyError> {
        let Self { from, to, mut source } = self;
        source.transaction(|source| {
            hold(source, from, Side::Source)?;
            refuse_served(source, from, now)?;
            let failed = |source| CopyError::Target { url: to.clone(), source };
            let mut target = to.connect(Purpose::Write).map_err(failed)?;
            encoding::check(&mut target, to).map_err(failed)?;
            migrate_new(&mut target).map_err(failed)?;
            target.transaction(|target| {
                hold(target, to, Side::Target)?;
                refuse_filled(target, to)?;
                let changed = pour(source, target, progress)?;
                let copied = compare(source, target, &changed, from, to)?;
                let given = sequences::given(source)
                    .map_err(|source| CopyError::Source { url: from.clone(), source })?;
                for given in &given {
                    sequences::go_on_after(target, given).map_err(failed)?;
                }
                audit::rename_log(target, logs.0, logs.1).map_err(failed)?;
                Ok(copied)
            })
        })
    }
}

/// The same file under two names, perhaps. Two URLs of one server are found out by its lock.
fn is_same_file(from: &DatabaseUrl, to: &DatabaseUrl) -> bool {
    let (DatabaseUrl::Sqlite(from), DatabaseUrl::Sqlite(to)) = (from, to) else { return false };
    let identity = |path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(from).is_some_and(|found| Some(found) == identity(to))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

impl Side {
    fn failed(self, url: &DatabaseUrl) -> impl Fn(StoreError) -> CopyError {
        let url = url.clone();
        move |source| match self {
            Self::Source => CopyError::Source { url: url.clone(), source },
            Self::Target => CopyError::Target { url: url.clone(), source },
        }
    }
}

/// A file that is there is a database of ours, perhaps an empty one, or is not touched.
fn refuse_foreign(to: &DatabaseUrl) -> Result<(), CopyError> {
    match soundness::check_before_use(to).and_then(|()| soundness::is_new_or_ours(to)) {
        Ok(true) => Ok(()),
        Ok(false) | Err(StoreError::Unsound { .. } | StoreError::Fault(Fault::Damaged(_))) => {
            Err(CopyError::Foreign(to.clone()))
        }
        Err(source) => Err(CopyError::Target { url: to.clone(), source }),
    }
}

/// Makes a database stand still until the end of the transaction, and a snapshot of the source. The locks come before anything that would
/// take the snapshot, so that it has all that was committed before them.
fn hold(conn: &mut Conn, url: &DatabaseUrl, side: Side) -> Result<(), CopyError> {
    let Conn::Postgres(conn) = conn else { return Ok(()) };
    let (isolation, mode) = match side {
        Side::Source => ("REPEATABLE READ", "SHARE"),
        Side::Target => ("READ COMMITTED", "EXCLUSIVE"),
    };
    let failed = |error: diesel::result::Error| side.failed(url)(error.into());
    conn.batch_execute(&format!(
        "SET TRANSACTION ISOLATION LEVEL {isolation}; SET LOCAL lock_timeout = '{LOCK_PATIENCE}'"
    ))
    .map_err(failed)?;
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let lock = format!("LOCK TABLE {} IN {mode} MODE", names.join(", "));
    // The target's tables are the source's, when both are one; then they are locked already.
    let is_free = |conn: &mut PgConnection| {
        diesel::select(sql::<Bool>(&format!("pg_try_advisory_xact_lock({COPYING})")))
            .get_result::<bool>(conn)
            .map_err(failed)
    };
    if side == Side::Source {
        conn.batch_execute(&lock).map_err(failed)?;
    }
    if !is_free(conn)? {
        return Err(CopyError::Same(url.clone()));
    }
    if side == Side::Target {
        conn.batch_execute(&lock).map_err(failed)?;
    }
    Ok(())
}

/// On SQLite the lock beside the file shows that no daemon is at work; on PostgreSQL the leases do.
fn refuse_served(conn: &mut Conn, url: &DatabaseUrl, now: Timestamp) -> Result<(), CopyError> {
    if matches!(conn, Conn::Sqlite(_)) {
        return Ok(());
    }
    let alive: Option<(String, i64, super::Micros)> = nodes::table
        .filter(nodes::stopped_at.is_null())
        .filter(nodes::lease_until.gt(now.as_microsecond()))
        .select((nodes::name, nodes::pid, nodes::lease_until))
        .order(nodes::lease_until.desc())
        .first(conn)
        .optional()
        .map_err(|error| Side::Source.failed(url)(error.into()))?;
    match alive {
        None => Ok(()),
        Some((node, pid, until)) => {
            Err(CopyError::InUse { url: url.clone(), node, pid, until: until.into() })
        }
    }
}

/// Gives a new database its tables. One that has some is left alone, and must have them all.
fn migrate_new(conn: &mut Conn) -> Result<(), StoreError> {
    if migrations::status(conn)?.applied.is_empty() {
        migrations::migrate(conn)?;
    }
    migrations::require_current(conn)
}

/// A database in which no daemon has ever been has rows in `meta` alone, those that migrations made. The source's take their place.
fn refuse_filled(conn: &mut Conn, url: &DatabaseUrl) -> Result<(), CopyError> {
    for table in TABLES.iter().filter(|table| table.name != META) {
        let rows = table.rows(conn).map_err(Side::Target.failed(url))?;
        if rows > 0 {
            return Err(CopyError::NotEmpty { url: url.clone(), table: table.name, rows });
        }
    }
    let emptied = diesel::delete(meta::table).execute(conn);
    emptied.map(drop).map_err(|error| Side::Target.failed(url)(error.into()))
}

/// Returns how many texts of each table were changed.
fn pour(
    source: &mut Conn,
    target: &mut Conn,
    progress: &mut dyn FnMut(&'static str, usize),
) -> Result<Vec<u64>, CopyError> {
    let each = TABLES.iter().map(|table| {
        let mut copied = 0;
        let mut written = |rows| {
            copied += rows;
            progress(table.name, copied);
        };
        (table.pour)(source, target, &mut written)
            .map_err(|source| CopyError::Table { table: table.name, source })
    });
    each.collect()
}

fn compare(
    source: &mut Conn,
    target: &mut Conn,
    changed: &[u64],
    from: &DatabaseUrl,
    to: &DatabaseUrl,
) -> Result<Vec<Copied>, CopyError> {
    let each = TABLES.iter().zip(changed).map(|(table, &changed)| {
        let there = table.rows(source).map_err(Side::Source.failed(from))?;
        let arrived = table.rows(target).map_err(Side::Target.failed(to))?;
        if there == arrived {
            Ok(Copied { table: table.name, rows: there, changed })
        } else {
            Err(CopyError::Incomplete { table: table.name, there, arrived })
        }
    });
    each.collect()
}
