//! Where the audit log was, as the database remembers it: a log that was cut or replaced does not hold its anchors.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use jiff::Timestamp;

use crate::audit::chain::Hash;
use crate::audit::{Anchor, Head, Upto};
use crate::store::schema::audit_anchors;
use crate::store::{Conn, Micros, StoreError, on_each_backend};

/// Remembers where a log is.
///
/// # Errors
/// When the database refuses.
pub fn add_anchor(conn: &mut Conn, log: &str, anchor: &Anchor) -> Result<(), StoreError> {
    let upto = anchor.head.upto;
    let row = (
        audit_anchors::log.eq(log),
        audit_anchors::seq.eq(i64::try_from(anchor.head.seq).unwrap_or(i64::MAX)),
        audit_anchors::hash.eq(anchor.head.hash.as_str()),
        audit_anchors::at.eq(anchor.at.as_microsecond()),
        audit_anchors::occurrences.eq(upto.occurrences),
        audit_anchors::jobs.eq(upto.jobs),
        audit_anchors::attempts.eq(upto.attempts),
        audit_anchors::events.eq(upto.events),
    );
    // An anchor is never replaced: the first word on a record is the one that counts.
    on_each_backend!(conn, |inner| diesel::insert_into(audit_anchors::table)
        .values(row)
        .on_conflict_do_nothing()
        .execute(inner)?);
    Ok(())
}

/// Gives the anchors of one log to another, which is the same file under the name that a database of another kind knows it by. Anchors
/// that are there under that name are of a file that was never this database's.
pub(in crate::store) fn rename_log(
    conn: &mut Conn,
    from: &str,
    to: &str,
) -> Result<(), StoreError> {
    if from == to || last_anchor(conn, from)?.is_none() {
        return Ok(());
    }
    diesel::delete(audit_anchors::table.filter(audit_anchors::log.eq(to))).execute(conn)?;
    diesel::update(audit_anchors::table.filter(audit_anchors::log.eq(from)))
        .set(audit_anchors::log.eq(to))
        .execute(conn)?;
    Ok(())
}

/// Thins out old anchors: of each day before `before`, the last one stays.
///
/// # Errors
/// When the database refuses.
pub fn thin_anchors(conn: &mut Conn, log: &str, before: Timestamp) -> Result<usize, StoreError> {
    let bind = match conn {
        Conn::Sqlite(_) => ["?", "?", "?"],
        Conn::Postgres(_) => ["$1", "$2", "$3"],
    };
    let [log_bind, before_bind, kept_bind] = bind;
    // The first record's neighbour, 0, is not of a day; deleting it does no harm.
    let query = format!(
        "DELETE FROM audit_anchors WHERE log = {log_bind} AND at < {before_bind} AND seq NOT IN \
         (SELECT max(seq) FROM audit_anchors WHERE log = {kept_bind} GROUP BY at / 86400000000)"
    );
    let deleted = on_each_backend!(conn, |inner| diesel::sql_query(query)
        .bind::<Text, _>(log)
        .bind::<BigInt, _>(before.as_microsecond())
        .bind::<Text, _>(log)
        .execute(inner)?);
    Ok(deleted)
}

type AnchorRow = (i64, String, Micros, i64, i64, i64, i64);

fn anchor(
    (seq, hash, at, occurrences, jobs, attempts, events): AnchorRow,
) -> Result<Anchor, StoreError> {
    let damaged = || StoreError::Damaged { what: "audit anchor", detail: format!("{seq} {hash}") };
    let head = Head {
        seq: u64::try_from(seq).map_err(|_negative| damaged())?,
        hash: Hash::parse(hash.as_bytes()).ok_or_else(damaged)?,
        upto: Upto { occurrences, jobs, attempts, events },
    };
    Ok(Anchor { head, at: at.into() })
}

/// All anchors of a log by number, for [`crate::audit::verify()`].
///
/// # Errors
/// When the database refuses or holds something else.
pub fn anchors(conn: &mut Conn, log: &str) -> Result<Vec<Anchor>, StoreError> {
    let rows: Vec<AnchorRow> = audit_anchors::table
        .filter(audit_anchors::log.eq(log))
        .order(audit_anchors::seq)
        .select(ANCHOR)
        .load(conn)?;
    // Record 0 is where a log begins, not a record.
    rows.into_iter().filter(|row| row.0 > 0).map(anchor).collect()
}

/// The newest anchor of a log; its number is 0 when the log had no record yet.
///
/// # Errors
/// When the database refuses or holds something else.
pub fn last_anchor(conn: &mut Conn, log: &str) -> Result<Option<Anchor>, StoreError> {
    let row: Option<AnchorRow> = audit_anchors::table
        .filter(audit_anchors::log.eq(log))
        .order(audit_anchors::seq.desc())
        .select(ANCHOR)
        .first(conn)
        .optional()?;
    row.map(anchor).transpose()
}

const ANCHOR: (
    audit_anchors::seq,
    audit_anchors::hash,
    audit_anchors::at,
    audit_anchors::occurrences,
    audit_anchors::jobs,
    audit_anchors::attempts,
    audit_anchors::events,
) = (
    audit_anchors::seq,
    audit_anchors::hash,
    audit_anchors::at,
    audit_anchors::occurrences,
    audit_anchors::jobs,
    audit_anchors::attempts,
    audit_anchors::events,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Purpose;
    use crate::store::testing::databases;

    #[test]
    fn of_old_days_the_last_anchor_stays() {
        for database in databases() {
            let mut conn = database.store().url().connect(Purpose::Write).unwrap();
            let day =
                |days: i64, second: i64| Timestamp::from_second(days * 86_400 + second).unwrap();
            for (seq, at) in
                [(1, day(1, 0)), (2, day(1, 9)), (3, day(2, 0)), (4, day(9, 0)), (5, day(9, 1))]
            {
                let anchor = Anchor { head: Head { seq, ..Head::EMPTY }, at };
                add_anchor(&mut conn, "", &anchor).unwrap();
            }
            thin_anchors(&mut conn, "", day(9, 0)).unwrap();
            let kept: Vec<u64> =
                anchors(&mut conn, "").unwrap().iter().map(|anchor| anchor.head.seq).collect();
            assert_eq!(kept, [2, 3, 4, 5]);
            assert_eq!(last_anchor(&mut conn, "").unwrap().map(|anchor| anchor.head.seq), Some(5));
        }
    }
}
