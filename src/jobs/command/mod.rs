//! `command`: runs a program.
//!
//! The steps of an attempt, each in a file of its own: the params ([`params`]) become an environment
//! ([`environment`]) and a program that is started ([`start`]) under a record for the next daemon ([`record`]); its output
//! goes to the attempt's log ([`pump`]) until it ends or is told to; what it left behind is ended; and its exit status
//! becomes an answer ([`verdict`]). A batch in one run is such an attempt with a list of what is to be done ([`items`]). What processes are and how they are ended is [`super::ports::process`].

mod environment;
mod items;
mod params;
mod protocol;
mod pump;
mod record;
mod start;
#[cfg(test)]
mod tests;
mod verdict;

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use self::items::RunItems;
use self::params::Invocation;
use self::protocol::Listener;
use self::pump::Pump;
use self::record::RunRecord;
use self::start::NotStarted;
use self::verdict::{End, Facts};
use super::ports::process::{Ended, Family, Launch, Machine, Program, Running};
use super::{Answer, Context, Failure, Handler, JobInfo, Kind, check_as, parse_params};
use crate::model::Chain;

pub use params::{CommandParams, EnvValue, Leftovers, Limits, ResultFrom, Umask};
pub use record::{Leftover, kill_leftovers};

/// The kind `command`.
pub const KIND: Kind = Kind::built_in("command", "runs a program", check_as::<CommandParams>);

/// Runs programs.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    launch: Arc<dyn Launch>,
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
        Self { launch }
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
        items: Option<&Arc<RunItems>>,
    ) -> Answer {
        self.attempt(context, params, items).await.unwrap_or_else(Answer::Failed)
    }

    async fn attempt(
        &self,
        context: &Context,
        params: &CommandParams,
        items: Option<&Arc<RunItems>>,
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
        context.output.limit_to(params.max_output.0);
        let record = RunRecord::create(&context.paths, &context.job, &program.key);
        let mut record = match record {
            Ok(record) => record,
            Err(error) => {
                let folder = context.paths.running();
                let message =
                    format!("cannot write a run record in `{}`: {error}", folder.display());
                if is_out_of_space(&error) {
                    return Ok(come_back(message));
                }
                return Err(Failure::error(message));
            }
        };
        let started = context.clock.since_boot();
        let running = match start::start(&*self.launch, &program, &context.stop).await {
            Ok(running) => running,
            Err(NotStarted::Stopped) => return Ok(Answer::Stopped { result: None }),
            Err(NotStarted::Short(message)) => return Ok(come_back(message)),
            Err(NotStarted::Failed(failure)) => return Err(failure),
        };
        if let Some(main) = running.family().main {
            // Without this line the program is found by its environment alone.
            let _written = record.started(main);
        }
        context.progress.report(None, format!("runs as process {}", running.pid()));
        let attempt = Attempt { context, params, items, started };
        let (facts, was_stopped) = attempt
            .see_through(running)
            .await
            .map_err(|error| Failure::error(format!("lost track of the program: {error}")))?;
        if was_stopped {
            return Ok(Answer::Stopped { result: Some(facts.result()) });
        }
        Ok(verdict::answer(params, invocation.name(), &facts))
    }
}

/// How long a job is put off when the machine is too short of something to start a program.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(30);

/// The answer of an attempt that the machine had no room for: nothing was run, so it is not charged.
fn come_back(reason: String) -> Answer {
    Answer::Snooze { delay: SHORTAGE_PAUSE, reason }
}

/// Whether a file could not be written for want of space, inodes or permission to use more of them.
fn is_out_of_space(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::ROFS | Errno::MFILE | Errno::NFILE)
    )
}

/// An attempt whose program runs.
struct Attempt<'a> {
    context: &'a Context,
    params: &'a CommandParams,
    /// What it is to do, where that is a batch in one run.
    items: Option<&'a Arc<RunItems>>,
    /// Time since boot.
    started: Duration,
}

/// How long the output of a program that has ended is waited for, while something it left behind holds the pipe.
const DRAIN_TIME: Duration = Duration::from_secs(1);

impl Attempt<'_> {
    /// Waits for the program's end or brings it about, and leaves no process behind. True when it was told to stop.
    async fn see_through(&self, mut running: Running) -> io::Result<(Facts, bool)> {
        self.confine(&running)?;
        let Context { progress, output, .. } = self.context;
        let listener = Listener::new(progress.clone(), output.clone(), self.items.cloned());
        let mut pump = Pump::start(&mut running, self.params, &self.context.output, &listener)?;
        let was_stopped = tokio::select! {
            biased;
            ended = running.ended() => { ended?; false }
            () = self.context.stop.cancelled() => true,
        };
        let mut leftovers = Ended::default();
        if was_stopped {
            self.context.output.line("sexton: stopping the program and everything it started");
            end(running.family().clone(), self.params.kill_grace.0).await;
            running.ended().await?;
        }
        let duration = self.context.clock.since_boot().saturating_sub(self.started);
        pump.stop_feeding();
        pump.drain(DRAIN_TIME).await;
        // Asked while the program is a zombie, because after that its group's number may be somebody else's.
        if !was_stopped
            && self.params.leftovers == Leftovers::Kill
            && running.family().has_orphans()
        {
            leftovers = end(running.family().clone(), self.params.kill_grace.0).await;
            pump.drain(DRAIN_TIME).await;
        }
        self.tell_of(&leftovers);
        let status: ExitStatus = running.reap()?;
        let facts = Facts {
            end: End::from(status),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            output_bytes: pump.bytes(),
            truncated: self.context.output.summary().truncated,
            output: pump.last_line(),
            leftovers: leftovers.asked + leftovers.killed,
            said: listener.said(),
        };
        Ok((facts, was_stopped))
    }

    /// Sets what can only be set on a running process. It runs for some microseconds without; it is ended if one of them
    /// cannot be set, because it may rely on it.
    fn confine(&self, running: &Running) -> io::Result<()> {
        let context = |name: &str, error: &io::Error| {
            io::Error::new(error.kind(), format!("cannot set `{name}`: {error}"))
        };
        if let Some(nice) = self.params.nice {
            running.nice(nice.into()).map_err(|error| context("nice", &error))?;
        }
        for (name, resource, value) in self.params.limits.set() {
            running.limit(resource, value).map_err(|error| context(name, &error))?;
        }
        Ok(())
    }

    fn tell_of(&self, leftovers: &Ended) {
        if leftovers.asked > 0 {
            self.context.output.line(format!(
                "sexton: the program ended and left {} processes running, which were ended (`leftovers = \"leave\"` keeps them)",
                leftovers.asked
            ));
        }
        for survivor in &leftovers.survivors {
            self.context.output.line(format!(
                "sexton: process {} ({}) could not be killed",
                survivor.pid, survivor.name
            ));
        }
    }
}

/// Ends a family on a thread that may block.
async fn end(family: Family, grace: Duration) -> Ended {
    // It only fails when the runtime stops or the closure panics, and then nobody can wait for the end any more; the
    // program is killed when `Running` is dropped.
    tokio::task::spawn_blocking(move || family.end(grace)).await.unwrap_or_default()
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
