//! Reading TOML.

use std::collections::HashSet;

use toml::Spanned;
use toml::de::{DeTable, Error};

/// Reads a text as far as it can be read, and says everything that is wrong with it. What the parser says twice of one place, as
/// it does of brackets that nobody closes, is said once.
pub fn read_toml(text: &str) -> (Spanned<DeTable<'_>>, Vec<Error>) {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let mut told = HashSet::new();
    errors.retain(|error| told.insert(error.clone()));
    (table, errors)
}
