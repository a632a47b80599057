//! One run: walk, look at each file or remember it, work out what only all files together can say.

mod across;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::cache::{Cache, Entry};
use super::checksums::Manifest;
use super::content::Content;
use super::finding::{Counts, Finding, Findings, Report};
use super::params::KbValidation;
use super::plan::{Plan, Profile};
use super::root::{Digests, ReadError, Root};
use super::rule::Rule;
use super::scan::{FileEntry, Scan, ScanError, scan};
use super::schema::Schemas;
use super::verdict::{Files, Verdict};

/// The largest file that is parsed. Parsing takes a multiple of a file's size in memory.
const MAX_PARSED_BYTES: u64 = 64 << 20;

/// The largest manifest that is read.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// How many findings are held in memory before only counting goes on.
const MAX_HELD: usize = 200_000;

/// Why there is no verdict.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// The attempt has to end.
    Stopped,
    /// The validator could not do its work, and why.
    Broken(String),
}

/// What a run needs from outside.
pub(super) struct Surroundings<'a> {
    pub(super) now: Timestamp,
    pub(super) must_stop: &'a dyn Fn() -> bool,
    /// Told the files done, all files, and the path at hand.
    pub(super) progress: &'a dyn Fn(u64, u64, &str),
}

/// Validates, reading from and writing to the cache in memory.
pub(super) fn validate(
    params: &KbValidation,
    plan: &Plan,
    root: &Root,
    cache: &mut Cache,
    around: &Surroundings<'_>,
) -> Result<Verdict, Halt> {
    let scan = scan(root, &plan.exclude, around.must_stop).map_err(|error| match error {
        ScanError::Stopped => Halt::Stopped,
        ScanError::TooMany => Halt::Broken(format!("cannot validate {}: {error}", params.root)),
    })?;
    let manifest = read_manifest(params, root)?;
    let is_full = !params.changed_only || is_full_due(cache, params, around.now);
    let mut run = Run {
        params,
        plan,
        root,
        around,
        manifest,
        is_full,
        sizes: sizes(&scan),
        schemas: Schemas::new(root.clone()),
        seen: BTreeMap::new(),
        files: Files::default(),
    };
    let looked = run.look_at_all(&scan.files, cache);
    run.remember(cache, looked.is_ok());
    looked?;
    Ok(run.verdict(&scan))
}

/// A clock that went back makes it due as well: when the last time was is then anybody's guess.
fn is_full_due(cache: &Cache, params: &KbValidation, now: Timestamp) -> bool {
    let Some(last) = cache.full_at else { return true };
    match std::time::Duration::try_from(now.duration_since(last)) {
        Ok(age) => age >= params.full_every.get(),
        Err(_last_is_in_the_future) => true,
    }
}

fn read_manifest(params: &KbValidation, root: &Root) -> Result<Option<Manifest>, Halt> {
    let Some(checksums) = &params.checksums else { return Ok(None) };
    let path = super::path::resolve("", &checksums.manifest).unwrap_or_default();
    let broken = |reason: String| {
        Halt::Broken(format!(
            "the manifest {} in {} cannot be read: {reason}",
            checksums.manifest, params.root
        ))
    };
    let bytes = root.read(&path, MAX_MANIFEST_BYTES).map_err(|error| broken(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| broken(error.to_string()))?;
    Ok(Some(Manifest::parse(&path, &text)))
}

/// How many files there are of each size: only files of the same size can be equal.
fn sizes(scan: &Scan) -> HashMap<u64, u32> {
    let mut sizes = HashMap::new();
    for file in &scan.files {
        *sizes.entry(file.stamp.size).or_default() += 1;
    }
    sizes
}

struct Run<'a> {
    params: &'a KbValidation,
    plan: &'a Plan,
    root: &'a Root,
    around: &'a Surroundings<'a>,
    manifest: Option<Manifest>,
    is_full: bool,
    sizes: HashMap<u64, u32>,
    schemas: Schemas,
    seen: BTreeMap<String, Seen>,
    files: Files,
}

/// What came of looking at a file.
#[derive(Debug, Default)]
struct Seen {
    /// Reports from outside its content: its size, that it cannot be read.
    reports: Vec<Report>,
    /// `None` where neither content nor hashes were asked for, or it could not be read.
    entry: Option<Entry>,
}

/// What has to be found out about a file.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    content: bool,
    sha256: bool,
    digest: bool,
}

impl Run<'_> {
    fn look_at_all(&mut self, files: &[FileEntry], cache: &mut Cache) -> Result<(), Halt> {
        let total = files.len() as u64;
        for (file, done) in files.iter().zip(0..) {
            if (self.around.must_stop)() {
                return Err(Halt::Stopped);
            }
            (self.around.progress)(done, total, &file.path);
            match self.look_at(file, cache.files.remove(&file.path)) {
                Ok(seen) => {
                    self.files.scanned += 1;
                    self.seen.insert(file.path.clone(), seen);
                }
                // It was removed while the run went on, so it is not there.
                Err(Look::Gone) => {}
                Err(Look::Halt(halt)) => return Err(halt),
            }
        }
        Ok(())
    }

    fn look_at(&mut self, file: &FileEntry, known: Option<Entry>) -> Result<Seen, Look> {
        let profile = self.plan.profile(&file.path);
        let mut seen = Seen::default();
        let schemas = self.load_schemas(file, &profile, &mut seen)?;
        let wanted = self.wanted(file, &profile, &mut seen);
        if !(wanted.content || wanted.sha256 || wanted.digest) {
            return Ok(seen);
        }
        let known = known.filter(|known| known.schemas == schemas);
        match self.entry(file, &profile, wanted, schemas, known) {
            Ok(entry) => seen.entry = Some(entry),
            Err(ReadError::Gone) => return Err(Look::Gone),
            Err(ReadError::Stopped) => return Err(Look::Halt(Halt::Stopped)),
            Err(error) => {
                let rule = match error {
                    ReadError::NotAFile => Rule::NotAFile,
                    ReadError::TooLarge { .. } => Rule::NotChecked,
                    _ => Rule::Unreadable,
                };
                seen.reports.push(Report::new(rule, format!("cannot be read: {error}")));
            }
        }
        Ok(seen)
    }

    /// Loads the schemas of a file and gives one digest of them all. A schema that was named must be there; one that
    /// was made from the file's name may be missing.
    fn load_schemas(
        &mut self,
        file: &FileEntry,
        profile: &Profile<'_>,
        seen: &mut Seen,
    ) -> Result<String, Look> {
        let mut digest = String::new();
        for (path, is_by_name) in profile.schemas(&file.path) {
            let loaded = self.schemas.load(&path).map_err(|error| broken(error.to_string()))?;
            if let Some(schema) = self.schemas.get(&path) {
                digest.push_str(&schema.digest);
            }
            if !loaded && is_by_name {
                seen.reports
                    .push(Report::new(Rule::NoSchema, format!("there is no schema {path}")));
            } else if !loaded {
                return Err(broken(format!(
                    "the schema {path} does not exist in {}",
                    self.params.root
                )));
            }
        }
        Ok(digest)
    }

    fn wanted(&self, file: &FileEntry, profile: &Profile<'_>, seen: &mut Seen) -> Wanted {
        let size = file.stamp.size;
        let is_too_large = self.params.files.max_size.is_some_and(|max| size > max.0);
        if profile.is_text && size > MAX_PARSED_BYTES && !is_too_large {
            let limit = crate::model::ByteSize(MAX_PARSED_BYTES);
            let report = Report::new(
                Rule::NotChecked,
                format!("larger than {limit}, so its content is not checked"),
            );
            seen.reports.push(report.hint("split it, or set files.max_size to have it refused"));
        }
        let is_listed = |manifest: &Manifest| manifest.listed.contains_key(&file.path);
        let has_twin = size > 0 && self.sizes.get(&size).is_some_and(|count| *count > 1);
        Wanted {
            content: profile.is_text && !is_too_large && size <= MAX_PARSED_BYTES,
            sha256: self.manifest.as_ref().is_some_and(is_listed),
            digest: self.params.duplicates.is_some() && has_twin,
        }
    }

    /// What is to be known of a file: from the cache without opening it, from the cache because its hash is the same,
    /// or anew.
    fn entry(
        &mut self,
        file: &FileEntry,
        profile: &Profile<'_>,
        wanted: Wanted,
        schemas: String,
        known: Option<Entry>,
    ) -> Result<Entry, ReadError> {
        let is_enough = |known: &Entry| {
            (!wanted.content || known.content.is_some())
                && (!wanted.sha256 || known.digests.sha256.is_some())
        };
        let known = known.filter(|known| !self.is_full && is_enough(known));
        if let Some(known) = &known
            && known.is_settled
            && known.stamp == file.stamp
        {
            self.files.unchanged += u64::from(wanted.content);
            return Ok(known.clone());
        }
        let is_settled = file.stamp.is_settled(self.now_nanos());
        if !wanted.content {
            let digests = self.root.digests(&file.path, wanted.sha256, self.around.must_stop)?;
            return Ok(Entry { stamp: file.stamp, is_settled, digests, schemas, content: None });
        }
        let bytes = self.root.read(&file.path, MAX_PARSED_BYTES)?;
        let digests = Digests::of(&bytes, wanted.sha256);
        let remembered = known
            .filter(|known| known.digests.blake3 == digests.blake3)
            .and_then(|known| known.content);
        let content = if let Some(content) = remembered {
            self.files.unchanged += 1;
            content
        } else {
            self.files.checked += 1;
            let (rules, room) = (&self.params.files, self.params.max_findings);
            Content::of(&file.path, &bytes, profile, rules, &self.schemas, room)
        };
        Ok(Entry { stamp: file.stamp, is_settled, digests, schemas, content: Some(content) })
    }

    fn now_nanos(&self) -> i64 {
        i64::try_from(self.around.now.as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// Puts what is known now into the cache. After a run that was cut short, what was known of the other files stays.
    fn remember(&self, cache: &mut Cache, is_complete: bool) {
        if is_complete {
            cache.files.clear();
            if self.is_full {
                cache.full_at = Some(self.around.now);
            }
        }
        let entries =
            self.seen.iter().filter_map(|(path, seen)| Some((path, seen.entry.as_ref()?)));
        cache.files.extend(entries.map(|(path, entry)| (path.clone(), entry.clone())));
    }

    fn verdict(self, scan: &Scan) -> Verdict {
        let mut reports = self.across(scan);
        let mut held: Vec<Finding> = Vec::new();
        let mut unlisted = Counts::default();
        let mut hold = |mut findings: Content| {
            findings.fit(MAX_HELD.saturating_sub(held.len()));
            unlisted.merge(findings.uncounted);
            held.append(&mut findings.findings);
        };
        for (path, seen) in self.seen {
            reports.entry(path).or_default().extend(seen.reports);
            if let Some(content) = seen.entry.and_then(|entry| entry.content) {
                hold(Content { page: None, ..content });
            }
        }
        for (path, reports) in reports {
            let profile = self.plan.profile(&path);
            let mut findings = Findings::new(&path, &profile.levels, self.params.max_findings);
            reports.into_iter().for_each(|report| findings.add(report));
            let (findings, uncounted) = findings.finish();
            hold(Content { findings, uncounted, page: None });
        }
        Verdict::new(&self.params.root, self.files, held, unlisted, self.params.max_findings)
    }

    /// The paths of all files that are there.
    fn paths(&self) -> BTreeSet<&str> {
        self.seen.keys().map(String::as_str).collect()
    }
}

/// Why a file was not looked at.
enum Look {
    Gone,
    Halt(Halt),
}

fn broken(message: String) -> Look {
    Look::Halt(Halt::Broken(message))
}
