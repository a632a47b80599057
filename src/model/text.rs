//! Text from others, before people see it.

use std::path::Path;

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

/// A path as one word of a command that people copy into a shell: without quotes, one with a space would be two others there.
#[must_use]
pub fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    // No path of that name, but an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_plain_path_stays_as_it_is_and_an_option_becomes_a_path() {
        assert_eq!(for_shell(Path::new("/var/lib/sexton/sexton.db")), "/var/lib/sexton/sexton.db");
        assert_eq!(for_shell(Path::new("-rf")), "./-rf");
        assert_eq!(for_shell(Path::new("/tmp/dä ta ☃")), "'/tmp/dä ta ☃'");
        assert_eq!(for_shell(Path::new("it's")), r"'it'\''s'");
        assert_eq!(for_shell(Path::new("~/x")), "'~/x'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shell_takes_a_path_for_one_word(name in "[ -~äö☃\n\t]{1,20}") {
            let script = format!("printf %s {}", for_shell(Path::new(&name)));
            let said = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
            let meant = if name.starts_with('-') { format!("./{name}") } else { name };
            prop_assert_eq!(std::ffi::OsString::from_vec(said), std::ffi::OsString::from(meant));
        }
    }
}
