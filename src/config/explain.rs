//! What is in force, and where it came from.

use serde::Serialize;

use super::{Loaded, Origin, Settings};
use crate::model::is_harmful;

/// One line of `sexton config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The setting.
    pub key: String,
    /// Its value as it would be written in the file, secrets masked; `None`: off.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

impl Loaded {
    /// Every setting in force, in the order of the documentation.
    #[must_use]
    pub fn explain(&self) -> Vec<Entry> {
        let entry = |(key, value): (String, Option<String>)| {
            let origin = self.origin(&key);
            Entry { key, value, origin }
        };
        values(&self.settings).into_iter().map(entry).collect()
    }
}

fn values(settings: &Settings) -> Vec<(String, Option<String>)> {
    let Settings { workers, api, log, audit, retention, lease, defaults, .. } = settings;
    let mut all = vec![
        ("data_dir", Some(quoted(&settings.data_dir))),
        ("node.name", Some(quoted(&settings.node.name))),
        ("node.labels", Some(quoted(&settings.node.labels))),
        ("database.url", Some(quoted(settings.database.to_string()))),
        ("schedules.dirs", Some(quoted(&settings.schedule_dirs))),
        ("kinds.dirs", Some(quoted(&settings.kind_dirs))),
        ("workers.count", Some(workers.count.to_string())),
        ("workers.reserved_high", Some(workers.reserved_high.to_string())),
        ("workers.ageing", Some(quoted(workers.ageing))),
        ("api.socket", Some(quoted(&api.socket))),
        ("api.listen", api.listen.map(|listen| quoted(listen.to_string()))),
        ("api.anonymous", Some(quoted(api.anonymous.as_str()))),
        ("log.dir", Some(quoted(&log.dir))),
        ("log.format", Some(quoted(log.format.as_str()))),
        ("log.level", Some(quoted(log.level.as_str()))),
        ("log.rotation", Some(quoted(log.rotation.as_str()))),
        ("log.keep", Some(log.keep.to_string())),
        // In bytes: the readable form rounds.
        ("log.max_size", Some(quoted(format!("{}B", log.max_size.0)))),
        ("audit.dir", Some(quoted(&audit.dir))),
        ("audit.jobs", Some(quoted(audit.jobs.as_str()))),
        ("retention.completed", Some(quoted(retention.completed))),
        ("retention.failed", Some(quoted(retention.failed))),
        ("retention.cancelled", Some(quoted(retention.cancelled))),
        ("retention.occurrences", Some(quoted(retention.occurrences))),
        ("retention.statistics", Some(quoted(retention.statistics))),
        ("shutdown.grace", Some(quoted(settings.shutdown_grace))),
        ("lease.duration", Some(quoted(lease.duration))),
        ("lease.heartbeat", Some(quoted(lease.heartbeat))),
        ("defaults.timezone", Some(quoted(defaults.timezone.iana_name().unwrap_or("UTC")))),
        ("defaults.priority", Some(quoted(defaults.priority.to_string()))),
        ("defaults.queue", Some(quoted(&defaults.queue))),
        ("defaults.timeout", Some(quoted(defaults.timeout))),
        ("defaults.retries", Some((defaults.retry.max_attempts - 1).to_string())),
        ("defaults.catch_up", Some(quoted(defaults.catch_up))),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect::<Vec<_>>();
    let after_workers = all.iter().position(|(key, _)| key == "api.socket").unwrap_or(all.len());
    let queues = settings.queues.iter().flat_map(|(name, queue)| {
        [
            (format!("queues.{name}.workers"), queue.workers.map(|workers| workers.to_string())),
            (format!("queues.{name}.rate"), queue.rate.map(quoted)),
            (format!("queues.{name}.timeout"), queue.timeout.map(quoted)),
        ]
    });
    all.splice(after_workers..after_workers, queues);
    all
}

/// A value as a TOML string or array. For what settings hold, JSON's spelling is TOML's but for the delete character, which TOML
/// wants escaped; a terminal wants more escaped than either, and all of that is text in quotes.
fn quoted(value: impl Serialize) -> String {
    let json = serde_json::to_string(&value).unwrap_or_else(|_not_utf8| "\"?\"".to_owned());
    let escape = |c: char| {
        if is_harmful(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }
    };
    json.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j10_a_shown_value_is_toml_and_cannot_disturb_a_terminal() {
        let value = "/a\u{7f}\u{202e}\u{1b}\\\"\n/ä";
        let shown = quoted(value);
        assert!(!shown.chars().any(is_harmful), "{shown:?}");
        let read: toml::Table = toml::from_str(&format!("a = {shown}")).unwrap();
        assert_eq!(read["a"].as_str(), Some(value));
    }
}
