//! What becomes of instants that nobody acted on in time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::due::Verdict;
use crate::model::HumanDuration;
use crate::schedule::{CatchUp, CatchUpPolicy};

/// A due instant that nothing rules out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) nominal_at: Timestamp,
    pub(super) fire_at: Timestamp,
    /// Whether it is on time.
    pub(super) fresh: bool,
}

/// What a passed instant lacked, where the cause is not known any closer.
const NOT_IN_TIME: &str =
    "nobody could act on it in time (the daemon was down, the machine asleep, or the clock jumped)";

/// The verdicts on all due instants of one schedule, oldest first.
///
/// One instant on time is simply due. Several at once, or a late one, are what the policy is for: at most one run
/// unless it says `all`.
pub(super) fn verdicts(
    catch_up: &CatchUp,
    candidates: &[Candidate],
    now: Timestamp,
) -> Vec<(Verdict, String)> {
    let Some((newest, before)) = candidates.split_last() else { return Vec::new() };
    if before.is_empty() && newest.fresh {
        return vec![(Verdict::Enqueue, "due".to_owned())];
    }
    match catch_up.policy {
        CatchUpPolicy::None => none(newest, before, now),
        CatchUpPolicy::Latest => latest(catch_up, newest, before, now),
        CatchUpPolicy::All => all(catch_up, candidates, now),
    }
}

fn none(newest: &Candidate, before: &[Candidate], now: Timestamp) -> Vec<(Verdict, String)> {
    let missed = || (Verdict::Missed, format!("{NOT_IN_TIME}, and catch_up is none"));
    let last = if newest.fresh { (Verdict::Enqueue, late(newest, now)) } else { missed() };
    before.iter().map(|_| missed()).chain([last]).collect()
}

fn latest(
    catch_up: &CatchUp,
    newest: &Candidate,
    before: &[Candidate],
    now: Timestamp,
) -> Vec<(Verdict, String)> {
    if let Some(window) = outside_window(catch_up, newest, now) {
        // The others are older still.
        return before.iter().chain([newest]).map(|_| too_old(window)).collect();
    }
    let coalesced =
        || (Verdict::Coalesced, format!("the run of {} stands for it too", newest.nominal_at));
    let reason = match before.len() {
        0 => late(newest, now),
        others => format!("{}; it stands for {others} earlier as well", late(newest, now)),
    };
    before.iter().map(|_| coalesced()).chain([(Verdict::Enqueue, reason)]).collect()
}

fn all(catch_up: &CatchUp, candidates: &[Candidate], now: Timestamp) -> Vec<(Verdict, String)> {
    let max = usize::try_from(catch_up.max).unwrap_or(usize::MAX);
    let newer = (0..candidates.len()).rev();
    candidates
        .iter()
        .zip(newer)
        .map(|(candidate, newer)| match outside_window(catch_up, candidate, now) {
            Some(window) => too_old(window),
            None if newer >= max => {
                let reason = format!("{NOT_IN_TIME}, and more than catch_up_max = {max} waited");
                (Verdict::Missed, reason)
            }
            None => (Verdict::Enqueue, late(candidate, now)),
        })
        .collect()
}

/// The window, where the candidate lies outside it. What is on time is never too old.
fn outside_window(catch_up: &CatchUp, candidate: &Candidate, now: Timestamp) -> Option<Duration> {
    let lateness = now.duration_since(candidate.fire_at);
    let exceeded =
        |window: &Duration| SignedDuration::try_from(*window).is_ok_and(|window| lateness > window);
    catch_up.window.filter(exceeded).filter(|_| !candidate.fresh)
}

fn too_old(window: Duration) -> (Verdict, String) {
    let window = HumanDuration(window);
    (Verdict::Missed, format!("{NOT_IN_TIME}, and it is older than catch_up_window = {window}"))
}

fn late(candidate: &Candidate, now: Timestamp) -> String {
    match now.duration_since(candidate.fire_at).as_secs() {
        ..=0 => "due".to_owned(),
        seconds => format!("due, {} late", HumanDuration::from_secs(seconds.unsigned_abs())),
    }
}

/// What is said of instants too many for a row each, given the verdict on the newest of all.
pub(super) fn summary(
    newest: Option<&(Verdict, String)>,
    policy: CatchUpPolicy,
) -> (Verdict, String) {
    match (policy, newest) {
        (CatchUpPolicy::Latest, Some((Verdict::Enqueue, _))) => {
            (Verdict::Coalesced, "the newest run stands for them too".to_owned())
        }
        _ => (Verdict::Missed, format!("{NOT_IN_TIME}, and they were too many to run")),
    }
}
