//! Starting programs, waiting for them, and leaving nothing of them behind.

mod channel;
mod family;
mod proc;
mod program;
mod reaper;
mod strays;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

pub use channel::{PROTOCOL_NUMBER, PROTOCOL_VARIABLE, apart_from_channels, reserve_channel};
pub use family::{Ended, Family, KEY_VARIABLE, ProcessName, Survivor};
pub use program::Program;
pub use reaper::{adopt_orphans, reap_orphans};
pub use strays::{Spared, end_strays};

/// Starts programs. A trait, so that tests can make starting fail as a machine in need does.
pub trait Launch: Send + Sync + fmt::Debug {
    /// Starts a program in a process group of its own, with pipes as its output.
    ///
    /// # Errors
    /// What the kernel says: the program or its interpreter is missing, no process or descriptor is left, and so on.
    fn launch(&self, program: &Program) -> io::Result<Running>;
}

/// Starts programs on this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Machine;

impl Launch for Machine {
    fn launch(&self, program: &Program) -> io::Result<Running> {
        let mut command = Command::new(&program.file);
        command
            .arg0(&program.name)
            .args(&program.arguments)
            .env_clear()
            .envs(&program.environment)
            .env(KEY_VARIABLE, &program.key)
            .process_group(0)
            .stdin(if program.has_stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(cwd) = &program.cwd {
            command.current_dir(cwd);
        }
        read_ahead(&program.file);
        let (child, channel) = channel::with_channel(|number| {
            command.env(PROTOCOL_VARIABLE, number.to_string());
            reaper::start_expected(|| command.spawn(), pid_of)
        })?;
        Running::new(child, channel, program.key.clone())
    }
}

/// A program that was started and not yet reaped. Dropping it kills all that came of it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    channel: Option<PipeReader>,
    family: Family,
    /// Readable when the program has ended.
    ended: Option<AsyncFd<OwnedFd>>,
    is_reaped: bool,
}

/// Reads the beginning of a program's file. Starting it waits for its file system, and all other starts wait for that; if the file
/// system hangs, this is where only this start hangs with it.
fn read_ahead(file: &Path) {
    // A program that may be executed and not read is none the worse.
    let _not_readable = File::open(file).and_then(|mut file| file.read(&mut [0; 64]));
}

fn pid_of(child: &Child) -> i32 {
    // Pids are positive `i32`s in the kernel; the standard library widens them.
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

#[expect(
    deprecated,
    reason = "the hazard is a type whose descriptor changes; an `OwnedFd`'s does not, and the replacement is unsafe"
)]
fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

impl Running {
    fn new(child: Child, channel: PipeReader, key: String) -> io::Result<Self> {
        let pid = pid_of(&child);
        let main = proc::Stat::of(pid).map(|stat| ProcessName { pid, started: stat.started });
        let family = Family { key, main };
        // From here on, dropping `running` cleans up.
        let mut running =
            Self { child, channel: Some(channel), family, ended: None, is_reaped: false };
        proc::drop_oom_protection(pid);
        let number = Pid::from_raw(pid).ok_or_else(|| io::Error::other("the child has no pid"))?;
        let descriptor = pidfd_open(number, PidfdFlags::empty())?;
        running.ended = Some(watch(descriptor)?);
        Ok(running)
    }

    /// The processes that belong to it.
    #[must_use]
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// Its pid, which is its process group's number too.
    #[must_use]
    pub fn pid(&self) -> i32 {
        pid_of(&self.child)
    }

    /// The writing end of its standard input, the first time this is asked.
    ///
    /// # Errors
    /// When the runtime cannot take the pipe.
    pub fn take_stdin(&mut self) -> io::Result<Option<ChildStdin>> {
        self.child.stdin.take().map(ChildStdin::from_std).transpose()
    }

    /// The reading ends of its standard output and error, the first time this is asked.
    ///
    /// # Errors
    /// When the runtime cannot take the pipes.
    pub fn take_output(&mut self) -> io::Result<(Option<ChildStdout>, Option<ChildStderr>)> {
        let stdout = self.child.stdout.take().map(ChildStdout::from_std).transpose()?;
        let stderr = self.child.stderr.take().map(ChildStderr::from_std).transpose()?;
        Ok((stdout, stderr))
    }

    /// The reading end of the descriptor that the program has beside its output, the first time this is asked.
    #[must_use]
    pub fn take_channel(&mut self) -> Option<PipeReader> {
        self.channel.take()
    }

    /// Returns when the program has ended. It is not reaped by that, so that its pid, and with it the number of its
    /// process group, cannot come to mean something else while the rest of its family is looked for.
    ///
    /// # Errors
    /// When the runtime stops.
    pub async fn ended(&self) -> io::Result<()> {
        match &self.ended {
            Some(descriptor) => descriptor.readable().await.map(|_ready| ()),
            None => Ok(()),
        }
    }

    /// How it ended, and the end of its pid. Blocks unless [`Running::ended`] has returned.
    ///
    /// # Errors
    /// When somebody else has reaped it.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait();
        self.is_reaped = true;
        reaper::expected_no_more(self.pid());
        status
    }

    /// Sets a resource limit, soft and hard. It holds from now on: for the program itself and what it starts later.
    ///
    /// # Errors
    /// When the limit is above the daemon's own, or the program has ended.
    pub fn limit(&self, resource: Resource, value: u64) -> io::Result<()> {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::prlimit(Pid::from_raw(self.pid()), resource, limit)?;
        Ok(())
    }

    /// Sets the priority for the processor, from -20 (first) to 19 (last), with the same reach as [`Running::limit`].
    ///
    /// # Errors
    /// When the daemon may not raise it, or the program has ended.
    pub fn nice(&self, value: i32) -> io::Result<()> {
        Ok(rustix::process::setpriority_process(Pid::from_raw(self.pid()), value)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.family.kill_at_once();
        // If it needs a moment to die, it is reaped as an orphan later.
        let _reaped_or_not_yet = self.child.try_wait();
        reaper::expected_no_more(self.pid());
    }
}

/// Names this boot of the machine; a [`ProcessName`] means nothing in another one.
#[must_use]
pub fn boot_id() -> String {
    proc::boot_id()
}
