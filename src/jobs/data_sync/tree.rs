//! Changing a whole directory at once: the new tree is built beside the old one and takes its place in one step.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, RenameFlags};
use rustix::io::Errno;

use super::attempt::Halt;
use super::listing::{Side, walk};
use super::names::{old_of, shown, staging_of};
use super::params::{Compare, Mode as SyncMode, SyncParams};
use super::plan::{Action, Entry, Listing, Plan};
use super::root::{Root, look};
use crate::jobs::{Context, Failure};

/// A destination and the place beside it.
pub(super) struct Site<'a> {
    pub(super) parent: &'a OwnedFd,
    pub(super) name: &'a OsStr,
}

impl Site<'_> {
    fn staging(&self) -> OsString {
        staging_of(self.name)
    }

    fn old(&self) -> OsString {
        old_of(self.name)
    }

    /// Finishes a swap that a crash cut between its two renames. Comes before anything looks at the destination.
    pub(super) fn recover(&self) -> Result<(), Failure> {
        match rustix::fs::renameat_with(
            self.parent,
            self.old(),
            self.parent,
            self.name,
            RenameFlags::NOREPLACE,
        ) {
            Ok(()) | Err(Errno::NOENT | Errno::EXIST) => Ok(()),
            Err(error) => Err(fail("put the old tree back after a crash", &error.into())),
        }
    }

    /// The new tree with everything in it that does not change, ready for the transfers.
    pub(super) fn prepare(
        &self,
        context: &Context,
        params: &SyncParams,
        plan: &Plan,
        source: &Listing,
        destination: (&Listing, Option<&Root>),
    ) -> Result<Root, Halt> {
        let (listing, live) = destination;
        if let Some((path, what)) = listing.skipped.first_key_value() {
            return Err(Failure::answer(format!(
                "{} at the destination is {what} and cannot move into a new tree; use atomic = \"file\"",
                shown(path)
            ))
            .for_good()
            .into());
        }
        match rustix::fs::mkdirat(self.parent, self.staging(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail("make the staging directory", &error.into()).into()),
        }
        let staging = Root::open_in(self.parent, &self.staging())
            .map_err(|error| fail("open the staging directory", &error))?;
        sweep(context, &staging, params, plan, source)?;
        if let Some(live) = live {
            self.carry_over(context, params, plan, source, (listing, live), &staging)?;
        }
        Ok(staging)
    }

    fn carry_over(
        &self,
        context: &Context,
        params: &SyncParams,
        plan: &Plan,
        source: &Listing,
        (listing, live): (&Listing, &Root),
        staging: &Root,
    ) -> Result<(), Halt> {
        for folder in &listing.folders {
            if params.mode != SyncMode::Mirror || source.folders.contains(folder) {
                staging.make_folder(folder).map_err(|error| fail("build the new tree", &error))?;
            }
        }
        for path in listing.entries.keys() {
            if context.must_stop() {
                return Err(Halt::Stopped);
            }
            if plan.steps.get(path).is_none_or(|step| step.action == Action::Keep) {
                carry_one(live, staging, path).map_err(|error| {
                    fail(&format!("carry {} over into the new tree", shown(path)), &error)
                })?;
            }
        }
        Ok(())
    }

    /// Lets the new tree take the place of the old one, and removes the old one.
    pub(super) fn publish(
        &self,
        context: &Context,
        staging: &Root,
        live: Option<&Root>,
    ) -> Result<(), Halt> {
        seal(context, staging, live)?;
        self.swap(live.is_some()).map_err(|error| fail("swap the trees", &error))?;
        rustix::fs::fsync(self.parent).map_err(|error| fail("swap the trees", &error.into()))?;
        self.clear(context)
    }

    /// Removes what is beside the destination: the old tree after a swap, or what an earlier run left there.
    pub(super) fn clear(&self, context: &Context) -> Result<(), Halt> {
        for name in [self.staging(), self.old()] {
            let Ok(left) = Root::open_in(self.parent, &name) else { continue };
            remove_tree(context, &left)?;
            rustix::fs::unlinkat(self.parent, &name, AtFlags::REMOVEDIR)
                .map_err(|error| fail("remove the old tree", &error.into()))?;
        }
        Ok(())
    }

    fn swap(&self, has_live: bool) -> io::Result<()> {
        let (parent, staging) = (self.parent, self.staging());
        let rename = |from: &OsStr, to: &OsStr, flags| {
            rustix::fs::renameat_with(parent, from, parent, to, flags)
        };
        if !has_live {
            return Ok(rename(&staging, self.name, RenameFlags::NOREPLACE)?);
        }
        match rename(&staging, self.name, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(()),
            // A file system without the exchange. Between these two renames the destination is missing for a moment,
            // and `recover` puts it back after a crash.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rename(self.name, &self.old(), RenameFlags::empty())?;
                Ok(rename(&staging, self.name, RenameFlags::empty())?)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn fail(what: &str, error: &io::Error) -> Failure {
    Failure::error(format!("cannot {what}: {error}"))
}

/// Clears what an earlier run left, except files that are already as the source has them and downloads to go on with.
fn sweep(
    context: &Context,
    staging: &Root,
    params: &SyncParams,
    plan: &Plan,
    source: &Listing,
) -> Result<(), Halt> {
    let left = walk(context, staging, Side::Destination)?;
    for (path, entry) in &left.listing.entries {
        if !is_ready(params, plan, path, entry, source.entries.get(path)) {
            staging.unlink(path).map_err(|error| fail("clear the staging directory", &error))?;
        }
    }
    for folder in left.listing.folders.iter().rev() {
        staging
            .remove_empty(folder)
            .map_err(|error| fail("clear the staging directory", &error))?;
    }
    Ok(())
}

/// Whether a file in the staging directory is a finished copy. It got its name after its content and its time, so equal
/// size and time say so, unless content is what this sync goes by.
fn is_ready(
    params: &SyncParams,
    plan: &Plan,
    path: &Path,
    staged: &Entry,
    source: Option<&Entry>,
) -> bool {
    let is_transfer = plan
        .steps
        .get(path)
        .is_some_and(|step| matches!(step.action, Action::Copy | Action::Update));
    let is_same = match (staged, source) {
        (Entry::File(staged), Some(Entry::File(source))) => {
            source.mtime.is_some()
                && (staged.size, staged.mtime, staged.mode)
                    == (source.size, source.mtime, source.mode)
        }
        (staged, source) => Some(staged) == source,
    };
    params.resume && params.compare() == Compare::SizeAndMtime && is_transfer && is_same
}

/// Gives a file or link of the old tree a name in the new one. A copy is only needed where the file system has no links.
fn carry_one(live: &Root, staging: &Root, path: &Path) -> io::Result<()> {
    let (from, name) = live.parent(path)?;
    let to = staging.make_folder(path.parent().unwrap_or(Path::new("")))?;
    match rustix::fs::linkat(&from, &name, &to, &name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&to, &name, AtFlags::empty())?;
            Ok(rustix::fs::linkat(&from, &name, &to, &name, AtFlags::empty())?)
        }
        Err(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::XDEV) => {
            copy_one(live, staging, path)
        }
        Err(error) => Err(error.into()),
    }
}

fn copy_one(live: &Root, staging: &Root, path: &Path) -> io::Result<()> {
    use super::incoming::{Finish, Incoming, put_link};
    let (folder, name) = live.parent(path)?;
    let seen = look(&folder, &name)?;
    if seen.kind == rustix::fs::FileType::Symlink {
        return put_link(staging, path, &super::root::link_target(&folder, &name)?);
    }
    let mut incoming = Incoming::create(staging, path)?;
    let mut file = live.file(path)?;
    let mut chunk = vec![0; super::listing::CHUNK_BYTES];
    loop {
        match io::Read::read(&mut file, &mut chunk)? {
            0 => break,
            read => incoming.write(&chunk[..read])?,
        }
    }
    incoming.finish(Finish { mtime: seen.facts.mtime, mode: seen.facts.mode, verify: true })
}

/// The last step before the swap: nothing of ours is left in the new tree, its directories have the permissions of
/// those they replace and are on disk. The files in it already are.
fn seal(context: &Context, staging: &Root, live: Option<&Root>) -> Result<(), Halt> {
    let failed = |error: io::Error| fail("bring the new tree to disk", &error);
    let walked = walk(context, staging, Side::Destination)?;
    for path in &walked.ours {
        staging.unlink(path).map_err(failed)?;
    }
    // Deepest first: a directory that nobody may write to can still hold others.
    let root = PathBuf::new();
    for path in walked.listing.folders.iter().rev().chain([&root]) {
        let folder = staging.folder(path).map_err(failed)?;
        let replaced = live.and_then(|live| live.folder(path).ok());
        if let Some(mode) = replaced.and_then(|old| look(&old, OsStr::new("")).ok()?.facts.mode) {
            rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode))
                .map_err(|error| failed(error.into()))?;
        }
        rustix::fs::fsync(&folder).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// Removes everything below a directory. The walk does not enter other file systems, and a directory that holds one
/// stays and fails the removal.
fn remove_tree(context: &Context, root: &Root) -> Result<(), Halt> {
    let walked = walk(context, root, Side::Destination)?;
    for path in walked.listing.entries.keys().chain(&walked.ours) {
        root.unlink(path).map_err(|error| fail("remove the old tree", &error))?;
    }
    for folder in walked.listing.folders.iter().rev() {
        root.remove_empty(folder).map_err(|error| fail("remove the old tree", &error))?;
    }
    Ok(())
}
