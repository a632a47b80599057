//! The descriptor on which a program talks to us beside its output.
//!
//! A child inherits whatever is open without close-on-exec, under the same number. Giving it a pipe under a number of our choice needs code
//! between fork and exec, which would be unsafe and, worse, a fork: `posix_spawn` shares the memory of this process with
//! the child until it executes, and a fork copies its page tables. So one number is reserved for the whole process. It holds `/dev/null`,
//! becomes the pipe for the moment in which a program is started, one at a time, and then `/dev/null` again.

use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{DupFlags, dup2, dup3, retry_on_intr};

/// The number that programs are promised. It is the first that is free in a process that was started with nothing but the standard three.
pub const PROTOCOL_NUMBER: i32 = 3;

/// Tells a program under which number it has the descriptor.
pub const PROTOCOL_VARIABLE: &str = "SEXTON_PROTOCOL_FD";

/// The reserved number, once there is one.
static SLOT: Mutex<Option<Slot>> = Mutex::new(None);

struct Slot {
    number: OwnedFd,
    null: OwnedFd,
}

impl Slot {
    fn new() -> io::Result<Self> {
        // The lowest number that is free comes first.
        let (number, null) = (File::open("/dev/null")?, File::open("/dev/null")?);
        Ok(Self { number: number.into(), null: null.into() })
    }
}

/// Reserves the number and returns it. The daemon does so before it opens anything, so that it is [`PROTOCOL_NUMBER`] unless that was open when it
/// was started; otherwise it is whatever is free when the first program is started.
///
/// # Errors
/// When `/dev/null` cannot be opened.
pub fn reserve_channel() -> io::Result<i32> {
    let mut guard = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = match &mut *guard {
        Some(slot) => slot,
        None => guard.insert(Slot::new()?),
    };
    Ok(slot.number.as_raw_fd())
}

/// Starts a process that is no program of a job, while the number is nobody's pipe. It would inherit the pipe of a program that is started at the
/// same moment, hold it open, and pass it on to what it starts itself.
pub fn apart_from_channels<T>(start: impl FnOnce() -> T) -> T {
    let _no_program_is_started = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
    start()
}

/// Starts a program that has the writing end of a pipe under the number that `start` is told.
pub(super) fn with_channel<T>(
    start: impl FnOnce(i32) -> io::Result<T>,
) -> io::Result<(T, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let mut guard = SLOT.lock().unwrap_or_else(PoisonError::into_inner);
    let slot = match &mut *guard {
        Some(slot) => slot,
        None => guard.insert(Slot::new()?),
    };
    let Slot { number, null } = slot;
    retry_on_intr(|| dup2(&writer, number))?;
    let started = start(number.as_raw_fd());
    // Were this to fail, the pipe would stay open in here, and in every program that is started later.
    retry_on_intr(|| dup3(&*null, number, DupFlags::CLOEXEC))?;
    Ok((started?, reader))
}
