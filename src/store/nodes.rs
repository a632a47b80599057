//! Which daemons run, and which have died.

use diesel::prelude::*;
use jiff::Timestamp;

use super::schema::{jobs_running, nodes};
use super::{Conn, Micros, StoreError, on_each_backend};
use crate::model::NodeId;

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
}

/// Registers a daemon that starts.
///
/// # Errors
/// When the database refuses.
pub fn register(
    conn: &mut Conn,
    name: &str,
    instance: &str,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<NodeId, StoreError> {
    let row = (
        nodes::name.eq(name),
        nodes::instance.eq(instance),
        nodes::version.eq(env!("CARGO_PKG_VERSION")),
        nodes::pid.eq(i64::from(std::process::id())),
        nodes::started_at.eq(now.as_microsecond()),
        nodes::lease_until.eq(lease_until.as_microsecond()),
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
pub fn heartbeat(
    conn: &mut Conn,
    node: NodeId,
    lease_until: Timestamp,
) -> Result<bool, StoreError> {
    let lease_until = nodes::lease_until.eq(lease_until.as_microsecond());
    let alive = nodes::table.find(node.0).filter(nodes::stopped_at.is_null());
    if diesel::update(alive).set(lease_until).execute(conn)? > 0 {
        return Ok(true);
    }
    let never: Option<i64> = None;
    diesel::update(nodes::table.find(node.0))
        .set((lease_until, nodes::stopped_at.eq(never)))
        .execute(conn)?;
    Ok(false)
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
