//! What a job can be: the one visible list of built-in kinds, and what is known of any kind.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::{Declared, ItemRuns, Problem, Segment};
use crate::model::{
    Breaker, HumanDuration, MAX_JSON_LEVELS, Priority, Rate, RetryPolicy, nests_deeper,
};

/// What is known of a kind before anything of it runs.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its name, which is also the name of its table in a schedule file.
    pub name: Cow<'static, str>,
    /// What it does, in half a sentence.
    pub summary: Cow<'static, str>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a kind comes from, and with it who knows what its params may be.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Code of this program, which finds everything wrong in its params.
    BuiltIn(fn(&Value) -> Vec<Problem>),
    /// A file in `kinds.dirs`.
    File(Arc<Declared>),
}

/// What a kind gives to jobs that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobDefaults {
    /// The lane they wait in.
    pub queue: Option<String>,
    /// How urgent they are.
    pub priority: Option<Priority>,
    /// The longest one attempt may take.
    pub timeout: Option<HumanDuration>,
    /// How often they are tried.
    pub retry: Option<RetryPolicy>,
    /// How many of the kind may run at once, on all nodes together.
    pub concurrency: Option<u32>,
    /// How fast jobs of the kind may start, on all nodes together.
    pub rate: Option<Rate>,
    /// After how many failures none of them starts for a while.
    pub breaker: Option<Breaker>,
}

impl JobDefaults {
    const NONE: &'static Self = &Self {
        queue: None,
        priority: None,
        timeout: None,
        retry: None,
        concurrency: None,
        rate: None,
        breaker: None,
    };

    /// These, and from `others` what jobs get themselves and these leave out.
    #[must_use]
    pub fn or(self, others: &Self) -> Self {
        Self {
            queue: self.queue.or_else(|| others.queue.clone()),
            priority: self.priority.or(others.priority),
            timeout: self.timeout.or(others.timeout),
            retry: self.retry.or_else(|| others.retry.clone()),
            ..self
        }
    }
}

impl Kind {
    /// A kind that is code of this program.
    #[must_use]
    pub const fn built_in(
        name: &'static str,
        summary: &'static str,
        check: fn(&Value) -> Vec<Problem>,
    ) -> Self {
        Self {
            name: Cow::Borrowed(name),
            summary: Cow::Borrowed(summary),
            origin: Origin::BuiltIn(check),
        }
    }

    /// Everything that is wrong with params for it.
    #[must_use]
    pub fn check(&self, params: &Value) -> Vec<Problem> {
        // serde reads a list as the fields of an object, by their order.
        if !params.is_object() {
            return vec![Problem::at("", "params are an object")];
        }
        // Before the others and alone: they may repeat what is wrong.
        if let Some(problem) = depth_problem(params) {
            return vec![problem];
        }
        match &self.origin {
            Origin::BuiltIn(check) => check(params),
            Origin::File(declared) => {
                let mut problems = declared.check(params);
                problems.extend(taken_name(declared, params));
                problems
            }
        }
    }

    /// What it gives to jobs that do not say otherwise.
    #[must_use]
    pub fn defaults(&self) -> &JobDefaults {
        match &self.origin {
            Origin::BuiltIn(_) => JobDefaults::NONE,
            Origin::File(declared) => &declared.defaults,
        }
    }

    /// What its file declares; none for a built-in kind.
    #[must_use]
    pub fn declared(&self) -> Option<&Arc<Declared>> {
        match &self.origin {
            Origin::BuiltIn(_) => None,
            Origin::File(declared) => Some(declared),
        }
    }
}

/// The field of params that is nested too deep.
fn depth_problem(params: &Value) -> Option<Problem> {
    if !nests_deeper(params, MAX_JSON_LEVELS) {
        return None;
    }
    let too_deep = |(_, value): &(&String, &Value)| nests_deeper(value, MAX_JSON_LEVELS - 1);
    let field = params.as_object().and_then(|fields| fields.iter().find(too_deep));
    let path = field.map(|(name, _)| Segment::Key(name.clone())).into_iter().collect();
    let message = format!(
        "params may have {MAX_JSON_LEVELS} lists and objects inside each other, and here are more"
    );
    Some(Problem { path, ..Problem::at("", message) })
}

/// A param that would be lost: where one run does all items, the program gets them under its name.
fn taken_name(declared: &Declared, params: &Value) -> Option<Problem> {
    let is_taken = declared.items == ItemRuns::All && params.get("items").is_some();
    is_taken.then(|| {
        Problem::at(
            "items",
            "the program gets the items of a batch as `items`, so no param can be called that",
        )
    })
}

/// Every built-in kind.
pub static KINDS: &[Kind] = &[
    super::cleanup::KIND,
    super::command::KIND,
    super::data_sync::KIND,
    super::http::KIND,
    super::kb_validation::KIND,
    super::stats_report::KIND,
];

/// The kind of that name among `kinds`.
#[must_use]
pub fn kind<'a>(kinds: &'a [Kind], name: &str) -> Option<&'a Kind> {
    kinds.iter().find(|kind| kind.name == name)
}
