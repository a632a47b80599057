//! What is left in a service's control group that no mark finds.
//!
//! A program can hide from its [`Family`](super::Family): it clears its environment, forks twice and starts a session of its own. systemd
//! would end it with the service, but it would end kept programs as well, so the unit leaves that to the daemon, which knows which ones
//! those are.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::family::signal;
use super::proc::{self, Stat};

/// How often the group is searched again for processes that were born meanwhile.
const ROUNDS: usize = 20;

/// Which processes of a service are to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spared {
    /// These.
    Processes(Vec<i32>),
    /// These, and all that descend from them.
    Trees(Vec<i32>),
}

/// Kills every process of this service other than this one and those that are spared. Returns how many there were. Does nothing where this
/// process is not the main one of a service: the group is somebody else's then.
#[must_use]
pub fn end_strays(spared: &Spared) -> usize {
    let Some(group) = own_group() else { return 0 };
    let mut killed = HashSet::new();
    for _round in 0..ROUNDS {
        let strays = strays(&group, spared);
        let new: Vec<&Stat> = strays.iter().filter(|stat| !killed.contains(&stat.pid)).collect();
        if new.is_empty() {
            break;
        }
        for stat in new {
            let _told = signal(stat, Signal::KILL);
            killed.insert(stat.pid);
        }
    }
    killed.len()
}

fn strays(group: &Path, spared: &Spared) -> Vec<Stat> {
    let members = fs::read_to_string(group).unwrap_or_default();
    let members: HashSet<i32> = members.lines().filter_map(|pid| pid.parse().ok()).collect();
    let all = proc::all();
    let mut spared = match spared {
        Spared::Processes(pids) => pids.iter().copied().collect(),
        Spared::Trees(roots) => {
            proc::with_descendants(&all, roots.iter().copied().collect(), proc::own_pid())
        }
    };
    spared.insert(proc::own_pid());
    let is_stray =
        |stat: &Stat| members.contains(&stat.pid) && !spared.contains(&stat.pid) && !stat.is_zombie;
    all.into_iter().filter(is_stray).collect()
}

/// The list of processes in this service's control group, if systemd has started this very process as the service.
fn own_group() -> Option<PathBuf> {
    let started: i32 = std::env::var("SYSTEMD_EXEC_PID").ok()?.parse().ok()?;
    if started != proc::own_pid() {
        return None;
    }
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let list = PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    path.ends_with(".service").then(|| list.join("cgroup.procs"))
}
