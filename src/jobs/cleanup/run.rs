//! The steps of one run, and what they add to its report.

use jiff::Timestamp;

use super::act::{Steps, act};
use super::history::{HistoryCounts, HistoryPruner};
use super::params::Cleanup;
use super::plan::{self, Plan};
use super::report::{HistoryReport, Notes, Report, describe};
use super::root::Root;
use super::rules::Rules;
use super::walk::{Manner, walk};
use crate::jobs::ports::files::{Identity, Locks};
use crate::jobs::{Answer, Context, Failure};
use crate::model::ByteSize;

/// A run on its way.
pub(super) struct Run<'a> {
    context: &'a Context,
    params: &'a Cleanup,
    own: Option<Identity>,
    /// All of a run judges by one instant.
    now: Timestamp,
    report: Report,
    skipped: Notes,
    errors: Notes,
}

/// A root with what is to go from it.
pub(super) type Planned<'a> = (&'a Root, Plan);

/// Whether a step came to its end.
pub(super) enum Progressed<T> {
    Through(T),
    /// The attempt has to end.
    Stopped,
}

impl<'a> Run<'a> {
    pub(super) fn new(context: &'a Context, params: &'a Cleanup, own: Option<Identity>) -> Self {
        Self {
            context,
            params,
            own,
            now: context.clock.now(),
            report: Report::new(context.job.dry_run),
            skipped: Notes::default(),
            errors: Notes::default(),
        }
    }

    /// Looks through every root. Changes nothing.
    pub(super) fn plan<'r>(
        &mut self,
        roots: &'r [Root],
    ) -> Result<Progressed<Vec<Planned<'r>>>, Failure> {
        let rules = Rules::new(self.params, self.own)
            .map_err(|error| Failure::error(error.to_string()).for_good())?;
        let manner = Manner {
            as_of: self.now,
            skip_locked: self.params.skip_locked,
            most_files: self.params.limits.max_files,
        };
        let mut plans = Vec::new();
        for root in roots {
            let Some(walked) = walk(self.context, root, &rules, manner) else {
                return Ok(Progressed::Stopped);
            };
            self.skipped.extend(walked.skipped);
            self.errors.extend(walked.errors);
            self.report.add_plan(root, &walked.plan);
            plans.push((root, walked.plan));
        }
        Ok(Progressed::Through(plans))
    }

    /// Ends the run before the first deletion when the plan is past a limit.
    pub(super) fn check_limits(&mut self, plans: &[Planned<'_>]) -> Result<(), Failure> {
        let named = plans.iter().map(|(root, plan)| (root.name.as_str(), plan));
        let exceeded = plan::exceeded(&self.params.limits, named);
        if exceeded.is_empty() {
            return Ok(());
        }
        let message = format!(
            "nothing was deleted, for the plan is past its limits: {}; look at it with a dry run, \
             then change the rule or its limit",
            exceeded.join("; ")
        );
        self.context.output.line(&message);
        self.report.exceeded = exceeded;
        Err(Failure::answer(message).for_good().with_result(self.result()))
    }

    /// Counts what of the history may go.
    pub(super) fn plan_history(&mut self, history: &dyn HistoryPruner) -> Result<(), Failure> {
        let Some(policy) = &self.params.history else { return Ok(()) };
        let planned = history.count(&policy.rule(self.now)).map_err(|error| {
            Failure::error(format!("the history cannot be counted: {error}; nothing was deleted"))
        })?;
        let verb = if self.context.job.dry_run { "would delete" } else { "delete" };
        self.context.output.line(format!(
            "{verb} {} finished jobs from the history ({} completed, {} failed, {} cancelled)",
            planned.total(),
            planned.completed,
            planned.failed,
            planned.cancelled
        ));
        self.report.history = Some(HistoryReport { planned, deleted: HistoryCounts::default() });
        Ok(())
    }

    /// Tells the whole plan, for a dry run.
    pub(super) fn tell(&self, plans: &[Planned<'_>]) {
        for (root, plan) in plans {
            for removal in plan.removals() {
                let line = describe(root, &plan.display(removal), removal, self.now);
                self.context.output.line(format!("would delete {line}"));
            }
            for (path, reason) in &plan.kept_sample {
                let (path, reason) = (root.path_of(path), reason.as_str());
                self.context.output.line(format!("would keep {path} ({reason})"));
            }
        }
    }

    /// Deletes what is planned.
    pub(super) fn act(&mut self, plans: &[Planned<'_>]) -> Progressed<()> {
        let locks = if self.params.skip_locked { Locks::Honour } else { Locks::Ignore };
        let total = plans.iter().map(|(_, plan)| plan.removals().len() as u64).sum();
        let mut steps = Steps { done: 0, total };
        for (root, plan) in plans {
            let done = act(self.context, root, plan, locks, &mut steps);
            self.report.deleted += done.deleted;
            self.skipped.extend(done.skipped);
            self.errors.extend(done.errors);
            if done.is_stopped {
                return Progressed::Stopped;
            }
        }
        Progressed::Through(())
    }

    /// Deletes what may go of the history.
    pub(super) fn prune_history(&mut self, history: &dyn HistoryPruner) -> Progressed<()> {
        if let (Some(policy), Some(report)) = (&self.params.history, &mut self.report.history) {
            self.context.progress.report(None, "deleting finished jobs from the history");
            let must_stop = || self.context.must_stop();
            match history.prune(&policy.rule(self.now), &must_stop) {
                Ok(deleted) => report.deleted = deleted,
                Err(error) => self.errors.add("history".to_owned(), error.to_string()),
            }
        }
        if self.context.must_stop() { Progressed::Stopped } else { Progressed::Through(()) }
    }

    /// The answer of a run that had to end early.
    pub(super) fn stopped(self) -> Answer {
        Answer::Stopped { result: Some(self.result()) }
    }

    /// The answer of a run that came to its end.
    pub(super) fn finished(self) -> Answer {
        self.context.output.line(self.summary());
        let result = self.result();
        match self.errors.first() {
            None => Answer::Done(result),
            Some(first) => {
                let total = self.errors.total();
                let message = format!(
                    "{total} could not be read or deleted, everything else was done; the first: {first}"
                );
                Failure::error(message).with_result(result).into()
            }
        }
    }

    fn summary(&self) -> String {
        let (verb, amount) = if self.report.dry_run {
            ("would delete", self.report.planned)
        } else {
            ("deleted", self.report.deleted)
        };
        let jobs = self.report.history.map_or(0, |history| {
            if self.report.dry_run { history.planned } else { history.deleted }.total()
        });
        format!(
            "{verb} {} files ({}), {} directories and {jobs} finished jobs; {} left alone, {} problems",
            amount.files,
            ByteSize(amount.bytes),
            amount.dirs,
            self.skipped.total(),
            self.errors.total()
        )
    }

    fn result(&self) -> serde_json::Value {
        self.report.with_notes(&self.skipped, &self.errors)
    }
}
