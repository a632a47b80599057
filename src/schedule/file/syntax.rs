//! Reading TOML.

use std::collections::HashSet;

use toml::Spanned;
use toml::de::{DeTable, Error};

/// Reads a text as far as it can be read, and says everything that is wrong with it. What the parser says twice of one place, as
/// it does of brackets that nobody closes, is said once.
pub fn read_toml(text: &str) -> (Spanned<DeTable<'_>>, Vec<Error>) {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let mut told = HashSet::new();
    // Not by the whole error: each of them holds the text, and hashing that for each would take a file's length times its errors.
    errors.retain(|error| told.insert((error.span(), error.message().to_owned())));
    (table, errors)
}
