//! `kb_validation`: is everything in a folder of knowledge as it should be?
//!
//! Data flow: [`params`] → [`plan`] (compiled once) → [`scan`] (what is there) → [`content`] (what each file's bytes say,
//! or what the [`cache`] remembers of them) → `run::across` (what only all files together can say) → [`verdict`].
//! Every rule is listed in [`rule`]; `docs/kinds/kb_validation.md` is the manual.
//!
//! Findings are an answer: at or above `fail_on` the attempt ends as `failure`, for good. A validator that cannot do its
//! work (no root, no manifest, a schema that is none) ends as `error`.

mod cache;
mod checksums;
mod content;
pub mod finding;
mod front_matter;
mod json;
mod links;
mod markdown;
pub mod params;
mod path;
mod plan;
mod root;
pub mod rule;
mod run;
mod scan;
mod schema;
mod select;
mod table;
mod text;
mod toml;
mod tree;
pub mod verdict;
mod yaml;

use std::path::{Path, PathBuf};
use std::{io, thread};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use self::cache::Cache;
use self::params::KbValidation;
use self::plan::Plan;
use self::root::Root;
use self::run::{Halt, Surroundings, validate};
use self::verdict::Verdict;
use super::{Answer, Context, Failure, Handler, Kind, check_as, parse_params};

/// The `kb_validation` kind.
pub const KIND: Kind = Kind::built_in(
    "kb_validation",
    "checks the files of a folder: syntax, schemas, tables, links, checksums",
    check_as::<KbValidation>,
);

/// Runs jobs of the kind `kb_validation`.
#[derive(Debug, Clone, Copy, Default)]
pub struct KbValidationHandler;

impl Handler for KbValidationHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        async move { context.blocking(on_deep_stack).await }.boxed()
    }
}

fn on_deep_stack(context: &Context) -> Answer {
    deep_stack(|| answer(context)).unwrap_or_else(|error| {
        Failure::error(format!("cannot start a thread to validate on: {error}")).into()
    })
}

fn answer(context: &Context) -> Answer {
    let params: KbValidation = match parse_params(&context.job.params) {
        Ok(params) => params,
        Err(problems) => {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Failure::error(format!("the params cannot be used: {}", problems.join("; ")))
                .for_good()
                .into();
        }
    };
    let began = context.clock.since_boot();
    match attempt(context, &params) {
        Ok(mut verdict) => {
            let took = context.clock.since_boot().saturating_sub(began);
            verdict.duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            conclude(context, &params, &verdict)
        }
        Err(Halt::Stopped) => Answer::Stopped { result: None },
        Err(Halt::Broken(message)) => Failure::error(message).into(),
    }
}

fn attempt(context: &Context, params: &KbValidation) -> Result<Verdict, Halt> {
    let plan = Plan::new(params).map_err(|problems| {
        Halt::Broken(problems.first().map(ToString::to_string).unwrap_or_default())
    })?;
    let root = Root::open(Path::new(&params.root)).map_err(|error| {
        let place =
            std::path::absolute(&params.root).unwrap_or_else(|_| PathBuf::from(&params.root));
        Halt::Broken(format!("cannot open the root {}: {error}", place.display()))
    })?;
    let settings = settings_hash(context);
    let cache_file = cache_file(context, &settings);
    let mut cache = if params.changed_only {
        Cache::load(&cache_file, &settings)
    } else {
        Cache::empty(&settings)
    };
    let around = Surroundings {
        now: context.clock.now(),
        must_stop: &|| context.must_stop(),
        progress: &|done, total, path| {
            context.progress.steps(done, total, finding::printable(path));
        },
    };
    let verdict = validate(params, &plan, &root, &mut cache, &around);
    // Also after a run that was stopped: the next one goes on from there.
    let is_kept = params.changed_only && !context.job.dry_run;
    if is_kept
        && !matches!(verdict, Err(Halt::Broken(_)))
        && let Err(error) = cache.save(&cache_file)
    {
        context.output.line(format!("{error}; the next run checks everything again"));
    }
    verdict
}

fn conclude(context: &Context, params: &KbValidation, verdict: &Verdict) -> Answer {
    for finding in &verdict.findings {
        context.output.line(finding.to_string());
    }
    let summary = verdict.summary();
    context.output.line(&summary);
    context.progress.report(Some(100), &summary);
    if !verdict.fails(params.fail_on) {
        return Answer::Done(verdict.to_json());
    }
    let worst =
        verdict.findings.first().map(|finding| format!("; first: {finding}")).unwrap_or_default();
    Failure::answer(format!("{summary}{worst}")).for_good().with_result(verdict.to_json()).into()
}

/// Of everything that decides what is found in a given file, short of schemas. Where a relative root is depends on
/// the working directory, so that counts too.
fn settings_hash(context: &Context) -> String {
    let root = context.job.params.get("root").and_then(|root| root.as_str()).unwrap_or_default();
    let place = std::path::absolute(root).unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    for part in [env!("CARGO_PKG_VERSION").as_bytes(), place.as_os_str().as_encoded_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(context.job.params.to_string().as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// One cache per schedule; jobs without one share by their settings.
fn cache_file(context: &Context, settings: &str) -> PathBuf {
    let name = match &context.job.schedule {
        Some((schedule, _)) => schedule.to_string(),
        None => settings[..16].to_owned(),
    };
    context.paths.state.join("kb_validation").join(format!("{name}.json"))
}

/// Runs work on a thread with a deep stack.
///
/// All parsers here limit how deep input may nest. Two of those limits multiply in TOML (dotted keys in nested tables), and
/// an overflow cannot be caught: it would end the daemon. Memory of a stack is only taken when it is used.
fn deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    const STACK_BYTES: usize = 128 << 20;
    thread::scope(|scope| {
        let name = "kb_validation".to_owned();
        let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[cfg(test)]
mod tests;
