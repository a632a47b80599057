//! Params that a JSON Schema describes.

use std::fmt;

use jsonschema::paths::LocationSegment;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use super::{Problem, Segment};

/// Params that do not fit at all can have more errors than anybody reads.
const MAX_ERRORS: usize = 50;

/// A value longer than this is left out of the message.
const MAX_VALUE_CHARS: usize = 60;

/// A compiled schema, with the document it came from.
pub struct Schema {
    document: Value,
    validator: Validator,
}

impl Schema {
    /// Compiles a schema. It refers to nothing outside itself; patterns take time in proportion to the text they are held against,
    /// because whoever submits a job chooses the text.
    ///
    /// # Errors
    /// What is wrong with it, and where in the document.
    pub fn new(document: Value) -> Result<Self, Problem> {
        let built = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true)
            .build(&document)
            .map_err(|error| problem(&error));
        Ok(Self { validator: built?, document })
    }

    /// As it was written.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Everything that is wrong with a value.
    #[must_use]
    pub fn check(&self, value: &Value) -> Vec<Problem> {
        self.validator.iter_errors(value).take(MAX_ERRORS).map(|error| problem(&error)).collect()
    }
}

/// What is wrong, without a value that is too long to be repeated.
pub(crate) fn told(error: &ValidationError<'_>) -> String {
    if is_short(error.instance()) {
        error.to_string()
    } else {
        error.masked_with("the value").to_string()
    }
}

fn problem(error: &ValidationError<'_>) -> Problem {
    let message = told(error);
    let path = error.instance_path().segments().map(|segment| match segment {
        LocationSegment::Property(name) => Segment::Key(name.into_owned()),
        LocationSegment::Index(index) => Segment::Index(index),
    });
    Problem { path: path.collect(), ..Problem::at("", message) }
}

fn is_short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.chars().nth(MAX_VALUE_CHARS).is_none(),
        Value::Array(_) | Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("document", &self.document).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(schema: Value, value: &Value) -> Vec<String> {
        let found = Schema::new(schema).unwrap().check(value);
        found.iter().map(|problem| format!("{} {}", problem.pointer(), problem.message)).collect()
    }

    #[test]
    fn everything_wrong_is_told_with_its_place() {
        let schema = json!({
            "type": "object", "required": ["source"], "additionalProperties": false,
            "properties": {
                "source": { "type": "string" },
                "pages": { "type": "array", "items": { "type": "integer", "minimum": 1 } },
                "at": { "type": "string", "format": "date-time" },
            },
        });
        let wrong = json!({ "pages": [1, 0, "x"], "at": "yesterday", "b": 1 });
        insta::assert_debug_snapshot!(told(schema, &wrong));
    }

    #[test]
    fn long_values_are_not_repeated() {
        let long = "x".repeat(1000);
        let told = told(
            json!({ "type": "object", "properties": { "a": { "maxLength": 3 } } }),
            &json!({ "a": long }),
        );
        assert!(told[0].len() < 100, "{told:?}");
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_refused_with_its_place() {
        let problem =
            Schema::new(json!({ "properties": { "a": { "type": "strin" } } })).unwrap_err();
        assert_eq!(problem.pointer(), "/properties/a/type");
    }

    #[test]
    fn a_schema_reads_nothing_from_outside() {
        for reference in ["https://example.com/x.json", "file:///etc/passwd"] {
            assert!(Schema::new(json!({ "$ref": reference })).is_err(), "{reference}");
        }
    }

    #[test]
    fn a_pattern_cannot_take_for_ever() {
        // Look-around and back-references are what backtracking engines need exponential time for; the linear one refuses them.
        assert!(Schema::new(json!({ "pattern": "(a+)+\\1" })).is_err());
        let schema = Schema::new(json!({ "pattern": "^(a+)+$" })).unwrap();
        assert_eq!(schema.check(&json!(format!("{}!", "a".repeat(50_000)))).len(), 1);
    }
}
