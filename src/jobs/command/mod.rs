//! `command`: runs a program.
//!
//! The steps of an attempt, each in a file of its own: the params ([`params`]) become an environment
//! ([`environment`]) and a program ([`start`]). Its run ([`work`]) is mostly another process's business ([`mod@keep`]), so that it
//! outlives the daemon: it is started under a record for the next daemon ([`record`]); its output
//! goes to the attempt's log ([`pump`]) until it ends or is told to; what it left behind is ended; and its exit status
//! becomes an answer ([`verdict`]). A batch in one run is such an attempt with a list of what is to be done ([`items`]). What processes are and how they are ended is [`super::ports::process`].

mod environment;
mod items;
mod keep;
mod params;
mod protocol;
mod pump;
mod record;
mod start;
#[cfg(test)]
mod tests;
mod verdict;
mod work;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use self::items::{GivenItems, RunItems};
use self::params::Invocation;
use self::work::{Site, Work};
use super::ports::process::{Launch, Machine, Program};
use super::{Answer, Context, Failure, Handler, JobInfo, Kind, check_as, parse_params};
use crate::model::Chain;

pub use keep::{Keepers, KeptAttempt, keep};
pub use params::{CommandParams, EnvValue, Leftovers, Limits, OnRestart, ResultFrom, Umask};
pub use record::{Leftover, kill_leftovers};

/// The kind `command`.
pub const KIND: Kind = Kind::built_in("command", "runs a program", check_as::<CommandParams>);

/// Runs programs.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    launch: Arc<dyn Launch>,
    keepers: Keepers,
}

impl CommandHandler {
    /// Runs programs on this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Arc::new(Machine))
    }

    /// Runs programs with another way of starting them.
    #[must_use]
    pub fn with(launch: Arc<dyn Launch>) -> Self {
        Self { launch, keepers: Keepers::none() }
    }

    /// Runs programs where they outlive this daemon.
    #[must_use]
    pub fn keeping(keepers: Keepers) -> Self {
        Self { keepers, ..Self::new() }
    }
}

impl Default for CommandHandler {
    fn default() -> Self {
        Self::new()
    }
}

impl Handler for CommandHandler {
    fn run(&self, context: Context) -> BoxFuture<'_, Answer> {
        async move {
            match parse_params(&context.job.params) {
                Ok(params) => self.run_as(&context, &params, None).await,
                Err(problems) => {
                    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    let problems = problems.join("; ");
                    Failure::error(format!("its params are not valid: {problems}"))
                        .for_good()
                        .into()
                }
            }
        }
        .boxed()
    }
}

impl CommandHandler {
    /// Runs the program that `params` name as the work of this job, with those items.
    pub(in crate::jobs) async fn run_as(
        &self,
        context: &Context,
        params: &CommandParams,
        items: Option<GivenItems>,
    ) -> Answer {
        self.attempt(context, params, items).await.unwrap_or_else(Answer::Failed)
    }

    async fn attempt(
        &self,
        context: &Context,
        params: &CommandParams,
        items: Option<GivenItems>,
    ) -> Result<Answer, Failure> {
        let invocation = params
            .invocation()
            .map_err(|problem| Failure::error(problem.to_string()).for_good())?;
        let environment =
            environment::environment(params, &context.job, |name| std::env::var_os(name))
                .map_err(|error| Failure::error(Chain(&error).to_string()))?;
        let program = start::program(params, invocation, environment, key(&context.job))?;
        if context.job.dry_run {
            return Ok(show(context, params, invocation, &program));
        }
        let work = Work {
            attempt: context.job.name(),
            program,
            name: invocation.name().to_owned(),
            params: params.clone(),
            items,
        };
        if params.on_restart == OnRestart::Keep {
            match self.keepers.start(&work, context.limit).await {
                Ok(true) => return Ok(self.keepers.follow(context).await),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the program cannot be kept, so it would not outlive a restart; it is run all the same");
                }
            }
        }
        Ok(self.carry_out(context, &work).await)
    }

    /// Runs the program here, where it ends with this daemon.
    async fn carry_out(&self, context: &Context, work: &Work) -> Answer {
        let heard = work.items.as_ref().map(RunItems::new).map(Arc::new);
        let site = Site::of(context, Arc::clone(&self.launch), heard.clone());
        let running = work.carry_out(&site);
        let (Some(heard), Some(port)) = (&heard, &context.items) else { return running.await };
        let recording = heard.record_all(|reports| items::record(&**port, reports));
        tokio::join!(running, recording).0
    }
}

/// Marks the processes of this attempt. Random, so that nothing from elsewhere can have it.
fn key(job: &JobInfo) -> String {
    format!("{}-{}-{:016x}", job.id, job.attempt, rand::random::<u64>())
}

/// What would run. The names of the environment are shown, its values are not: some are secrets.
fn show(
    context: &Context,
    params: &CommandParams,
    invocation: Invocation<'_>,
    program: &Program,
) -> Answer {
    let names: Vec<String> =
        program.environment.keys().map(|name| name.to_string_lossy().into_owned()).collect();
    let output = &context.output;
    output.line("DRY RUN — nothing will be run");
    match invocation {
        Invocation::Argv { arguments, .. } => {
            output.line(format!("program: {}", program.file.display()));
            output.line(format!("arguments: {arguments:?}"));
        }
        Invocation::Shell(script) => output.line(format!("shell script:\n{script}")),
    }
    let cwd = params.cwd.as_ref().map(|cwd| cwd.display().to_string());
    output.line(format!("cwd: {}", cwd.as_deref().unwrap_or("the daemon's")));
    output.line(format!("environment: {}", names.join(", ")));
    if let Some(input) = &params.input {
        output.line(format!("input: {}", Value::Object(input.clone())));
    }
    Answer::Done(json!({
        "schema_version": 1,
        "dry_run": true,
        "argv": params.argv,
        "shell": params.shell,
        "cwd": cwd,
        "environment": names,
        "input": params.input,
    }))
}
