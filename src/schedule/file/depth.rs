//! How deep a TOML text nests, before it is parsed.
//!
//! The parser limits dotted keys (80 parts) and brackets (80 inside each other) each on its own. Both together make trees of
//! thousands of levels, and dropping such a tree recurses until the stack ends, which no error handling can catch. So the
//! product is limited here, by looking at nothing but brackets, dots and strings.

/// The deepest tree that is parsed.
const MAX_DEPTH: usize = 128;

/// Where the text first nests deeper than the parser may be trusted with.
#[must_use]
pub fn too_deep(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // For each open bracket, the levels that it and the dotted key before it add.
    let mut open: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut dots = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = string_end(bytes, at);
                continue;
            }
            b'#' => {
                at = line_end(bytes, at);
                continue;
            }
            b'.' => dots += 1,
            b',' | b'\n' => dots = 0,
            b'[' | b'{' => {
                open.push(dots + 1);
                depth += dots + 1;
                dots = 0;
            }
            b']' | b'}' => {
                depth -= open.pop().unwrap_or(0);
                dots = 0;
            }
            _ => {}
        }
        if depth + dots > MAX_DEPTH {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| from + length)
}

/// Behind the string that starts at `from`. One that is never closed ends with its line, or with the text where it may have
/// several lines.
fn string_end(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let is_long = bytes[from..].starts_with(&[quote; 3]);
    let mut at = from + if is_long { 3 } else { 1 };
    while let Some(byte) = bytes.get(at) {
        match *byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !is_long => return at,
            byte if byte == quote && !is_long => return at + 1,
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => {
                // Up to two quotes may stand directly before the closing three.
                let quotes = bytes[at..].iter().take(5).take_while(|byte| **byte == quote).count();
                return at + quotes;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_strings_and_comments_does_not_nest() {
        let dots = ".".repeat(500);
        let brackets = "[".repeat(500);
        for text in [
            format!("a = \"{dots}{brackets}\\\"{brackets}\""),
            format!("a = '{brackets}'"),
            format!("a = \"\"\"\n{brackets}\n\"\" {brackets}\"\"\"\"\"\nb = 1"),
            format!("a = '''\n{brackets}'\n'''"),
            format!("# {brackets}\na = 1.5"),
            "a = [1.5, 2.5, 3.5]\nb.c = { d.e = [] }\n".repeat(500),
        ] {
            assert_eq!(too_deep(&text), None, "{text}");
        }
    }

    #[test]
    fn brackets_and_dotted_keys_add_up() {
        let level = "{a.a.a.a = ";
        assert_eq!(too_deep(&level.repeat(25)), None);
        assert!(too_deep(&level.repeat(40)).is_some());
        assert!(too_deep(&"a.".repeat(200)).is_some());
        assert!(too_deep(&format!("[{}]", "a.".repeat(200))).is_some());
    }
}
