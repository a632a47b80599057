//! A job as a program asks for it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::wire::{DependsOn, Item, Needs, Submission};
use crate::model::{DependencyNeeds, HumanDuration, JobId, Priority};

/// A job to submit: what it does, and what is to be different from the defaults. It is checked when it is submitted, by the rules that hold
/// for submissions over HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct Job(pub(super) Submission);

impl Job {
    /// A job of a kind. Params are an object; what may be in it is up to the kind's handler.
    #[must_use]
    pub fn new(kind: impl Into<String>, params: Value) -> Self {
        Self(Submission { kind: kind.into(), params, ..Submission::default() })
    }

    /// How urgent it is.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.0.priority = Some(json!(priority));
        self
    }

    /// The lane that it waits in; `default`.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.0.queue = Some(queue.into());
        self
    }

    /// Not before then.
    #[must_use]
    pub fn run_at(mut self, at: Timestamp) -> Self {
        self.0.run_at = Some(at.to_string());
        self
    }

    /// A mark to find it by.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.labels.insert(key.into(), value.into());
        self
    }

    /// At most one live job with this key: a second submission is answered with the first one's job.
    #[must_use]
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.0.unique = Some(key.into());
        self
    }

    /// How often it may be tried in all.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.0.max_attempts = Some(attempts);
        self
    }

    /// The longest that one attempt may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = Some(HumanDuration(timeout).to_string());
        self
    }

    /// Another job must complete first; if it does not, this one is cancelled.
    #[must_use]
    pub fn after(mut self, job: JobId) -> Self {
        self.0.depends_on.push(DependsOn::Job(job.0));
        self
    }

    /// The same for a job of the same call, by its place in it from 0.
    #[must_use]
    pub fn after_earlier(mut self, index: usize) -> Self {
        let needs = Needs { job: None, index: Some(index), needs: DependencyNeeds::Success };
        self.0.depends_on.push(DependsOn::Needs(needs));
        self
    }

    /// Makes it a batch, with an item of this name. Each item is a job of its own, with its params over those of the batch; the batch is over
    /// when all of them are.
    #[must_use]
    pub fn item(mut self, name: impl Into<String>, params: Value) -> Self {
        let item = Item::WithParams { name: name.into(), params: Some(params) };
        self.0.items.get_or_insert_default().push(item);
        self
    }
}
