//! How much memory this process has.

use std::io::{Error, ErrorKind, Result};

/// What of this process is in memory, in bytes: its own, and what it has mapped of files, its program among them.
///
/// # Errors
/// When the system does not tell.
pub(super) fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    of_status(&status)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "/proc/self/status has no VmRSS"))
}

fn of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_read_in_bytes() {
        assert_eq!(of_status("Name:\tx\nVmRSS:\t   23456 kB\nRssAnon:\t 1 kB\n"), Some(24_018_944));
        assert_eq!(of_status("Name:\tx\n"), None);
        assert!(resident().unwrap() > 0);
    }
}
