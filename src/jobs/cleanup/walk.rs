//! Looks through a tree and lets the planner judge what is there. Changes nothing.

use std::io;

use jiff::Timestamp;

use super::plan::{Plan, Planner};
use super::report::{Notes, chain};
use super::root::Root;
use super::rules::{Reason, Rules, join};
use crate::jobs::Context;
use crate::jobs::ports::files::{Directory, Entry, Listing, OpenError, Trail, readable};

/// What came of a walk.
#[derive(Debug)]
pub(super) struct Walked {
    pub(super) plan: Plan,
    /// What was left alone because it moved while it was looked at.
    pub(super) skipped: Notes,
    /// What could not be read.
    pub(super) errors: Notes,
}

/// How a walk is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// The instant that ages are counted back from.
    pub(super) as_of: Timestamp,
    /// Directories that somebody has locked are left alone.
    pub(super) skip_locked: bool,
    /// Past so many files a plan is not remembered.
    pub(super) most_files: u64,
}

/// How many names of one directory are looked at. Beyond, somebody makes them faster than they are read, or the rest
/// waits for the next run.
const MOST_NAMES: usize = 250_000;

/// How often progress is told, in directories.
const TELL_EVERY: usize = 64;

/// Walks a root. `None` when the attempt has to end.
pub(super) fn walk(
    context: &Context,
    root: &Root,
    rules: &Rules,
    manner: Manner,
) -> Option<Walked> {
    let mut walk = Walk {
        planner: Planner::new(rules, manner.as_of, manner.most_files),
        trail: Trail::at(&root.directory),
        root,
        rules,
        manner,
        skipped: Notes::default(),
        errors: Notes::default(),
    };
    // For each directory on the way down, those in it that are still to be walked. No recursion: a tree may be deeper
    // than a stack.
    let mut open: Vec<Vec<Entry>> = vec![walk.look_here()];
    for steps in 1_usize.. {
        if context.must_stop() {
            return None;
        }
        if steps % TELL_EVERY == 0 {
            let seen = walk.planner.seen();
            context.progress.report(None, format!("looked at {seen} entries below {}", root.name));
        }
        let Some(waiting) = open.last_mut() else { break };
        match waiting.pop() {
            Some(directory) => open.extend(walk.go_into(directory)),
            None => {
                open.pop();
                walk.trail.leave();
                walk.planner.leave();
            }
        }
    }
    Some(Walked { plan: walk.planner.finish(), skipped: walk.skipped, errors: walk.errors })
}

struct Walk<'a> {
    planner: Planner<'a>,
    trail: Trail<'a>,
    root: &'a Root,
    rules: &'a Rules,
    manner: Manner,
    skipped: Notes,
    errors: Notes,
}

impl Walk<'_> {
    /// Steps down and looks around, where that is possible.
    fn go_into(&mut self, directory: Entry) -> Option<Vec<Entry>> {
        match self.trail.enter(&directory.name, directory.metadata.identity) {
            Ok(()) if self.is_locked() => {
                self.trail.leave();
                self.planner.stay_unwalked(&directory, Reason::Locked);
                None
            }
            Ok(()) => {
                self.planner.enter(directory);
                Some(self.look_here())
            }
            Err(OpenError::OtherMount) => {
                self.planner.stay_unwalked(&directory, Reason::MountPoint);
                None
            }
            Err(error) => {
                self.planner.stay_unwalked(&directory, Reason::Unreadable);
                let path = join(self.planner.path(), &directory.name);
                self.note(&path, error);
                None
            }
        }
    }

    /// Hands what the current directory holds to the planner, and returns the directories in it.
    fn look_here(&mut self) -> Vec<Entry> {
        let listing = match self.list() {
            Ok(listing) => listing,
            Err(error) => {
                self.planner.stay_unlisted(Reason::Unreadable);
                let path = self.planner.path().to_owned();
                self.note(&path, error);
                return Vec::new();
            }
        };
        if listing.is_cut {
            let path = self.root.path_of(&readable(self.planner.path()));
            if self.rules.needs_whole_groups() {
                self.planner.stay_unlisted(Reason::Unreadable);
                let problem = format!(
                    "it holds more than {MOST_NAMES} names, too many to tell which to `keep`"
                );
                self.errors.add(path, problem);
                return Vec::new();
            }
            self.planner.stay_unlisted(Reason::NotEmpty);
            let remark = format!("only the first {MOST_NAMES} names were looked at");
            self.skipped.add(path, remark);
        }
        self.planner.list(listing.entries)
    }

    fn list(&mut self) -> Result<Listing, OpenError> {
        self.trail.here()?.list(MOST_NAMES).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::Replaced,
            _ => OpenError::Io(error),
        })
    }

    /// Also takes the lock itself, shared and until the trail leaves, so that whoever asks sees us in there.
    fn is_locked(&mut self) -> bool {
        self.manner.skip_locked
            && matches!(self.trail.here().map(Directory::try_lock_shared), Ok(Ok(false)))
    }

    fn note(&mut self, path: &[u8], error: OpenError) {
        let notes = match error {
            OpenError::Replaced => &mut self.skipped,
            _ => &mut self.errors,
        };
        notes.add(self.root.path_of(&readable(path)), chain(error));
    }
}
