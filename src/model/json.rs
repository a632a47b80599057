//! JSON values that are kept, as text.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
use serde_json::Value;
use serde_json::value::RawValue;

/// How deep lists and objects in JSON from outside may be inside each other: in params, and in what a program says or a handler answers.
///
/// On its way it is wrapped several times, in a message to another process or an answer of the API, and each reader refuses what is
/// deeper than 128. What could not be read any more must not be taken in.
pub const MAX_JSON_LEVELS: usize = 64;

/// Whether a value has lists and objects inside each other that are more than so many levels.
#[must_use]
pub fn nests_deeper(value: &Value, levels: usize) -> bool {
    let is_deeper = |inner: &Value| nests_deeper(inner, levels - 1);
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => true,
        Value::Array(values) => values.iter().any(is_deeper),
        Value::Object(fields) => fields.values().any(is_deeper),
        _ => false,
    }
}

/// A JSON value as its text: a tree of a few fields takes ten times the memory, and what is kept for long or on its way into the
/// database is not looked into. A copy shares the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(Arc<str>);

impl JsonText {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value that it is the text of.
    #[must_use]
    pub fn value(&self) -> Value {
        // Only a value can become a `JsonText`, so there is nothing to report.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl From<&Value> for JsonText {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

/// As the value, not as a text.
impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::from(&value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..8).prop_map(|map| json!(map)),
            ]
        })
    }

    #[test]
    fn levels_are_counted_where_a_value_is_deepest() {
        let nested =
            |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([0, { "a": inner }]));
        for (value, levels) in [(json!("[[["), 0), (json!([]), 1), (json!({"a": 1, "b": []}), 2)] {
            assert!(!nests_deeper(&value, levels), "{value}");
            assert!(levels == 0 || nests_deeper(&value, levels - 1), "{value}");
        }
        assert!(!nests_deeper(&nested(MAX_JSON_LEVELS / 2), MAX_JSON_LEVELS));
        assert!(nests_deeper(&json!([nested(MAX_JSON_LEVELS / 2)]), MAX_JSON_LEVELS));
    }

    proptest! {
        #[test]
        fn every_value_reads_back_as_it_was(value in any_value()) {
            prop_assert_eq!(JsonText::from(&value).value(), value);
        }
    }
}
