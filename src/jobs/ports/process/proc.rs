//! What `/proc` says about processes.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

/// A process as `/proc/PID/stat` shows it. See `proc(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: i32,
    /// The program's name, cut to 15 bytes by the kernel.
    pub(super) name: String,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// In clock ticks since boot. With the pid it names a process for good, because pids are used again.
    pub(super) started: u64,
    /// It has ended and waits to be reaped.
    pub(super) is_zombie: bool,
}

impl Stat {
    pub(super) fn of(pid: i32) -> Option<Self> {
        let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&bytes))
    }

    /// The name may hold anything, blanks and parentheses too, so what follows it is found from the last `)`.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<i64>().ok();
        // A process whose first thread has ended shows as a zombie while its other threads go on.
        let threads = number(17)?;
        Some(Self {
            pid: pid.parse().ok()?,
            name: name.to_owned(),
            parent: i32::try_from(number(1)?).ok()?,
            group: i32::try_from(number(2)?).ok()?,
            started: fields.get(19)?.parse().ok()?,
            is_zombie: matches!(fields.first(), Some(&("Z" | "X"))) && threads <= 1,
        })
    }
}

/// Every process that can be seen.
pub(super) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Stat::of)
        .collect()
}

/// These processes and all that descend from them, but for `other` and what is only its.
pub(super) fn with_descendants(all: &[Stat], mut found: HashSet<i32>, other: i32) -> HashSet<i32> {
    found.remove(&other);
    loop {
        let before = found.len();
        let children = all.iter().filter(|stat| found.contains(&stat.parent));
        let children: Vec<i32> =
            children.map(|stat| stat.pid).filter(|pid| *pid != other).collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

/// Whether a process was started with that entry (`NAME=value`) in its environment.
///
/// False for processes of other users, whose environment is hidden.
pub(super) fn has_in_environment(pid: i32, entry: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|byte| *byte == 0).any(|one| one == entry.as_bytes())
}

/// The children that this process's first thread has, which is where the kernel puts adopted orphans.
///
/// The list can miss an entry when another child ends while it is read (`proc(5)`).
pub(super) fn adopted_children() -> Vec<i32> {
    let own = own_pid();
    match fs::read_to_string(format!("/proc/{own}/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // The kernel was built without the list.
        Err(_no_list) => {
            all().into_iter().filter(|stat| stat.parent == own).map(|stat| stat.pid).collect()
        }
    }
}

pub(super) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Names this boot of the machine: pids and start times of another one mean nothing.
pub(super) fn boot_id() -> String {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    fs::read_to_string(path).map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Makes a child no better protected from the out-of-memory killer than any process, where this one is.
///
/// A service that is protected hands that down to what it starts, and then the kernel kills the wrong one: jobs are what
/// takes memory, and the daemon must live to record it.
pub(super) fn drop_oom_protection(child: i32) {
    let own = fs::read_to_string("/proc/self/oom_score_adj");
    let is_protected = own.is_ok_and(|score| score.trim_start().starts_with('-'));
    if is_protected {
        // A child that has ended needs none.
        let _ended = fs::write(format!("/proc/{child}/oom_score_adj"), "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 7 40 40 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 9001 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.parent), (42, "a) b (c", 7));
        assert_eq!((stat.group, stat.started, stat.is_zombie), (40, 9001, false));
    }

    #[test]
    fn a_dead_first_thread_does_not_make_a_living_process_a_zombie() {
        let line = |threads: u8| format!("1 (x) Z 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {threads} 0 5 0");
        assert!(Stat::parse(&line(1)).unwrap().is_zombie);
        assert!(!Stat::parse(&line(2)).unwrap().is_zombie);
    }

    #[test]
    fn this_process_is_found() {
        let own = own_pid();
        assert!(all().iter().any(|stat| stat.pid == own && !stat.is_zombie));
    }
}
