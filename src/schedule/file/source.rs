//! The text of a file: from bytes to clean text, and from byte offsets to lines and columns.

use std::ops::Range;

use super::super::diagnostic::{Excerpt, Place};
use crate::model::is_harmful;

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;

/// A line is shown only where the marked part starts within this many bytes of it.
const MAX_SHOWN_BYTES: usize = 400;
/// A finding over more lines shows the first ones.
const MAX_SHOWN_LINES: usize = 3;

/// Why bytes are not the text of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// It would take too long to read and too much memory to keep.
    #[error("the file has more than {} bytes", MAX_FILE_BYTES)]
    TooLarge,
    /// Bytes that are no character.
    #[error("the file is not UTF-8: byte {offset} does not belong to a character")]
    NotUtf8 {
        /// The first such byte, from 0.
        offset: usize,
    },
    /// A NUL, which no text file has: the file is half written or not a text at all.
    #[error("the file has a NUL byte at offset {offset}")]
    Nul {
        /// The first one, from 0.
        offset: usize,
    },
}

/// The text of a file without its byte order mark.
///
/// # Errors
/// When it is too large, not UTF-8 or has a NUL in it.
pub fn text_of(bytes: &[u8]) -> Result<&str, NotText> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(NotText::TooLarge);
    }
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(NotText::Nul { offset });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|invalid| NotText::NotUtf8 { offset: invalid.valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A text and where its lines start.
#[derive(Debug)]
pub(super) struct SourceText<'s> {
    text: &'s str,
    line_starts: Vec<usize>,
}

impl<'s> SourceText<'s> {
    pub(super) fn new(text: &'s str) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, line_starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    pub(super) fn text(&self) -> &'s str {
        self.text
    }

    /// The bytes of `span`, moved to character boundaries inside the text.
    fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        start..floor(span.end).max(start)
    }

    pub(super) fn slice(&self, span: &Range<usize>) -> &'s str {
        &self.text[self.clamp(span)]
    }

    /// The index of the line that holds `offset`.
    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset) - 1
    }

    /// The number of the line that holds `offset`, from 1.
    pub(super) fn line(&self, offset: usize) -> u32 {
        number(self.line_of(offset) + 1)
    }

    fn column(&self, line: usize, offset: usize) -> u32 {
        number(self.text[self.line_starts[line]..offset].chars().count() + 1)
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let span = self.clamp(span);
        let (first, last) = (self.line_of(span.start), self.line_of(span.end));
        Place {
            line: number(first + 1),
            col: self.column(first, span.start),
            end_line: number(last + 1),
            end_col: self.column(last, span.end),
        }
    }

    /// The lines to show for `span`; none where that would be an endless line.
    pub(super) fn excerpt(&self, span: &Range<usize>) -> Option<Excerpt> {
        let span = self.clamp(span);
        let first = self.line_of(span.start);
        let start = self.line_starts[first];
        if span.start - start > MAX_SHOWN_BYTES {
            return None;
        }
        let last = self.line_of(span.end).min(first + MAX_SHOWN_LINES - 1);
        let line_end = self.line_starts.get(last + 1).map_or(self.text.len(), |next| next - 1);
        let shown = self.clamp(&(start..line_end.min(span.start + MAX_SHOWN_BYTES)));
        let text = self.text[shown.clone()].trim_end_matches('\r');
        let marked = |at: usize| (at - start).min(text.len());
        Some(Excerpt {
            text: text.chars().map(inert).collect(),
            first_line: number(first + 1),
            marked: marked(span.start)..marked(span.end),
        })
    }
}

/// What is shown of a character that could disturb a terminal, as long in bytes as itself, so that places stay right. Those of
/// one byte are left to the renderer, which has signs for them and knows none of the second set of control characters.
fn inert(c: char) -> char {
    match c.len_utf8() {
        2 if is_harmful(c) => '\u{b7}',
        3 if is_harmful(c) => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e6_a_byte_order_mark_is_taken_and_nul_and_other_encodings_are_refused_with_their_offset() {
        assert_eq!(text_of(b"\xef\xbb\xbfa = 1"), Ok("a = 1"));
        assert_eq!(text_of(b"a = \0"), Err(NotText::Nul { offset: 4 }));
        assert_eq!(text_of(b"a = \"\xe4\""), Err(NotText::NotUtf8 { offset: 5 }));
    }

    #[test]
    fn e5_a_file_past_the_limit_is_refused() {
        assert!(text_of(&vec![b' '; MAX_FILE_BYTES]).is_ok());
        assert_eq!(text_of(&vec![b' '; MAX_FILE_BYTES + 1]), Err(NotText::TooLarge));
    }

    #[test]
    fn j10_a_shown_line_keeps_its_places_and_cannot_disturb_a_terminal() {
        let source = SourceText::new("a\u{85}\u{9b}\u{200f}\u{2028}\u{202e} = x");
        let excerpt = source.excerpt(&(17..18)).unwrap();
        assert!(!excerpt.text.chars().any(is_harmful), "{:?}", excerpt.text);
        assert_eq!(&excerpt.text[excerpt.marked], "x");
    }

    #[test]
    fn columns_count_characters_and_lines_end_at_the_newline() {
        let source = SourceText::new("ä = 1\r\nbö = 2");
        let place = source.place(&(9..11));
        assert_eq!((place.line, place.col, place.end_line, place.end_col), (2, 2, 2, 3));
        assert_eq!(source.excerpt(&(0..2)).unwrap().text, "ä = 1");
    }
}
