//! Which code does which kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::jobs::Handler;

/// Finds the handler of a kind that is not code of this program. Asked for each attempt, because files that declare kinds change.
pub type Find = Arc<dyn Fn(&str) -> Option<Arc<dyn Handler>> + Send + Sync>;

/// The handlers of a node, by kind.
#[derive(Clone, Default)]
pub struct Registry {
    built_in: BTreeMap<String, Arc<dyn Handler>>,
    find: Option<Find>,
}

impl Registry {
    /// Adds or replaces the handler of a kind.
    #[must_use]
    pub fn with(mut self, kind: impl Into<String>, handler: Arc<dyn Handler>) -> Self {
        self.built_in.insert(kind.into(), handler);
        self
    }

    /// Adds what `find` knows. It cannot replace what is code of this program.
    #[must_use]
    pub fn or_find(mut self, find: Find) -> Self {
        self.find = Some(find);
        self
    }

    /// The handler of a kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<Arc<dyn Handler>> {
        let built_in = self.built_in.get(kind).cloned();
        built_in.or_else(|| self.find.as_ref().and_then(|find| find(kind)))
    }

    /// The kinds that are code of this program, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.built_in.keys().map(String::as_str)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.kinds()).finish()
    }
}
