//! JSON, YAML and TOML after parsing, as one tree that remembers where everything was.
//!
//! Rules about structure are written once against this tree. It is built from input of limited depth only, so walking
//! it by recursion is safe.

use serde_json::{Map, Number, Value};

/// A value and the byte where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tree {
    pub(super) offset: usize,
    pub(super) node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<Field>),
}

/// An entry of a map, in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) value: Tree,
}

impl Tree {
    /// The same as JSON. Of a key that comes twice the last one counts, as in most readers.
    pub(super) fn to_json(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(value) => Value::Bool(*value),
            Node::Number(number) => Value::Number(number.clone()),
            Node::Text(text) => Value::String(text.clone()),
            Node::List(items) => items.iter().map(Self::to_json).collect(),
            Node::Map(fields) => {
                let entries = fields.iter().map(|field| (field.key.clone(), field.value.to_json()));
                Value::Object(entries.collect::<Map<String, Value>>())
            }
        }
    }

    /// The field of that name, where this is a map. Of a key that comes twice, the last one.
    pub(super) fn field(&self, key: &str) -> Option<&Self> {
        match &self.node {
            Node::Map(fields) => {
                fields.iter().rev().find(|field| field.key == key).map(|field| &field.value)
            }
            _ => None,
        }
    }

    /// The item at that place, where this is a list.
    pub(super) fn item(&self, index: usize) -> Option<&Self> {
        match &self.node {
            Node::List(items) => items.get(index),
            _ => None,
        }
    }
}
