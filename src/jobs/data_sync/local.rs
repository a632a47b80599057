//! Transfers from a directory, and the deletes of a mirror.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use super::attempt::{Attempt, Halt, Trouble};
use super::incoming::{Finish, Incoming, put_link};
use super::listing::CHUNK_BYTES;
use super::params::{Preserved, SyncParams};
use super::plan::{Action, Entry, Listing, Plan};
use super::root::{Root, link_target, look};

/// Copies one file or link into place.
pub(super) fn copy(
    attempt: &mut Attempt<'_>,
    params: &SyncParams,
    source: &Root,
    target: &Root,
    path: &Path,
    entry: &Entry,
) -> Result<(), Trouble> {
    match entry {
        Entry::Link(leads_to) => put_link(target, path, leads_to)?,
        Entry::File(_) => copy_file(attempt, params, source, target, path)?,
    }
    attempt.file_done();
    Ok(())
}

fn copy_file(
    attempt: &mut Attempt<'_>,
    params: &SyncParams,
    source: &Root,
    target: &Root,
    path: &Path,
) -> Result<(), Trouble> {
    let mut file = source.file(path)?;
    let before = look(&file, "".as_ref())?;
    let mut incoming = Incoming::create(target, path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        incoming.write(&chunk[..read])?;
        attempt.moved(read)?;
    }
    if look(&file, "".as_ref())?.facts != before.facts || Some(incoming.size()) != before.facts.size
    {
        incoming.discard()?;
        return Err(Trouble::File(
            "it changed while it was copied; the next run tries again".into(),
        ));
    }
    let facts = before.facts;
    incoming.finish(Finish {
        mtime: facts.mtime.filter(|_| params.preserves(Preserved::Mtime)),
        mode: facts.mode.filter(|_| params.preserves(Preserved::Mode)),
        verify: params.verify,
    })?;
    Ok(())
}

/// Deletes what the plan says, and the directories that became empty by it and are not in the source.
pub(super) fn delete(
    attempt: &mut Attempt<'_>,
    plan: &Plan,
    source: &Listing,
    destination: &Listing,
    root: &Root,
) -> Result<(), Halt> {
    for path in plan.of(Action::Delete) {
        attempt.check_stop()?;
        match delete_one(root, path, &destination.entries[path]) {
            Ok(()) => attempt.tally.deleted += 1,
            Err(Trouble::File(message)) => attempt.error(path, message),
            Err(Trouble::Halt(halt)) => return Err(halt),
        }
    }
    let emptied: BTreeSet<&Path> =
        plan.of(Action::Delete).flat_map(|path| path.ancestors().skip(1)).collect();
    // Deepest first, so that a directory is empty by the time it is looked at.
    for folder in destination.folders.iter().rev() {
        if emptied.contains(folder.as_path())
            && !source.folders.contains(folder)
            && let Err(error) = root.remove_empty(folder)
        {
            attempt.error(folder, format!("cannot remove the empty directory: {error}"));
        }
    }
    Ok(())
}

/// The plan was made a while ago, so what is there now must still be what it spoke of.
fn delete_one(root: &Root, path: &Path, planned: &Entry) -> Result<(), Trouble> {
    let is_same = match planned {
        Entry::File(facts) => {
            let now = root.look(path)?.facts;
            (now.size, now.mtime) == (facts.size, facts.mtime)
        }
        Entry::Link(target) => {
            let (folder, name) = root.parent(path)?;
            link_target(&folder, &name)? == *target
        }
    };
    if !is_same {
        return Err(Trouble::File("it changed since the plan was made and was not deleted".into()));
    }
    root.unlink(path)?;
    Ok(())
}
