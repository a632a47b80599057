//! What a job can be.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a job can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The file that declares it; none for those of the program.
    pub file: Option<String>,
    /// The lane its jobs wait in unless they say otherwise.
    pub queue: Option<String>,
    /// How urgent they are unless they say otherwise, 1 to 10.
    pub priority: Option<u8>,
    /// The longest one attempt may take unless they say otherwise.
    pub timeout: Option<String>,
    /// How many attempts they have in all unless they say otherwise.
    pub max_attempts: Option<u32>,
    /// How many may run at once, unless an operator has set another limit.
    pub concurrency: Option<u32>,
    /// How fast its jobs may start, unless an operator has set another rate.
    pub rate: Option<String>,
    /// After how many failures nothing of it starts for a while, unless an operator has set another breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// How a batch of it runs: `each`, a job for each item, or `all`, one run for all of them; where a file declares the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<String>,
    /// JSON Schema of its params, where one kind was asked for and a file declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params_schema: Option<Value>,
}
