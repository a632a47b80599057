//! The next instant of common rules, and one pass of `due()` over ten thousand schedules.
//!
//! `cargo bench --bench calendar`

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sexton::jobs::KINDS;
use sexton::model::Ledger;
use sexton::schedule::{CronExpression, Defaults, DstPolicy, Rule, Schedule, Trigger, parse_file};
use sexton::scheduler::{Entry, Spread, due};

const START: &str = "2026-03-01T00:00:00Z";

fn start() -> Timestamp {
    START.parse().expect("an instant")
}

fn next_instant(criterion: &mut Criterion) {
    let zone = TimeZone::get("America/New_York").expect("a zone");
    let mut group = criterion.benchmark_group("next_after");
    for expression in ["*/5 * * * *", "30 2 * * *", "0 9-17 * * 1-5", "0 0 1 * *", "0 0 29 2 *"] {
        let cron = CronExpression::parse(expression, "bench").expect("a cron expression");
        let triggers = vec![Trigger::Cron(cron)];
        let rule = Rule { zone: zone.clone(), triggers, dst: DstPolicy::default() };
        group.bench_function(expression, |bencher| {
            // Chained, so that every call starts somewhere else; it starts over before the calendar ends.
            let mut after = start();
            bencher.iter(|| {
                after = rule.next_after(black_box(after), None).unwrap_or_else(start);
                after
            });
        });
    }
    group.finish();
}

fn schedules(count: usize) -> Vec<Schedule> {
    let mut schedules = Vec::with_capacity(count);
    for number in 0..count {
        let text = format!(
            "[when]\ncron = \"{} {} * * *\"\n[command]\nargv = [\"true\"]\n",
            number % 60,
            number / 60 % 24
        );
        let path = format!("schedule-{number}.toml");
        let parsed =
            parse_file(&Path::new(&path).into(), &text, &Defaults::default(), KINDS, start());
        schedules.extend(parsed.schedules);
    }
    assert_eq!(schedules.len(), count);
    schedules
}

fn one_pass(criterion: &mut Criterion) {
    let schedules = schedules(10_000);
    let ledger = Ledger { decided_until: start(), last_end: None, last_success: None, pause: None };
    let spread = Spread { host: "bench", seed: "bench" };
    let now = start() + jiff::SignedDuration::from_mins(1);
    criterion.bench_function("due over 10,000 schedules", |bencher| {
        bencher.iter(|| {
            let entries = schedules.iter().map(|schedule| Entry {
                schedule,
                ledger: &ledger,
                live: false,
                ends: &[],
            });
            black_box(due(entries, &spread, now))
        });
    });
}

criterion_group!(benches, next_instant, one_pass);
criterion_main!(benches);
