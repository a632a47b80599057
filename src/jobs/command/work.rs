//! The run of one program, from its start to what its end means, in whichever process that is.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::items::{GivenItems, ItemsFile, RunItems};
use super::params::{CommandParams, Leftovers};
use super::protocol::{Listener, LogSink};
use super::pump::Pump;
use super::record::RunRecord;
use super::start::{self, NotStarted};
use super::verdict::{self, End, Facts};
use crate::clock::SharedClock;
use crate::jobs::ports::process::{Ended, Family, Launch, Program, Running};
use crate::jobs::{Answer, Context, Failure, Output, Progress, RunPaths};
use crate::model::AttemptName;

/// A program to run for an attempt, with everything that has to be known until it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    /// Whose program it is.
    pub(super) attempt: AttemptName,
    /// The program.
    pub(super) program: Program,
    /// What messages call it.
    pub(super) name: String,
    /// How it is treated.
    pub(super) params: CommandParams,
    /// What it is to do, where that is a batch in one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<GivenItems>,
}

/// What a program is run with.
pub(super) struct Site {
    pub(super) launch: Arc<dyn Launch>,
    pub(super) clock: SharedClock,
    pub(super) paths: Arc<RunPaths>,
    pub(super) output: Output,
    pub(super) progress: Progress,
    pub(super) stop: CancellationToken,
    pub(super) log: LogSink,
    /// Who hears what it says of its items, where it has any.
    pub(super) items: Option<Arc<RunItems>>,
}

impl Site {
    /// Within the daemon.
    pub(super) fn of(
        context: &Context,
        launch: Arc<dyn Launch>,
        items: Option<Arc<RunItems>>,
    ) -> Self {
        Self {
            launch,
            clock: Arc::clone(&context.clock),
            paths: Arc::clone(&context.paths),
            output: context.output.clone(),
            progress: context.progress.clone(),
            stop: context.stop.clone(),
            log: Arc::new(|line| line.to_log()),
            items,
        }
    }
}

impl Work {
    /// Runs the program, and leaves none of its processes behind.
    pub(super) async fn carry_out(&self, site: &Site) -> Answer {
        let answer = self.attempt_it(site).await.unwrap_or_else(Answer::Failed);
        match &site.items {
            Some(items) => items.conclude(answer),
            None => answer,
        }
    }

    async fn attempt_it(&self, site: &Site) -> Result<Answer, Failure> {
        site.output.limit_to(self.params.max_output.0);
        let (mut record, _items) = match self.prepare(&site.paths) {
            Ok(prepared) => prepared,
            Err(error) => {
                let folder = site.paths.running();
                let message = format!(
                    "cannot write a run record or its items in `{}`: {error}",
                    folder.display()
                );
                if is_out_of_space(&error) {
                    return Ok(come_back(message));
                }
                return Err(Failure::error(message));
            }
        };
        let started = site.clock.since_boot();
        let running = match start::start(&*site.launch, &self.program, &site.stop).await {
            Ok(running) => running,
            Err(NotStarted::Stopped) => return Ok(Answer::Stopped { result: None }),
            Err(NotStarted::Short(message)) => return Ok(come_back(message)),
            Err(NotStarted::Failed(failure)) => return Err(failure),
        };
        if let Some(main) = running.family().main {
            // Without this line the program is found by its environment alone.
            let _written = record.started(main);
        }
        site.progress.report(None, format!("runs as process {}", running.pid()));
        let attempt = Attempt { site, params: &self.params, started };
        let (facts, was_stopped) = attempt
            .see_through(running)
            .await
            .map_err(|error| Failure::error(format!("lost track of the program: {error}")))?;
        if was_stopped {
            return Ok(Answer::Stopped { result: Some(facts.result()) });
        }
        Ok(verdict::answer(&self.params, &self.name, &facts))
    }

    /// Writes what has to be there before the program is. The record comes first: what a crash leaves behind is found by it.
    fn prepare(&self, paths: &RunPaths) -> io::Result<(RunRecord, Option<ItemsFile>)> {
        let record = RunRecord::create(paths, self.attempt, &self.program.key)?;
        let items = self.items.as_ref().map(GivenItems::lay_out).transpose()?;
        Ok((record, items.flatten()))
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
    site: &'a Site,
    params: &'a CommandParams,
    /// Time since boot.
    started: Duration,
}

/// How long the output of a program that has ended is waited for, while something it left behind holds the pipe.
const DRAIN_TIME: Duration = Duration::from_secs(1);

impl Attempt<'_> {
    /// Waits for the program's end or brings it about, and leaves no process behind. True when it was told to stop.
    async fn see_through(&self, mut running: Running) -> io::Result<(Facts, bool)> {
        self.confine(&running)?;
        let listener = Listener::new(
            self.site.progress.clone(),
            self.site.output.clone(),
            Arc::clone(&self.site.log),
            self.site.items.clone(),
        );
        let mut pump = Pump::start(&mut running, self.params, &self.site.output, &listener)?;
        let was_stopped = tokio::select! {
            biased;
            ended = running.ended() => { ended?; false }
            () = self.site.stop.cancelled() => true,
        };
        let mut leftovers = Ended::default();
        if was_stopped {
            self.site.output.line("sexton: stopping the program and everything it started");
            end(running.family().clone(), self.params.kill_grace.0).await;
            running.ended().await?;
        }
        let duration = self.site.clock.since_boot().saturating_sub(self.started);
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
            truncated: self.site.output.summary().truncated,
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
            self.site.output.line(format!(
                "sexton: the program ended and left {} processes running, which were ended (`leftovers = \"leave\"` keeps them)",
                leftovers.asked
            ));
        }
        for survivor in &leftovers.survivors {
            self.site.output.line(format!(
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::JobId;

    #[test]
    fn what_counts_after_the_start_arrives_in_another_process_and_secrets_do_not() {
        let params: CommandParams = serde_json::from_value(json!({
            "argv": ["/bin/true", "canary"], "env": {"TOKEN": "env:CANARY"}, "pass_env": ["CANARY"], "cwd": "/canary",
            "umask": "027", "input": {"a": [1, null]}, "kill_grace": "1m 30s", "leftovers": "leave", "on_restart": "keep",
            "success_codes": [0, 4], "skip_codes": [5], "final_codes": [6], "retry_codes": [7], "nice": -3,
            "limits": {"memory": "1GiB", "cpu_time": "90s", "open_files": 20}, "max_output": "3MiB", "result": "last_line",
        }))
        .unwrap();
        let program = Program {
            file: "/bin/true".into(),
            name: "true".to_owned(),
            arguments: Vec::new(),
            cwd: None,
            environment: Default::default(),
            has_stdin: true,
            key: "7-2-0".to_owned(),
        };
        let attempt = AttemptName { job: JobId(7), number: 2 };
        let work = Work { attempt, program, name: "true".to_owned(), params, items: None };
        let text = serde_json::to_string(&work).unwrap();
        assert!(!text.to_lowercase().contains("canary"), "{text}");
        let arrived: Work = serde_json::from_str(&text).unwrap();
        let params = CommandParams {
            argv: work.params.argv.clone(),
            env: work.params.env.clone(),
            pass_env: work.params.pass_env.clone(),
            cwd: work.params.cwd.clone(),
            umask: work.params.umask,
            ..arrived.params
        };
        assert_eq!(Work { params, ..arrived }, work);
    }
}
