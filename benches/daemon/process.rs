//! What the kernel says about a process.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// How much memory a process has at a moment, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: u64,
    /// What is not a mapped file: heap, stacks, page caches of the database.
    pub(crate) anonymous: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let bytes = |name: &str| field(&status, name).expect("a size") * 1024;
        Self { resident: bytes("VmRSS:"), anonymous: bytes("RssAnon:") }
    }
}

/// The number behind a name in a file of `/proc` with a line for each.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Adds up what the threads of a process have used.
///
/// The kernel's sum for the process has a step of 10 ms, as much as an idle daemon uses in half a minute, so it is added up from the
/// threads' own counts in nanoseconds. What a thread used between the last look and its end is lost, which is why
/// [`Usage::look`] is to be called every second or so: threads that are only borrowed live for ten.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    pid: u32,
    threads: HashMap<u32, Thread>,
    before: Thread,
}

#[derive(Debug, Clone, Copy, Default)]
struct Thread {
    processor_ns: u64,
    switches: u64,
}

/// What a process used over some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) processor: Duration,
    /// How often one of its threads began to run.
    pub(crate) switches: u64,
}

impl Usage {
    /// Counts from now on.
    pub(crate) fn of(pid: u32) -> Self {
        let mut usage = Self { pid, ..Self::default() };
        usage.look();
        usage.before = usage.sum();
        usage
    }

    /// Looks at every thread there is.
    pub(crate) fn look(&mut self) {
        let tasks = format!("/proc/{}/task", self.pid);
        let ids = fs::read_dir(&tasks).expect("the process runs");
        for id in ids.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            if let Some(thread) = Thread::of(&format!("{tasks}/{id}")) {
                self.threads.insert(id, thread);
            }
        }
    }

    /// What was used since the beginning.
    pub(crate) fn used(&mut self) -> Used {
        self.look();
        let now = self.sum();
        Used {
            processor: Duration::from_nanos(now.processor_ns - self.before.processor_ns),
            switches: now.switches - self.before.switches,
        }
    }

    fn sum(&self) -> Thread {
        self.threads.values().fold(Thread::default(), |sum, thread| Thread {
            processor_ns: sum.processor_ns + thread.processor_ns,
            switches: sum.switches + thread.switches,
        })
    }
}

impl Thread {
    /// None when it has ended.
    fn of(folder: &str) -> Option<Self> {
        let schedstat = fs::read_to_string(format!("{folder}/schedstat")).ok()?;
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let switches = |name| field(&status, name);
        Some(Self {
            processor_ns: schedstat.split_whitespace().next()?.parse().ok()?,
            switches: switches("voluntary_ctxt_switches:")?
                + switches("nonvoluntary_ctxt_switches:")?,
        })
    }
}
