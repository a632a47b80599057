//! What the daemon takes while nothing is due.

use std::time::Duration;

use super::once_a_day;
use crate::house::{Daemon, House, wait};
use crate::process::{Memory, Usage};
use crate::sample::report;

/// Until what is done after a start is done: the first look after the house is at twenty seconds.
const SETTLING: Duration = Duration::from_secs(35);

/// How often it is measured, and for how long. The safety scan of the schedules happens in every other one.
const ROUNDS: usize = 6;
const ROUND_SECONDS: u32 = 15;

const WORKERS: usize = 4;

/// Both at once: neither does enough to disturb the other.
pub(crate) fn with_few_and_many_schedules() {
    let houses: Vec<(usize, House, Daemon)> = [10, 10_000]
        .into_iter()
        .map(|count| {
            let house = House::with_workers(WORKERS);
            house.write_schedules("all", (0..count).map(|number| once_a_day(number, 1)));
            house.use_schedules("all");
            let daemon = house.start();
            (count, house, daemon)
        })
        .collect();
    wait(SETTLING);
    let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); houses.len()];
    let mut whole: Vec<Usage> = usages(&houses);
    for _round in 0..ROUNDS {
        let mut usages = usages(&houses);
        for _second in 0..ROUND_SECONDS {
            wait(Duration::from_secs(1));
            usages.iter_mut().for_each(Usage::look);
            whole.iter_mut().for_each(Usage::look);
        }
        for (usage, rounds) in usages.iter_mut().zip(&mut rounds) {
            let used = usage.used();
            let seconds = f64::from(ROUND_SECONDS);
            let percent = used.processor.as_secs_f64() / seconds * 100.0;
            rounds.push((percent, used.switches as f64 / seconds));
        }
    }
    let whole = whole.iter_mut().map(Usage::used);
    for (((count, _house, daemon), rounds), whole) in houses.into_iter().zip(rounds).zip(whole) {
        let memory = Memory::of(daemon.pid());
        let megabytes = |bytes: u64| vec![bytes as f64 / 1e6];
        report(&format!("{count} schedules, idle: resident"), "MB", &megabytes(memory.resident));
        report(
            &format!("{count} schedules, idle: of it anonymous"),
            "MB",
            &megabytes(memory.anonymous),
        );
        let percent: Vec<f64> = rounds.iter().map(|round| round.0).collect();
        let switches: Vec<f64> = rounds.iter().map(|round| round.1).collect();
        report(&format!("{count} schedules, idle: processor, by round"), "%", &percent);
        let all =
            whole.processor.as_secs_f64() / (f64::from(ROUND_SECONDS) * ROUNDS as f64) * 100.0;
        report(&format!("{count} schedules, idle: processor, all rounds"), "%", &[all]);
        report(&format!("{count} schedules, idle: thread switches"), "/s", &switches);
        daemon.stop();
    }
}

fn usages(houses: &[(usize, House, Daemon)]) -> Vec<Usage> {
    houses.iter().map(|(_, _, daemon)| Usage::of(daemon.pid())).collect()
}
