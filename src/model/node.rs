//! Which nodes a job may run on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long the name of a node or a label may be, in bytes. It is part of an index.
const MAX_NAME_BYTES: usize = 64;

/// What a choice of nodes says that is no node's name.
const ANY: &str = "any";
const EVERY: &str = "every";

/// Whether a node can be called that: hosts' names, and none that would be read as something else where nodes are chosen.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    is_node_label(name) && ![ANY, EVERY].contains(&name)
}

/// Whether a label can be called that: whatever could be the name of a host, which may have dots and capitals.
#[must_use]
pub fn is_node_label(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(is_legal)
}

/// By what a node can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeIdentity {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
}

impl NodeIdentity {
    /// Whether it may run what only those of `selector` may.
    #[must_use]
    pub fn fits(&self, selector: &NodeSelector) -> bool {
        match selector {
            NodeSelector::Named(wanted) => *wanted == self.name,
            NodeSelector::Labelled(wanted) => self.labels.contains(wanted),
        }
    }
}

/// The nodes that may run a job, where not all of them may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeSelector {
    /// The one of that name.
    Named(String),
    /// Those that have that label.
    Labelled(String),
}

impl fmt::Display for NodeSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Labelled(label) => write!(f, "label:{label}"),
        }
    }
}

impl FromStr for NodeSelector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, selector): (&str, fn(String) -> Self) = match text.strip_prefix("label:") {
            Some(label) => (label, Self::Labelled),
            None => (text, Self::Named),
        };
        // A node of an earlier version may be called `any`, and there may be jobs that are its own.
        if is_node_label(name) {
            return Ok(selector(name.to_owned()));
        }
        Err(format!(
            "`{}` says no node: use `any`, `every`, the name of a node, or `label:` and one of its labels",
            text.escape_debug()
        ))
    }
}

/// Where a job is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NodeChoice {
    /// On whichever node has room.
    #[default]
    Any,
    /// On every node that runs, once each: a batch with an item for each of them.
    Every,
    /// On one of some.
    Only(NodeSelector),
}

impl fmt::Display for NodeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(ANY),
            Self::Every => f.write_str(EVERY),
            Self::Only(selector) => write!(f, "{selector}"),
        }
    }
}

impl FromStr for NodeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            ANY => Ok(Self::Any),
            EVERY => Ok(Self::Every),
            other => other.parse().map(Self::Only),
        }
    }
}

macro_rules! as_text {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
as_text!(NodeSelector);
as_text!(NodeChoice);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_name_is_a_hosts_name() {
        assert!(is_node_name("web-1.Example.org") && is_node_name("gpu_2"));
        for bad in ["", "a b", "a/b", "a:b", "ä", &"x".repeat(65)] {
            assert!(!is_node_name(bad) && !is_node_label(bad), "{bad}");
            assert!(bad.parse::<NodeChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_node_of_any_name_that_nodes_may_have_can_be_chosen() {
        for word in ["any", "every"] {
            assert!(!is_node_name(word) && is_node_label(word), "{word}");
            let chosen = format!("label:{word}").parse::<NodeChoice>().unwrap();
            assert_eq!(chosen, NodeChoice::Only(NodeSelector::Labelled(word.to_owned())));
        }
        let chosen = "anything".parse::<NodeChoice>().unwrap();
        assert_eq!(chosen, NodeChoice::Only(NodeSelector::Named("anything".to_owned())));
    }

    #[test]
    fn every_choice_reads_back_as_it_prints() {
        for text in ["any", "every", "web-1", "label:gpu"] {
            assert_eq!(text.parse::<NodeChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_label_fits_every_node_that_has_it_and_a_name_only_its_own() {
        let node = |name: &str, labels: &[&str]| NodeIdentity {
            name: name.to_owned(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
        };
        let (big, gpu) = (node("a", &["big", "gpu"]), node("gpu", &[]));
        let labelled = NodeSelector::Labelled("gpu".to_owned());
        assert!(big.fits(&labelled) && !gpu.fits(&labelled));
        let named = NodeSelector::Named("gpu".to_owned());
        assert!(gpu.fits(&named) && !big.fits(&named));
    }
}
