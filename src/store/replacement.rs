//! A job that had ended badly, done again with other params.
//!
//! What a job was asked to do is written once, so that its history stays true. Other params are another job: it says whose work it does, and the
//! old one, which stays as it ended, says which job does it and cannot be tried again itself.

use diesel::prelude::*;

use super::dependencies::{self, Hopeless};
use super::history::JobRecord;
use super::jobs::{SubmitContext, submit_one};
use super::removal::replacement_of;
use super::schema::{job_replacements, unique_keys};
use super::whereabouts::{Whereabouts, hold};
use super::{Conn, StoreError, batches, history, whole_batches};
use crate::model::{Actor, JobId, JobState, JsonText, NewJob, Priority, UniqueKey};

/// What came of a request to do a job again with other params.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// This job does it now.
    By(JobId),
    /// It is in a state in which there is nothing to do again.
    NotNow(JobState),
    /// This job does it already.
    AlreadyBy(JobId),
    /// This job has its unique key by now.
    KeyTakenBy(JobId),
    /// What it depends on has to be tried again first.
    Hopeless(Hopeless),
    /// It is a batch, whose items have params of their own.
    IsBatch,
    /// There is no such job.
    Unknown,
}

/// Makes a job that does the work of a failed or cancelled one with other params, in its queue, with its priority, settings, marks and unique
/// key, in its place in its batch, with what it depends on and for those that wait for it, with what is left of its items where it does those itself. It begins anew: with its whole retry limit and without a checkpoint.
///
/// # Errors
/// When the database refuses.
pub fn replace(
    conn: &mut Conn,
    id: JobId,
    params: &JsonText,
    by: &Actor,
    context: SubmitContext,
) -> Result<Replaced, StoreError> {
    let Some(old) = history::job(conn, id)? else { return Ok(Replaced::Unknown) };
    dependencies::hold_all(conn, old.settings.depends_on.iter())?;
    let attempts = match hold(conn, id.0)? {
        Whereabouts::Over { state: JobState::Failed | JobState::Cancelled, attempts } => attempts,
        other => return Ok(other.state().map_or(Replaced::Unknown, Replaced::NotNow)),
    };
    if let Some(other) = replacement_of(conn, id.0)? {
        return Ok(Replaced::AlreadyBy(other));
    }
    if batches::is_batch(conn, id.0)? {
        return Ok(Replaced::IsBatch);
    }
    if let Err(why) = dependencies::again(conn, id.0, &old.settings, attempts)? {
        return Ok(Replaced::Hopeless(why));
    }
    let mut job = same_but(old, params, by, context)?;
    dependencies::without_gone(conn, &mut job.settings.depends_on)?;
    if job.key().is_some() {
        // It may hold its key for a while after its end; the one that follows it takes it over.
        diesel::delete(unique_keys::table.filter(unique_keys::job_id.eq(id.0))).execute(conn)?;
    }
    let submitted = submit_one(conn, &job, 0, context)?;
    if submitted.state.is_none() {
        return Ok(Replaced::KeyTakenBy(submitted.id));
    }
    let row = (job_replacements::job_id.eq(id.0), job_replacements::replaced_by.eq(submitted.id.0));
    diesel::insert_into(job_replacements::table).values(row).execute(conn)?;
    dependencies::take_over(conn, id.0, submitted.id.0)?;
    if job.settings.whole_batch {
        whole_batches::hand_over(conn, id.0, submitted.id.0)?;
    }
    if job.settings.batch.is_some() {
        batches::item_replaced(conn, id.0, submitted.id.0)?;
    }
    Ok(Replaced::By(submitted.id))
}

/// The job as it would be submitted now with those params.
fn same_but(
    old: JobRecord,
    params: &JsonText,
    by: &Actor,
    context: SubmitContext,
) -> Result<NewJob, StoreError> {
    let schedule = match (&old.schedule, old.nominal_at) {
        (Some(schedule), Some(nominal_at)) => {
            let schedule = schedule.parse().map_err(|error: crate::model::ScheduleIdError| {
                StoreError::Damaged { what: "job's schedule", detail: error.to_string() }
            })?;
            Some((schedule, nominal_at))
        }
        _ => None,
    };
    let mut new = NewJob::new(old.kind, params.clone(), context.now, by.clone());
    new.priority = Priority::new(old.priority.into()).unwrap_or_default();
    new.queue = old.queue;
    new.schedule = schedule;
    new.labels = old.labels;
    new.unique = old.unique_key.map(|key| UniqueKey { key, period: None });
    new.settings = old.settings;
    new.settings.retry_of = Some(old.id);
    Ok(new)
}
