//! Paths below the root, written with `/` and without `.`, `..` or a leading `/`. The root itself is the empty path.

/// The path a reference leads to from a folder: `resolve("a/b", "../c")` is `a/c`. A leading `/` means the root.
///
/// `None` when it leads out of the root.
pub(super) fn resolve(folder: &str, reference: &str) -> Option<String> {
    let folder = if reference.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(reference.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The folder a path is in.
pub(super) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The last part of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The name without its last extension: `bom.v2` of `x/bom.v2.json`.
pub(super) fn stem(path: &str) -> &str {
    match name(path).rsplit_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem,
        _ => name(path),
    }
}

/// The last extension, without its dot; empty where there is none.
pub(super) fn extension(path: &str) -> &str {
    match name(path).rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => extension,
        _ => "",
    }
}

/// Text with its `%XX` decoded; what is not UTF-8 after that stays as it was.
pub(super) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(after.first()), hex(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                bytes.extend(u8::try_from(high * 16 + low));
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_not_utf8| text.to_owned())
}

/// The reverse for what goes into a URI: everything but letters, digits, `-._~` and `/` as `%XX`.
pub(super) fn percent_encoded(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().fold(String::with_capacity(path.len()), |mut uri, byte| {
        if is_plain(byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
        uri
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reference_leads_where_a_browser_would_go() {
        for (folder, reference, path) in [
            ("a/b", "c.md", Some("a/b/c.md")),
            ("a/b", "../c.md", Some("a/c.md")),
            ("a/b", "../../c/./d//e", Some("c/d/e")),
            ("a", "/c.md", Some("c.md")),
            ("a", "..", Some("")),
            ("a", "../..", None),
            ("", "../x", None),
        ] {
            assert_eq!(resolve(folder, reference).as_deref(), path, "{folder} + {reference}");
        }
    }

    #[test]
    fn names_come_apart_at_their_last_dot() {
        assert_eq!((stem("x/bom.v2.json"), extension("x/bom.v2.json")), ("bom.v2", "json"));
        assert_eq!((stem(".gitignore"), extension(".gitignore")), (".gitignore", ""));
        assert_eq!((folder("a/b/c"), name("a/b/c"), folder("c")), ("a/b", "c", ""));
    }

    proptest! {
        #[test]
        fn encoding_and_decoding_are_inverse(path in "\\PC*") {
            prop_assert_eq!(percent_decoded(&percent_encoded(&path)), path);
        }

        #[test]
        fn what_is_resolved_never_leaves_the_root(folder in "[a-c/.]{0,12}", reference in "[a-c/.]{0,20}") {
            if let Some(path) = resolve(&folder, &reference) {
                prop_assert!(!path.starts_with('/'));
                prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
            }
        }
    }
}
