//! What a job has to wait for: when it is submitted, and again when it is brought back.
//!
//! What it depends on is in its settings for good. Of each of those jobs it is looked what has become of it by now; where another job does the
//! work of one with other params, that one counts.

use std::collections::BTreeMap;

use diesel::prelude::*;

use crate::model::{
    Dependency, DependencyNeeds, JobId, JobSettings, JobState, OnDependencyFailure,
};
use crate::store::history::is_real;
use crate::store::schema::{attempts, batch_items, job_replacements, job_results, jobs};
use crate::store::{Conn, StoreError};

/// What has become of a job that another one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It is not over.
    Lives,
    /// It ended so.
    Over(JobState),
    /// It was deleted, and nobody knows how it had ended.
    Gone,
}

/// A job that another one depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    /// The job, or the one that does its work.
    pub(super) on: i64,
    pub(super) needs: DependencyNeeds,
    pub(super) became: Became,
    /// Whether it only told what it would have done.
    pub(super) is_dry_run: bool,
}

/// Why a job can never run as things are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// It needs the success of this job, which ended otherwise.
    Ended(JobId, JobState),
    /// It needs the success of one of several jobs, and none of them will complete. This is the last of them.
    NoneOf(JobId),
    /// It needs the success of this job, which does not exist any more.
    Gone(JobId),
}

/// Which of those that a job depends on it has to wait for.
pub(super) fn to_wait_for(
    needed: &[Needed],
    on_failure: OnDependencyFailure,
) -> Result<Vec<(i64, DependencyNeeds)>, Hopeless> {
    use DependencyNeeds::{Any, Finished, Success};
    let (mut waits_for, mut one_has_completed) = (Vec::new(), false);
    for Needed { on, needs, became, .. } in needed {
        let is_met = match (needs, became) {
            (_, Became::Lives) => false,
            (Finished, _) => true,
            (Success | Any, Became::Over(JobState::Completed)) => {
                one_has_completed |= *needs == Any;
                true
            }
            (Any, Became::Over(_)) => on_failure != OnDependencyFailure::Wait,
            (Any, Became::Gone) => true,
            (Success, Became::Over(state)) => match on_failure {
                OnDependencyFailure::Run => true,
                OnDependencyFailure::Wait => false,
                OnDependencyFailure::Cancel => return Err(Hopeless::Ended(JobId(*on), *state)),
            },
            (Success, Became::Gone) => match on_failure {
                OnDependencyFailure::Run => true,
                _ => return Err(Hopeless::Gone(JobId(*on))),
            },
        };
        if !is_met {
            waits_for.push((*on, *needs));
        }
    }
    let is_one_of_several = |needs: DependencyNeeds| needs == Any;
    let last = needed.iter().rfind(|needed| is_one_of_several(needed.needs));
    if let Some(Needed { on, .. }) = last
        && !one_has_completed
        && on_failure != OnDependencyFailure::Run
        && !waits_for.iter().any(|(_, needs)| is_one_of_several(*needs))
    {
        return Err(Hopeless::NoneOf(JobId(*on)));
    }
    waits_for.retain(|(_, needs)| !(one_has_completed && is_one_of_several(*needs)));
    Ok(waits_for)
}

/// Looks at what a job depends on. Each is named once, however often it is in the list.
pub(super) fn look(conn: &mut Conn, depends_on: &[Dependency]) -> Result<Vec<Needed>, StoreError> {
    let mut all = Vec::with_capacity(depends_on.len());
    for Dependency { on, needs } in depends_on {
        let (on, became, is_dry_run) = became(conn, on.0)?;
        all.push(Needed { on, needs: *needs, became, is_dry_run });
    }
    distinct(all)
}

/// What a job that is brought back has to wait for. `has_run` says whether it had everything that it needs once.
///
/// What is deleted cannot be looked at any more. Who has run before had its success; for another one that may be, or not.
pub(in crate::store) fn again(
    conn: &mut Conn,
    id: i64,
    settings: &JobSettings,
    attempts: i32,
) -> Result<Result<Vec<(i64, DependencyNeeds)>, Hopeless>, StoreError> {
    let mut needed = look(conn, &settings.depends_on)?;
    let is_gone = |needed: &Needed| needed.became == Became::Gone;
    if needed.iter().any(is_gone)
        && (attempts > 0 || an_item_has_run(conn, settings.batch.map_or(id, |batch| batch.0))?)
    {
        needed.retain(|needed| !is_gone(needed));
    }
    Ok(to_wait_for(&needed, settings.on_dependency_failure))
}

/// Forgets those that do not exist any more.
pub(in crate::store) fn without_gone(
    conn: &mut Conn,
    depends_on: &mut Vec<Dependency>,
) -> Result<(), StoreError> {
    let mut there = Vec::with_capacity(depends_on.len());
    for dependency in depends_on.iter() {
        if became(conn, dependency.on.0)?.1 != Became::Gone {
            there.push(*dependency);
        }
    }
    *depends_on = there;
    Ok(())
}

/// The job that does the work of one by now, what has become of that, and whether it is a dry run.
fn became(conn: &mut Conn, on: i64) -> Result<(i64, Became, bool), StoreError> {
    let mut on = on;
    loop {
        let found: Option<(Option<String>, Option<i64>, bool)> = jobs::table
            .left_join(job_results::table.on(job_results::job_id.eq(jobs::id)))
            .left_join(job_replacements::table.on(job_replacements::job_id.eq(jobs::id)))
            .filter(jobs::id.eq(on))
            .select((
                job_results::state.nullable(),
                job_replacements::replaced_by.nullable(),
                diesel::dsl::not(is_real()),
            ))
            .first(conn)
            .optional()?;
        match found {
            None => return Ok((on, Became::Gone, false)),
            // A job that does the work of another one is younger, so this ends.
            Some((_, Some(other), _)) => on = other,
            Some((None, None, is_dry_run)) => return Ok((on, Became::Lives, is_dry_run)),
            Some((Some(state), None, is_dry_run)) => {
                let state = state
                    .parse()
                    .map_err(|detail| StoreError::Damaged { what: "job state", detail })?;
                return Ok((on, Became::Over(state), is_dry_run));
            }
        }
    }
}

/// Each job once, however often it is named; the stricter need counts. One of several that is needed by itself as well is no such choice.
fn distinct(all: Vec<Needed>) -> Result<Vec<Needed>, StoreError> {
    let mut distinct: BTreeMap<i64, Needed> = BTreeMap::new();
    for needed in all {
        let before = distinct.entry(needed.on).or_insert(needed);
        let is_one_of_several = |needs: DependencyNeeds| needs == DependencyNeeds::Any;
        if is_one_of_several(before.needs) != is_one_of_several(needed.needs) {
            return Err(StoreError::Conflict(format!(
                "job {} is needed by itself and as one of several; only one of them can be meant",
                needed.on
            )));
        }
        if needed.needs == DependencyNeeds::Success {
            before.needs = needed.needs;
        }
    }
    Ok(distinct.into_values().collect())
}

/// Whether an item of a batch has been executed, as far as the job is a batch.
fn an_item_has_run(conn: &mut Conn, batch: i64) -> Result<bool, StoreError> {
    let one: Option<i64> = batch_items::table
        .inner_join(attempts::table.on(attempts::job_id.eq(batch_items::job_id)))
        .filter(batch_items::batch_id.eq(batch))
        .select(attempts::job_id)
        .first(conn)
        .optional()?;
    Ok(one.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use DependencyNeeds::{Any, Finished, Success};
    use OnDependencyFailure::{Cancel, Run, Wait};

    const COMPLETED: Became = Became::Over(JobState::Completed);
    const FAILED: Became = Became::Over(JobState::Failed);

    fn needed(all: &[(DependencyNeeds, Became)]) -> Vec<Needed> {
        let one = |(on, (needs, became)): (i64, &(DependencyNeeds, Became))| Needed {
            on,
            needs: *needs,
            became: *became,
            is_dry_run: false,
        };
        (1..).zip(all).map(one).collect()
    }

    #[test]
    fn what_lives_is_waited_for_whatever_is_needed_of_it() {
        for needs in [Success, Finished, Any] {
            for policy in [Cancel, Run, Wait] {
                let waits = to_wait_for(&needed(&[(needs, Became::Lives)]), policy);
                assert_eq!(waits, Ok(vec![(1, needs)]), "{policy:?}");
            }
        }
    }

    #[test]
    fn what_has_failed_is_waited_for_or_not_as_the_job_says() {
        let waits = |needs, policy| to_wait_for(&needed(&[(needs, FAILED)]), policy);
        let ended = Hopeless::Ended(JobId(1), JobState::Failed);
        assert_eq!(waits(Success, Cancel), Err(ended));
        assert_eq!(waits(Success, Run), Ok(vec![]));
        assert_eq!(waits(Success, Wait), Ok(vec![(1, Success)]));
        assert_eq!(waits(Any, Cancel), Err(Hopeless::NoneOf(JobId(1))));
        assert_eq!(waits(Any, Run), Ok(vec![]));
        assert_eq!(waits(Any, Wait), Ok(vec![(1, Any)]));
        assert_eq!(waits(Finished, Cancel), Ok(vec![]));
    }

    #[test]
    fn what_is_deleted_may_have_failed() {
        let waits = |needs, policy| to_wait_for(&needed(&[(needs, Became::Gone)]), policy);
        for policy in [Cancel, Wait] {
            assert_eq!(waits(Success, policy), Err(Hopeless::Gone(JobId(1))));
            assert_eq!(waits(Any, policy), Err(Hopeless::NoneOf(JobId(1))));
        }
        assert_eq!(waits(Success, Run), Ok(vec![]));
        assert_eq!(waits(Finished, Cancel), Ok(vec![]));
    }

    #[test]
    fn one_of_several_is_enough_and_frees_from_the_others() {
        let others = [(Any, FAILED), (Any, Became::Lives), (Success, Became::Lives)];
        assert_eq!(to_wait_for(&needed(&others), Cancel), Ok(vec![(2, Any), (3, Success)]));
        let completed = [(Any, Became::Lives), (Any, COMPLETED), (Success, Became::Lives)];
        assert_eq!(to_wait_for(&needed(&completed), Wait), Ok(vec![(3, Success)]));
    }
}
