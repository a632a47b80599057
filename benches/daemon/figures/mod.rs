//! What is measured, one file a subject.

pub(crate) mod burst;
pub(crate) mod idle;
pub(crate) mod lateness;
pub(crate) mod reload;
pub(crate) mod start;

use jiff::tz::TimeZone;
use sexton::clock::{Clock, SystemClock};

use crate::house::House;

/// The work of a schedule that costs as little as a job of a built-in kind can: a directory with nothing in it is looked through. Each
/// schedule has one of its own, because a directory is locked while it is cleaned up.
fn cleanup(house: &House, number: usize) -> String {
    let folder = house.empty(number);
    format!("[cleanup]\nroots = [\"{}\"]\nolder_than = \"7d\"\n", folder.display())
}

/// A schedule as people write them, that runs once a day, at least five hours from now. `version` is somewhere in it.
fn once_a_day(number: usize, version: u32) -> (String, String) {
    let now = SystemClock.now().to_zoned(TimeZone::UTC);
    // Spread over twelve hours, and over the minutes of each.
    let hour = (usize::try_from(now.hour()).unwrap_or(0) + 6 + number % 12) % 24;
    let minute = number / 12 % 60;
    let text = format!(
        "description = \"Number {number} of many, which does nothing most of the time\"\n\
         tags = [\"bench\", \"version-{version}\"]\n\n\
         [when]\ncron = \"{minute} {hour} * * *\"\ntimezone = \"Europe/Berlin\"\ncatch_up = \"none\"\n\n\
         [run]\npriority = \"low\"\ntimeout = \"10m\"\nretries = {{ max = 3, backoff = \"exponential\", base = \"30s\" }}\n\n\
         [command]\nargv = [\"/usr/local/bin/work\", \"--part\", \"{number}\"]\n"
    );
    (format!("job-{number:05}"), text)
}

/// Now, in microseconds since 1970.
fn now() -> i64 {
    SystemClock.now().as_microsecond()
}
