//! How far after its nominal instant a schedule fires: offset and jitter.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::model::ScheduleId;
use crate::schedule::When;

/// What offsets and jitters are drawn from. Draws are hashes, so neither a reload nor a restart draws again.
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a> {
    /// The host's name: offsets set the hosts of a fleet apart.
    pub host: &'a str,
    /// What the nodes of one database share: all of them draw the same jitter for an instant.
    pub seed: &'a str,
}

impl Spread<'_> {
    /// The delay that all instants of the schedule have on this host: below `when.offset`.
    #[must_use]
    pub fn offset(&self, id: &ScheduleId, when: &When) -> Duration {
        draw(when.offset, &[b"offset", self.host.as_bytes(), id.as_str().as_bytes()])
    }

    /// The delay that one instant has on top: below `when.jitter`.
    #[must_use]
    pub fn jitter(&self, id: &ScheduleId, when: &When, nominal: Timestamp) -> Duration {
        let nominal = nominal.as_microsecond().to_le_bytes();
        draw(when.jitter, &[b"jitter", self.seed.as_bytes(), id.as_str().as_bytes(), &nominal])
    }

    /// When a nominal instant fires. The end of time holds back what would fire after it.
    #[must_use]
    pub fn fire_at(&self, id: &ScheduleId, when: &When, nominal: Timestamp) -> Timestamp {
        delayed(nominal, self.offset(id, when) + self.jitter(id, when, nominal))
    }
}

/// `at` and a delay, at most the end of time.
fn delayed(at: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    at.saturating_add(delay).unwrap_or(Timestamp::MAX)
}

/// A length in whole microseconds below `limit` that depends on the parts alone.
fn draw(limit: Duration, parts: &[&[u8]]) -> Duration {
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    if limit == 0 {
        return Duration::ZERO;
    }
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // The length keeps ("a", "bc") and ("ab", "c") apart.
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut head = [0; 8];
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Duration::from_micros(u64::from_le_bytes(head) % limit)
}
