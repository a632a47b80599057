//! A rule in one English sentence, for `sexton explain`.

use jiff::civil::Time;

use super::words::joined;
use super::{Rule, Trigger, Weekdays, zone_name};
use crate::model::HumanDuration;

impl Rule {
    /// One English sentence: "Every day at 02:30, Europe/Berlin time."
    #[must_use]
    pub fn describe(&self) -> String {
        let phrases: Vec<String> =
            self.triggers.iter().map(|trigger| self.describe_trigger(trigger)).collect();
        if phrases.is_empty() {
            return "Only when somebody asks for it.".to_owned();
        }
        let reads_clocks =
            |trigger: &Trigger| matches!(trigger, Trigger::Daily { .. } | Trigger::Cron(_));
        let zone = if self.triggers.iter().any(reads_clocks) {
            format!(", {} time", zone_name(&self.zone))
        } else {
            String::new()
        };
        capitalised(&format!("{}{zone}.", joined(&phrases, "and")))
    }

    fn describe_trigger(&self, trigger: &Trigger) -> String {
        match trigger {
            Trigger::Every { period } => format!("every {}", HumanDuration(*period)),
            Trigger::EveryFromEnd { period } => {
                format!("{} after the end of the last run", HumanDuration(*period))
            }
            Trigger::Daily { times, weekdays } => daily(times, *weekdays),
            Trigger::Cron(cron) => cron.describe(),
            Trigger::After { schedule, on } => format!("after {schedule} {}", on.verb()),
            Trigger::At(at) => {
                let local = at.to_zoned(self.zone.clone());
                format!("once at {} ({})", local.strftime("%Y-%m-%d %H:%M:%S%.f"), local.offset())
            }
        }
    }
}

fn daily(times: &[Time], weekdays: Weekdays) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.dedup();
    let times: Vec<String> = times.into_iter().map(clock_time).collect();
    let times = joined(&times, "and");
    match weekdays {
        Weekdays::ALL => format!("every day at {times}"),
        days => format!("at {times} on {days}"),
    }
}

/// `02:30`, or `02:30:15` where the second matters.
pub(super) fn clock_time(time: Time) -> String {
    let pattern = if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" };
    time.strftime(pattern).to_string()
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
