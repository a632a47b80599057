//! Which code does which kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::jobs::Handler;

/// The handlers of a node, by kind.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<String, Arc<dyn Handler>>);

impl Registry {
    /// Adds or replaces the handler of a kind.
    #[must_use]
    pub fn with(mut self, kind: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.0.insert(kind.into(), handler);
        self
    }

    /// The handler of a kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<Arc<dyn Handler>> {
        self.0.get(kind).cloned()
    }

    /// The kinds, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.kinds()).finish()
    }
}
