//! The way from a root down to where the work is.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{Directory, Identity, OpenError};

/// A place in a tree, with the way that led there. Deep trees cost memory and not file descriptors: of the handles on
/// the way only the last few are held, and the others are found again from the root, by their names and with the same
/// refusals as one step, and compared with what they were.
#[derive(Debug)]
pub struct Trail<'root> {
    root: &'root Directory,
    steps: Vec<Step>,
    /// Handles of the last steps, the deepest at the back. Empty at the root and after many steps up.
    handles: VecDeque<Directory>,
}

#[derive(Debug)]
struct Step {
    name: OsString,
    identity: Identity,
}

/// How many handles a trail holds at most.
const MOST_HANDLES: usize = 64;

/// How long a relative path may be in one system call, with room to `PATH_MAX` (4096) for one more name.
const CHUNK_BYTES: usize = 3800;

impl<'root> Trail<'root> {
    /// A trail that stands at its root.
    #[must_use]
    pub fn at(root: &'root Directory) -> Self {
        Self { root, steps: Vec::new(), handles: VecDeque::new() }
    }

    /// How many steps below the root this is.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.steps.len()
    }

    /// Goes down into a directory, if it is the one that was `expected` under that name.
    ///
    /// # Errors
    /// When it is not, or cannot be opened. The trail stays where it was.
    pub fn enter(&mut self, name: &OsStr, expected: Identity) -> Result<(), OpenError> {
        let child = open_expected(self.here()?, name, expected)?;
        self.steps.push(Step { name: name.to_owned(), identity: expected });
        self.hold(child);
        Ok(())
    }

    /// Goes up one step; at the root nothing happens.
    pub fn leave(&mut self) {
        self.steps.pop();
        self.handles.pop_back();
    }

    /// The directory this stands in.
    ///
    /// # Errors
    /// When its handle was given up and it cannot be found again.
    pub fn here(&mut self) -> Result<&Directory, OpenError> {
        if self.handles.is_empty() {
            self.find_again()?;
        }
        Ok(self.handles.back().unwrap_or(self.root))
    }

    /// Checks that this place is still where it was below the root. A handle follows its directory wherever it is
    /// moved, out of the root too, so this is asked before changing anything.
    ///
    /// # Errors
    /// [`OpenError::Replaced`] when it is not.
    pub fn check(&self) -> Result<(), OpenError> {
        self.reach(self.steps.len()).map(drop)
    }

    /// Finds a place on the way once more from the root, to go on from or to compare: a handle from here cannot be read
    /// or changed. `None` is the root.
    fn reach(&self, depth: usize) -> Result<Option<Directory>, OpenError> {
        let mut reached: Option<Directory> = None;
        let mut path = Vec::new();
        for (index, step) in self.steps.iter().take(depth).enumerate() {
            path.extend_from_slice(step.name.as_bytes());
            if path.len() < CHUNK_BYTES && index + 1 < depth {
                path.push(b'/');
                continue;
            }
            let from = reached.as_ref().unwrap_or(self.root);
            let chunk = OsString::from_vec(std::mem::take(&mut path));
            let found = from.find(&chunk).map_err(as_replaced)?;
            expect(&found, step.identity)?;
            reached = Some(found);
        }
        Ok(reached)
    }

    /// Opens the last steps once more. No more of them than half of what may be held: the way up is then free for a
    /// while, and so is the way down.
    fn find_again(&mut self) -> Result<(), OpenError> {
        let first = self.steps.len().saturating_sub(MOST_HANDLES / 2);
        let start = self.reach(first)?;
        let mut handles: VecDeque<Directory> = VecDeque::new();
        for step in &self.steps[first..] {
            let parent = handles.back().or(start.as_ref()).unwrap_or(self.root);
            let child = open_expected(parent, &step.name, step.identity)?;
            handles.push_back(child);
        }
        self.handles = handles;
        Ok(())
    }

    fn hold(&mut self, handle: Directory) {
        self.handles.push_back(handle);
        if self.handles.len() > MOST_HANDLES {
            self.handles.pop_front();
        }
    }
}

fn open_expected(
    parent: &Directory,
    name: &OsStr,
    expected: Identity,
) -> Result<Directory, OpenError> {
    let child = parent.open(name).map_err(as_replaced)?;
    expect(&child, expected)?;
    Ok(child)
}

fn expect(directory: &Directory, expected: Identity) -> Result<(), OpenError> {
    let found = directory.metadata().map_err(OpenError::Io)?;
    if found.identity == expected { Ok(()) } else { Err(OpenError::Replaced) }
}

/// What was a directory a moment ago and is not one now was exchanged.
fn as_replaced(error: OpenError) -> OpenError {
    match error {
        OpenError::Symlink => OpenError::Replaced,
        OpenError::Io(cause)
            if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            OpenError::Replaced
        }
        other => other,
    }
}
