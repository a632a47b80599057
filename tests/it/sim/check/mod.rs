//! Holds what happened against what must be true: nothing is lost, nothing is doubled, nothing surprises.

mod audit;
mod following;
mod jobs;
mod ledger;
mod queues;

use std::sync::PoisonError;

use super::history::History;
use super::world::{SLOTS, World};

/// Everything that is wrong, in words; empty when all is well. The final rows go into the trace.
pub(super) fn check(world: &World) -> Vec<String> {
    let history = History::read(&world.database());
    history.tell(&world.trace);
    let mut wrong = Wrong::default();
    for left in &history.leftovers {
        wrong.say(format!("left over at the end: {}", left.what));
    }
    let log = world.log.lock().unwrap_or_else(PoisonError::into_inner);
    wrong.0.extend(log.wrong.iter().cloned());
    wrong.unless(log.most_at_once <= SLOTS.into(), || {
        format!("{} attempts ran at once on {SLOTS} workers", log.most_at_once)
    });
    let promises = world.promises.lock().unwrap_or_else(PoisonError::into_inner);
    let files = world.files.lock().unwrap_or_else(PoisonError::into_inner);
    jobs::check(&history, &log, &promises, &mut wrong);
    queues::check(&history, &files, &world.trace, &mut wrong);
    following::check(&history, world, &mut wrong);
    // One that did not come to its end has more to decide and more to write.
    if let Some(settled) = &world.settled {
        ledger::check(&history, &files, world, settled, &mut wrong);
        audit::check(&history, world, &mut wrong);
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
