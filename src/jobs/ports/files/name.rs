//! File names for people.

use std::fmt::Write;

/// The longest text [`readable`] makes of a name, in characters.
const MOST_CHARACTERS: usize = 1000;

/// A name or path on one line of valid text: what is not printable, not UTF-8 or a backslash is escaped, and of a very
/// long one the middle is left out. For logs and results; the name itself stays bytes.
#[must_use]
pub fn readable(name: &[u8]) -> String {
    // What is cut here would be cut below: no character has more than four bytes, so of either half more is left than
    // is shown, and a character split in the middle is not among it.
    let half = 2 * MOST_CHARACTERS;
    if name.len() > 2 * half {
        return readable(&[&name[..half], &name[name.len() - half..]].concat());
    }
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '"' => text.push(character),
                other => text.extend(other.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    shorten(text)
}

fn shorten(text: String) -> String {
    let length = text.chars().count();
    if length <= MOST_CHARACTERS {
        return text;
    }
    let half = MOST_CHARACTERS / 2 - 1;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_name_is_one_line_and_hides_nothing() {
        for (name, text) in [
            (b"plain name.txt".as_slice(), "plain name.txt"),
            (b"two\nlines", r"two\nlines"),
            (b"it's \"quoted\"", "it's \"quoted\""),
            (b"back\\slash", r"back\\slash"),
            (b"\xff\xfe.bin", r"\xff\xfe.bin"),
            ("é\u{202e}fdp".as_bytes(), r"é\u{202e}fdp"),
            (b"\x1b[2J", r"\u{1b}[2J"),
        ] {
            assert_eq!(readable(name), text);
        }
    }

    #[test]
    fn a_very_long_path_loses_its_middle() {
        for character in ["a", "é", "🔔"] {
            let path = format!("start/{}/end", character.repeat(5000));
            let text = readable(path.as_bytes());
            assert_eq!(text.chars().count(), MOST_CHARACTERS - 1);
            assert!(text.starts_with("start/") && text.ends_with("/end"), "{text}");
            assert!(!text.contains('\\'), "{text}");
        }
    }
}
