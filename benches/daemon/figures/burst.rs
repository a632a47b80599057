//! A thousand schedules that are due at the same instant.

use std::time::Duration;

use super::cleanup;
use crate::house::{House, wait};
use crate::rows::{Firing, firings};
use crate::sample::{millis, report};

const SCHEDULES: usize = 1000;

/// How often each is due, in seconds. All count from the same origin, so they are always due together.
const PERIOD_SECONDS: u64 = 5;

/// How many such instants are measured. The first ones of a daemon find its tables and caches empty and are left out.
const ROUNDS: usize = 7;
const LEFT_OUT: usize = 2;

/// How many programs run at a time: enough to keep two processors busy, few enough to be a setting that somebody has.
const WORKERS_FOR_COMMANDS: usize = 16;

/// Jobs that need no process of their own, and a worker for each: nothing but the daemon's own work lies between the instant and
/// the last start.
pub(crate) fn in_process() {
    let house = House::with_workers(SCHEDULES);
    let bursts = bursts(&house, |number| cleanup(&house, number));
    let of = |what: fn(&Firing) -> i64| -> Vec<f64> {
        bursts.iter().filter_map(|burst| latest(burst, what)).map(millis).collect()
    };
    report("1,000 due at once: decided after", "ms", &of(|firing| firing.decided));
    report("1,000 due at once: last one started after", "ms", &of(|firing| firing.started));
}

/// Jobs that each start a program.
pub(crate) fn commands() {
    let house = House::with_workers(WORKERS_FOR_COMMANDS);
    let bursts = bursts(&house, |_number| "[command]\nargv = [\"true\"]\n".to_owned());
    let first: Vec<f64> = bursts
        .iter()
        .filter_map(|burst| Some(micros(burst.first()?.started - burst.first()?.due)))
        .map(millis)
        .collect();
    let rate: Vec<f64> = bursts
        .iter()
        .filter_map(|burst| {
            let span = micros(burst.last()?.started - burst.first()?.started);
            Some((burst.len() - 1) as f64 / span.as_secs_f64())
        })
        .collect();
    report("1,000 programs due at once: first one started after", "ms", &first);
    report("1,000 programs due at once: rate", "starts/s", &rate);
}

/// Lets a thousand such schedules be due a few times, and returns the jobs of each instant in the order of their starts.
fn bursts(house: &House, work: impl Fn(usize) -> String) -> Vec<Vec<Firing>> {
    let when = format!("[when]\nevery = \"{PERIOD_SECONDS}s\"\ncatch_up = \"none\"\n");
    let schedules = (0..SCHEDULES)
        .map(|number| (format!("burst-{number:04}"), format!("{when}{}", work(number))));
    house.write_schedules("all", schedules);
    house.use_schedules("all");
    let daemon = house.start();
    wait(Duration::from_secs(PERIOD_SECONDS * (ROUNDS + LEFT_OUT) as u64 + 1));
    daemon.stop();
    let all = firings(&house.database());
    let mut bursts: Vec<Vec<Firing>> =
        all.chunk_by(|one, next| one.due == next.due).map(<[Firing]>::to_vec).collect();
    // What an instant right after the start or before the end made may lack some of its jobs.
    bursts.retain(|burst| burst.len() == SCHEDULES);
    bursts.drain(..LEFT_OUT.min(bursts.len()));
    bursts
}

fn latest(burst: &[Firing], what: fn(&Firing) -> i64) -> Option<Duration> {
    burst.iter().map(|firing| micros(what(firing) - firing.due)).max()
}

fn micros(count: i64) -> Duration {
    Duration::from_micros(count.unsigned_abs())
}
