//! The items of a batch that is done in one run.

use serde::{Deserialize, Serialize};

use super::JsonText;

/// An item that is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenItem {
    /// Its place in the batch, from 0.
    pub position: i32,
    /// Its name, which no other item of the batch has.
    pub name: String,
    /// What it has of its own, an object.
    pub params: Option<JsonText>,
}

/// What came of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Its place in the batch.
    pub position: i32,
    /// How it ended.
    pub end: ItemEnd,
    /// What came of it.
    pub result: Option<JsonText>,
}

/// How an item ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ItemEnd {
    /// Well.
    Completed,
    /// Badly, and why.
    Failed(Option<String>),
}
