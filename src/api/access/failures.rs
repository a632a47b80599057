//! Tokens that were not valid, by where they came from.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use jiff::Timestamp;

use crate::model::{Rate, TokenHash};
use crate::queue::Bucket;

/// How many of one source are looked at. A secret cannot be guessed at any rate; this bounds what guessing costs the daemon, and makes a
/// program with an old token notice.
const RATE: &str = "10/m burst 20";

/// How many sources are remembered. What comes from others meanwhile counts as from one.
const MAX_SOURCES: usize = 4096;

/// Stands for all sources that there was no room for.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What is left of each source's rate, and which tokens were found valid.
#[derive(Debug)]
pub(super) struct Failures {
    rate: Rate,
    full_at: HashMap<IpAddr, Timestamp>,
    /// They are looked at whatever else comes from where they come from, or one program with an old token would shut out
    /// all others behind the same proxy. There are never more of them than tokens.
    proven: HashSet<TokenHash>,
}

impl Default for Failures {
    fn default() -> Self {
        let rate = RATE.parse().expect("it is a rate");
        Self { rate, full_at: HashMap::new(), proven: HashSet::new() }
    }
}

impl Failures {
    /// Until when no token of that source is looked at, where that is so. A source of none is trusted.
    pub(super) fn held_until(
        &self,
        source: Option<IpAddr>,
        hash: &TokenHash,
        now: Timestamp,
    ) -> Option<Timestamp> {
        if self.proven.contains(hash) {
            return None;
        }
        let source = self.remembered(network(source?));
        self.bucket(source, now).next_at()
    }

    /// A token was not valid.
    pub(super) fn failed(&mut self, source: Option<IpAddr>, hash: &TokenHash, now: Timestamp) {
        self.proven.remove(hash);
        let Some(source) = source.map(network) else { return };
        if !self.full_at.contains_key(&source) && self.full_at.len() >= MAX_SOURCES {
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        let source = self.remembered(source);
        let mut bucket = self.bucket(source, now);
        bucket.take();
        if let Some(full_at) = bucket.to_store() {
            self.full_at.insert(source, full_at);
        }
    }

    /// A token was valid.
    pub(super) fn succeeded(&mut self, hash: TokenHash) {
        self.proven.insert(hash);
    }

    fn bucket(&self, source: IpAddr, now: Timestamp) -> Bucket {
        Bucket::new(self.rate, self.full_at.get(&source).copied(), now)
    }

    /// As what a source is remembered.
    fn remembered(&self, source: IpAddr) -> IpAddr {
        let is_known = self.full_at.contains_key(&source);
        if is_known || self.full_at.len() < MAX_SOURCES { source } else { OTHERS }
    }
}

/// The source that an address stands for: whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn source(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn wrong() -> TokenHash {
        TokenHash::of(b"wrong")
    }

    #[test]
    fn j3_a_source_of_wrong_tokens_has_to_wait_and_others_do_not() {
        let mut failures = Failures::default();
        for _ in 0..20 {
            assert_eq!(failures.held_until(source(1), &wrong(), at(0)), None);
            failures.failed(source(1), &wrong(), at(0));
        }
        assert_eq!(failures.held_until(source(1), &wrong(), at(0)), Some(at(6)));
        assert_eq!(failures.held_until(source(1), &wrong(), at(6)), None);
        assert_eq!(failures.held_until(source(2), &wrong(), at(0)), None);
        assert_eq!(failures.held_until(None, &wrong(), at(0)), None);
    }

    #[test]
    fn j3_a_token_that_was_valid_is_not_shut_out_by_wrong_ones_from_the_same_proxy() {
        let (mut failures, good) = (Failures::default(), TokenHash::of(b"good"));
        failures.succeeded(good);
        for _ in 0..30 {
            failures.failed(source(1), &wrong(), at(0));
        }
        assert_eq!(failures.held_until(source(1), &good, at(0)), None);
        // Until it is not valid any more.
        failures.failed(source(1), &good, at(0));
        assert!(failures.held_until(source(1), &good, at(0)).is_some());
    }

    #[test]
    fn j3_however_many_sources_there_are_what_is_remembered_is_bounded() {
        let mut failures = Failures::default();
        for number in 0..10_000 {
            failures.failed(source(number), &wrong(), at(0));
        }
        assert!(failures.full_at.len() <= MAX_SOURCES + 1, "{}", failures.full_at.len());
        assert!(failures.held_until(source(20_000), &wrong(), at(0)).is_some(), "they share one");
        for _ in 0..20 {
            failures.failed(source(20_000), &wrong(), at(3600));
        }
        assert_eq!(failures.full_at.len(), 1, "those that are full again are forgotten");
        assert_eq!(failures.held_until(source(7), &wrong(), at(3600)), None);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::2"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
