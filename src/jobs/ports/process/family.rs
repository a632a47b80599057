//! All processes that belong to one attempt, and ending them.
//!
//! A program can leave its process group and its session and cut the tie to its parent, so no single mark finds all it
//! started. Four together come close: an entry in the environment that children inherit, the process group, descent
//! from a process already found, and adoption of orphans by this process (see [`super::reaper`]). What clears its
//! environment *and* forks twice *and* starts a session of its own gets away; only a cgroup per attempt could hold
//! that.
//!
//! Every signal goes through a pidfd that was opened first and compared second, so a pid that is used again by a
//! stranger is never signalled.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::proc::{self, Stat};
use super::reaper;

/// The variable that marks every process of an attempt.
pub const KEY_VARIABLE: &str = "SEXTON_ATTEMPT_KEY";

/// How long processes may take to vanish after SIGKILL. They need that long only when the kernel is busy for them
/// (a dead network file system), and waiting longer would not help.
const KILL_TIME: Duration = Duration::from_secs(5);

/// How often a family is searched again for members born while it was being killed.
const KILL_ROUNDS: usize = 20;

/// How many processes are waited for at once, so that a fork bomb does not cost the daemon its file descriptors. The
/// others are signalled all the same.
const MAX_WAITED: usize = 256;

/// A process, named so that it cannot be mistaken for a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessName {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// The processes of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// The value of [`KEY_VARIABLE`] in all of them.
    pub key: String,
    /// The process that was started for the attempt and leads its process group.
    pub main: Option<ProcessName>,
}

/// A process that was still there when it should not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its pid.
    pub pid: i32,
    /// Its program's name.
    pub name: String,
}

/// What [`Family::end`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// How many processes were asked to end.
    pub asked: usize,
    /// How many were killed because they had not ended in time, or were born meanwhile.
    pub killed: usize,
    /// Those that could not be killed: of another user, or stuck in the kernel.
    pub survivors: Vec<Survivor>,
}

impl Family {
    /// Asks every member to end (SIGTERM), gives them `grace`, and kills what is left. Blocks.
    ///
    /// The main process may be a zombie afterwards: reaping it is its parent's work.
    #[must_use]
    pub fn end(&self, grace: Duration) -> Ended {
        let asked = self.members();
        let told: Vec<OwnedFd> =
            asked.iter().filter_map(|stat| signal(stat, Signal::TERM)).collect();
        // A stopped process sees no SIGTERM before it goes on.
        for stat in &asked {
            let _continued = signal(stat, Signal::CONT);
        }
        wait_until_ended(told, grace);
        Ended { asked: asked.len(), ..self.kill() }
    }

    /// Kills every member, again and again until none is born any more. Blocks.
    #[must_use]
    pub fn kill(&self) -> Ended {
        let mut killed = HashSet::new();
        let mut left = Vec::new();
        for _round in 0..KILL_ROUNDS {
            left = self.members();
            if left.is_empty() || left.iter().all(|stat| killed.contains(&stat.pid)) {
                break;
            }
            let told: Vec<OwnedFd> =
                left.iter().filter_map(|stat| signal(stat, Signal::KILL)).collect();
            killed.extend(left.iter().map(|stat| stat.pid));
            wait_until_ended(told, KILL_TIME);
        }
        reaper::reap_ended_orphans();
        let survivors: Vec<Survivor> =
            left.into_iter().map(|stat| Survivor { pid: stat.pid, name: stat.name }).collect();
        Ended { asked: 0, killed: killed.len() - survivors.len(), survivors }
    }

    /// Kills every member that can be seen, without waiting. For when there is nobody left to wait.
    pub fn kill_at_once(&self) {
        for stat in self.members() {
            let _told = signal(&stat, Signal::KILL);
        }
    }

    /// Whether an orphan of this family was adopted, asked when the main process has ended and before it is reaped.
    /// Much cheaper than looking for all members: it reads one list and what little is on it.
    #[must_use]
    pub fn has_orphans(&self) -> bool {
        if !reaper::adopts_orphans() {
            return !self.members().is_empty();
        }
        let is_ours =
            |stat: &Stat| !stat.is_zombie && (self.is_in_group(stat) || self.has_key(stat));
        // Twice, because the list can miss an entry while another child ends.
        (0..2).any(|_| reaper::orphans().iter().any(is_ours))
    }

    /// Every living member.
    fn members(&self) -> Vec<Stat> {
        let own = proc::own_pid();
        let all = proc::all();
        // A group's number is taken for as long as its leader exists, be it as a zombie, so only then it says something.
        let main = all.iter().find(|stat| self.is_main(stat)).map(|stat| stat.pid);
        let marked: HashSet<i32> = all
            .iter()
            .filter(|stat| main == Some(stat.group) || main == Some(stat.pid) || self.has_key(stat))
            .map(|stat| stat.pid)
            .collect();
        let family = proc::with_descendants(&all, marked, own);
        all.into_iter().filter(|stat| family.contains(&stat.pid) && !stat.is_zombie).collect()
    }

    fn is_main(&self, stat: &Stat) -> bool {
        self.main.is_some_and(|main| main.pid == stat.pid && main.started == stat.started)
    }

    fn is_in_group(&self, stat: &Stat) -> bool {
        self.main.is_some_and(|main| main.pid == stat.group)
    }

    fn has_key(&self, stat: &Stat) -> bool {
        proc::has_in_environment(stat.pid, &format!("{KEY_VARIABLE}={}", self.key))
    }
}

/// Sends a signal to that very process. Returns a descriptor that becomes readable when it has ended, unless it is
/// gone already or may not be signalled.
pub(super) fn signal(to: &Stat, signal: Signal) -> Option<OwnedFd> {
    let process = pidfd_open(Pid::from_raw(to.pid)?, PidfdFlags::empty()).ok()?;
    // From here on the descriptor cannot change its meaning; before, the pid could.
    if Stat::of(to.pid)?.started != to.started {
        return None;
    }
    pidfd_send_signal(&process, signal).ok()?;
    Some(process)
}

/// Waits until all have ended, or for that long. Measured by a timer, which needs no look at a clock.
fn wait_until_ended(mut processes: Vec<OwnedFd>, at_most: Duration) {
    processes.truncate(MAX_WAITED);
    let Ok(timer) = timer(at_most) else { return };
    while !processes.is_empty() {
        let mut waiting: Vec<PollFd<'_>> =
            processes.iter().map(|process| PollFd::new(process, PollFlags::IN)).collect();
        waiting.push(PollFd::new(&timer, PollFlags::IN));
        match poll(&mut waiting, None) {
            Ok(_ready) => {}
            Err(Errno::INTR) => continue,
            Err(_no_memory) => return,
        }
        let ready: Vec<bool> = waiting.iter().map(|one| !one.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return;
        }
        let mut ended = ready.into_iter();
        processes.retain(|_| ended.next() != Some(true));
    }
}

fn timer(length: Duration) -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    // A length of zero would disarm it.
    let length = length.max(Duration::from_nanos(1));
    let value = Timespec {
        tv_sec: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(length.subsec_nanos()),
    };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(timer)
}
