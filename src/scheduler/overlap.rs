//! Whether a schedule's new job may join those that are still live.

use crate::model::{JobId, OverlapVerdict};
use crate::schedule::Overlap;

/// How many jobs of one schedule may be live under `queue_all`. A schedule whose jobs take longer than the time between them
/// would fill the queue without end; from here on its instants are skipped, with a row each.
pub const MAX_BACKLOG: usize = 100;

/// Decides about a new job of a schedule whose jobs `live`, oldest first, are not over.
#[must_use]
pub fn overlap(policy: Overlap, live: &[JobId]) -> OverlapVerdict {
    match (policy, live) {
        (_, []) | (Overlap::Allow, _) => OverlapVerdict::Enqueue,
        (Overlap::Skip, [first, ..]) => {
            OverlapVerdict::Skip(format!("job {first} of this schedule is not over"))
        }
        (Overlap::QueueOne, [first, .., last]) => OverlapVerdict::Skip(format!(
            "job {first} is not over and job {last} waits for it already"
        )),
        (Overlap::QueueAll, [first, ..]) if live.len() >= MAX_BACKLOG => {
            OverlapVerdict::Skip(format!(
                "backlog: {} jobs of this schedule are not over, the oldest is {first}",
                live.len()
            ))
        }
        // All of them, not only the last: a cancelled job is over before those it waited for.
        (Overlap::QueueOne | Overlap::QueueAll, _) => OverlapVerdict::EnqueueAfter(live.to_vec()),
        (Overlap::CancelPrevious, _) => OverlapVerdict::CancelThenEnqueueAfter(live.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_each_overlap_policy_says_what_becomes_of_the_instant() {
        let jobs = |count: i64| (1..=count).map(JobId).collect::<Vec<_>>();
        let (none, one, two) = (jobs(0), jobs(1), jobs(2));
        for policy in [
            Overlap::Skip,
            Overlap::QueueOne,
            Overlap::QueueAll,
            Overlap::CancelPrevious,
            Overlap::Allow,
        ] {
            assert_eq!(overlap(policy, &none), OverlapVerdict::Enqueue, "{policy:?}");
        }
        assert!(
            matches!(overlap(Overlap::Skip, &one), OverlapVerdict::Skip(why) if why.contains("job 1"))
        );
        assert_eq!(overlap(Overlap::QueueOne, &one), OverlapVerdict::EnqueueAfter(one.clone()));
        assert!(matches!(overlap(Overlap::QueueOne, &two), OverlapVerdict::Skip(_)));
        assert_eq!(overlap(Overlap::QueueAll, &two), OverlapVerdict::EnqueueAfter(two.clone()));
        let full = jobs(100);
        assert!(
            matches!(overlap(Overlap::QueueAll, &full), OverlapVerdict::Skip(why) if why.starts_with("backlog"))
        );
        assert_eq!(
            overlap(Overlap::CancelPrevious, &two),
            OverlapVerdict::CancelThenEnqueueAfter(two.clone())
        );
        assert_eq!(overlap(Overlap::Allow, &two), OverlapVerdict::Enqueue);
    }
}
