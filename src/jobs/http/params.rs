//! The params of an `http` job: the `[http]` table.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::jobs::ports::http::{
    AddressPolicy, HeaderName, HeaderValue, Method, Url, parse_web_url,
};
use crate::jobs::secret::SecretRef;
use crate::jobs::{Params, Problem};
use crate::model::{ByteSize, HumanDuration};

/// The `[http]` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpParams {
    #[serde(deserialize_with = "web_url")]
    pub(super) url: Url,
    #[serde(default)]
    pub(super) method: Verb,
    /// Values are texts, or references to secrets.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) bearer: Option<SecretRef>,
    pub(super) basic: Option<Basic>,
    pub(super) body: Option<String>,
    pub(super) json: Option<Value>,
    #[serde(default)]
    pub(super) expect: Expect,
    #[serde(default)]
    pub(super) retry_on: Vec<StatusRule>,
    #[serde(default)]
    pub(super) final_on: Vec<StatusRule>,
    #[serde(default = "default_max_response")]
    pub(super) max_response: ByteSize,
    #[serde(default = "default_idle_timeout")]
    pub(super) idle_timeout: HumanDuration,
    #[serde(default = "default_follow")]
    pub(super) follow: u32,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    allow_hosts: Vec<String>,
}

/// What to do with the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verb {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// HTTP Basic authentication.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Basic {
    pub(super) username: String,
    pub(super) password: SecretRef,
}

/// What the answer has to be like.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Expect {
    /// Empty means any 2xx.
    pub(super) status: Vec<StatusRule>,
    pub(super) body_contains: Option<String>,
    #[serde(deserialize_with = "pattern")]
    pub(super) body_matches: Option<Regex>,
    /// JSON pointer (RFC 6901) to the value that has to be there.
    pub(super) json: BTreeMap<String, Value>,
}

/// One status, or a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusRule {
    /// `404`
    Is(u16),
    /// `"4xx"`
    Class(u16),
}

impl StatusRule {
    pub(super) fn covers(self, status: u16) -> bool {
        match self {
            Self::Is(one) => status == one,
            Self::Class(class) => status / 100 == class,
        }
    }
}

impl Verb {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
            Self::Options => Method::OPTIONS,
        }
    }
}

impl Expect {
    /// Whether the body takes part in the verdict.
    pub(super) fn looks_at_body(&self) -> bool {
        self.body_contains.is_some() || self.body_matches.is_some() || !self.json.is_empty()
    }
}

impl HttpParams {
    pub(super) fn addresses(&self) -> AddressPolicy {
        AddressPolicy { allow_private: self.allow_private, allow_hosts: self.allow_hosts.clone() }
    }
}

fn default_max_response() -> ByteSize {
    ByteSize(1 << 20)
}

fn default_idle_timeout() -> HumanDuration {
    HumanDuration::from_secs(60)
}

fn default_follow() -> u32 {
    5
}

/// More hops than any sane server needs.
const MAX_FOLLOW: u32 = 20;
/// The largest answer that is held in memory.
const MAX_RESPONSE: ByteSize = ByteSize(64 << 20);
/// Header fields whose value is a secret by their nature.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token", "api-key"];

impl Params for HttpParams {
    fn problems(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        for (name, value) in &self.headers {
            found.extend(header_problem(name, value));
        }
        let writes_authorization =
            self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization"));
        let ways = [self.bearer.is_some(), self.basic.is_some(), writes_authorization];
        if ways.iter().filter(|is_used| **is_used).count() > 1 {
            let message = "`bearer`, `basic` and an Authorization header exclude each other";
            found.push(Problem::at("", message));
        }
        if self.body.is_some() && self.json.is_some() {
            found.push(Problem::at("json", "`body` and `json` exclude each other"));
        }
        let has_body = self.body.is_some() || self.json.is_some();
        if has_body && matches!(self.method, Verb::Get | Verb::Head) {
            let message = "a GET or HEAD request carries no body";
            found.push(Problem::at("method", message).help("set method = \"POST\""));
        }
        if self.method == Verb::Head && self.expect.looks_at_body() {
            found.push(Problem::at("expect", "the answer to a HEAD request has no body to check"));
        }
        for pointer in
            self.expect.json.keys().filter(|key| !key.is_empty() && !key.starts_with('/'))
        {
            let message = format!("`{pointer}` is not a JSON pointer");
            found.push(
                Problem::at("expect.json", message).help("it begins with `/`, like \"/status\""),
            );
        }
        if self.follow > MAX_FOLLOW {
            found.push(Problem::at("follow", format!("at most {MAX_FOLLOW} redirects")));
        }
        if self.max_response > MAX_RESPONSE {
            found.push(
                Problem::at("max_response", format!("at most {MAX_RESPONSE} are held in memory"))
                    .help("to fetch files, use a `data_sync` job"),
            );
        }
        found
    }
}

fn header_problem(name: &str, value: &str) -> Option<Problem> {
    let problem = |message: String| {
        let path = vec!["headers".to_owned(), name.to_owned()];
        let path = path.into_iter().map(crate::jobs::Segment::Key).collect();
        Problem { path, ..Problem::at("", message) }
    };
    if name.parse::<HeaderName>().is_err() {
        return Some(problem("not a name of a header field".to_owned()));
    }
    if ["host", "content-length", "transfer-encoding", "connection"]
        .contains(&name.to_ascii_lowercase().as_str())
    {
        return Some(problem("this field is set by the client itself".to_owned()));
    }
    if SecretRef::is_meant(value) {
        return value.parse::<SecretRef>().err().map(|error| problem(error.to_string()));
    }
    if SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        let help = "write \"credential:NAME\", \"file:/PATH\" or \"env:NAME\" instead of the value; \
                    for Authorization use `bearer` or `basic`";
        let message = "a secret must not be written into a schedule or a job".to_owned();
        return Some(problem(message).help(help));
    }
    value
        .parse::<HeaderValue>()
        .is_err()
        .then(|| problem("the value has characters that a header field cannot carry".to_owned()))
}

fn web_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    parse_web_url(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map(Some).map_err(serde::de::Error::custom)
}

impl<'de> Deserialize<'de> for StatusRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;
        impl serde::de::Visitor<'_> for Rule {
            type Value = StatusRule;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a status like 200 or a class like \"2xx\"")
            }

            fn visit_u64<E: serde::de::Error>(self, status: u64) -> Result<StatusRule, E> {
                match u16::try_from(status) {
                    Ok(status @ 100..=599) => Ok(StatusRule::Is(status)),
                    _ => Err(E::custom("a status is between 100 and 599")),
                }
            }

            fn visit_i64<E: serde::de::Error>(self, status: i64) -> Result<StatusRule, E> {
                self.visit_u64(u64::try_from(status).unwrap_or(0))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<StatusRule, E> {
                match text.to_ascii_lowercase().strip_suffix("xx").map(str::parse) {
                    Some(Ok(class @ 1..=5)) => Ok(StatusRule::Class(class)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Rule)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jobs::check_as;

    fn problems(params: &Value) -> Vec<String> {
        check_as::<HttpParams>(params).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_full_table_is_read() {
        let params = json!({
            "url": "https://example.org/hook",
            "method": "POST",
            "headers": {"Accept": "application/json", "X-Key": "credential:key"},
            "bearer": "env:TOKEN",
            "json": {"event": "done"},
            "expect": {"status": [200, "3xx"], "body_contains": "ok", "body_matches": "^o", "json": {"/a": 1}},
            "retry_on": [404], "final_on": ["5xx"],
            "max_response": "64KiB", "idle_timeout": "5s", "follow": 0,
            "allow_private": true, "allow_hosts": ["localhost"],
        });
        assert_eq!(problems(&params), [""; 0]);
    }

    #[test]
    fn j11_a_secret_in_place_is_refused_and_not_repeated() {
        for params in [
            json!({"url": "https://h/", "headers": {"Authorization": "Bearer canary"}}),
            json!({"url": "https://h/", "headers": {"cookie": "session=canary"}}),
            json!({"url": "https://h/", "bearer": "canary"}),
            json!({"url": "https://h/", "basic": {"username": "joe", "password": "canary"}}),
            json!({"url": "https://joe:canary@h/"}),
        ] {
            let found = problems(&params);
            assert_eq!(found.len(), 1, "{params}: {found:?}");
            assert!(!found[0].contains("canary"), "{found:?}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        for (params, expected) in [
            (json!({"url": "s3://bucket/x"}), "url: `s3://` is not supported"),
            (json!({"url": "https://h/", "body": "x"}), "method: a GET or HEAD"),
            (json!({"url": "https://h/", "methd": "GET"}), "did you mean `method`"),
            (json!({"url": "https://h/", "expect": {"status": ["9xx"]}}), "expect.status.0: "),
            (
                json!({"url": "https://h/", "expect": {"body_matches": "("}}),
                "expect.body_matches: ",
            ),
            (json!({"url": "https://h/", "expect": {"json": {"a": 1}}}), "not a JSON pointer"),
            (json!({"url": "https://h/", "headers": {"Host": "x"}}), "headers.Host: "),
            (json!({"url": "https://h/", "headers": {"X": "file:rel"}}), "headers.X: a secret"),
            (json!({"url": "https://h/", "max_response": "1GiB"}), "data_sync"),
        ] {
            let found = problems(&params);
            assert!(found.iter().any(|problem| problem.contains(expected)), "{params}: {found:?}");
        }
    }
}
