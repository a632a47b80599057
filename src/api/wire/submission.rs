//! What is submitted.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{Concurrency, DependencyNeeds, NodeChoice, OnDependencyFailure};

/// A job to be submitted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// What it does.
    pub kind: String,
    /// For the kind: the fields of its table in a schedule file.
    #[serde(default)]
    pub params: Value,
    /// low, normal, high, critical or 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Value>,
    /// The lane it waits in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Not before then: RFC 3339, or how long from now by the daemon's clock (`2h`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    /// Charged attempts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// `{"backoff": "exponential" | "fixed" | "delays", …}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Value>,
    /// The longest one attempt may take: `90s`, `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// The longest all attempts and the waits between them may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_timeout: Option<String>,
    /// At most one live job with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<String>,
    /// How long after its submission a job holds the key, live or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_period: Option<String>,
    /// At most `max` jobs of that `key` at once, on all nodes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub concurrency: Option<Concurrency>,
    /// `any` node runs it, `every` node does, the one of a name, or one with a label (`label:gpu`).
    #[serde(default, skip_serializing_if = "is_any")]
    #[schema(value_type = String)]
    pub node: NodeChoice,
    /// Marks to find it by.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Jobs that must come first: a number is a job that must complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<DependsOn>,
    /// What becomes of it when a job that must complete ends otherwise: `cancel` it, `run` it all the same, or let it `wait` until that
    /// one is tried again and completes.
    #[serde(default, skip_serializing_if = "OnDependencyFailure::is_default")]
    #[schema(value_type = String)]
    pub on_dependency_failure: OnDependencyFailure,
    /// Makes it a batch: each item is a job of its own, with its params over those of the batch, or, where the kind says so, one run does all of
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Item>>,
    /// Plan and report, change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

fn is_any(choice: &NodeChoice) -> bool {
    *choice == NodeChoice::Any
}

/// A job that must come first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum DependsOn {
    /// This job must complete.
    Job(i64),
    /// With what is needed of it.
    Needs(Needs),
}

/// By hand, as for an [`Item`].
impl<'de> Deserialize<'de> for DependsOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DependsOnVisitor)
    }
}

struct DependsOnVisitor;

impl<'de> Visitor<'de> for DependsOnVisitor {
    type Value = DependsOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a job: its number, or an object with `job` or `index`, and `needs`")
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<DependsOn, E> {
        Ok(DependsOn::Job(id))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<DependsOn, E> {
        match i64::try_from(id) {
            Ok(id) => Ok(DependsOn::Job(id)),
            Err(_too_large) => Err(E::invalid_value(Unexpected::Unsigned(id), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<DependsOn, A::Error> {
        Needs::deserialize(MapAccessDeserializer::new(fields)).map(DependsOn::Needs)
    }
}

/// What is needed of another job, which is named by its number or by its place in the same call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<i64>,
    /// Its place in the list that is submitted, from 0; before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// `success`: it must complete. `finished`: it must be over, however it ended. `any`: of all that are needed so, one must complete.
    #[serde(default = "success")]
    #[schema(value_type = String)]
    pub needs: DependencyNeeds,
}

fn success() -> DependencyNeeds {
    DependencyNeeds::Success
}

/// An item of a batch that is submitted: its name alone, or with params of its own.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Item {
    /// Its name.
    Name(String),
    /// Its name and what it has of its own.
    WithParams {
        /// Its name.
        name: String,
        /// Over the batch's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params: Option<Value>,
    },
}

/// By hand, because what serde says of an untagged enum names neither the key that is wrong nor what an item is.
impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item: its name, or an object with `name` and `params`")
    }

    fn visit_str<E>(self, name: &str) -> Result<Item, E> {
        Ok(Item::Name(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Item, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct WithParams {
            name: String,
            params: Option<Value>,
        }
        let WithParams { name, params } =
            WithParams::deserialize(MapAccessDeserializer::new(fields))?;
        Ok(Item::WithParams { name, params })
    }
}
