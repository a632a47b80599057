//! The order of a run: plan, check the limits, act, report.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::history::HistoryPruner;
use super::params::Cleanup;
use super::root::{Root, RootRefused};
use super::run::{Progressed, Run};
use crate::clock::SharedClock;
use crate::jobs::ports::files::Identity;
use crate::jobs::{Answer, Context, Failure, Handler, parse_params};

/// The code behind `cleanup`.
pub struct CleanupHandler {
    history: Arc<dyn HistoryPruner>,
    clock: SharedClock,
}

impl CleanupHandler {
    /// A handler for trees of files and for that history, to which things are as old as `clock` makes them.
    #[must_use]
    pub fn new(history: Arc<dyn HistoryPruner>, clock: SharedClock) -> Self {
        Self { history, clock }
    }
}

impl fmt::Debug for CleanupHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanupHandler").finish_non_exhaustive()
    }
}

impl Handler for CleanupHandler {
    fn run(&self, mut context: Context) -> BoxFuture<'_, Answer> {
        let history = Arc::clone(&self.history);
        context.clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let clean = move |context: &Context| match clean(context, history.as_ref()) {
                Ok(answer) => answer,
                Err(failure) => failure.into(),
            };
            context.blocking(clean).await
        })
    }
}

/// One run. A failure that is returned as an error came before anything was deleted.
fn clean(context: &Context, history: &dyn HistoryPruner) -> Result<Answer, Failure> {
    if context.job.dry_run {
        context.output.line("DRY RUN — nothing will be changed");
    }
    let params = parse_params::<Cleanup>(&context.job.params).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::error(format!("the parameters are wrong: {}", problems.join("; "))).for_good()
    })?;
    // A data directory that is not there yet cannot be in the way.
    let own = Identity::of(&context.paths.data).ok();
    let roots = open_roots(&params, own, context.job.dry_run)?;
    let mut run = Run::new(context, &params, own);
    let Progressed::Through(plans) = run.plan(&roots)? else { return Ok(run.stopped()) };
    if context.job.dry_run {
        run.tell(&plans);
    }
    run.check_limits(&plans)?;
    run.plan_history(history)?;
    if context.job.dry_run {
        return Ok(run.finished());
    }
    let Progressed::Through(()) = run.act(&plans) else { return Ok(run.stopped()) };
    Ok(match run.prune_history(history) {
        Progressed::Through(()) => run.finished(),
        Progressed::Stopped => run.stopped(),
    })
}

/// All roots, or none: one that is missing says that something is wrong, and then nothing is deleted anywhere.
fn open_roots(
    params: &Cleanup,
    own: Option<Identity>,
    is_dry_run: bool,
) -> Result<Vec<Root>, Failure> {
    let working_directory = std::env::current_dir()
        .map_err(|error| Failure::error(format!("there is no working directory: {error}")))?;
    let fstab = std::fs::read("/etc/fstab").unwrap_or_default();
    let mut roots = Vec::new();
    for path in params.resolved_roots(&working_directory) {
        let path =
            path.map_err(|error| Failure::error(format!("{error}: {}", error.help())).for_good())?;
        roots.push(open_root(&path, own, &fstab, is_dry_run).map_err(failure)?);
    }
    Ok(roots)
}

fn open_root(
    path: &Path,
    own: Option<Identity>,
    fstab: &[u8],
    is_dry_run: bool,
) -> Result<Root, RootRefused> {
    let root = Root::open(path, own, fstab)?;
    if !is_dry_run {
        root.lock()?;
    }
    Ok(root)
}

fn failure(refused: RootRefused) -> Failure {
    let is_final = refused.is_final();
    let failure = Failure::error(super::report::chain(refused));
    if is_final { failure.for_good() } else { failure }
}
