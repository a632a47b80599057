//! Measured numbers, and how they are summed up.

use std::time::Duration;

use serde::Serialize;

/// One figure, measured several times.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// What it is counted in.
    pub unit: &'static str,
    /// What was measured.
    pub values: Vec<f64>,
    /// The same of the bare program, each measured right after its neighbour in `values`; empty where there is none.
    pub bare: Vec<f64>,
}

impl Figure {
    /// A figure that was not measured yet.
    #[must_use]
    pub fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, values: Vec::new(), bare: Vec::new() }
    }

    /// Measured once more.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    /// What the bare program reached beside it.
    pub fn beside(&mut self, value: f64) {
        self.bare.push(value);
    }

    /// The median, with the least and the greatest where there are several; nothing, where it was not measured.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        summary(&self.values)
    }

    /// The same of the bare program.
    #[must_use]
    pub fn bare_summary(&self) -> Option<String> {
        summary(&self.bare)
    }

    /// How the two compare, neighbour by neighbour.
    #[must_use]
    pub fn ratio_summary(&self) -> Option<String> {
        let ratios: Vec<f64> =
            self.values.iter().zip(&self.bare).map(|(own, bare)| own / bare).collect();
        summary(&ratios)
    }
}

fn summary(values: &[f64]) -> Option<String> {
    let sorted = sorted(values);
    let (least, greatest) = (sorted.first()?, sorted.last()?);
    let median = plain(percentile(&sorted, 50.0));
    Some(match sorted.len() {
        1 => median,
        _ => format!("{median} ({} to {})", plain(*least), plain(*greatest)),
    })
}

fn plain(value: f64) -> String {
    let digits = if value < 10.0 { 2 } else { 0 };
    format!("{value:.digits$}")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The value below which this share of all lies, in percent; not a number where there are none.
#[must_use]
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let index = (share / 100.0 * sorted.len().saturating_sub(1) as f64).round();
    sorted.get(index as usize).copied().unwrap_or(f64::NAN)
}

/// A duration as a number of milliseconds.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
