//! What a breaker remembers, and whether it lets jobs start: pure, given what is stored and the time.
//!
//! Only failures count, and only those with no success between them. Once it has tripped nothing is counted any more: what else ends has
//! begun before, and says nothing that is not known. What decides is the probe, an attempt that is let through when the breaker has rested.

use jiff::{SignedDuration, Timestamp};

use crate::model::{AttemptName, Breaker};

/// What a breaker remembers. The default is what one remembers that has seen nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BreakerState {
    /// When attempts failed since the last success, the latest ones, in order; none once it has tripped.
    pub failed_at: Vec<Timestamp>,
    /// That it has tripped.
    pub trip: Option<Trip>,
}

/// A breaker that lets nothing start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trip {
    /// Since when.
    pub at: Timestamp,
    /// The last failure, in words for people.
    pub why: String,
    /// The attempt that was let through to find out whether it is over.
    pub probe: Option<AttemptName>,
}

/// What the end of an attempt has done to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing starts from now on, or again.
    Tripped,
    /// The probe has succeeded.
    Reset,
}

/// What a breaker lets start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Whatever there is.
    All,
    /// Nothing until then.
    After(Timestamp),
    /// One job, which finds out whether it is over.
    Probe,
    /// Nothing until the probe has ended.
    AfterProbe,
}

impl BreakerState {
    /// Takes in how an attempt has ended: `failure` says why it failed, `None` that it succeeded.
    pub fn note(
        &mut self,
        breaker: Breaker,
        attempt: AttemptName,
        failure: Option<&str>,
        now: Timestamp,
    ) -> Option<Turn> {
        let is_probe = self.trip.as_ref().map(|trip| trip.probe == Some(attempt));
        match (is_probe, failure) {
            (Some(false), _) => None,
            (Some(true), None) => {
                *self = Self::default();
                Some(Turn::Reset)
            }
            (Some(true), Some(why)) => Some(self.trip(why, now)),
            (None, None) => {
                self.failed_at.clear();
                None
            }
            (None, Some(why)) => {
                self.count(breaker, now);
                (self.failed_at.len() >= breaker.failures()).then(|| self.trip(why, now))
            }
        }
    }

    /// One more failure, and of the others those that can still matter.
    fn count(&mut self, breaker: Breaker, now: Timestamp) {
        let within = breaker.within().map(signed);
        // One that lies ahead comes from a clock that was set back.
        let earlier = self.failed_at.iter().map(|at| (*at).min(now));
        let counts = |at: &Timestamp| within.is_none_or(|within| now.duration_since(*at) <= within);
        let mut counted: Vec<Timestamp> = earlier.filter(counts).collect();
        counted.push(now);
        let too_many = counted.len().saturating_sub(breaker.failures());
        counted.drain(..too_many);
        self.failed_at = counted;
    }

    fn trip(&mut self, why: &str, now: Timestamp) -> Turn {
        self.failed_at.clear();
        self.trip = Some(Trip { at: now, why: why.to_owned(), probe: None });
        Turn::Tripped
    }

    /// The same where the clock was set back since: nothing can have happened after now. Without it a breaker would rest until the old
    /// instant.
    #[must_use]
    pub fn seen_at(mut self, now: Timestamp) -> Self {
        if let Some(trip) = &mut self.trip {
            trip.at = trip.at.min(now);
        }
        self
    }

    /// What it lets start. `probe_runs` says whether the attempt that is its probe is still running: one that was cancelled, was interrupted
    /// or died with its node has found out nothing, and another one takes its place.
    #[must_use]
    pub fn passage(&self, breaker: Breaker, now: Timestamp, probe_runs: bool) -> Passage {
        let Some(trip) = &self.trip else { return Passage::All };
        match trip.ends(breaker) {
            _ if probe_runs => Passage::AfterProbe,
            rested if now < rested => Passage::After(rested),
            _ => Passage::Probe,
        }
    }
}

impl Trip {
    /// When it lets a probe through.
    #[must_use]
    pub fn ends(&self, breaker: Breaker) -> Timestamp {
        self.at.saturating_add(signed(breaker.rest())).unwrap_or(Timestamp::MAX)
    }
}

fn signed(time: std::time::Duration) -> SignedDuration {
    SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::JobId;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn breaker(text: &str) -> Breaker {
        text.parse().unwrap()
    }

    fn attempt(job: i64) -> AttemptName {
        AttemptName { job: JobId(job), number: 1 }
    }

    const REFUSED: Option<&str> = Some("connection refused");

    /// A state that was reached by those failures.
    fn after(breaker: Breaker, failures: &[i64]) -> BreakerState {
        let mut state = BreakerState::default();
        for second in failures {
            state.note(breaker, attempt(*second), REFUSED, at(*second));
        }
        state
    }

    #[test]
    fn it_trips_at_the_failure_that_is_one_too_many_and_says_why() {
        let breaker = breaker("3 for 10s");
        let mut state = after(breaker, &[0, 500]);
        assert_eq!(state.passage(breaker, at(500), false), Passage::All);
        assert_eq!(state.note(breaker, attempt(9), REFUSED, at(1000)), Some(Turn::Tripped));
        let trip = state.trip.clone().unwrap();
        assert_eq!((trip.at, trip.why.as_str()), (at(1000), "connection refused"));
        assert_eq!(state.passage(breaker, at(1009), false), Passage::After(at(1010)));
        assert_eq!(state.passage(breaker, at(1010), false), Passage::Probe);
    }

    #[test]
    fn a_success_between_them_makes_failures_start_anew() {
        let breaker = breaker("3 for 10s");
        let mut state = after(breaker, &[0, 1]);
        assert_eq!(state.note(breaker, attempt(9), None, at(2)), None);
        assert_eq!(state, BreakerState::default());
    }

    #[test]
    fn failures_that_lie_too_far_apart_do_not_trip_it() {
        let breaker = breaker("3 in 1m for 10s");
        assert_eq!(after(breaker, &[0, 50, 61, 119, 122]).trip, None);
        assert!(after(breaker, &[0, 50, 61, 110]).trip.is_some(), "whichever minute it is");
    }

    #[test]
    fn the_probe_alone_decides_about_one_that_has_tripped() {
        let breaker = breaker("2 for 10s");
        let mut state = after(breaker, &[0, 1]);
        assert_eq!(state.note(breaker, attempt(7), None, at(2)), None, "it began before");
        assert_eq!(state.note(breaker, attempt(8), REFUSED, at(3)), None);
        assert_eq!(state.passage(breaker, at(4), false), Passage::After(at(11)));
        state.trip.as_mut().unwrap().probe = Some(attempt(9));
        assert_eq!(state.passage(breaker, at(12), true), Passage::AfterProbe);
        assert_eq!(state.note(breaker, attempt(9), Some("timeout"), at(20)), Some(Turn::Tripped));
        assert_eq!(state.trip.as_ref().unwrap().why, "timeout");
        assert_eq!(state.passage(breaker, at(29), false), Passage::After(at(30)));
        state.trip.as_mut().unwrap().probe = Some(attempt(10));
        assert_eq!(state.note(breaker, attempt(10), None, at(31)), Some(Turn::Reset));
        assert_eq!(state, BreakerState::default());
    }

    #[test]
    fn a_probe_that_found_out_nothing_is_followed_by_another() {
        let breaker = breaker("1 for 10s");
        let mut state = after(breaker, &[0]);
        state.trip.as_mut().unwrap().probe = Some(attempt(9));
        assert_eq!(state.passage(breaker, at(10), false), Passage::Probe);
    }

    #[test]
    fn d5_a_clock_set_back_by_a_year_holds_nothing_up_for_longer_than_the_rest() {
        let breaker = breaker("1 for 10s");
        let year = 366 * 86_400;
        let state = after(breaker, &[year]).seen_at(at(0));
        assert_eq!(state.passage(breaker, at(9), false), Passage::After(at(10)));
        assert_eq!(state.passage(breaker, at(10), false), Passage::Probe);
        let counted = after(self::breaker("2 in 1m for 10s"), &[year, 0]);
        assert_eq!(counted.trip.map(|trip| trip.at), Some(at(0)), "both have happened by now");
    }

    #[test]
    fn another_rest_counts_at_once() {
        let state = after(breaker("1 for 10m"), &[0]);
        assert_eq!(state.passage(breaker("1 for 5s"), at(5), false), Passage::Probe);
    }

    /// Seconds that pass, and whether the attempt fails that ends then.
    fn any_ends() -> impl Strategy<Value = Vec<(i64, bool)>> {
        prop::collection::vec((0_i64..40, prop::bool::weighted(0.8)), 1..60)
    }

    fn any_breaker() -> impl Strategy<Value = Breaker> {
        (1_u32..6, prop::option::of(1_u32..90)).prop_map(|(failures, within)| {
            let within = within.map(|within| format!(" in {within}s")).unwrap_or_default();
            breaker(&format!("{failures}{within} for 10s"))
        })
    }

    proptest! {
        /// Against the rule itself, which is told from all earlier ends and from nothing else.
        #[test]
        fn it_trips_exactly_when_so_many_in_a_row_have_failed_in_that_time(
            breaker in any_breaker(), ends in any_ends(),
        ) {
            let (mut state, mut now, mut so_far) = (BreakerState::default(), 0, Vec::new());
            for (passed, fails) in ends {
                now += passed;
                so_far.push((now, fails));
                let turn = state.note(breaker, attempt(now), REFUSED.filter(|_| fails), at(now));
                let row: Vec<i64> =
                    so_far.iter().rev().take_while(|(_, fails)| *fails).map(|(at, _)| *at).collect();
                let nth = row.get(breaker.failures() - 1);
                let within = breaker.within().map_or(i64::MAX, |within| within.as_secs().cast_signed());
                let trips = nth.is_some_and(|first| now - first <= within);
                prop_assert_eq!(turn, trips.then_some(Turn::Tripped), "at {}", now);
                prop_assert!(state.failed_at.len() <= breaker.failures());
                if trips {
                    state = BreakerState::default();
                    so_far.clear();
                }
            }
        }

        #[test]
        fn while_it_rests_nothing_starts_and_afterwards_one_at_a_time(
            breaker in any_breaker(), seconds in prop::collection::vec(0_i64..30, 1..20), fails in any::<bool>(),
        ) {
            let mut state = BreakerState::default();
            for second in 0..i64::try_from(breaker.failures()).unwrap() {
                state.note(breaker, attempt(second), REFUSED, at(0));
            }
            prop_assert!(state.trip.is_some());
            let mut running = None;
            for second in seconds {
                match state.passage(breaker, at(second), running.is_some()) {
                    Passage::All => prop_assert!(false, "it has not been reset"),
                    Passage::After(until) => prop_assert!(second < 10 && until == at(10)),
                    Passage::Probe => {
                        prop_assert!(second >= 10 && running.is_none());
                        running = Some(attempt(100));
                        state.trip.as_mut().unwrap().probe = running;
                    }
                    Passage::AfterProbe => prop_assert!(running.is_some()),
                }
            }
            if let Some(probe) = running {
                let turn = state.note(breaker, probe, REFUSED.filter(|_| fails), at(30));
                prop_assert_eq!(turn, Some(if fails { Turn::Tripped } else { Turn::Reset }));
                let open = state.passage(breaker, at(30), false);
                prop_assert_eq!(open, if fails { Passage::After(at(40)) } else { Passage::All });
            }
        }
    }
}
