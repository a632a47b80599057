//! A part of an expression that remembers where it stands in the whole.

use super::CronError;

/// A slice of the expression together with its place, so that every error can point at its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'t> {
    pub(super) text: &'t str,
    offset: usize,
}

impl<'t> Piece<'t> {
    pub(super) fn whole(text: &'t str) -> Self {
        Self { text, offset: 0 }
    }

    /// The parts between spaces and tabs. Other white space is left in place and refused as what it is.
    pub(super) fn words(self) -> Vec<Self> {
        self.split(&[' ', '\t']).filter(|word| !word.text.is_empty()).collect()
    }

    /// The parts between any of the separators, empty ones included.
    pub(super) fn split(self, separators: &'static [char]) -> impl Iterator<Item = Self> {
        let mut offset = self.offset;
        self.text.split(separators).map(move |text| {
            let part = Self { text, offset };
            offset += text.len() + 1; // every separator is one byte long
            part
        })
    }

    /// What stands before and after the first `separator`.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        Some((self.cut(0, at), self.cut(at + separator.len_utf8(), self.text.len())))
    }

    pub(super) fn strip_prefix(self, prefix: char) -> Option<Self> {
        let rest = self.text.strip_prefix(prefix)?;
        Some(Self { text: rest, offset: self.offset + prefix.len_utf8() })
    }

    pub(super) fn strip_suffix(self, suffix: char) -> Option<Self> {
        Some(Self { text: self.text.strip_suffix(suffix)?, offset: self.offset })
    }

    fn cut(self, from: usize, to: usize) -> Self {
        Self { text: &self.text[from..to], offset: self.offset + from }
    }

    pub(super) fn error(self, message: impl Into<String>) -> CronError {
        CronError { offset: self.offset, len: self.text.len(), message: message.into(), help: None }
    }

    /// The text as it may appear in a message: escaped, and no longer than a reader needs.
    pub(super) fn shown(self) -> String {
        self.text.chars().take(40).flat_map(char::escape_default).collect()
    }
}
