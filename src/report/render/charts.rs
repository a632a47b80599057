//! Where the shapes of the charts are. The templates only write them down as SVG.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::words;
use crate::report::numbers::{Bucket, BucketSize, DurationClass, Ended, Throughput};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 6.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;
/// At most this many labels fit below the bars.
const MOST_LABELS: usize = 12;
/// At most this many lines behind the bars, besides the base.
const MOST_LINES: u64 = 4;
/// A share that is not zero is at least this wide in a table's bar, of 100: one failure in a thousand must be seen.
const THINNEST_SHARE: f64 = 3.0;

/// Stacked bars over time.
#[derive(Debug, Serialize)]
pub(super) struct BarChart {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    base: f64,
    unit: &'static str,
    description: String,
    lines: Vec<Line>,
    bars: Vec<Bar>,
    labels: Vec<Label>,
}

#[derive(Debug, Serialize)]
struct Line {
    y: f64,
    label: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    x: f64,
    width: f64,
    name: String,
    jobs: Ended,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    state: &'static str,
    y: f64,
    height: f64,
}

#[derive(Debug, Serialize)]
struct Label {
    x: f64,
    text: String,
}

/// The chart of what ended when. `None` where nothing did.
pub(super) fn throughput(throughput: &Throughput, zone: &TimeZone) -> Option<BarChart> {
    let highest = throughput.buckets.iter().map(|bucket| bucket.jobs.total()).max()?;
    if highest == 0 {
        return None;
    }
    let step = line_step(highest);
    let top = highest.div_ceil(step) * step;
    let base = HEIGHT - BOTTOM;
    let scale = (base - TOP) / top as f64;
    let slot = (WIDTH - LEFT - RIGHT) / throughput.buckets.len() as f64;
    let x_of = |index: usize| LEFT + slot * index as f64;

    let lines = (1..=top / step)
        .map(|line| line * step)
        .map(|value| Line { y: tenth(base - value as f64 * scale), label: words::count(value) })
        .collect();
    let bars = throughput.buckets.iter().enumerate().map(|(index, bucket)| Bar {
        x: tenth(x_of(index) + slot * 0.1),
        width: tenth(slot * 0.8),
        name: bar_name(throughput.bucket, bucket, zone),
        jobs: bucket.jobs,
        parts: stack(bucket.jobs, base, scale),
    });
    let labels = labelled(throughput, zone)
        .map(|(index, text)| Label { x: tenth(x_of(index) + slot * 0.5), text })
        .collect();
    Some(BarChart {
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        right: WIDTH - RIGHT,
        base,
        unit: unit(throughput.bucket),
        description: describe(throughput, highest, zone),
        lines,
        bars: bars.collect(),
        labels,
    })
}

fn unit(bucket: BucketSize) -> &'static str {
    match bucket {
        BucketSize::Hour => "hour",
        BucketSize::Day => "day",
        BucketSize::Month => "month",
    }
}

/// The chart in a sentence, for those who do not see it.
fn describe(throughput: &Throughput, highest: u64, zone: &TimeZone) -> String {
    let unit = unit(throughput.bucket);
    let busiest = throughput.buckets.iter().find(|bucket| bucket.jobs.total() == highest);
    let busiest =
        busiest.map(|bucket| bar_name(throughput.bucket, bucket, zone)).unwrap_or_default();
    let with_failures = throughput.buckets.iter().filter(|bucket| bucket.jobs.failed > 0).count();
    format!(
        "{bars} bars, one for each {unit}. The busiest was {busiest} with {jobs}; {with_failures} had failures.",
        bars = throughput.buckets.len(),
        jobs = words::counted(highest, "job", "jobs"),
    )
}

/// Cancelled on failed on completed.
fn stack(jobs: Ended, base: f64, scale: f64) -> Vec<Part> {
    let mut y = base;
    let layers =
        [("completed", jobs.completed), ("failed", jobs.failed), ("cancelled", jobs.cancelled)];
    let shown = layers.into_iter().filter(|(_, count)| *count > 0);
    shown
        .map(|(state, count)| {
            let height = count as f64 * scale;
            y -= height;
            Part { state, y: tenth(y), height: tenth(height).max(0.1) }
        })
        .collect()
}

/// The smallest of 1, 2, 5, 10, 20, … that needs few enough lines.
fn line_step(highest: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for step in [power, power.saturating_mul(2), power.saturating_mul(5)] {
            if highest.div_ceil(step) <= MOST_LINES {
                return step;
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The bars that have a label: round hours, or every n-th day or month.
fn labelled(throughput: &Throughput, zone: &TimeZone) -> impl Iterator<Item = (usize, String)> {
    let bars = throughput.buckets.len();
    let size = throughput.bucket;
    let every = match size {
        BucketSize::Hour => {
            [1, 2, 3, 6, 12].into_iter().find(|every| bars.div_ceil(*every) <= MOST_LABELS)
        }
        BucketSize::Day | BucketSize::Month => None,
    };
    let every = every.unwrap_or_else(|| bars.div_ceil(MOST_LABELS)).max(1);
    let zone = zone.clone();
    throughput.buckets.iter().enumerate().filter_map(move |(index, bucket)| {
        let at = bucket.from.to_zoned(zone.clone());
        let (place, format) = match size {
            BucketSize::Hour => (usize::from(at.hour().unsigned_abs()), "%H:%M"),
            BucketSize::Day => (index, "%-d %b"),
            BucketSize::Month => (index, "%b %y"),
        };
        (place % every == 0).then(|| (index, at.strftime(format).to_string()))
    })
}

fn bar_name(size: BucketSize, bucket: &Bucket, zone: &TimeZone) -> String {
    let format = match size {
        BucketSize::Hour => "%a %-d %b, %H:%M",
        BucketSize::Day => "%a %-d %b",
        BucketSize::Month => "%B %Y",
    };
    bucket.from.to_zoned(zone.clone()).strftime(format).to_string()
}

/// The bar of a table row: how much of it is completed, failed and cancelled, of 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Shares {
    completed: f64,
    failed: f64,
    cancelled: f64,
}

pub(super) fn shares(jobs: Ended) -> Shares {
    let total = jobs.total().max(1) as f64;
    let share = |count: u64| match count {
        0 => 0.0,
        _ => (count as f64 / total * 100.0).max(THINNEST_SHARE),
    };
    let (failed, cancelled) = (share(jobs.failed), share(jobs.cancelled));
    // What the thin ones take too much comes from the completed ones, if there are any.
    let rest = (100.0 - failed - cancelled).max(0.0);
    let completed = if jobs.completed == 0 { 0.0 } else { rest };
    Shares { completed: tenth(completed), failed: tenth(failed), cancelled: tenth(cancelled) }
}

/// One line of the distribution of durations.
#[derive(Debug, Serialize)]
pub(super) struct DurationBar {
    name: String,
    attempts: String,
    width: f64,
}

/// The distribution of durations without the empty classes at its ends.
pub(super) fn durations(classes: &[DurationClass]) -> Vec<DurationBar> {
    let most = classes.iter().map(|class| class.attempts).max().unwrap_or(0);
    let is_used = |class: &DurationClass| class.attempts > 0;
    let Some(first) = classes.iter().position(is_used) else { return Vec::new() };
    let last = classes.iter().rposition(is_used).unwrap_or(first);
    let lower_bound = |index: usize| classes.get(index.wrapping_sub(1))?.below_us;
    let shown = classes.iter().enumerate().take(last + 1).skip(first);
    shown
        .map(|(index, class)| DurationBar {
            name: class_name(lower_bound(index), class.below_us),
            attempts: words::count(class.attempts),
            width: tenth(class.attempts as f64 / most as f64 * 100.0),
        })
        .collect()
}

fn class_name(from: Option<u64>, below: Option<u64>) -> String {
    match (from, below) {
        (None, Some(below)) => format!("under {}", round_length(below)),
        (Some(from), Some(below)) => format!("{} to {}", round_length(from), round_length(below)),
        (Some(from), None) => format!("{} and more", round_length(from)),
        (None, None) => "any".to_owned(),
    }
}

/// The bounds of classes are whole: `1 s`, not `1.0 s`.
fn round_length(micros: u64) -> String {
    words::length(micros).replace(".0 ", " ")
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lines_are_few_round_and_reach_the_highest_bar(highest in 1_u64..=u64::MAX / 16) {
            let step = line_step(highest);
            let leading = step / 10_u64.pow(step.ilog10());
            prop_assert!(matches!(leading, 1 | 2 | 5));
            prop_assert!(highest.div_ceil(step) <= MOST_LINES);
        }

        #[test]
        fn a_single_failure_among_many_is_seen_and_the_bar_stays_whole(
            completed in 0_u64..1_000_000, failed in 0_u64..1000, cancelled in 0_u64..1000,
        ) {
            let jobs = Ended { completed, failed, cancelled };
            let bar = shares(jobs);
            prop_assert_eq!(failed > 0, bar.failed >= THINNEST_SHARE);
            let whole = bar.completed + bar.failed + bar.cancelled;
            prop_assert!(jobs.total() == 0 || (99.0..=104.0).contains(&whole), "{whole}");
        }
    }

    #[test]
    fn empty_classes_at_the_ends_are_left_out() {
        let class = |below_us, attempts| DurationClass { below_us, attempts };
        let classes = [
            class(Some(10_000), 0),
            class(Some(1_000_000), 4),
            class(Some(10_000_000), 0),
            class(Some(60_000_000), 1),
            class(None, 0),
        ];
        let names: Vec<String> = durations(&classes).into_iter().map(|bar| bar.name).collect();
        assert_eq!(names, ["10 ms to 1 s", "1 s to 10 s", "10 s to 1 min"]);
    }
}
