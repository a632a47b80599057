//! Which daemons run, and which have died.

use std::collections::BTreeMap;

use diesel::prelude::*;
use jiff::Timestamp;

use super::schema::{jobs_running, nodes};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::{Actor, JobId, NodeId, NodeIdentity};

/// A daemon, alive or not.
#[derive(Debug, Clone, PartialEq, Eq, Queryable)]
pub struct Node {
    /// Its number.
    pub id: i64,
    /// The host it runs on.
    pub name: String,
    /// A random name of this one run: a host's name is not unique (cloned machines, containers).
    pub instance: String,
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: i64,
    /// When it started.
    pub started_at: Micros,
    /// Until when it counts as alive.
    pub lease_until: Micros,
    /// When it said that it stops.
    pub stopped_at: Option<Micros>,
    /// What it can be chosen by beside its name, separated by spaces.
    pub labels: String,
    /// The revision of the schedules that it has.
    pub revision: Option<String>,
    /// How far its clock is ahead of the database's, in microseconds.
    pub clock_skew_us: Option<i64>,
    /// Since when it takes nothing new.
    pub draining_since: Option<Micros>,
    /// On whose order.
    pub draining_by: Option<String>,
}

impl Node {
    /// By what it can be chosen.
    #[must_use]
    pub fn identity(&self) -> NodeIdentity {
        let labels = self.labels.split_whitespace().map(str::to_owned).collect();
        NodeIdentity { name: self.name.clone(), labels }
    }

    /// Whether nobody has told it to take nothing new.
    #[must_use]
    pub fn takes_work(&self) -> bool {
        self.draining_since.is_none()
    }
}

/// A daemon that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// By what it can be chosen.
    pub identity: NodeIdentity,
    /// See [`Node::instance`].
    pub instance: String,
}

/// What a node tells of itself with each beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// See [`Node::lease_until`].
    pub lease_until: Timestamp,
    /// See [`Node::revision`].
    pub revision: String,
    /// See [`Node::clock_skew_us`].
    pub clock_skew_us: Option<i64>,
}

/// What others have left for a node to do or to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Orders {
    /// Whether it is to take nothing new.
    pub drain: bool,
    /// Those of its running jobs that somebody has cancelled.
    pub cancelled: Vec<JobId>,
    /// How often people have changed a ledger by hand, ever.
    pub ledger_changes: u64,
}

/// Registers a daemon that starts.
///
/// # Errors
/// When the database refuses.
pub fn register(
    conn: &mut Conn,
    new: &NewNode,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<NodeId, StoreError> {
    let row = (
        nodes::name.eq(&new.identity.name),
        nodes::instance.eq(&new.instance),
        nodes::version.eq(env!("CARGO_PKG_VERSION")),
        nodes::pid.eq(i64::from(std::process::id())),
        nodes::started_at.eq(now.as_microsecond()),
        nodes::lease_until.eq(lease_until.as_microsecond()),
        nodes::labels.eq(new.identity.labels.join(" ")),
    );
    let id = on_each_backend!(conn, |inner| diesel::insert_into(nodes::table)
        .values(row)
        .returning(nodes::id)
        .get_result::<i64>(inner)?);
    Ok(NodeId(id))
}

/// Extends a node's lease. Returns false when it was declared dead before, so that it must stop what it does.
///
/// One that was declared dead lives again from now on: it was held up (suspended, stopped, cut off), and what it claims must be
/// rescued when it really dies.
///
/// # Errors
/// When the database refuses.
pub fn heartbeat(conn: &mut Conn, node: NodeId, beat: &Beat) -> Result<bool, StoreError> {
    let told = (
        nodes::lease_until.eq(beat.lease_until.as_microsecond()),
        nodes::revision.eq(beat.revision.as_str()),
        nodes::clock_skew_us.eq(beat.clock_skew_us),
    );
    let alive = nodes::table.find(node.0).filter(nodes::stopped_at.is_null());
    if diesel::update(alive).set(told).execute(conn)? > 0 {
        return Ok(true);
    }
    let never: Option<i64> = None;
    diesel::update(nodes::table.find(node.0))
        .set((told, nodes::stopped_at.eq(never)))
        .execute(conn)?;
    Ok(false)
}

/// What others have left for a node.
///
/// # Errors
/// When the database refuses.
pub fn orders(conn: &mut Conn, node: NodeId) -> Result<Orders, StoreError> {
    let draining_since: Option<Option<i64>> =
        nodes::table.find(node.0).select(nodes::draining_since).first(conn).optional()?;
    let cancelled: Vec<i64> = jobs_running::table
        .filter(jobs_running::node_id.eq(node.0))
        .filter(jobs_running::cancel_requested_at.is_not_null())
        .select(jobs_running::job_id)
        .load(conn)?;
    Ok(Orders {
        drain: draining_since.flatten().is_some(),
        cancelled: cancelled.into_iter().map(JobId).collect(),
        ledger_changes: ledger_changes(conn)?,
    })
}

/// Lets a node take nothing new (`by` says on whose order), or take work again. Returns false when it does not run.
///
/// # Errors
/// When the database refuses.
pub fn set_draining(
    conn: &mut Conn,
    node: NodeId,
    by: Option<&Actor>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let running = nodes::table.find(node.0).filter(nodes::stopped_at.is_null());
    let changed = diesel::update(running)
        .set((
            nodes::draining_since.eq(by.map(|_| now.as_microsecond())),
            nodes::draining_by.eq(by.map(Actor::as_str)),
        ))
        .execute(conn)?;
    Ok(changed > 0)
}

/// The time on the database's server. SQLite has none of its own: there it is this machine's, and nobody asks.
///
/// # Errors
/// When the database refuses.
pub fn database_time(conn: &mut Conn) -> Result<Timestamp, StoreError> {
    #[derive(QueryableByName)]
    struct Time {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        micros: i64,
    }
    let query = match conn {
        Conn::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS micros",
        Conn::Postgres(_) => {
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros"
        }
    };
    let time: Time = on_each_backend!(conn, |inner| diesel::sql_query(query).get_result(inner)?);
    Ok(Micros(time.micros).into())
}

/// Notes that a node has stopped.
///
/// # Errors
/// When the database refuses.
pub fn mark_stopped(conn: &mut Conn, node: NodeId, now: Timestamp) -> Result<(), StoreError> {
    diesel::update(nodes::table.find(node.0))
        .set(nodes::stopped_at.eq(now.as_microsecond()))
        .execute(conn)?;
    Ok(())
}

/// Every node, other than `me`, that has not stopped, or has and left attempts running: one that stops while the database refuses
/// cannot record what its attempts came to.
///
/// On SQLite the lock on the data directory proves that all of them are dead; on PostgreSQL their leases tell.
///
/// # Errors
/// When the database refuses.
pub fn others(conn: &mut Conn, me: NodeId) -> Result<Vec<Node>, StoreError> {
    let running = jobs_running::table.select(jobs_running::node_id);
    let rows = nodes::table
        .filter(nodes::id.ne(me.0))
        .filter(nodes::stopped_at.is_null().or(nodes::id.eq_any(running)))
        .order(nodes::id)
        .load(conn)?;
    Ok(rows)
}

/// The node that runs a job, while it runs.
///
/// # Errors
/// When the database refuses.
pub fn runner(conn: &mut Conn, job: JobId) -> Result<Option<Node>, StoreError> {
    let running = jobs_running::table.filter(jobs_running::job_id.eq(job.0));
    let node = nodes::table
        .filter(nodes::id.eq_any(running.select(jobs_running::node_id)))
        .first(conn)
        .optional()?;
    Ok(node)
}

/// How many jobs run on each node that runs any.
///
/// # Errors
/// When the database refuses.
pub fn busy(conn: &mut Conn) -> Result<BTreeMap<i64, i64>, StoreError> {
    let counts: Vec<(i64, i64)> = jobs_running::table
        .group_by(jobs_running::node_id)
        .select((jobs_running::node_id, diesel::dsl::count_star()))
        .load(conn)?;
    Ok(counts.into_iter().collect())
}

/// The nodes that have not stopped and are not known to be dead, oldest first.
///
/// # Errors
/// When the database refuses.
pub fn running(conn: &mut Conn) -> Result<Vec<Node>, StoreError> {
    Ok(nodes::table.filter(nodes::stopped_at.is_null()).order(nodes::id).load(conn)?)
}

/// The newest nodes first.
///
/// # Errors
/// When the database refuses.
pub fn list(conn: &mut Conn, limit: i64) -> Result<Vec<Node>, StoreError> {
    Ok(nodes::table.order(nodes::id.desc()).limit(limit).load(conn)?)
}

/// The value of a setting that belongs to the database itself, made on first use: the seed of jitter, say.
///
/// # Errors
/// When the database refuses.
pub fn meta_or_insert(conn: &mut Conn, key: &str, value: &str) -> Result<String, StoreError> {
    use super::schema::meta;
    on_each_backend!(conn, |inner| diesel::insert_into(meta::table)
        .values((meta::key.eq(key), meta::value.eq(value)))
        .on_conflict_do_nothing()
        .execute(inner)?);
    Ok(meta::table.find(key).select(meta::value).first(conn)?)
}

/// The key under which the database counts changes of ledgers by hand.
const LEDGER_CHANGES: &str = "ledger_changes";

/// How often people have changed a ledger by hand, ever: by this the other nodes see that their copies are old.
fn ledger_changes(conn: &mut Conn) -> Result<u64, StoreError> {
    use super::schema::meta;
    let count: Option<String> =
        meta::table.find(LEDGER_CHANGES).select(meta::value).first(conn).optional()?;
    Ok(count.and_then(|count| count.parse().ok()).unwrap_or(0))
}

/// Notes that a ledger was changed by hand.
pub(super) fn count_ledger_change(conn: &mut Conn) -> Result<(), StoreError> {
    use super::schema::meta;
    meta_or_insert(conn, LEDGER_CHANGES, "0")?;
    let one_more =
        diesel::dsl::sql::<diesel::sql_types::Text>("CAST(CAST(value AS BIGINT) + 1 AS TEXT)");
    diesel::update(meta::table.find(LEDGER_CHANGES)).set(meta::value.eq(one_more)).execute(conn)?;
    Ok(())
}

/// The key under which the database keeps the seed of jitter.
pub(super) const JITTER_SEED: &str = "jitter_seed";

/// The seed of jitter, where a daemon has made one.
///
/// # Errors
/// When the database refuses.
pub fn jitter_seed(conn: &mut Conn) -> Result<Option<String>, StoreError> {
    use super::schema::meta;
    Ok(meta::table.find(JITTER_SEED).select(meta::value).first(conn).optional()?)
}

/// The seed of jitter; `fresh` becomes it when there is none yet. All nodes of a database draw from the same.
///
/// # Errors
/// When the database refuses.
pub fn jitter_seed_or(conn: &mut Conn, fresh: &str) -> Result<String, StoreError> {
    meta_or_insert(conn, JITTER_SEED, fresh)
}

/// The key under which a restored database says to what it was restored.
const RESTORED_AT: &str = "restored_at";

/// At which record of the audit log this database was put in place as a backup, where it was.
///
/// # Errors
/// When the database refuses.
pub fn restored_at(conn: &mut Conn) -> Result<Option<u64>, StoreError> {
    use super::schema::meta;
    let value: Option<String> =
        meta::table.find(RESTORED_AT).select(meta::value).first(conn).optional()?;
    Ok(value.and_then(|seq| seq.parse().ok()))
}

/// Notes at which record of the audit log this database is put in place as a backup.
///
/// # Errors
/// When the database refuses.
pub(super) fn set_restored_at(conn: &mut Conn, seq: u64) -> Result<(), StoreError> {
    use super::schema::meta;
    diesel::delete(meta::table.find(RESTORED_AT)).execute(conn)?;
    meta_or_insert(conn, RESTORED_AT, &seq.to_string())?;
    Ok(())
}
