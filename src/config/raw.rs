//! The settings as they are written: every key optional, unknown keys refused.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::{ListenAddress, LogFilter};
use crate::jobs::Params;
use crate::model::{ByteSize, HumanDuration, Priority, Rate};
use crate::schedule::CatchUpPolicy;
use crate::store::{DatabaseUrl, StoreError};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) node: RawNode,
    pub(super) database: RawDatabase,
    pub(super) schedules: RawDirs,
    pub(super) kinds: RawDirs,
    pub(super) workers: RawWorkers,
    pub(super) queues: BTreeMap<String, RawQueue>,
    pub(super) api: RawApi,
    pub(super) log: RawLog,
    pub(super) audit: RawAudit,
    pub(super) retention: RawRetention,
    pub(super) shutdown: RawShutdown,
    pub(super) lease: RawLease,
    pub(super) defaults: RawDefaults,
}

impl Params for Raw {}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDatabase {
    #[serde(deserialize_with = "database_url")]
    pub(super) url: Option<DatabaseUrl>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Option<String>,
    pub(super) labels: Option<Vec<String>>,
}

/// The message does not repeat what was written, which may hold a password.
fn database_url<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DatabaseUrl>, D::Error> {
    let url = String::deserialize(deserializer)?.parse();
    url.map(Some).map_err(|error| match error {
        StoreError::UrlPassword => serde::de::Error::custom(error),
        _ => serde::de::Error::custom(
            "it must be `sqlite:PATH`, with the path of a file, or `postgres://USER:PASSWORD@HOST/DATABASE`",
        ),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDirs {
    pub(super) dirs: Option<Vec<PathBuf>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawWorkers {
    pub(super) count: Option<NonZeroU16>,
    pub(super) reserved_high: Option<u16>,
    pub(super) ageing: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawQueue {
    pub(super) workers: Option<NonZeroU16>,
    pub(super) timeout: Option<HumanDuration>,
    pub(super) rate: Option<Rate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawApi {
    pub(super) socket: Option<PathBuf>,
    pub(super) listen: Option<ListenAddress>,
    pub(super) anonymous: Option<Anonymous>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) dir: Option<PathBuf>,
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<LogFilter>,
    pub(super) rotation: Option<Rotation>,
    pub(super) keep: Option<NonZeroU16>,
    pub(super) max_size: Option<ByteSize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAudit {
    pub(super) dir: Option<PathBuf>,
    pub(super) jobs: Option<AuditJobs>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRetention {
    pub(super) completed: Option<HumanDuration>,
    pub(super) failed: Option<HumanDuration>,
    pub(super) cancelled: Option<HumanDuration>,
    pub(super) occurrences: Option<HumanDuration>,
    pub(super) statistics: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawShutdown {
    pub(super) grace: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLease {
    pub(super) duration: Option<HumanDuration>,
    pub(super) heartbeat: Option<HumanDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawDefaults {
    pub(super) timezone: Option<String>,
    pub(super) priority: Option<Priority>,
    pub(super) queue: Option<String>,
    pub(super) timeout: Option<HumanDuration>,
    pub(super) retries: Option<u16>,
    pub(super) catch_up: Option<CatchUpPolicy>,
}

/// How log lines look on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal's own protocol under systemd, text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol, with fields.
    Journald,
}

/// When the log file is changed for a new one, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// Only when it has become too large.
    Never,
    /// At the first line of an hour (UTC).
    Hourly,
    /// At the first line of a day (UTC).
    #[default]
    Daily,
}

/// Which jobs the audit log has lines for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditJobs {
    /// All.
    #[default]
    All,
    /// No line for an attempt that succeeded.
    Failures,
}

/// What may be done over TCP without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Nothing but asking whether the daemon is well.
    #[default]
    None,
    /// Whatever a token with the role `read` may do.
    Read,
}

/// Gives each word of an enum back as it is written in the file.
macro_rules! written_as {
    ($type:ty { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word as it is written in the file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

written_as!(LogFormat { Auto => "auto", Text => "text", Json => "json", Journald => "journald" });
written_as!(Rotation { Never => "never", Hourly => "hourly", Daily => "daily" });
written_as!(Anonymous { None => "none", Read => "read" });
written_as!(AuditJobs { All => "all", Failures => "failures" });
