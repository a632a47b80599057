//! Where schemas and what they refer to come from.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::{Retrieve, Uri};
use serde_json::Value;

use super::MAX_SCHEMA_BYTES;
use crate::jobs::kb_validation::path;
use crate::jobs::kb_validation::root::{ReadError, Root};

/// Stands for the root in the address of a schema.
const SCHEME: &str = "kb:///";

/// The address of a file below the root, against which its references are resolved.
pub(super) fn uri(path: &str) -> String {
    format!("{SCHEME}{}", path::percent_encoded(path))
}

/// Everything a schema was made of, with its hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(Arc<Mutex<BTreeMap<String, blake3::Hash>>>);

impl Sources {
    fn add(&self, path: &str, bytes: &[u8]) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources.insert(path.to_owned(), blake3::hash(bytes));
    }

    /// One hash of all of it.
    pub(super) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for (path, hash) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Why a file is no schema.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Parse(serde_json::Error),
}

/// Reads a schema and remembers that it was used.
pub(super) fn read(root: &Root, path: &str, sources: &Sources) -> Result<Value, Problem> {
    let bytes = root.read(path, MAX_SCHEMA_BYTES).map_err(Problem::Read)?;
    sources.add(path, &bytes);
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(bytes).map_err(Problem::Parse)
}

/// Answers references from files below the root. Nothing is ever fetched from the network.
pub(super) struct SchemaFiles {
    root: Root,
    folder: String,
    sources: Sources,
}

impl SchemaFiles {
    pub(super) fn new(root: Root, folder: &str, sources: Sources) -> Self {
        Self { root, folder: folder.to_owned(), sources }
    }

    /// Schemas often carry the address they are published at as `$id`, and so their neighbours are referred to by
    /// such addresses. A neighbour of the same file name counts when its own `$id` says that it is the one.
    fn neighbour(&self, uri: &str) -> Option<Value> {
        let name = path::percent_decoded(path::name(uri));
        let path = path::resolve(&self.folder, &name)?;
        let document = read(&self.root, &path, &self.sources).ok()?;
        let id = document.get("$id").or_else(|| document.get("id"))?.as_str()?;
        (id.trim_end_matches('#') == uri).then_some(document)
    }
}

impl Retrieve for SchemaFiles {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let uri = uri.as_str();
        match uri.strip_prefix(SCHEME) {
            Some(path) => {
                let path = path::percent_decoded(path);
                read(&self.root, &path, &self.sources).map_err(|problem| format!("{path}: {problem}").into())
            }
            None => self.neighbour(uri).ok_or_else(|| {
                format!("{uri} is not fetched; put the file next to the schema, with that address as its `$id`").into()
            }),
        }
    }
}
