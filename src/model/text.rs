//! Text from others, before people see it.

/// Control characters, and those that reorder or break lines on a screen: nothing that comes from outside may put them into a
/// log or on a terminal as they are (case J10). All of them lie below U+10000.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text on one line, with what is harmful spelled out: `\u{1b}`.
#[must_use]
pub fn inert(text: &str) -> String {
    let escape = |c: char| {
        if is_harmful(c) { c.escape_unicode().to_string() } else { c.to_string() }
    };
    text.chars().map(escape).collect()
}
