//! Holds what happened against what must be true: nothing is lost, nothing is doubled, nothing surprises.

mod audit;
mod following;
mod jobs;
mod ledger;
mod queues;

use std::sync::PoisonError;

use super::evidence::Evidence;
use super::history::History;

/// Everything that is wrong, in words; empty when all is well. The final rows go into the trace.
pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let history = History::read(&evidence.notes.database);
    history.tell(&evidence.notes.trace);
    let mut wrong = Wrong::default();
    for left in &history.leftovers {
        wrong.say(format!("left over at the end: {}", left.what));
    }
    let log = evidence.notes.log.lock().unwrap_or_else(PoisonError::into_inner);
    wrong.0.extend(log.wrong.iter().cloned());
    let promises = evidence.notes.promises.lock().unwrap_or_else(PoisonError::into_inner);
    let files = evidence.notes.files.lock().unwrap_or_else(PoisonError::into_inner);
    jobs::check(&history, &log, &promises, &mut wrong);
    queues::check(&history, &files, &evidence.notes.trace, &mut wrong);
    following::check(&history, evidence, &mut wrong);
    // One that did not come to its end has more to decide and more to write.
    if let Some(settled) = &evidence.settled {
        ledger::check(&history, &files, evidence, settled, &mut wrong);
        audit::check(&history, evidence, &mut wrong);
    }
    wrong.0
}

/// What is wrong.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn say(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}
