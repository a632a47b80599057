//! Adopting and reaping what children leave behind.
//!
//! As a *child subreaper* (`PR_SET_CHILD_SUBREAPER`, `prctl(2)`) this process becomes the parent of every orphan
//! below it, so that a job's program cannot get out of sight by forking twice. Somebody has to reap these orphans when
//! they end, without taking the exit status of a child that is still waited for: every child started through this port
//! is in [`EXPECTED`], and reaping leaves those alone. The set is one per process, as the kernel's own table is.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::signal::unix::{SignalKind, signal};

use super::proc::{self, Stat};

/// Children that their starter reaps.
static EXPECTED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Held for reading from before a fork until the child is in [`EXPECTED`], and for writing while strays are reaped.
/// Otherwise a child that ends at once could look like a stray.
static STARTING: RwLock<()> = RwLock::new(());

/// Makes this process the parent of all orphans below it. The daemon calls this once, before it starts anything.
///
/// # Errors
/// When the kernel refuses, which it does not since Linux 3.4.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Whether [`adopt_orphans`] is in force.
pub(super) fn adopts_orphans() -> bool {
    matches!(rustix::process::child_subreaper(), Ok(Some(_)))
}

/// Reaps adopted orphans as they end, for as long as the future is polled.
///
/// One pass a second at most: a zombie costs nothing but its entry in the process table, and a storm of ending
/// children must not become a storm of reads from `/proc`.
///
/// # Errors
/// When SIGCHLD cannot be listened to.
pub async fn reap_orphans() -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    while ended.recv().await.is_some() {
        reap_ended_orphans();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Reaps the adopted orphans that have ended by now.
pub(super) fn reap_ended_orphans() {
    let _no_starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    // A child of this process's own group was started by other code, which wants its exit status.
    let own_group = rustix::process::getpgrp().as_raw_nonzero().get();
    for pid in proc::adopted_children() {
        let is_ended_orphan = !expected().contains(&pid)
            && Stat::of(pid).is_some_and(|stat| stat.is_zombie && stat.group != own_group);
        if let (true, Some(pid)) = (is_ended_orphan, Pid::from_raw(pid)) {
            let at_once = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            // Nobody else waits for it; if it is gone all the same, there is nothing left to do.
            let _reaped = rustix::process::waitid(WaitId::Pid(pid), at_once);
        }
    }
}

/// Starts a child that is left alone here until [`expected_no_more`] is called for it.
pub(super) fn start_expected<T>(
    start: impl FnOnce() -> io::Result<T>,
    pid: impl FnOnce(&T) -> i32,
) -> io::Result<T> {
    let _no_reaping = STARTING.read().unwrap_or_else(PoisonError::into_inner);
    let child = start()?;
    expected().insert(pid(&child));
    Ok(child)
}

/// Forgets a child that was reaped or given up.
pub(super) fn expected_no_more(pid: i32) {
    expected().remove(&pid);
}

fn expected() -> MutexGuard<'static, BTreeSet<i32>> {
    EXPECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adopted orphans, ended or not.
pub(super) fn orphans() -> Vec<Stat> {
    let children = proc::adopted_children();
    let expected = expected();
    children.into_iter().filter(|pid| !expected.contains(pid)).filter_map(Stat::of).collect()
}
