//! The one list of all settings.

/// A setting: its name in the file and what may be written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The dotted name; `*` stands for a name that people choose.
    pub name: &'static str,
    /// What is expected, to end the sentence "expected …".
    pub expects: &'static str,
    pub(super) shape: Shape,
}

/// How a text from the environment becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Whole,
    /// Comma-separated.
    List,
}

const fn text(name: &'static str, expects: &'static str) -> Key {
    Key { name, expects, shape: Shape::Text }
}

const fn whole(name: &'static str, expects: &'static str) -> Key {
    Key { name, expects, shape: Shape::Whole }
}

const fn list(name: &'static str, expects: &'static str) -> Key {
    Key { name, expects, shape: Shape::List }
}

const DURATION: &str = "a length of time like 90s, 15m, 1h 30m or 7d";
const FOLDER: &str = "the path of a directory";

/// Every setting, in the order people are shown them.
pub const KEYS: &[Key] = &[
    text("data_dir", FOLDER),
    text("node.name", "a name of 1 to 64 letters, digits, `.`, `-` and `_`"),
    list("node.labels", "a list of names"),
    text("database.url", "`sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`"),
    list("schedules.dirs", "a list of directories"),
    list("kinds.dirs", "a list of directories"),
    whole("workers.count", "a whole number from 1 to 65535"),
    whole("workers.reserved_high", "a whole number, smaller than workers.count"),
    text("workers.ageing", DURATION),
    whole("queues.*.workers", "a whole number from 1 to 65535"),
    text("queues.*.rate", "a rate like 60/m, 10/s, 5/10s or 60/m burst 10"),
    text("queues.*.timeout", DURATION),
    text("api.socket", "the path of the Unix socket"),
    text("api.listen", "an address like 127.0.0.1:7373"),
    text("api.anonymous", "none or read"),
    text("log.dir", FOLDER),
    text("log.format", "auto, text, json or journald"),
    text("log.level", "a level like info, or a filter like \"info,sexton::scheduler=debug\""),
    text("log.rotation", "never, hourly or daily"),
    whole("log.keep", "how many old log files to keep, a whole number from 1 to 65535"),
    text("log.max_size", "a size like 100MiB"),
    text("audit.dir", FOLDER),
    text("audit.jobs", "all or failures"),
    text("retention.completed", DURATION),
    text("retention.failed", DURATION),
    text("retention.cancelled", DURATION),
    text("retention.occurrences", DURATION),
    text("retention.statistics", DURATION),
    text("shutdown.grace", DURATION),
    text("lease.duration", DURATION),
    text("lease.heartbeat", DURATION),
    text("defaults.timezone", "a time zone's name like Europe/Berlin"),
    text("defaults.priority", "low, normal, high, critical or a number from 1 to 10"),
    text("defaults.queue", "a queue's name"),
    text("defaults.timeout", DURATION),
    whole("defaults.retries", "how many times to try again, a whole number from 0 to 1000"),
    text("defaults.catch_up", "none, latest or all"),
];

impl Key {
    /// The setting a concrete name such as `queues.mail.workers` belongs to.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| {
            let mut parts = name.split('.');
            let all_fit = key.name.split('.').all(|pattern| {
                parts
                    .next()
                    .is_some_and(|part| !part.is_empty() && (pattern == "*" || pattern == part))
            });
            all_fit && parts.next().is_none()
        })
    }

    /// The environment variable of a concrete name.
    #[must_use]
    pub fn variable(name: &str) -> String {
        format!("{PREFIX}{}", name.replace('.', SEPARATOR).to_ascii_uppercase())
    }
}

/// What variables start with.
pub(super) const PREFIX: &str = "SEXTON_";
/// What stands between the levels in a variable's name.
pub(super) const SEPARATOR: &str = "__";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_its_key() {
        assert_eq!(Key::of("queues.mail.workers").unwrap().name, "queues.*.workers");
        assert_eq!(Key::of("data_dir").unwrap().name, "data_dir");
        for unknown in ["", "queues", "queues.mail", "queues..workers", "data_dir.x", "Data_dir"] {
            assert_eq!(Key::of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_variable_is_the_name_in_capitals() {
        assert_eq!(Key::variable("database.url"), "SEXTON_DATABASE__URL");
        assert_eq!(Key::variable("queues.mail.workers"), "SEXTON_QUEUES__MAIL__WORKERS");
    }
}
