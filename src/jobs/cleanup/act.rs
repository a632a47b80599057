//! Carries a plan out.

use super::plan::{DirectoryId, Plan, Removal, Totals};
use super::report::{Notes, chain, describe};
use super::root::Root;
use crate::jobs::Context;
use crate::jobs::ports::files::{Directory, EntryKind, Locks, OpenError, RemoveError, Trail};

/// What came of a plan. Everything that was planned is in exactly one of these, or was not reached.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) deleted: Totals,
    /// What was left alone: changed, locked or gone since it was planned.
    pub(super) skipped: Notes,
    /// What could not be deleted.
    pub(super) errors: Notes,
    /// Whether the attempt had to end before the plan did.
    pub(super) is_stopped: bool,
}

/// How far the whole run is, over all roots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) done: u64,
    pub(super) total: u64,
}

/// How many removals go by at most until it is made sure again that their directory is still below the root.
const CHECK_EVERY: u64 = 64;

/// Down to this depth it is made sure for every directory. It costs a look at each name on the way, so for every
/// directory of a tree of thousands of levels it would take minutes.
const CHECK_ALWAYS_TO: usize = 64;

/// Deletes what is planned below a root, telling each before it happens.
pub(super) fn act(
    context: &Context,
    root: &Root,
    plan: &Plan,
    locks: Locks,
    steps: &mut Steps,
) -> Done {
    let mut done = Done::default();
    let mut place = Place::at(root, plan, locks);
    for removal in plan.removals() {
        if context.must_stop() {
            done.is_stopped = true;
            break;
        }
        let path = plan.display(removal);
        let found = place.go_to(removal.directory).and_then(|directory| {
            let line = describe(root, &path, removal, context.clock.now());
            context.output.line(format!("delete {line}"));
            remove(directory, removal, locks)
        });
        match found {
            Ok(()) => done.deleted += removal.totals(),
            Err(refusal) => {
                context.output.line(format!("  left: {}", refusal.text));
                let notes = if refusal.is_error { &mut done.errors } else { &mut done.skipped };
                notes.add(root.path_of(&path), refusal.text);
            }
        }
        steps.done += 1;
        context.progress.steps(steps.done, steps.total, format!("cleaning {}", root.name));
    }
    done
}

fn remove(directory: &Directory, removal: &Removal, locks: Locks) -> Result<(), Refusal> {
    let removed = match removal.metadata.kind {
        EntryKind::Directory => {
            directory.remove_directory(&removal.name, removal.metadata.identity)
        }
        _ => directory.remove_file(&removal.name, &removal.metadata, locks),
    };
    removed.map_err(Refusal::from)
}

/// Why something planned is still there.
#[derive(Debug, Clone)]
struct Refusal {
    text: String,
    is_error: bool,
}

impl From<RemoveError> for Refusal {
    fn from(error: RemoveError) -> Self {
        Self { is_error: matches!(error, RemoveError::Io(_)), text: chain(error) }
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        // Something mounted or exchanged since the plan was made is somebody's doing and not an accident of ours.
        let is_error = matches!(error, OpenError::Io(_) | OpenError::Unsupported);
        Self { is_error, text: format!("its directory: {}", chain(error)) }
    }
}

/// Where in the tree the deleting is. Plans are in the order of a walk, so going from one directory to the next is a few
/// steps up and down.
struct Place<'a> {
    plan: &'a Plan,
    locks: Locks,
    trail: Trail<'a>,
    /// The directories on the trail.
    way: Vec<DirectoryId>,
    /// A directory that could not be reached, so that each name in it need not try.
    unreachable: Option<(DirectoryId, Refusal)>,
    since_check: u64,
}

impl<'a> Place<'a> {
    fn at(root: &'a Root, plan: &'a Plan, locks: Locks) -> Self {
        Self {
            plan,
            locks,
            trail: Trail::at(&root.directory),
            way: Vec::new(),
            unreachable: None,
            since_check: 0,
        }
    }

    /// Goes to a directory of the plan and makes sure it still is where it was planned.
    fn go_to(&mut self, directory: Option<DirectoryId>) -> Result<&Directory, Refusal> {
        if let (Some(target), Some((known, refusal))) = (directory, &self.unreachable)
            && target == *known
        {
            return Err(refusal.clone());
        }
        if let Err(refusal) = self.arrive(directory) {
            self.unreachable = directory.map(|target| (target, refusal.clone()));
            return Err(refusal);
        }
        Ok(self.trail.here()?)
    }

    fn arrive(&mut self, target: Option<DirectoryId>) -> Result<(), Refusal> {
        self.since_check += 1;
        if self.way.last().copied() == target && self.since_check < CHECK_EVERY {
            return Ok(());
        }
        let mut below = Vec::new();
        let mut common = target;
        while let Some(id) = common
            && !self.is_on_way(id)
        {
            below.push(id);
            common = self.plan.directory(id).parent;
        }
        while self.way.last().copied() != common {
            self.way.pop();
            self.trail.leave();
        }
        for id in below.into_iter().rev() {
            self.enter(id)?;
        }
        if self.trail.depth() <= CHECK_ALWAYS_TO || self.since_check >= CHECK_EVERY {
            // Only a check that went well counts: after one that did not, the next place is checked as well.
            self.trail.check()?;
            self.since_check = 0;
        }
        Ok(())
    }

    fn enter(&mut self, id: DirectoryId) -> Result<(), Refusal> {
        let directory = self.plan.directory(id);
        self.trail.enter(&directory.name, directory.identity)?;
        self.way.push(id);
        let is_locked =
            self.locks == Locks::Honour && !self.trail.here()?.try_lock_shared().unwrap_or(true);
        if is_locked {
            self.way.pop();
            self.trail.leave();
            return Err(Refusal::from(RemoveError::Locked));
        }
        Ok(())
    }

    fn is_on_way(&self, id: DirectoryId) -> bool {
        self.way.get(self.plan.directory(id).depth - 1) == Some(&id)
    }
}
