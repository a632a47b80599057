//! Whether the database has less in it than the log that was made from it.
//!
//! A write-ahead log that was deleted, or a copy that was put in its place by hand, leaves a database that is sound and lacks the newest
//! commits, acknowledged ones among them. Nothing in the file shows that; but the log tells of rows only after they were committed, so
//! a row that the log knows and the database never had is the proof.

use std::fmt;
use std::path::Path;

use super::chain::Upto;
use super::file::last_head;
use super::writer::AuditError;
use crate::store::Store;
use crate::store::audit::{self as rows, AuditSource};
use crate::store::nodes;

/// What the database lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewound {
    /// How far the log had seen each table.
    pub seen: Upto,
    /// How far the database ever came.
    pub given: Upto,
}

impl fmt::Display for Rewound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seen, given): ([i64; 4], [i64; 4]) = (self.seen.into(), self.given.into());
        let names = ["occurrences", "jobs", "attempts", "events"];
        let lacks =
            names.iter().zip(seen.iter().zip(given)).filter(|(_, (seen, given))| *seen > given);
        let lacks: Vec<String> =
            lacks.map(|(name, (seen, given))| format!("{name} {} to {seen}", given + 1)).collect();
        f.write_str(&lacks.join(", "))
    }
}

/// Looks whether the database lacks what the log in `folder` has told of. A backup that was put in its place by `sexton db restore` was
/// meant to be older: it says at which record of the log that was, and counts for as long as no other record has followed.
///
/// # Errors
/// When the log or the database cannot be read.
pub async fn rewound(
    store: &Store,
    folder: &Path,
    source: &AuditSource,
) -> Result<Option<Rewound>, AuditError> {
    let Some(head) = last_head(folder)? else { return Ok(None) };
    let log = source.log().to_owned();
    let (known, given, restored_at) = store
        .read(move |conn| {
            let known = rows::last_anchor(conn, &log)?.is_some();
            Ok((known, rows::ids_given(conn)?, nodes::restored_at(conn)?))
        })
        .await?;
    if restored_at == Some(head.seq) {
        return Ok(None);
    }
    // Without an anchor it is another database, or a new one in its place, and its numbers mean something else.
    let given = if known { given } else { Upto::default() };
    let (seen, had): ([i64; 4], [i64; 4]) = (head.upto.into(), given.into());
    let is_less = seen.iter().zip(had).any(|(seen, had)| *seen > had);
    Ok(is_less.then_some(Rewound { seen: head.upto, given }))
}
