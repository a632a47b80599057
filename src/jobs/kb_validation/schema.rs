//! JSON Schema, all drafts, with references to files below the root and nowhere else.

mod explain;
mod files;

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::Validator;
use serde_json::Value;

use super::finding::Findings;
use super::path;
use super::root::{ReadError, Root};
use super::text::Lines;
use super::tree::Tree;
use files::{SchemaFiles, Sources};

/// The largest schema that is read.
const MAX_SCHEMA_BYTES: u64 = 16 << 20;

/// A document that does not fit at all can have more errors than anybody reads.
const MAX_ERRORS: usize = 1000;

/// The schemas of a run, each compiled once.
#[derive(Debug)]
pub(super) struct Schemas {
    root: Root,
    compiled: BTreeMap<String, Option<Schema>>,
}

/// A compiled schema.
pub(super) struct Schema {
    validator: Validator,
    /// Of the schema and everything it refers to; another digest means that files have to be checked again.
    pub(super) digest: String,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("the schema {path} cannot be read: {source}")]
    Unreadable { path: String, source: ReadError },
    #[error("the schema {path} is not JSON: {source}")]
    NotJson { path: String, source: serde_json::Error },
    #[error("the schema {path} cannot be used: {message}")]
    Unusable { path: String, message: String },
}

impl Schemas {
    pub(super) const fn new(root: Root) -> Self {
        Self { root, compiled: BTreeMap::new() }
    }

    /// Compiles a schema unless that has been done. Says whether there is one.
    pub(super) fn load(&mut self, path: &str) -> Result<bool, SchemaError> {
        if !self.compiled.contains_key(path) {
            let schema = compile(&self.root, path)?;
            self.compiled.insert(path.to_owned(), schema);
        }
        Ok(self.get(path).is_some())
    }

    /// A schema that was loaded before.
    pub(super) fn get(&self, path: &str) -> Option<&Schema> {
        self.compiled.get(path)?.as_ref()
    }
}

fn compile(root: &Root, path: &str) -> Result<Option<Schema>, SchemaError> {
    let sources = Sources::default();
    let document = match files::read(root, path, &sources) {
        Ok(document) => document,
        Err(files::Problem::Read(ReadError::Gone)) => return Ok(None),
        Err(files::Problem::Read(source)) => {
            return Err(SchemaError::Unreadable { path: path.to_owned(), source });
        }
        Err(files::Problem::Parse(source)) => {
            return Err(SchemaError::NotJson { path: path.to_owned(), source });
        }
    };
    let unusable = |message: String| SchemaError::Unusable { path: path.to_owned(), message };
    let validator = jsonschema::options()
        .with_base_uri(files::uri(path))
        .with_retriever(SchemaFiles::new(root.clone(), path::folder(path), sources.clone()))
        .build(&document)
        .map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { place } else { format!(" at {place}") };
            unusable(format!("{error}{place}"))
        })?;
    Ok(Some(Schema { validator, digest: sources.digest() }))
}

impl Schema {
    /// Holds a document against the schema.
    pub(super) fn check(
        &self,
        tree: &Tree,
        document: &Value,
        lines: &Lines<'_>,
        findings: &mut Findings<'_>,
    ) {
        for error in self.validator.iter_errors(document).take(MAX_ERRORS) {
            for report in explain::explain(&error, tree, lines) {
                findings.add(report);
            }
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema").field("digest", &self.digest).finish_non_exhaustive()
    }
}
