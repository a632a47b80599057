//! How late jobs start that are due all the time.

use std::time::Duration;

use super::cleanup;
use crate::house::{House, wait};
use crate::rows::{Firing, firings};
use crate::sample::{percentile, report};

const SCHEDULES: usize = 10_000;

/// More than are due in one second.
const WORKERS: usize = 250;

/// The minute is cut into pieces of this many seconds, each of which is a measurement.
const PIECE_SECONDS: i64 = 10;
const PIECES: usize = 6;

/// Until all are loaded and the first ones have been due.
const SETTLING_SECONDS: u64 = 8;

/// Ten thousand schedules, each of which is due once a minute: 166 or 167 in each second, all at its very beginning.
pub(crate) fn across_a_minute() {
    let house = House::with_workers(WORKERS);
    let schedules = (0..SCHEDULES).map(|number| {
        let (second, work) = (number % 60, cleanup(&house, number));
        let text = format!("[when]\ncron = \"{second} * * * * *\"\ncatch_up = \"none\"\n{work}");
        (format!("late-{number:05}"), text)
    });
    house.write_schedules("all", schedules);
    house.use_schedules("all");
    let daemon = house.start();
    wait(Duration::from_secs(SETTLING_SECONDS));
    let begin = super::now();
    wait(Duration::from_secs(PIECE_SECONDS.unsigned_abs() * PIECES as u64 + 1));
    daemon.stop();
    let mut all = firings(&house.database());
    all.retain(|firing| firing.due >= begin);
    let pieces: Vec<&[Firing]> =
        all.chunk_by(|one, next| piece(one, begin) == piece(next, begin)).take(PIECES).collect();
    let of = |what: fn(&Firing) -> i64, percent: usize| -> Vec<f64> {
        pieces.iter().map(|piece| lateness(piece, what, percent)).collect()
    };
    for (name, what) in [
        ("decided", (|firing| firing.decided) as fn(&Firing) -> i64),
        ("started", |firing| firing.started),
    ] {
        report(&format!("10,000 across a minute: {name} late, p50"), "ms", &of(what, 50));
        report(&format!("10,000 across a minute: {name} late, p99"), "ms", &of(what, 99));
    }
}

fn piece(firing: &Firing, begin: i64) -> i64 {
    (firing.due - begin) / (PIECE_SECONDS * 1_000_000)
}

fn lateness(piece: &[Firing], what: fn(&Firing) -> i64, percent: usize) -> f64 {
    let mut late: Vec<f64> =
        piece.iter().map(|firing| (what(firing) - firing.due) as f64 / 1e3).collect();
    late.sort_by(f64::total_cmp);
    percentile(&late, percent)
}
