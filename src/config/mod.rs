//! The daemon's settings: `sexton.toml`, the environment and the command line, in two stages.
//!
//! [`raw`] mirrors the file, every key optional and unknown keys refused; [`settings`] is what the program sees: real
//! types, and no `Option` where a default exists. [`mod@load`] goes from one to the other and remembers for each key where
//! its value came from, which `sexton config show` prints and every error names. [`keys`] is the one list of all keys.

mod error;
mod explain;
mod file;
mod keys;
mod listen;
mod load;
mod log_filter;
mod raw;
mod settings;

pub use error::{Origin, SettingsError, SettingsProblem};
pub use explain::Entry;
pub use keys::{KEYS, Key};
pub use listen::{DEFAULT_PORT, ListenAddress, ListenError};
pub use load::{Loaded, Request, SYSTEM_FILE, load, resolve};
pub use log_filter::{LogFilter, LogFilterError};
pub use raw::{Anonymous, AuditJobs, LogFormat, Rotation};
pub use settings::{
    ApiSettings, AuditSettings, LeaseSettings, LogSettings, Retention, ScheduleDefaults, Settings,
    WorkerSettings,
};
