//! Submissions that wait for the writer together are written together.
//!
//! A group of the write lane shares a commit, but each of its operations has statements of its own, and on PostgreSQL each
//! statement is a round trip. So submissions that stand next to each other in the lane become one operation, with a statement a table for
//! all of them. Each caller has its own answer: where one of them is refused, the lane rolls back and runs them again, each by itself.

use std::any::Any;
use std::sync::Arc;

use diesel::connection::Connection;
use tokio::sync::oneshot;

use super::condition::Fault;
use super::jobs::{Call, SubmitContext, Submitted, submit, submit_calls};
use super::lane::{Class, Operation};
use super::{Answer, Conn, StoreError, did_not_end};
use crate::model::NewJob;

/// Where the answer to a submission goes. The jobs go there as well, for the caller to drop.
pub(super) type Caller = oneshot::Sender<Answer<Vec<Submitted>, Arc<Vec<NewJob>>>>;

/// One or several submissions.
pub(super) struct Submissions {
    all: Vec<Submission>,
    /// Why they could not be written together the last time that was tried.
    trouble: Option<StoreError>,
}

struct Submission {
    jobs: Arc<Vec<NewJob>>,
    context: SubmitContext,
    answer: Option<Result<Vec<Submitted>, StoreError>>,
    caller: Caller,
}

impl Submissions {
    pub(super) fn one(jobs: Arc<Vec<NewJob>>, context: SubmitContext, caller: Caller) -> Self {
        Self { all: vec![Submission { jobs, context, answer: None, caller }], trouble: None }
    }

    fn troubles(&self) -> impl Iterator<Item = &StoreError> {
        let own = self.all.iter().filter_map(|one| one.answer.as_ref()?.as_ref().err());
        own.chain(&self.trouble)
    }
}

impl Operation for Submissions {
    fn run(&mut self, conn: &mut Conn) -> bool {
        let calls: Vec<Call<'_>> =
            self.all.iter().map(|one| Call { jobs: &one.jobs, context: one.context }).collect();
        match submit_calls(conn, &calls) {
            Ok(submitted) => {
                for (one, submitted) in self.all.iter_mut().zip(submitted) {
                    one.answer = Some(Ok(submitted));
                }
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error),
        }
        self.trouble.is_none()
    }

    fn run_apart(&mut self, conn: &mut Conn) -> bool {
        self.trouble = None;
        for one in &mut self.all {
            one.answer = Some(conn.transaction(|conn| submit(conn, &one.jobs, one.context)));
        }
        true
    }

    fn take_up(&mut self, next: Box<dyn Operation>) -> Option<Box<dyn Operation>> {
        let is_another: &dyn Any = &*next;
        if !is_another.is::<Self>() {
            return Some(next);
        }
        let another: Box<dyn Any> = next;
        if let Ok(another) = another.downcast::<Self>() {
            self.all.extend(another.all);
        }
        None
    }

    fn fault(&self) -> Option<&Fault> {
        self.troubles().find_map(StoreError::fault)
    }

    fn is_in_the_way(&self) -> bool {
        self.troubles().any(|trouble| matches!(trouble, StoreError::Busy))
    }

    fn class(&self) -> Class {
        Class::Plain
    }

    fn answer(self: Box<Self>, hindrance: Option<StoreError>) {
        // What is wrong below the database is wrong for all of them, and says more than that the group was given up.
        let fault = self.fault().cloned();
        for Submission { jobs, answer, caller, .. } in self.all {
            let answer = match (&hindrance, &fault) {
                (Some(_), Some(fault)) => Err(fault.clone().into()),
                (Some(hindrance), None) => Err(hindrance.of_the_group()),
                (None, _) => answer.unwrap_or_else(|| Err(did_not_end())),
            };
            // A caller that has gone away no longer wants to know.
            let _gone = caller.send((answer, jobs));
        }
    }
}
