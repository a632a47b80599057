//! `retries` in `[run]`: how often a job is tried and how long it waits in between.

use std::time::Duration;

use toml::de::DeValue;

use super::super::diagnostic::Code;
use super::findings::{Finding, Findings, Span};
use super::reader::{Item, Table};
use super::run::timeout;
use crate::model::{Backoff, HumanDuration, RetryPolicy};

/// The most retries.
const MAX_RETRIES: u32 = 1000;
/// The longest wait that is given as a bare number of seconds: a year.
const MAX_WAIT_SECONDS: u32 = 366 * 24 * 3600;

/// Reads `{ max = 3, ... }` or only `3`. `max` counts what comes after the first attempt.
pub(super) fn read(
    item: &Item<'_, '_>,
    defaults: &RetryPolicy,
    findings: &mut Findings<'_>,
) -> RetryPolicy {
    if item.value.get_ref().is_integer() {
        let max = item.integer(0, MAX_RETRIES, findings);
        let max_attempts = max.map_or(defaults.max_attempts, |max| max + 1);
        return RetryPolicy { max_attempts, backoff: defaults.backoff.clone() };
    }
    let Some(mut table) = item.table("retries", findings) else { return defaults.clone() };
    let max = table.get("max").and_then(|item| item.integer(0, MAX_RETRIES, findings));
    let backoff = Keys::read(&mut table, findings).backoff(&defaults.backoff, findings);
    table.finish(findings);
    // A list of delays says how many retries there are, unless `max` says otherwise.
    let by_delays = match &backoff {
        Some(Backoff::Delays { delays }) => u32::try_from(delays.len()).ok(),
        _ => None,
    };
    RetryPolicy {
        max_attempts: max.or(by_delays).map_or(defaults.max_attempts, |max| max + 1),
        backoff: backoff.unwrap_or_else(|| defaults.backoff.clone()),
    }
}

/// The families of delays. Each has keys of its own, and the keys of another beside them are a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Exponential,
    Fixed,
    Delays,
}

const FAMILIES: [(&str, Family); 3] =
    [("exponential", Family::Exponential), ("fixed", Family::Fixed), ("delays", Family::Delays)];

struct Keys<'t, 'i> {
    span: Span,
    named: Option<Family>,
    base: Option<Item<'t, 'i>>,
    factor: Option<Item<'t, 'i>>,
    max_delay: Option<Item<'t, 'i>>,
    jitter: Option<Item<'t, 'i>>,
    delay: Option<Item<'t, 'i>>,
    delays: Option<Item<'t, 'i>>,
}

impl<'t, 'i> Keys<'t, 'i> {
    fn read(table: &mut Table<'t, 'i>, findings: &mut Findings<'_>) -> Self {
        Self {
            span: table.span().clone(),
            named: table.get("backoff").and_then(|item| item.choice(&FAMILIES, findings)),
            base: table.get("base"),
            factor: table.get("factor"),
            max_delay: table.get("max_delay"),
            jitter: table.get("jitter"),
            delay: table.get("delay"),
            delays: table.get("delays"),
        }
    }

    fn owned(&self) -> impl Iterator<Item = (Family, &Item<'t, 'i>)> {
        let exponential = [&self.base, &self.factor, &self.max_delay, &self.jitter];
        let exponential = exponential.into_iter().map(|item| (Family::Exponential, item));
        let others = [(Family::Fixed, &self.delay), (Family::Delays, &self.delays)];
        exponential.chain(others).filter_map(|(family, item)| Some((family, item.as_ref()?)))
    }

    /// The backoff that is meant; none where nothing is said about it, or what is said is wrong.
    fn backoff(&self, defaults: &Backoff, findings: &mut Findings<'_>) -> Option<Backoff> {
        let family = self.named.or_else(|| self.owned().map(|(family, _)| family).last())?;
        for (owner, item) in self.owned().filter(|(owner, _)| *owner != family) {
            let name = FAMILIES.iter().find(|(_, of)| *of == owner).map_or("", |(name, _)| name);
            item.bad_value(format!("belongs to backoff = \"{name}\""), findings);
        }
        match family {
            Family::Exponential => Some(self.exponential(defaults, findings)),
            Family::Fixed => {
                let delay = self.needed(self.delay.as_ref(), "delay", findings)?;
                Some(Backoff::Fixed { delay: wait(delay, findings)? })
            }
            Family::Delays => {
                let item = self.needed(self.delays.as_ref(), "delays", findings)?;
                let items = item.list("a list like [\"0s\", \"30s\", \"5m\"]", findings);
                if items.is_empty() {
                    item.bad_value("needs at least one delay", findings);
                }
                let delays = items.iter().filter_map(|item| wait(item, findings)).collect();
                Some(Backoff::Delays { delays })
            }
        }
    }

    fn needed<'a>(
        &self,
        item: Option<&'a Item<'t, 'i>>,
        key: &str,
        findings: &mut Findings<'_>,
    ) -> Option<&'a Item<'t, 'i>> {
        if item.is_none() {
            let message = format!("this backoff needs `{key}`");
            findings.add(Finding::error(Code::MissingKey, &self.span, message));
        }
        item
    }

    fn exponential(&self, defaults: &Backoff, findings: &mut Findings<'_>) -> Backoff {
        let usual = Growth::of(defaults);
        let length = |item: &Option<Item<'_, '_>>, findings: &mut Findings<'_>| {
            item.as_ref().and_then(|item| timeout(item, findings))
        };
        let base = length(&self.base, findings).unwrap_or(usual.base);
        let max_delay = length(&self.max_delay, findings).unwrap_or(usual.max_delay.max(base));
        if let Some(item) = &self.max_delay
            && max_delay < base
        {
            item.bad_value("is shorter than `base`", findings);
        }
        let factor = self.factor.as_ref().and_then(|item| factor(item, findings));
        let jitter = self.jitter.as_ref().and_then(|item| item.boolean(findings));
        Backoff::Exponential {
            base,
            factor: factor.unwrap_or(usual.factor),
            max_delay,
            jitter: jitter.unwrap_or(usual.jitter),
        }
    }
}

/// The parts of an exponential backoff.
struct Growth {
    base: HumanDuration,
    factor: f64,
    max_delay: HumanDuration,
    jitter: bool,
}

impl Growth {
    /// Those of the settings, or 30 seconds doubling to 10 minutes where the settings have another family.
    fn of(defaults: &Backoff) -> Self {
        match *defaults {
            Backoff::Exponential { base, factor, max_delay, jitter } => {
                Self { base, factor, max_delay, jitter }
            }
            Backoff::Fixed { .. } | Backoff::Delays { .. } => Self {
                base: HumanDuration::from_secs(30),
                factor: 2.0,
                max_delay: HumanDuration::from_secs(600),
                jitter: true,
            },
        }
    }
}

/// A wait: a length of time, or a number of seconds.
fn wait(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<HumanDuration> {
    if item.value.get_ref().is_integer() {
        let seconds = item.integer(0, MAX_WAIT_SECONDS, findings)?;
        return Some(HumanDuration(Duration::from_secs(u64::from(seconds))));
    }
    item.parse("a length of time like \"30s\", or a number of seconds", findings)
}

/// What each further failure multiplies the wait by.
fn factor(item: &Item<'_, '_>, findings: &mut Findings<'_>) -> Option<f64> {
    let written = match item.value.get_ref() {
        DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
        _ => {
            item.wrong_type("a number", findings);
            return None;
        }
    };
    let factor = written.filter(|factor| (1.0..=100.0).contains(factor));
    if factor.is_none() {
        item.bad_value("must be a number from 1 to 100", findings);
    }
    factor
}
