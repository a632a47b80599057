//! Measured numbers, and how they are shown.

use std::time::Duration;

/// One figure, measured several times.
pub(crate) struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    /// The same of the bare program, each measured right after its neighbour in `values`.
    bare: Vec<f64>,
}

impl Figure {
    pub(crate) fn new(name: &str, unit: &'static str) -> Self {
        Self { name: name.to_owned(), unit, values: Vec::new(), bare: Vec::new() }
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.values.push(value);
    }

    pub(crate) fn beside(&mut self, value: f64) {
        self.bare.push(value);
    }

    /// Prints it; nothing, where it was not measured.
    pub(crate) fn print(&self) {
        if self.values.is_empty() {
            return;
        }
        let shown = format!("{} {}", summary(&self.values), self.unit);
        let bare = if self.bare.is_empty() {
            String::new()
        } else {
            let pairs = self.values.iter().zip(&self.bare);
            let ratios: Vec<f64> = pairs.map(|(own, bare)| own / bare).collect();
            format!("bare {}   ratio {}", summary(&self.bare), summary(&ratios))
        };
        println!("{:<36} {shown:<44} {bare}", self.name);
    }
}

pub(crate) fn print_head() {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("{processors} processors, load {}", load.split(' ').next().unwrap_or("unknown"));
    println!("median (least to greatest)\n");
}

fn summary(values: &[f64]) -> String {
    let sorted = sorted(values);
    let (least, greatest) = (sorted[0], sorted[sorted.len() - 1]);
    format!("{} ({} to {})", plain(percentile(&sorted, 50.0)), plain(least), plain(greatest))
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

/// The value below which this share of all lies, in percent.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let sorted = sorted(values);
    let index = (share / 100.0 * (sorted.len() - 1) as f64).round();
    sorted[index as usize]
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
