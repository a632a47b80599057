//! What came of an order for each job, in words that say what to do next.

use super::super::wire::Touched;
use crate::model::JobState;
use crate::store::by_hand::{Came, Order};
use crate::store::dependencies::Hopeless;
use crate::store::history::Among;

/// What a job is answered with.
pub(super) fn touch(order: Order, id: i64, came: &Came) -> Touched {
    let (word, detail) = match came {
        Came::Done => ("done", done(order).to_owned()),
        Came::Blocked => {
            ("done", "blocked again until what it depends on has been done".to_owned())
        }
        Came::Requested => ("requested", "its running attempt was told to stop".to_owned()),
        Came::AlreadyOver => ("already_over", "it was over already".to_owned()),
        Came::NotNow(state) => ("not_now", format!("it is {state}; {}", why_not(order, *state))),
        Came::ItemLives(item) => {
            ("not_now", format!("its item's job {item} is not over; cancel that first"))
        }
        Came::InPart(items, why) => {
            let why = touch(order, id, why).detail;
            ("not_now", format!("{why}; {items} of its items are deleted already"))
        }
        Came::Hopeless(why) => ("not_now", hopeless(why)),
        Came::WaitedFor(waiting) => (
            "not_now",
            format!(
                "job {waiting} waits for it, for its batch or for an item of it; cancel that one first"
            ),
        ),
        Came::ReplacedBy(job) => {
            ("not_now", format!("job {job} does its work with other params; retry that one"))
        }
        Came::KeyTakenBy(job) => {
            ("not_now", format!("job {job} has its unique key now; when that is over, try again"))
        }
        Came::Unknown => ("unknown", format!("there is no job {id}")),
    };
    let replaced_by = match came {
        Came::ReplacedBy(job) => Some(job.0),
        _ => None,
    };
    Touched { id, result: word.to_owned(), detail, replaced_by }
}

/// What to do first about a job that depends on others.
fn hopeless(why: &Hopeless) -> String {
    match why {
        Hopeless::Ended(on, state) => {
            format!("job {on}, which it depends on, is {state}; retry that first")
        }
        Hopeless::NoneOf(last) => format!(
            "none of the jobs of which one must complete will, the last of them is job {last}; retry one of them first"
        ),
        Hopeless::Gone(on) => format!(
            "job {on}, which must complete before it, does not exist any more; submit the work again without it"
        ),
    }
}

fn done(order: Order) -> &'static str {
    match order {
        Order::Cancel => "cancelled before it ran",
        Order::Retry => "pending again",
        Order::Drop => "deleted",
        Order::Reprioritise(_) => "has the new priority",
    }
}

/// Why it was not done to a job in that state.
fn why_not(order: Order, state: JobState) -> &'static str {
    if order.possible().contains(&Among::State(state)) {
        return "it was chosen in another state and left alone";
    }
    possible(order)
}

/// To which jobs it can be done.
pub(super) fn possible(order: Order) -> &'static str {
    match order {
        Order::Cancel => "only jobs that are not over can be cancelled",
        Order::Retry => "failed, cancelled and retrying jobs can be retried",
        Order::Drop => "only jobs that are over can be dropped, cancel it first",
        Order::Reprioritise(_) => {
            "pending, retrying and blocked jobs can be given another priority, a running one keeps its own"
        }
    }
}
