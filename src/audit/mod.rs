//! The audit log: one JSON object a line, chained by hashes, that cannot silently lose or change a line.
//!
//! Lines are *projected from committed rows*: the ledger, submissions and attempts are their own source, and the table
//! `audit_events` holds what has no row of its own. Every line carries how far each of these tables had been projected,
//! so the file itself says where to go on. A crash between a commit and its line is repaired by going on from there, and no
//! line can tell of something that was rolled back.
//!
//! [`chain`] turns a record into a line, [`project`] turns rows into records; both are pure. [`mod@file`] keeps the file,
//! [`writer`] is the thread that moves rows into it, [`mod@verify`] finds what was changed afterwards, and [`read`] pages
//! through it. `docs/audit.md` is the format's description for people who check it with their own tools.

pub mod chain;
pub mod file;
pub mod project;
pub mod read;
pub mod rewound;
pub mod verify;
pub mod writer;

pub use chain::{Anchor, Head, Record, Upto};
pub use file::{AuditFile, FILE_NAME, last_head};
pub use project::{AttemptRow, EventRow, OccurrenceRow, Rows, SubmissionRow};
pub use read::{AuditLine, Filter, Page};
pub use rewound::{Rewound, rewound};
pub use verify::{Problem, Report, verify};
pub use writer::{AuditHandle, AuditHealth};
