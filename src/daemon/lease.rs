//! Who holds what until when, judged by this machine's monotonic clock alone.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::LeaseSettings;
use crate::store::Micros;
use crate::store::nodes::Node;

/// This node's lease, on its monotonic clock.
///
/// Others run this node's jobs when it is over. By then nothing may run here any more, not even a program that ignores being told to end. So
/// when one more heartbeat would come too late, everything is told to stop, and in the middle of the time that is left whatever still runs is
/// killed. The other half is for that.
pub(super) struct OwnLease<'a> {
    pub(super) renewed: Duration,
    pub(super) settings: &'a LeaseSettings,
}

/// What a node's lease allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allows {
    /// To work.
    Work,
    /// To end what it does.
    Ending,
    /// Nothing.
    Nothing,
}

impl OwnLease<'_> {
    pub(super) fn allows(&self, now: Duration) -> Allows {
        let [ending, nothing] = self.limits();
        match now {
            _ if now >= nothing => Allows::Nothing,
            _ if now >= ending => Allows::Ending,
            _ => Allows::Work,
        }
    }

    /// Until when it allows to work.
    pub(super) fn work_until(&self) -> Duration {
        self.limits()[0]
    }

    /// How long it goes on allowing that; `None` when it allows nothing any more.
    pub(super) fn unchanged_for(&self, now: Duration) -> Option<Duration> {
        self.limits().into_iter().find(|limit| *limit > now).map(|limit| limit - now)
    }

    /// From when on it allows no more than to end what runs, and from when on nothing.
    fn limits(&self) -> [Duration; 2] {
        let heartbeat = self.settings.heartbeat.get();
        let over = self.renewed + self.settings.duration.get();
        [heartbeat, heartbeat / 2].map(|margin| over.saturating_sub(margin))
    }
}

/// What was last seen of the other nodes, and when, on this node's monotonic clock.
///
/// A node lives as long as its row changes. The time in the row is not compared with ours: a wall clock that is set ahead, here or
/// there, would declare every node dead, and their jobs would run twice.
///
/// Silence is what was listened to. A node that could not look for half a lease begins anew: after an outage of the database the first one that
/// is back would otherwise find all others dead, whose next beat is a moment away, and run again what they had finished meanwhile.
#[derive(Default)]
pub(super) struct Seen {
    rows: HashMap<i64, (Micros, Duration)>,
    looked: Option<Duration>,
}

impl Seen {
    /// Those of `nodes` whose rows have not changed for `limit`.
    pub(super) fn silent(&mut self, nodes: &[Node], now: Duration, limit: Duration) -> Vec<Node> {
        let looked = self.looked.replace(now);
        if looked.is_some_and(|looked| now.saturating_sub(looked) > limit / 2) {
            self.rows.clear();
        }
        self.rows.retain(|id, _| nodes.iter().any(|node| node.id == *id));
        let is_silent = |node: &&Node| {
            let (lease, since) = self.rows.entry(node.id).or_insert((node.lease_until, now));
            if *lease != node.lease_until {
                (*lease, *since) = (node.lease_until, now);
            }
            now.saturating_sub(*since) >= limit
        };
        nodes.iter().filter(is_silent).cloned().collect()
    }
}

/// A node's row, of which only the lease matters.
#[cfg(test)]
pub(super) fn node_seen(id: i64, lease_until: i64) -> Node {
    Node {
        id,
        name: "host".to_owned(),
        instance: id.to_string(),
        version: String::new(),
        pid: 1,
        started_at: Micros(0),
        lease_until: Micros(lease_until),
        stopped_at: None,
        labels: String::new(),
        revision: None,
        clock_skew_us: None,
        draining_since: None,
        draining_by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::node_seen as node;
    use super::*;
    use crate::model::HumanDuration;

    const LEASE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn d3_a_node_whose_row_changes_is_alive_whatever_anybodys_wall_clock_says() {
        let mut seen = Seen::default();
        // Its clock is years behind, jumps, and goes back: the row changes each time.
        for (beat, lease_until) in [0, 1_000_000, 900_000_000_000_000, 5].into_iter().enumerate() {
            let now = at(29 * beat as u64);
            assert_eq!(seen.silent(&[node(1, lease_until)], now, LEASE), []);
        }
    }

    #[test]
    fn d3_a_node_whose_row_stays_as_it_is_for_a_lease_is_dead() {
        let mut seen = Seen::default();
        let (dead, alive) = (node(1, 7), node(2, 7));
        assert_eq!(seen.silent(&[dead.clone(), alive.clone()], at(0), LEASE), []);
        for (now, beat) in [(10, 8), (20, 9), (29, 10)] {
            assert_eq!(seen.silent(&[dead.clone(), node(2, beat)], at(now), LEASE), []);
        }
        assert_eq!(
            seen.silent(&[dead.clone(), node(2, 10)], at(30), LEASE),
            std::slice::from_ref(&dead)
        );
        // One that is rescued is gone from the list, and is seen afresh when it comes back.
        assert_eq!(seen.silent(&[node(2, 11)], at(31), LEASE), []);
        assert_eq!(seen.silent(&[dead, node(2, 12)], at(45), LEASE), []);
    }

    #[test]
    fn m2_a_node_that_could_not_look_finds_nobody_dead_before_it_has_looked_for_a_lease() {
        let mut seen = Seen::default();
        let other = node(1, 7);
        assert_eq!(seen.silent(std::slice::from_ref(&other), at(0), LEASE), []);
        // The database was away for ten minutes, for the other one as well.
        for back in [600, 610, 620, 629] {
            assert_eq!(seen.silent(std::slice::from_ref(&other), at(back), LEASE), []);
        }
        assert_eq!(seen.silent(std::slice::from_ref(&other), at(630), LEASE).len(), 1);
    }

    const SETTINGS: LeaseSettings = LeaseSettings {
        duration: HumanDuration::from_secs(30),
        heartbeat: HumanDuration::from_secs(4),
    };

    #[test]
    fn d6_after_a_sleep_as_long_as_the_lease_nothing_counts_as_held() {
        let lease = OwnLease { renewed: at(0), settings: &SETTINGS };
        assert_eq!(lease.allows(at(25)), Allows::Work);
        assert_eq!(lease.allows(at(26)), Allows::Ending, "the next beat may come too late");
        assert_eq!(lease.allows(at(27)), Allows::Ending);
        assert_eq!(
            lease.allows(at(28)),
            Allows::Nothing,
            "what runs now may run elsewhere as well soon"
        );
        assert_eq!(lease.allows(at(600)), Allows::Nothing);
    }

    /// Whoever looks when it says that something changes needs no luck.
    #[test]
    fn m3_what_runs_is_told_to_stop_and_then_killed_before_the_lease_is_over() {
        let lease = OwnLease { renewed: at(0), settings: &SETTINGS };
        let mut now = at(1);
        let mut seen = vec![(now, lease.allows(now))];
        while let Some(wait) = lease.unchanged_for(now) {
            assert!(wait > Duration::ZERO);
            now += wait;
            seen.push((now, lease.allows(now)));
        }
        let expected = [(at(1), Allows::Work), (at(26), Allows::Ending), (at(28), Allows::Nothing)];
        assert_eq!(seen, expected);
        // The other nodes' time begins later than this one's: with the beat that they have seen.
        let mut others = Seen::default();
        assert_eq!(others.silent(&[node(1, 7)], at(0), LEASE), []);
        assert_eq!(others.silent(&[node(1, 7)], now, LEASE), []);
    }
}
