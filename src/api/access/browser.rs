//! What pages in a browser must not do with a daemon that the browser can reach.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use crate::api::problem::Problem;

/// Refuses a change that a page of another site asks for. Such a page has no token and cannot set the header for one, so this is a second
/// fence behind that.
pub(super) fn refuse_foreign_page(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_foreign_site =
        text("sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site));
    let is_foreign_origin = text("origin").is_some_and(|origin| {
        let address = origin.split_once("://").map_or("", |(_, address)| address);
        text("host").is_none_or(|host| !host.eq_ignore_ascii_case(address))
    });
    match is_foreign_site || is_foreign_origin {
        true => Err(Problem::forbidden("a page of another site cannot change anything here")),
        false => Ok(()),
    }
}

/// Refuses to answer without a token under a name. Whoever owns a name can let it mean this machine's address, and then read
/// with a page of that name in a browser on this machine what only that machine was to read; an address and `localhost` belong to nobody.
pub(super) fn refuse_other_names(headers: &HeaderMap) -> Result<(), Problem> {
    let mut given = headers.get_all(header::HOST).iter();
    let host = match (given.next(), given.next()) {
        (Some(host), None) => host.to_str().unwrap_or_default(),
        _ => "",
    };
    match is_address(host) {
        true => Ok(()),
        false => Err(Problem::forbidden(
            "without a token, ask by address (http://127.0.0.1:7373, http://localhost:7373) and not by another name",
        )),
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn j6_a_page_of_another_site_changes_nothing() {
        let host = ("host", "localhost:7373");
        for lines in [
            &[host][..],
            &[host, ("sec-fetch-site", "same-origin"), ("origin", "http://localhost:7373")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(refuse_foreign_page(&head(lines)), Ok(()), "{lines:?}");
        }
        for lines in [
            &[host, ("sec-fetch-site", "cross-site")][..],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "http://localhost:7374")],
            &[host, ("origin", "null")],
            &[("origin", "http://localhost:7373")],
        ] {
            assert_eq!(refuse_foreign_page(&head(lines)).unwrap_err().status, 403, "{lines:?}");
        }
    }

    #[test]
    fn j6_a_name_that_was_bound_to_this_machine_reads_nothing() {
        for host in
            ["127.0.0.1:7373", "127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:7373", "[::1]"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:7373",
            "127.0.0.1.evil.example",
            "localhost.",
            "sexton",
        ] {
            assert!(!is_address(host), "{host}");
        }
        assert!(refuse_other_names(&head(&[("host", "localhost")])).is_ok());
        assert!(refuse_other_names(&head(&[])).is_err());
    }
}
