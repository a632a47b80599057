//! Names that come from outside, and names of our own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::jobs::ports::files::readable;
use crate::jobs::ports::http::Url;

/// Everything of ours inside a destination begins with this, and nothing that begins with it takes part in a sync.
const OURS: &str = ".sexton-";
/// The longest name that Linux file systems take, in bytes.
const LONGEST: usize = 255;

/// The file name for a URL: its last path segment, decoded.
///
/// # Errors
/// When there is none that is safe as a name.
pub(super) fn file_name_of(url: &Url) -> Result<String, String> {
    let segment = url.path().rsplit('/').next().unwrap_or_default();
    if segment.is_empty() {
        return Err(format!("the URL with path `{}` names no file", url.path()));
    }
    let decoded = decode(segment);
    let name = String::from_utf8(decoded).map_err(|_not_utf8| unsafe_name(segment))?;
    let is_safe = !name.is_empty()
        && name != "."
        && name != ".."
        && !name.starts_with(OURS)
        && name.len() <= LONGEST
        && !name.chars().any(|c| c == '/' || c.is_control());
    if is_safe { Ok(name) } else { Err(unsafe_name(segment)) }
}

fn unsafe_name(segment: &str) -> String {
    format!("`{}` at the end of a URL is not safe as a file name", segment.escape_default())
}

/// Decodes `%41` and the like; what is not a valid escape stays as it is.
fn decode(segment: &str) -> Vec<u8> {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    decoded
}

/// The name that a file has until it is whole. It stays the same from run to run, so that a download can go on.
pub(super) fn partial_of(path: &Path) -> OsString {
    let digest = blake3::hash(path.as_os_str().as_bytes()).to_hex();
    format!("{OURS}partial-{}", &digest[..16]).into()
}

/// Beside the destination: the tree that is being built, or the old one on its way out.
pub(super) fn staging_of(name: &OsStr) -> OsString {
    beside("staging-", name)
}

/// Beside the destination: the old tree between the two renames of a swap that has to be done in two steps.
pub(super) fn old_of(name: &OsStr) -> OsString {
    beside("old-", name)
}

fn beside(what: &str, name: &OsStr) -> OsString {
    let mut own = OsString::from(OURS);
    own.push(what);
    own.push(name);
    own
}

/// A path as messages and results show it: one line, whatever bytes it has.
pub(super) fn shown(path: &Path) -> String {
    readable(path.as_os_str().as_bytes())
}

/// Whether a name is one of ours.
pub(super) fn is_ours(name: &OsStr) -> bool {
    name.as_bytes().starts_with(OURS.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l5_names_from_urls_cannot_leave_the_destination() {
        let name = |url: &str| file_name_of(&url.parse().unwrap());
        assert_eq!(name("https://h/a/kb.tar.zst?x=/../y#z").unwrap(), "kb.tar.zst");
        assert_eq!(name("https://h/a%20b%2").unwrap(), "a b%2");
        for bad in [
            "https://h",
            "https://h/a/",
            "https://h/a/..",
            "https://h/..%2f..%2fetc%2fpasswd",
            "https://h/%2e%2e%2fx",
            "https://h/a%00b",
            "https://h/a%0ab",
            "https://h/%ff",
            "https://h/.sexton-partial-x",
        ] {
            assert!(name(bad).is_err(), "{bad}: {:?}", name(bad));
        }
        assert!(name(&format!("https://h/{}", "x".repeat(256))).is_err());
    }
}
