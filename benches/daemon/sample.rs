//! Measurements that belong together, and how they are shown.

use std::time::Duration;

/// Prints a line of the report.
#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{}", line.as_ref());
}

/// Prints median, smallest and largest of some measurements.
pub(crate) fn report(what: &str, unit: &str, measured: &[f64]) {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
        return say(format!("  {what:<58} nothing was measured"));
    };
    let median = percentile(&sorted, 50);
    say(format!(
        "  {what:<58} {median:>9.3} {unit:<8} ({least:.3} to {most:.3}, {} runs)",
        sorted.len()
    ));
}

/// The value below which that many of a hundred lie. The values are sorted, and there is at least one.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// As milliseconds with a fraction.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
