//! Rules about a file as text: encoding, NUL bytes, byte order mark, line ends. And lines and columns.

use super::finding::{Findings, Position, Report};
use super::params::{FileRules, Newline};
use super::rule::Rule;

/// U+FEFF in UTF-8.
const BOM: &str = "\u{feff}";

/// Checks a file's bytes as text, and gives the text without its byte order mark when it is UTF-8.
pub(super) fn check<'a>(
    bytes: &'a [u8],
    rules: &FileRules,
    must_be_utf8: bool,
    findings: &mut Findings<'_>,
) -> Option<&'a str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            if must_be_utf8 {
                findings.add(not_utf8(bytes, error.valid_up_to()));
            }
            return None;
        }
    };
    let without_bom = text.strip_prefix(BOM).unwrap_or(text);
    if without_bom.len() < text.len() {
        let report = Report::new(Rule::Bom, "the file starts with a byte order mark");
        findings.add(
            report
                .at(Position { line: 1, col: Some(1) })
                .hint("save it as UTF-8 without byte order mark"),
        );
    }
    let lines = Lines::of(without_bom);
    nul_bytes(without_bom, &lines, findings);
    line_ends(without_bom, rules.newline, &lines, findings);
    Some(without_bom)
}

fn not_utf8(bytes: &[u8], bad: usize) -> Report {
    let valid = std::str::from_utf8(&bytes[..bad]).unwrap_or_default();
    let byte = bytes.get(bad).copied().unwrap_or_default();
    let hint = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it looks like UTF-16; convert it to UTF-8",
        _ => {
            "it looks like an 8-bit encoding such as Windows-1252, or like binary data; convert it to UTF-8"
        }
    };
    let valid = valid.strip_prefix(BOM).unwrap_or(valid);
    Report::new(Rule::Encoding, format!("not UTF-8: bad byte 0x{byte:02X}"))
        .at(Lines::of(valid).position(valid.len()))
        .hint(hint)
}

fn nul_bytes(text: &str, lines: &Lines<'_>, findings: &mut Findings<'_>) {
    if let Some(first) = text.find('\0') {
        let count = text.bytes().filter(|byte| *byte == 0).count();
        let report = Report::new(Rule::NulByte, "the file has NUL bytes")
            .at(lines.position(first))
            .hint(format!("{count} of them; it may be UTF-16, binary or damaged by a crash"));
        findings.add(report);
    }
}

fn line_ends(text: &str, wanted: Newline, lines: &Lines<'_>, findings: &mut Findings<'_>) {
    let bytes = text.as_bytes();
    let (bad, message) = match wanted {
        Newline::Any => return,
        Newline::Lf => (text.find('\r'), "lines must end with LF, but there is a CR"),
        Newline::Crlf => {
            let lone = |(at, byte): (usize, &u8)| {
                let after_cr = at.checked_sub(1).is_some_and(|before| bytes[before] == b'\r');
                (*byte == b'\n' && !after_cr).then_some(at)
            };
            (
                bytes.iter().enumerate().find_map(lone),
                "lines must end with CR LF, but one ends with LF",
            )
        }
    };
    if let Some(bad) = bad {
        findings.add(Report::new(Rule::Newline, message).at(lines.position(bad)));
    }
}

/// Turns byte offsets of a text into lines and columns.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: std::cell::OnceCell<Vec<usize>>,
}

impl<'a> Lines<'a> {
    /// Costs nothing until a position is asked for: most files have no findings.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, starts: std::cell::OnceCell::new() }
    }

    /// Where `offset` is. An offset past the end or inside a character counts as the nearest place before it.
    pub(super) fn position(&self, offset: usize) -> Position {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let starts = self.starts();
        let line = starts.partition_point(|start| *start <= offset);
        let start = starts[line - 1];
        let col = self.text[start..offset].chars().count() + 1;
        Position { line: line as u64, col: Some(col as u64) }
    }

    /// Where a parser that counts lines and the bytes in them, both from 1, has found something.
    pub(super) fn position_of_byte(&self, line: usize, byte: usize) -> Position {
        let starts = self.starts();
        let start = line.checked_sub(1).and_then(|line| starts.get(line)).copied();
        self.position(start.unwrap_or(self.text.len()).saturating_add(byte.saturating_sub(1)))
    }

    /// The text itself.
    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    fn starts(&self) -> &[usize] {
        self.starts.get_or_init(|| {
            let after_newline = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
            std::iter::once(0).chain(after_newline.map(|(at, _)| at + 1)).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::finding::{Finding, Levels};
    use super::*;

    fn findings(bytes: &[u8], newline: Newline) -> Vec<Finding> {
        let levels = Levels::default();
        let mut findings = Findings::new("a.txt", &levels, 99);
        let rules = FileRules { newline, ..FileRules::default() };
        check(bytes, &rules, true, &mut findings);
        findings.finish().0
    }

    fn places(bytes: &[u8], newline: Newline) -> Vec<(Rule, Option<u64>, Option<u64>)> {
        findings(bytes, newline).iter().map(|found| (found.rule, found.line, found.col)).collect()
    }

    #[test]
    fn a_bad_byte_is_found_at_its_line_and_column() {
        let bytes = b"\xc3\xa4\xc3\xb6\nab\xe9c";
        assert_eq!(places(bytes, Newline::Any), [(Rule::Encoding, Some(2), Some(3))]);
    }

    #[test]
    fn line_ends_are_held_to_what_is_asked() {
        assert_eq!(places(b"a\r\nb\n", Newline::Any), []);
        assert_eq!(places(b"a\nb\r\n", Newline::Lf), [(Rule::Newline, Some(2), Some(2))]);
        assert_eq!(places(b"a\r\nb\n", Newline::Crlf), [(Rule::Newline, Some(2), Some(2))]);
        assert_eq!(places(b"\n", Newline::Crlf), [(Rule::Newline, Some(1), Some(1))]);
    }

    #[test]
    fn nul_bytes_and_byte_order_marks_are_found() {
        assert_eq!(
            places(b"\xef\xbb\xbfa\n\0\0", Newline::Any),
            [(Rule::Bom, Some(1), Some(1)), (Rule::NulByte, Some(2), Some(1))]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_checked_and_any_offset_has_a_place(bytes: Vec<u8>, offset in 0_usize..300) {
            findings(&bytes, Newline::Lf);
            findings(&bytes, Newline::Crlf);
            let text = String::from_utf8_lossy(&bytes);
            let place = Lines::of(&text).position(offset);
            prop_assert!(place.line >= 1 && place.col >= Some(1));
        }
    }
}
