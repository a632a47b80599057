//! Every promise about a job was kept, and its end agrees with its attempts and with what its handlers saw.

use std::collections::{BTreeMap, BTreeSet};

use sexton::model::{JobSettings, Outcome};

use super::super::handlers::{Ended, Execution, Log};
use super::super::history::{AttemptRow, Change, History, JobRow};
use super::super::nodes::HEARTBEAT;
use super::super::people::{Promise, Promises, Submission};
use super::Wrong;

pub(super) fn check(history: &History, log: &Log, promises: &Promises, wrong: &mut Wrong) {
    let mut attempts: BTreeMap<i64, Vec<&AttemptRow>> = BTreeMap::new();
    for attempt in &history.attempts {
        attempts.entry(attempt.job_id).or_default().push(attempt);
    }
    let redriven: BTreeSet<i64> =
        history.record.iter().filter(|change| change.what == "over-").map(Change::job).collect();
    for job in &history.jobs {
        let own = attempts.get(&job.id).map_or(&[][..], Vec::as_slice);
        ends_well(job, own, redriven.contains(&job.id), wrong);
    }
    executions(history, log, wrong);
    killed_in_time(history, wrong);
    submissions(&history.jobs, promises, wrong);
    changes_of_mind(history, log, promises, wrong);
    from_schedules(history, wrong);
}

/// One final state, which follows from the attempts.
fn ends_well(job: &JobRow, attempts: &[&AttemptRow], redriven: bool, wrong: &mut Wrong) {
    let id = job.id;
    let Some(state) = job.state.as_deref() else {
        return wrong.say(format!("job {id} is in no final state"));
    };
    let numbers: Vec<i64> = attempts.iter().map(|attempt| attempt.number).collect();
    let expected: Vec<i64> = (1..).take(numbers.len()).collect();
    wrong
        .unless(numbers == expected, || format!("job {id}: its attempts are numbered {numbers:?}"));
    for attempt in attempts {
        let (from, until) = (attempt.started_at, attempt.finished_at);
        wrong.unless(from <= until, || {
            format!("job {id} attempt {} ended before it began", attempt.number)
        });
    }
    let counted = job.attempts.unwrap_or(-1);
    wrong.unless(counted == numbers.len() as i64, || {
        format!("job {id}: {counted} attempts are counted, {} are recorded", numbers.len())
    });
    let is_charged =
        |attempt: &&&AttemptRow| attempt.outcome.parse::<Outcome>().is_ok_and(Outcome::is_charged);
    let charged = attempts.iter().filter(is_charged).count() as i64;
    let said = job.charged.unwrap_or(-1);
    wrong.unless(redriven && said <= charged || said == charged, || {
        format!("job {id}: {said} charged attempts are counted, {charged} are recorded")
    });
    let settings: JobSettings = job
        .settings
        .as_deref()
        .map(|text| serde_json::from_str(text).expect("settings"))
        .unwrap_or_default();
    let most = i64::from(settings.retry.unwrap_or_default().max_attempts);
    wrong.unless(said <= most, || format!("job {id}: {said} charged attempts, {most} are allowed"));

    let last = attempts.last().map(|attempt| attempt.outcome.as_str());
    let agrees = match state {
        "completed" => last == Some("success"),
        "failed" => matches!(last, Some("failure" | "error" | "timeout")),
        "cancelled" => last != Some("success") && job.error.is_some(),
        _ => false,
    };
    wrong.unless(agrees, || format!("job {id} is {state}, its last attempt is {last:?}"));
    let successes = attempts.iter().filter(|attempt| attempt.outcome == "success").count();
    wrong.unless(successes <= 1, || format!("job {id} succeeded {successes} times"));
}

/// What is killed when a lease runs out had been told to stop half a heartbeat before, at the least: nothing begins in that time.
fn killed_in_time(history: &History, wrong: &mut Wrong) {
    let killed = history.attempts.iter().filter(|attempt| {
        attempt.error.as_deref().is_some_and(|error| error.contains("and was killed"))
    });
    let least = i64::try_from(HEARTBEAT.as_micros() / 2).expect("a short time");
    for attempt in killed {
        let took = attempt.finished_at - attempt.started_at;
        wrong.unless(took >= least, || {
            format!(
                "job {} attempt {} had begun {took} µs before it was killed, when its lease was over already",
                attempt.job_id, attempt.number
            )
        });
    }
}

/// What handlers saw and what is recorded of attempts are the same.
fn executions(history: &History, log: &Log, wrong: &mut Wrong) {
    let lives: BTreeMap<i64, String> = history
        .record
        .iter()
        .filter(|change| change.what == "node")
        .map(|change| (change.number(), change.text().to_owned()))
        .collect();
    let mut seen: BTreeMap<(i64, i64), &Execution> = BTreeMap::new();
    for execution in &log.executions {
        let key = (execution.job, i64::from(execution.number));
        wrong.unless(seen.insert(key, execution).is_none(), || {
            format!("job {} ran twice as attempt {}", key.0, key.1)
        });
    }
    for attempt in &history.attempts {
        let (job, number) = (attempt.job_id, attempt.number);
        let execution = seen.remove(&(job, number));
        let outcome = attempt.outcome.as_str();
        if outcome == "interrupted" {
            continue;
        }
        let Some(execution) = execution else {
            if came_too_late(history, attempt) {
                continue;
            }
            wrong.say(format!("job {job} attempt {number} is recorded as {outcome} and never ran"));
            continue;
        };
        let own_life = format!("life {}", execution.life);
        wrong.unless(lives.get(&attempt.node_id) == Some(&own_life), || {
            format!(
                "job {job} attempt {number} ran in {own_life} and was finished by node {}",
                attempt.node_id
            )
        });
        let agrees = match outcome {
            "success" => execution.ended == Some(Ended::Answered(Outcome::Success)),
            "failure" => execution.ended == Some(Ended::Answered(Outcome::Failure)),
            "skipped" => execution.ended == Some(Ended::Answered(Outcome::Skipped)),
            // Dropped: it did not stop and was abandoned.
            "error" => matches!(
                execution.ended,
                Some(Ended::Answered(Outcome::Error) | Ended::Panicked) | None
            ),
            "timeout" | "cancelled" => execution.ended != Some(Ended::Answered(Outcome::Success)),
            _ => false,
        };
        wrong.unless(agrees, || {
            format!(
                "job {job} attempt {number} is recorded as {outcome}, its handler {:?}",
                execution.ended
            )
        });
    }
    for (job, number) in seen.keys() {
        wrong.say(format!("job {job} ran as attempt {number}, of which there is no record"));
    }
}

/// Whether the time for all attempts of its job was over when it had its turn, so that nothing was run.
fn came_too_late(history: &History, attempt: &AttemptRow) -> bool {
    let job = history.jobs.iter().find(|job| job.id == attempt.job_id);
    let settings = job.and_then(|job| job.settings.as_deref());
    let settings: Option<JobSettings> =
        settings.map(|text| serde_json::from_str(text).expect("settings"));
    let total = settings.and_then(|settings| settings.total_timeout);
    let mut earlier = history
        .attempts
        .iter()
        .filter(|other| other.job_id == attempt.job_id && other.number < attempt.number);
    attempt.outcome == "timeout"
        && total.is_some_and(|total| {
            earlier.any(|other| {
                other.started_at + total.get().as_micros() as i64 <= attempt.started_at
            })
        })
}

/// Whoever was promised a job has it; whoever was refused has none; whoever heard nothing has all or none.
fn submissions(jobs: &[JobRow], promises: &Promises, wrong: &mut Wrong) {
    let mut rows: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.schedule.is_none()) {
        let labels: BTreeMap<String, String> =
            serde_json::from_str(job.labels.as_deref().unwrap_or("{}")).expect("labels");
        match labels.get("sub").and_then(|number| number.parse().ok()) {
            Some(number) => rows.entry(number).or_default().push(job.id),
            None => wrong.say(format!("nobody submitted job {}", job.id)),
        }
    }
    let all: BTreeSet<i64> = jobs.iter().map(|job| job.id).collect();
    for (number, sent) in &promises.submissions {
        let own = rows.remove(number).unwrap_or_default();
        let Submission { size, unique, promised, refused } = sent;
        let kept = match promised {
            Some(ids) => {
                ids.len() == *size
                    && ids.iter().all(|id| all.contains(id))
                    && own.iter().all(|id| ids.contains(id))
                    && (*unique || own == *ids)
            }
            None if *refused => own.is_empty(),
            None => own.is_empty() || own.len() == *size || *unique && own.len() < *size,
        };
        wrong.unless(kept, || {
            format!("submission {number} of {size} was promised {promised:?} (refused: {refused}), there is {own:?}")
        });
    }
    for (number, own) in rows {
        wrong.say(format!("submission {number} was never sent, and there is {own:?}"));
    }
}

/// What was cancelled does not run again, and ends cancelled unless its attempt was faster.
fn changes_of_mind(history: &History, log: &Log, promises: &Promises, wrong: &mut Wrong) {
    let states: BTreeMap<i64, &JobRow> = history.jobs.iter().map(|job| (job.id, job)).collect();
    for (job, made) in &promises.jobs {
        if made.iter().any(|(promise, _)| *promise == Promise::MaybeRedriven) {
            continue;
        }
        let state = states.get(job).and_then(|job| job.state.as_deref());
        for (promise, begun) in made {
            let later = log.executions.iter().skip(*begun).filter(|later| later.job == *job);
            let later = later.filter(|later| !later.was_held_up());
            // One that was claimed in the same commit may just be starting, to be stopped at once.
            let most = usize::from(*promise == Promise::StopRequested);
            wrong.unless(later.count() <= most, || {
                format!("job {job} ran again after it was {promise:?}")
            });
            let may_be: &[&str] = match promise {
                Promise::Cancelled => &["cancelled"],
                _ => &["cancelled", "completed", "failed"],
            };
            wrong.unless(state.is_some_and(|state| may_be.contains(&state)), || {
                format!("job {job} was {promise:?} and is {state:?}")
            });
        }
    }
}

/// Jobs of schedules and enqueued instants are the same.
fn from_schedules(history: &History, wrong: &mut Wrong) {
    let mut made: BTreeMap<i64, (&str, i64)> = history
        .jobs
        .iter()
        .filter_map(|job| Some((job.id, (job.schedule.as_deref()?, job.nominal_at?))))
        .collect();
    for row in &history.occurrences {
        let instant =
            format!("{} at {}", row.schedule, super::super::history::micros(row.nominal_at));
        match (row.decision.as_str(), row.job_id) {
            ("enqueued", Some(job)) => {
                let own = made.remove(&job);
                wrong.unless(own == Some((&row.schedule, row.nominal_at)), || {
                    format!("{instant} made job {job}, which is {own:?}")
                });
            }
            ("enqueued", None) => wrong.say(format!("{instant} is enqueued and has no job")),
            (_, Some(job)) => wrong.say(format!("{instant} is {} and has job {job}", row.decision)),
            (_, None) => {}
        }
    }
    for (job, (schedule, _)) in made {
        wrong.say(format!("job {job} of {schedule} was made for no instant"));
    }
}
