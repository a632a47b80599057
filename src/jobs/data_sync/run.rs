//! One run, from the params to the result.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::attempt::{Attempt, Halt, Trouble};
use super::listing::{Side, Walked, add_digests, walk};
use super::local;
use super::memory::{Memory, MemoryFile};
use super::params::{Atomic, Compare, Preserved, Source, SyncParams};
use super::plan::{Action, Entry, Listing, Plan, Rules, plan};
use super::report;
use super::root::Root;
use super::tree::Site;
use super::web::Web;
use crate::jobs::ports::http::{HttpClient, Url};
use crate::jobs::{Context, Failure, parse_params};

/// A source that was looked at, and how to get its files.
struct Origin {
    listing: Listing,
    /// What the web servers said, for the result.
    sources: Vec<Value>,
    /// The open directory, where it is one.
    root: Option<Root>,
}

/// Where everything goes.
struct Destination {
    /// Absolute, without links above the last name.
    path: PathBuf,
    name: OsString,
    /// The directory that it is in. `None` when even that does not exist and this is a dry run.
    parent: Option<OwnedFd>,
    root: Option<Root>,
    walked: Walked,
}

pub(super) fn sync(context: &Context, client: &dyn HttpClient) -> Result<Value, Halt> {
    let params: SyncParams = parse_params(&context.job.params).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::error(format!("the params are not valid: {}", problems.join("; "))).for_good()
    })?;
    let web = Web { client, params: &params };
    let bandwidth = params.bandwidth.map(|bandwidth| bandwidth.0);
    let mut attempt = Attempt::new(context, bandwidth, params.max_bytes);
    let mut origin = read_source(&attempt, &web)?;
    let path = locate(&params, context.job.dry_run)?;
    check_apart(&params, &path)?;
    let memory_file = MemoryFile::of(context, &path);
    let _lock = if context.job.dry_run { None } else { Some(memory_file.lock()?) };
    let mut destination = read_destination(context, path)?;
    let memory = memory_file.load(context);
    if let Source::Web(urls) = &params.from {
        memory.tag(urls, &mut destination.walked.listing);
    }
    compare_contents(context, &params, &mut origin, &mut destination)?;
    let plan = decide(&params, &origin.listing, &destination.walked.listing)?;
    let finished = |attempt: &Attempt<'_>| {
        let sources = (&origin.listing, origin.sources.as_slice());
        report::result(params.mode, context.job.dry_run, &plan, &attempt.tally, sources)
    };
    let at_destination = destination.walked.listing.entries.len();
    if let Some(excess) = plan.exceeds(&params.delete, params.max_bytes, at_destination) {
        report::print_changes(&context.output, &plan, &origin.listing);
        let failure = Failure::answer(format!("nothing was changed: {excess}")).for_good();
        return Err(failure.with_result(finished(&attempt)).into());
    }
    if context.job.dry_run {
        context.output.line("DRY RUN — nothing will be changed");
        report::print_kept(&context.output, &plan);
        report::print_changes(&context.output, &plan, &origin.listing);
        return Ok(finished(&attempt));
    }
    report::print_changes(&context.output, &plan, &origin.listing);
    let state = (memory, &memory_file);
    carry_out(&mut attempt, &web, &plan, &origin, &destination, state).map_err(
        |halt| match halt {
            Halt::Failed(failure) if failure.result.is_none() => {
                failure.with_result(finished(&attempt)).into()
            }
            halt => halt,
        },
    )?;
    conclude(&attempt, &plan, finished(&attempt))
}

fn read_source(attempt: &Attempt<'_>, web: &Web<'_>) -> Result<Origin, Halt> {
    match &web.params.from {
        Source::Web(urls) => {
            let probed = web.probe(attempt, urls)?;
            Ok(Origin { listing: probed.listing, sources: probed.sources, root: None })
        }
        Source::Folder(path) => {
            let root = std::fs::canonicalize(path).and_then(|path| Root::open(&path));
            let root = root.map_err(|error| {
                let path = path.display();
                Failure::error(format!(
                    "cannot open the source {path}, so nothing was changed: {error}"
                ))
            })?;
            let listing = walk(attempt.context, &root, Side::Source)?.listing;
            Ok(Origin { listing, sources: Vec::new(), root: Some(root) })
        }
    }
}

/// The destination as an absolute path whose parents are real directories.
fn locate(params: &SyncParams, dry_run: bool) -> Result<PathBuf, Failure> {
    let to = std::path::absolute(&params.to).map_err(|error| cannot_open(&params.to, &error))?;
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(cannot_open(&to, &io::ErrorKind::InvalidInput.into()).for_good());
    };
    if !dry_run {
        std::fs::create_dir_all(parent).map_err(|error| cannot_open(parent, &error))?;
    }
    match std::fs::canonicalize(parent) {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if dry_run && error.kind() == io::ErrorKind::NotFound => Ok(to),
        Err(error) => Err(cannot_open(parent, &error)),
    }
}

/// The params were checked as they are written; links in them can still lead into each other.
fn check_apart(params: &SyncParams, to: &Path) -> Result<(), Failure> {
    let Source::Folder(from) = &params.from else { return Ok(()) };
    let from = std::fs::canonicalize(from).map_err(|error| cannot_open(from, &error))?;
    if from.starts_with(to) || to.starts_with(&from) {
        let message = format!(
            "the source {} and the destination {} are inside each other",
            from.display(),
            to.display()
        );
        return Err(Failure::answer(message).for_good());
    }
    Ok(())
}

fn read_destination(context: &Context, path: PathBuf) -> Result<Destination, Halt> {
    let name = path.file_name().unwrap_or_default().to_owned();
    let mut found = Destination { name, parent: None, root: None, walked: Walked::default(), path };
    let folder = found.path.parent().unwrap_or(Path::new("/"));
    let parent = match Root::open(folder) {
        Ok(parent) => parent,
        Err(error) if context.job.dry_run && error.kind() == io::ErrorKind::NotFound => {
            return Ok(found);
        }
        Err(error) => return Err(cannot_open(folder, &error).into()),
    };
    let parent = parent.folder(Path::new("")).map_err(|error| cannot_open(folder, &error))?;
    if !context.job.dry_run {
        Site { parent: &parent, name: &found.name }.recover()?;
    }
    match Root::open_in(&parent, &found.name) {
        Ok(root) => {
            found.walked = walk(context, &root, Side::Destination)?;
            found.root = Some(root);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot_open(&found.path, &error).into()),
    }
    found.parent = Some(parent);
    Ok(found)
}

fn cannot_open(path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!(
        "cannot open {} as a directory for the destination (a link is not followed): {error}",
        path.display()
    ))
}

fn compare_contents(
    context: &Context,
    params: &SyncParams,
    origin: &mut Origin,
    destination: &mut Destination,
) -> Result<(), Halt> {
    match (params.compare(), &origin.root, &destination.root) {
        (Compare::Checksum, Some(source), Some(root)) => add_digests(
            context,
            (source, &mut origin.listing),
            (root, &mut destination.walked.listing),
        ),
        _ => Ok(()),
    }
}

fn decide(params: &SyncParams, source: &Listing, destination: &Listing) -> Result<Plan, Failure> {
    let rules = Rules {
        mode: params.mode,
        compare: params.compare(),
        filter: params.filter(),
        compare_mode: params.preserves(Preserved::Mode),
        delete_excluded: params.delete.excluded,
    };
    let is_empty = !source.entries.keys().any(|path| rules.filter.covers(path));
    if is_empty && !params.delete.allow_empty_source {
        return Err(Failure::answer(
            "the source has nothing to sync, which usually means a lost mount or a wrong path; nothing was \
             changed (`delete.allow_empty_source = true` allows it)",
        ));
    }
    Ok(plan(source, destination, &rules))
}

fn carry_out(
    attempt: &mut Attempt<'_>,
    web: &Web<'_>,
    plan: &Plan,
    origin: &Origin,
    destination: &Destination,
    mut state: (Memory, &MemoryFile),
) -> Result<(), Halt> {
    let params = web.params;
    attempt.plan(plan.transfers());
    for (path, reason) in &plan.conflicts {
        attempt.error(path, *reason);
    }
    let Some(parent) = &destination.parent else { return Ok(()) };
    let site = Site { parent, name: &destination.name };
    match params.atomic {
        Atomic::File => {
            let root = open_or_make(&site, destination)?;
            transfer_all(attempt, web, plan, origin, &root, &mut state)?;
            if attempt.tally.error_count == 0 {
                remove_ours(&root, &destination.walked.ours);
                let listing = &destination.walked.listing;
                local::delete(attempt, plan, &origin.listing, listing, &root)?;
            }
        }
        Atomic::Tree => {
            if attempt.tally.error_count > 0 {
                return Ok(());
            }
            let is_same = plan.steps.values().all(|step| step.action == Action::Keep);
            if is_same && destination.root.is_some() {
                return site.clear(attempt.context);
            }
            let live = (&destination.walked.listing, destination.root.as_ref());
            let staging = site.prepare(attempt.context, params, plan, &origin.listing, live)?;
            transfer_all(attempt, web, plan, origin, &staging, &mut state)?;
            if attempt.tally.error_count == 0 {
                attempt.check_stop()?;
                site.publish(attempt.context, &staging, destination.root.as_ref())?;
                attempt.tally.deleted = plan.count(Action::Delete).files;
            }
        }
    }
    Ok(())
}

fn open_or_make(site: &Site<'_>, destination: &Destination) -> Result<Root, Failure> {
    let fail = |error: io::Error| cannot_open(&destination.path, &error);
    if destination.root.is_none() {
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(site.parent, site.name, mode).map_err(|error| fail(error.into()))?;
    }
    Root::open_in(site.parent, site.name).map_err(fail)
}

fn transfer_all(
    attempt: &mut Attempt<'_>,
    web: &Web<'_>,
    plan: &Plan,
    origin: &Origin,
    target: &Root,
    state: &mut (Memory, &MemoryFile),
) -> Result<(), Halt> {
    for action in [Action::Copy, Action::Update] {
        for path in plan.of(action) {
            attempt.check_stop()?;
            let entry = &origin.listing.entries[path];
            match transfer(attempt, web, origin, target, (path, entry), state) {
                Ok(()) => {}
                Err(Trouble::File(message)) => attempt.error(path, message),
                Err(Trouble::Halt(halt)) => return Err(halt),
            }
        }
    }
    Ok(())
}

fn transfer(
    attempt: &mut Attempt<'_>,
    web: &Web<'_>,
    origin: &Origin,
    target: &Root,
    (path, entry): (&Path, &Entry),
    (memory, file): &mut (Memory, &MemoryFile),
) -> Result<(), Trouble> {
    match (&web.params.from, &origin.root) {
        (Source::Folder(_), Some(source)) => {
            // What an interrupted run left finished in the staging directory, `Site::prepare` has let stand.
            if web.params.atomic == Atomic::Tree && target.look(path).is_ok() {
                attempt.file_done();
                return Ok(());
            }
            local::copy(attempt, web.params, source, target, path, entry)
        }
        (Source::Web(urls), _) => match named(urls, path) {
            Some(named) => web.download(attempt, target, named, entry, (memory, file)),
            None => Err(Trouble::File("it is in no list of URLs".to_owned())),
        },
        (Source::Folder(_), None) => Err(Trouble::File("the source is not open".to_owned())),
    }
}

fn named<'a>(
    urls: &'a std::collections::BTreeMap<String, Url>,
    path: &Path,
) -> Option<(&'a str, &'a Url)> {
    urls.get_key_value(path.to_str()?).map(|(name, url)| (name.as_str(), url))
}

/// Removes unfinished files of earlier runs that no transfer of this one has used up. Failing to is harmless.
fn remove_ours(root: &Root, ours: &[PathBuf]) {
    for path in ours {
        let _gone_or_stays = root.unlink(path);
    }
}

fn conclude(attempt: &Attempt<'_>, plan: &Plan, result: Value) -> Result<Value, Halt> {
    let tally = &attempt.tally;
    attempt.context.output.line(format!(
        "{} files transferred ({}), {} deleted, {} errors",
        tally.transferred.files,
        crate::model::ByteSize(tally.transferred.bytes),
        tally.deleted,
        tally.error_count
    ));
    let Some((path, message)) = tally.errors.first() else { return Ok(result) };
    let deletes = match plan.count(Action::Delete).files.saturating_sub(tally.deleted) {
        0 => String::new(),
        held => format!("; {held} deletes were held back"),
    };
    let message = format!(
        "{} files could not be synced, first {path}: {message}{deletes}",
        tally.error_count
    );
    Err(Failure::error(message).with_result(result).into())
}
