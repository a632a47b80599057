//! What `sexton bench` measures.

use std::path::PathBuf;

use clap::Args;

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Backlogs to drain, in jobs: numbers like 500, 10k or 1m.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2k", value_parser = amount)]
    pub jobs: Vec<usize>,
    /// With how many workers each.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4,16,64", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: Vec<u16>,
    /// How often each figure is measured; what is shown is the median.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub repeats: u16,
    /// Where to put the SQLite database; the directory for temporary files, which may be in memory.
    #[arg(long, value_name = "DIR", conflicts_with = "database")]
    pub directory: Option<PathBuf>,
    /// A database that has nothing in it, not even tables; everything in it is removed at the end.
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
}

/// A number of jobs, with `k` for a thousand and `m` for a million.
fn amount(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.to_ascii_lowercase() {
        lower if lower.ends_with('k') => (&text[..text.len() - 1], 1_000),
        lower if lower.ends_with('m') => (&text[..text.len() - 1], 1_000_000),
        _ => (text, 1),
    };
    let count: Option<usize> = digits.parse().ok();
    let amount = count.and_then(|count| count.checked_mul(unit));
    match amount {
        Some(amount @ 1..=MAX_JOBS) => Ok(amount),
        _ => Err(format!("write it like 500, 10k or 1m, from 1 to {}m", MAX_JOBS / 1_000_000)),
    }
}

/// The longest backlog that is measured.
const MAX_JOBS: usize = 10_000_000;
