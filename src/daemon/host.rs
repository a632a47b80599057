//! The machine we run on.

/// Its name, as `uname -n` says it.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
