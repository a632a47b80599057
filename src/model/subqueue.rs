//! Where exactly in its queue a job waits.
//!
//! Jobs that a limit can hold back do not wait among those that it cannot, or every claim would have to step over them. So a queue is
//! divided by what can hold its jobs back, and a claim takes from each part as many as it may. The parts are sorted by the same rank, and
//! a claim merges them, so that to whoever looks from outside there is one queue.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NodeSelector, Priority};

/// At most so many jobs with this key at once, on all nodes together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The key: `host:example.org`, `group:nightly`.
    pub key: String,
    /// How many: 1 to [`Self::MAX`].
    pub max: u32,
}

impl Concurrency {
    /// How long a key may be, in bytes. It is part of an index.
    pub const MAX_KEY_BYTES: usize = 200;

    /// The most jobs at once that any limit can be set to.
    pub const MAX: u32 = 1_000_000;

    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let is_legal = (1..=Self::MAX_KEY_BYTES).contains(&self.key.len())
            && !self.key.chars().any(char::is_control);
        if !is_legal {
            let most = Self::MAX_KEY_BYTES;
            return Some(format!("a key has 1 to {most} bytes and no control characters"));
        }
        let is_legal = (1..=Self::MAX).contains(&self.max);
        (!is_legal).then(|| format!("max must be from 1 to {}", Self::MAX))
    }
}

/// A part of a queue.
///
/// As text it is the queue's name alone where nothing else can hold a job back: `default`, `default/high`,
/// `docs/kind:pdf/node:web-1/key:2:host`. The key comes last, because it may hold anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subqueue {
    /// The queue.
    pub queue: String,
    /// Whether workers are reserved for its jobs.
    pub is_high: bool,
    /// Of what kind its jobs are, where a kind can have a limit.
    pub kind: Option<String>,
    /// Which nodes may take its jobs, where not all may.
    pub node: Option<NodeSelector>,
    /// What else its jobs share.
    pub concurrency: Option<Concurrency>,
}

/// Whether workers can be reserved for jobs of that priority.
#[must_use]
pub fn is_high(priority: Priority) -> bool {
    priority >= Priority::HIGH
}

impl fmt::Display for Subqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.queue)?;
        if self.is_high {
            f.write_str("/high")?;
        }
        if let Some(kind) = &self.kind {
            write!(f, "/kind:{kind}")?;
        }
        if let Some(node) = &self.node {
            write!(f, "/node:{node}")?;
        }
        if let Some(Concurrency { key, max }) = &self.concurrency {
            write!(f, "/key:{max}:{key}")?;
        }
        Ok(())
    }
}

impl FromStr for Subqueue {
    type Err = Infallible;

    /// Reads whatever is in the database: what is not understood holds nothing back.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (queue, mut rest) = text.split_once('/').unwrap_or((text, ""));
        let mut subqueue = Self {
            queue: queue.to_owned(),
            is_high: false,
            kind: None,
            node: None,
            concurrency: None,
        };
        while !rest.is_empty() {
            if let Some((max, key)) = rest.strip_prefix("key:").and_then(|key| key.split_once(':'))
            {
                let max = max.parse().unwrap_or(u32::MAX);
                subqueue.concurrency = Some(Concurrency { key: key.to_owned(), max });
                break;
            }
            let (part, others) = rest.split_once('/').unwrap_or((rest, ""));
            match part.split_once(':') {
                Some(("kind", kind)) => subqueue.kind = Some(kind.to_owned()),
                Some(("node", node)) => subqueue.node = node.parse().ok(),
                _ => subqueue.is_high |= part == "high",
            }
            rest = others;
        }
        Ok(subqueue)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_subqueue_reads_back_as_it_prints(
            queue in "[a-z0-9_-]{1,9}", is_high: bool, kind in prop::option::of("[a-z0-9_-]{1,9}"),
            node in prop::option::of("(label:)?[a-zA-Z0-9._-]{1,9}"), concurrency in prop::option::of(("[^\\p{Cc}]{1,20}", 1_u32..9)),
        ) {
            let concurrency = concurrency.map(|(key, max)| Concurrency { key, max });
            let node = node.map(|node| node.parse().unwrap());
            let subqueue = Subqueue { queue, is_high, kind, node, concurrency };
            prop_assert_eq!(subqueue.to_string().parse::<Subqueue>().unwrap(), subqueue);
        }
    }

    #[test]
    fn a_job_that_nothing_can_hold_back_waits_in_the_queue_itself() {
        let plain: Subqueue = "default".parse().unwrap();
        assert_eq!(plain.to_string(), "default");
        assert_eq!((plain.is_high, plain.kind, plain.concurrency), (false, None, None));
    }
}
