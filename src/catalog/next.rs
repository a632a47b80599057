//! From one snapshot to the next: pure, given what is on disk.
//!
//! Three rules keep an accident from becoming a deletion. A file that breaks keeps its last good definitions. A directory that is gone,
//! unreadable, was replaced by an empty one, or lost several files at once and has none left keeps all of its files. An id that two files
//! claim stays with the one that has it. Files that are deleted from a directory that is still the same one and has others, or one by
//! one, are gone: that is how an operator deletes schedules.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use jiff::Timestamp;

use super::claims;
use super::kinds::KindSet;
use super::references::unknown;
use super::scan::{Content, DirectoryScan, Entries, Known, Listing, Scan, ScannedFile, scan};
use super::snapshot::{Broken, Catalog, DirectoryState, LoadedFile, revision};
use crate::jobs::Kind;
use crate::model::ScheduleId;
use crate::schedule::{Code, Defaults, Diagnostic, Severity, parse_file};

/// How files are read: with which defaults, for which kinds.
#[derive(Debug, Clone)]
pub struct Reading {
    /// What schedules may leave out.
    pub defaults: Defaults,
    /// What they may do without a file that declares it.
    pub kinds: &'static [Kind],
    /// Where files are that declare more.
    pub kind_dirs: Vec<PathBuf>,
}

/// Below this number of changed files one thread reads them all: starting another one would take longer.
const FILES_WORTH_A_THREAD: usize = 64;

/// Looks at the disk: first at the kinds, because what a schedule file may say depends on them, then at the schedules.
pub(super) fn look(
    previous: &Catalog,
    schedules: impl FnOnce(&Known<'_>) -> Scan,
    reading: &Reading,
    now: Timestamp,
) -> Catalog {
    let directories = scan(&reading.kind_dirs, &Known::new(), now).directories;
    let kinds = previous.kinds.next(reading.kinds, directories);
    if kinds.is_same(&previous.kinds) {
        let scan = schedules(&previous.known());
        return next_catalog(previous, scan, kinds, reading, now);
    }
    let all: Vec<OsString> = previous.files.keys().cloned().collect();
    let previous = previous.without_what_is_known_of(&all);
    next_catalog(&previous, schedules(&Known::new()), kinds, reading, now)
}

/// The snapshot that follows `previous` when `scan` is what is on disk.
fn next_catalog(
    previous: &Catalog,
    scan: Scan,
    kinds: KindSet,
    reading: &Reading,
    now: Timestamp,
) -> Catalog {
    let mut sighting = Sighting::default();
    for directory in scan.directories {
        sighting.directory(previous, directory);
    }
    let files = load(previous, sighting.files, (&reading.defaults, &kinds.all), now);
    let files = claims::settle(previous, files, &sighting.order, now);
    let mut diagnostics = kinds.diagnostics.clone();
    diagnostics.append(&mut sighting.diagnostics);
    assemble(files, kinds, sighting.directories, diagnostics, sighting.ignored, now)
}

/// What is seen in all directories together.
#[derive(Default)]
struct Sighting {
    files: BTreeMap<OsString, Seen>,
    /// The directories as they were given, which is the order in which files are loaded.
    order: Vec<PathBuf>,
    directories: BTreeMap<PathBuf, DirectoryState>,
    diagnostics: Vec<Diagnostic>,
    ignored: Vec<PathBuf>,
}

/// One file after overriding.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and none lives long"
)]
enum Seen {
    /// Read in this scan.
    Now { directory: Arc<Path>, file: ScannedFile },
    /// Kept from the previous snapshot, because its directory is not what it was.
    Kept(Arc<LoadedFile>),
}

impl Sighting {
    fn directory(&mut self, previous: &Catalog, scanned: DirectoryScan) {
        let before = previous.directories.get(&scanned.path).copied();
        let path = scanned.path;
        self.order.push(path.clone());
        let count = previous.files.values().filter(|file| *file.directory == *path).count();
        let had_files = count > 0;
        let alarm = match &scanned.listing {
            Listing::Missing => Some("this directory of schedules is not there".to_owned()),
            Listing::Unreadable(error) => {
                Some(format!("this directory of schedules cannot be read: {error}"))
            }
            Listing::Entries(entries) if had_files && is_replacement(before, entries) => {
                Some("this directory was replaced by an empty one".to_owned())
            }
            Listing::Entries(entries) if count > 1 && entries.files.is_empty() => {
                Some(format!("all {count} files of this directory are gone at once"))
            }
            Listing::Entries(_) => None,
        };
        match (scanned.listing, alarm) {
            (Listing::Entries(entries), None) => self.entries(path, entries),
            (listing, alarm) => {
                let message = alarm.unwrap_or_default();
                let was_expected = matches!(listing, Listing::Missing) && !had_files;
                self.diagnostics.push(lost(&path, message, was_expected));
                for (name, file) in &previous.files {
                    if *file.directory == *path {
                        self.files.insert(name.clone(), Seen::Kept(Arc::clone(file)));
                    }
                }
                let identity = before.and_then(|state| state.identity);
                self.directories.insert(path, DirectoryState { identity, is_lost: true });
            }
        }
    }

    fn entries(&mut self, path: PathBuf, entries: Entries) {
        let directory: Arc<Path> = path.as_path().into();
        for file in entries.files {
            if matches!(file.content, Content::Masked) {
                self.files.remove(&file.name);
            } else {
                let name = file.name.clone();
                self.files.insert(name, Seen::Now { directory: Arc::clone(&directory), file });
            }
        }
        self.ignored.extend(entries.ignored);
        self.diagnostics.extend(entries.diagnostics);
        let identity = Some(entries.identity);
        self.directories.insert(path, DirectoryState { identity, is_lost: false });
    }
}

/// Whether this is another directory than before and has nothing in it: a disk that is not mounted, or a deployment that has not
/// copied its files yet.
fn is_replacement(before: Option<DirectoryState>, entries: &Entries) -> bool {
    entries.files.is_empty()
        && before.is_some_and(|before| before.is_lost || before.identity != Some(entries.identity))
}

fn lost(path: &Path, message: String, was_expected: bool) -> Diagnostic {
    if was_expected {
        return Diagnostic::about(path, Severity::Warning, Code::DirectoryLost, message)
            .with_help("it is read as soon as it is made");
    }
    Diagnostic::about(path, Severity::Error, Code::DirectoryLost, message).with_help(
        "what was read from it stays in force; bring it back, or restart the daemon if its schedules should go",
    )
}

/// Reads what is new and carries over what is not.
fn load(
    previous: &Catalog,
    seen: BTreeMap<OsString, Seen>,
    reading: (&Defaults, &[Kind]),
    now: Timestamp,
) -> BTreeMap<OsString, Arc<LoadedFile>> {
    let mut files = Vec::with_capacity(seen.len());
    let mut changed = Vec::new();
    for (name, seen) in seen {
        let before = previous.files.get(&name);
        match seen {
            Seen::Kept(file) => {
                files.push((name, file));
            }
            Seen::Now { directory, file } => match carry_over(before, &file) {
                Some(same) => {
                    files.push((name, same));
                }
                None => changed.push((name, directory, file, before)),
            },
        }
    }
    let read = |(name, directory, file, before): (OsString, Arc<Path>, ScannedFile, _)| {
        (name, read_file(directory, file, before, reading, now))
    };
    let keep = |(name, file): &(OsString, LoadedFile)| (name.clone(), Arc::new(file.copied()));
    files.extend(in_parallel(changed, read, keep));
    // A map that is made of a list is packed; one that grows an entry at a time in the order of its keys is half empty.
    files.into_iter().collect()
}

/// The file as it was, when its content is what it was.
fn carry_over(before: Option<&Arc<LoadedFile>>, file: &ScannedFile) -> Option<Arc<LoadedFile>> {
    let before = before.filter(|before| *before.path == *file.path)?;
    match &file.content {
        Content::Same => Some(Arc::clone(before)),
        // Read again and found to be the same: it was too fresh to trust its metadata, or only those changed.
        Content::Text { hash, stamp, warnings, .. } if before.hash == Some(*hash) => {
            let (stamp, access) = (Some(*stamp), warnings.clone());
            Some(Arc::new(LoadedFile { stamp, access, ..LoadedFile::clone(before) }))
        }
        _ => None,
    }
}

fn read_file(
    directory: Arc<Path>,
    file: ScannedFile,
    before: Option<&Arc<LoadedFile>>,
    (defaults, kinds): (&Defaults, &[Kind]),
    now: Timestamp,
) -> LoadedFile {
    let mut loaded = LoadedFile {
        path: file.path.into(),
        directory,
        stamp: None,
        hash: None,
        defined: None,
        access: Vec::new(),
        diagnostics: Vec::new(),
        conflicts: Vec::new(),
        in_force: before.map(|before| before.in_force.clone()).unwrap_or_default(),
        broken_since: before.and_then(|before| before.broken_since),
    };
    match file.content {
        Content::Text { text, hash, stamp, warnings } => {
            let parsed = parse_file(&loaded.path, &text, defaults, kinds, now);
            loaded.stamp = Some(stamp);
            loaded.hash = Some(hash);
            if !parsed.has_errors() {
                loaded.defined = Some(parsed.schedules.into_iter().map(Arc::new).collect());
            }
            loaded.access = warnings;
            loaded.diagnostics = parsed.diagnostics;
        }
        Content::Refused(diagnostic) => loaded.diagnostics.push(diagnostic),
        // A masked file never gets here, and one that is the same was carried over.
        Content::Masked | Content::Same => {}
    }
    loaded
}

/// Applies `work` to every item, on as many threads as there are processors when there is enough to do, and `keep` to each result, on this
/// thread. The results come in any order.
///
/// What is parsed and what is thrown away after it lie side by side in a thread's memory. `keep` copies the first out of it, so that the
/// memory can go back as a whole when the thread ends: ten thousand schedules take 6 MB less.
fn in_parallel<T: Send, R: Send, K>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
    keep: impl Fn(&R) -> K,
) -> Vec<K> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = processors.min(items.len() / FILES_WORTH_A_THREAD);
    if threads < 2 {
        return items.into_iter().map(|item| keep(&work(item))).collect();
    }
    let share = items.len().div_ceil(threads);
    let (results, finished) = mpsc::channel();
    let mut items = items.into_iter();
    let work = &work;
    std::thread::scope(|scope| {
        loop {
            let share: Vec<T> = items.by_ref().take(share).collect();
            if share.is_empty() {
                break;
            }
            let results = results.clone();
            scope.spawn(move || {
                for item in share {
                    // Nobody stops listening before the last result.
                    let _ = results.send(work(item));
                }
            });
        }
        drop(results);
        finished.iter().map(|result| keep(&result)).collect()
    })
}

fn assemble(
    files: BTreeMap<OsString, Arc<LoadedFile>>,
    kinds: KindSet,
    directories: BTreeMap<PathBuf, DirectoryState>,
    mut diagnostics: Vec<Diagnostic>,
    ignored: Vec<PathBuf>,
    now: Timestamp,
) -> Catalog {
    let (mut stale, mut invalid) = (BTreeMap::new(), BTreeMap::new());
    for file in files.values() {
        let (Some(since), Some(error)) = (file.broken_since, file.first_error()) else { continue };
        let broken = Broken { error: error.clone(), since };
        if file.in_force.is_empty() {
            invalid.insert(file.path.to_path_buf(), broken);
        } else {
            let ids = file.in_force.iter().map(|it| it.id.clone());
            stale.extend(ids.map(|id| (id, broken.clone())));
        }
    }
    let in_force = files.values().flat_map(|file| &file.in_force);
    let schedules = in_force.map(|it| (it.id.clone(), Arc::clone(it))).collect();
    for file in files.values() {
        let found = file.access.iter().chain(&file.diagnostics).chain(&file.conflicts);
        diagnostics.extend(found.cloned());
        diagnostics.extend(unknown(
            file.defined.as_deref().unwrap_or_default(),
            &schedules,
            &invalid,
        ));
    }
    Catalog {
        revision: revision(&schedules, &kinds),
        schedules,
        stale,
        invalid,
        diagnostics,
        ignored,
        loaded_at: now,
        files,
        directories,
        kinds,
    }
}

/// The files of a snapshot by name, for looking up who had an id before.
pub(super) fn owners(catalog: &Catalog) -> HashMap<&ScheduleId, &OsString> {
    let files = catalog.files.iter();
    files.flat_map(|(name, file)| file.in_force.iter().map(move |it| (&it.id, name))).collect()
}
