//! How long the daemon takes from its start until it is ready.

use super::once_a_day;
use crate::house::House;
use crate::process::Memory;
use crate::rows::fill;
use crate::sample::{millis, report};

const ROUNDS: usize = 5;
const WORKERS: usize = 4;
const FEW_SCHEDULES: usize = 10;
const MANY_SCHEDULES: usize = 10_000;
const JOBS: u32 = 1_000_000;

/// On ten thousand files.
pub(crate) fn with_many_schedules() {
    let house = House::with_workers(WORKERS);
    house.write_schedules("all", (0..MANY_SCHEDULES).map(|number| once_a_day(number, 1)));
    house.use_schedules("all");
    let first = house.start();
    report("10,000 schedules, no database yet: ready after", "ms", &[millis(first.took)]);
    first.stop();
    starts(&house, "10,000 schedules");
}

/// On a million finished jobs, each with its instant, attempt and result.
pub(crate) fn with_much_history() {
    let house = House::with_workers(WORKERS);
    house.write_schedules("all", (0..FEW_SCHEDULES).map(|number| once_a_day(number, 1)));
    house.use_schedules("all");
    house.start().stop();
    fill(&house.database(), JOBS);
    starts(&house, "1,000,000 finished jobs");
}

fn starts(house: &House, what: &str) {
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    for _round in 0..ROUNDS {
        let daemon = house.start();
        ready.push(millis(daemon.took));
        resident.push(Memory::of(daemon.pid()).resident as f64 / 1e6);
        daemon.stop();
    }
    report(&format!("{what}: ready after"), "ms", &ready);
    report(&format!("{what}: resident when ready"), "MB", &resident);
}
