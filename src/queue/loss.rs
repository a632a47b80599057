//! What becomes of a job whose daemon died while it ran. Pure.
//!
//! Almost always the job had nothing to do with it, and goes back to its place at once. But a job that takes its daemon down with it
//! (by memory, by a crash in a handler's library) would do so again at each start, and nothing else would ever run. Who killed the
//! daemon cannot be known, so a job that is found at one death after the other is first held back, a little longer each time, so that
//! the others run meanwhile, and is given up when that has not helped either. The waits add up to more than three minutes: a machine
//! that is switched off and on again, or an operator with `kill -9`, does not bring an innocent job to its end.
//!
//! Jobs that were lost together come back one after the other, in turns from the first to the last and from the last to the first.
//! So each one is still waiting once when the guilty one kills the daemon again, has died once less than it from then on, and is not
//! given up with it.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{AfterAttempt, FinalState};
use crate::store::finish::{Loss, Rescued};

/// With how many deaths of its daemon in a row a job is given up.
pub const MOST_LOSSES: u32 = 10;

/// How often it goes back at once.
const LOSSES_WITHOUT_WAIT: u32 = 3;

/// The longest wait of the first of those that come back.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// How many of them have turns of their own. With more, waits would be longer than anybody understands.
const MAX_TURNS: usize = 10;

/// Decides what becomes of a job that ran when its daemon died.
#[must_use]
pub fn after_loss(loss: Loss, now: Timestamp) -> Rescued {
    let losses = loss.in_a_row;
    if losses >= MOST_LOSSES {
        return Rescued {
            next: AfterAttempt::End(FinalState::Failed),
            given_up: Some(format!(
                "given up: the daemon died each of the last {losses} times that it ran this job, which probably kills it; \
                 look into the daemon's log and the kernel's (`journalctl -k`) before you run it again"
            )),
        };
    }
    match losses.checked_sub(LOSSES_WITHOUT_WAIT + 1) {
        None => Rescued::given_back(),
        Some(waits_before) => {
            // 1, 4, 16, 60, 60, … seconds.
            let wait = Duration::from_secs(4_u64.saturating_pow(waits_before)).min(MAX_WAIT);
            Rescued { next: AfterAttempt::RetryAt(now + wait * turn(loss)), given_up: None }
        }
    }
}

/// As which one it comes back, from 1.
fn turn(loss: Loss) -> u32 {
    let from_front = loss.position;
    let from_back = loss.together.saturating_sub(loss.position + 1);
    let turn = if loss.in_a_row.is_multiple_of(2) { from_front } else { from_back };
    u32::try_from(turn.min(MAX_TURNS - 1)).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn wait_secs(loss: Loss) -> i64 {
        match after_loss(loss, now()).next {
            AfterAttempt::GiveBack => 0,
            AfterAttempt::RetryAt(at) => at.duration_since(now()).as_secs(),
            other => panic!("{loss:?}: {other:?}"),
        }
    }

    #[test]
    fn a6_a_job_at_every_death_of_its_daemon_is_held_back_longer_and_longer_and_then_given_up() {
        let alone = |in_a_row| Loss { in_a_row, position: 0, together: 1 };
        let waits: Vec<i64> = (1..MOST_LOSSES).map(|losses| wait_secs(alone(losses))).collect();
        assert_eq!(waits, [0, 0, 0, 1, 4, 16, 60, 60, 60]);
        for losses in [MOST_LOSSES, MOST_LOSSES + 1, u32::MAX] {
            let rescued = after_loss(alone(losses), now());
            assert_eq!(rescued.next, AfterAttempt::End(FinalState::Failed));
            assert!(rescued.given_up.is_some_and(|why| why.contains("the daemon died")));
        }
    }

    /// Plays it: jobs that never end run together, one of them kills the daemon as soon as it starts.
    #[test]
    fn a6_those_that_ran_beside_it_are_not_given_up_with_it() {
        const JOBS: usize = 4;
        for guilty in 0..JOBS {
            let mut losses = [0_u32; JOBS];
            // When each comes back, in seconds.
            let mut back_at = [0_i64; JOBS];
            while losses[guilty] < MOST_LOSSES {
                let death = back_at[guilty];
                let lost: Vec<usize> = (0..JOBS).filter(|job| back_at[*job] <= death).collect();
                for (position, job) in lost.iter().enumerate() {
                    losses[*job] += 1;
                    let loss = Loss { in_a_row: losses[*job], position, together: lost.len() };
                    if losses[*job] < MOST_LOSSES {
                        back_at[*job] = death + wait_secs(loss);
                    }
                }
            }
            for job in (0..JOBS).filter(|job| *job != guilty) {
                assert!(losses[job] < MOST_LOSSES, "job {job} beside {guilty}: {losses:?}");
            }
        }
    }
}
