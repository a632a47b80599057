//! Whether an answer is the expected one, and what a miss means for trying again. Pure.

use jiff::Timestamp;
use serde_json::Value;

use super::params::{Expect, HttpParams, StatusRule};
use crate::jobs::RetryAdvice;
use crate::jobs::ports::http::retry_after;

/// What of a response takes part in the verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received<'a> {
    pub(super) status: u16,
    pub(super) retry_after: Option<&'a str>,
    pub(super) body: &'a [u8],
    /// There was more body than `max_response` lets in.
    pub(super) is_cut: bool,
}

/// What to make of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    AsExpected,
    Miss { message: String, retry: RetryAdvice },
}

pub(super) fn judge(params: &HttpParams, received: &Received<'_>, now: Timestamp) -> Verdict {
    if !is_expected(&params.expect, received.status) {
        return Verdict::Miss {
            message: format!("the server answered {}", received.status),
            retry: advice(params, received, now),
        };
    }
    if received.is_cut && params.expect.looks_at_body() {
        return Verdict::Miss {
            message: format!(
                "the body is larger than {} and cannot be checked as a whole; raise `max_response`",
                params.max_response
            ),
            retry: RetryAdvice::Never,
        };
    }
    match body_miss(&params.expect, received.body) {
        None => Verdict::AsExpected,
        Some(message) => Verdict::Miss { message, retry: RetryAdvice::ByPolicy },
    }
}

fn is_expected(expect: &Expect, status: u16) -> bool {
    if expect.status.is_empty() {
        return StatusRule::Class(2).covers(status);
    }
    covers(&expect.status, status)
}

fn covers(rules: &[StatusRule], status: u16) -> bool {
    rules.iter().any(|rule| rule.covers(status))
}

/// The job's own rules decide first. Without one, what a client did wrong stays wrong (4xx) and a redirect that was not
/// followed leads to the same place next time; what passes with time is tried again.
fn advice(params: &HttpParams, received: &Received<'_>, now: Timestamp) -> RetryAdvice {
    let status = received.status;
    let passes_with_time = matches!(status, 408 | 409 | 423 | 425 | 429);
    let is_final = if covers(&params.final_on, status) {
        true
    } else if covers(&params.retry_on, status) {
        false
    } else {
        matches!(status, 300..=499) && !passes_with_time
    };
    if is_final {
        return RetryAdvice::Never;
    }
    match received.retry_after.and_then(|value| retry_after(value, now)) {
        Some(wait) => RetryAdvice::After(wait),
        None => RetryAdvice::ByPolicy,
    }
}

fn body_miss(expect: &Expect, body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if let Some(wanted) = expect.body_contains.as_ref().filter(|wanted| !text.contains(*wanted)) {
        return Some(format!("the body does not contain `{wanted}`"));
    }
    if let Some(wanted) = expect.body_matches.as_ref().filter(|wanted| !wanted.is_match(&text)) {
        return Some(format!("the body does not match `{wanted}`"));
    }
    if expect.json.is_empty() {
        return None;
    }
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return Some("the body is not JSON".to_owned());
    };
    expect.json.iter().find_map(|(pointer, wanted)| match json.pointer(pointer) {
        Some(found) if found == wanted => None,
        Some(found) => {
            let found: String = found.to_string().chars().take(100).collect();
            Some(format!("the body has {found} at `{pointer}`, not {wanted}"))
        }
        None => Some(format!("the body has nothing at `{pointer}`")),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::jobs::parse_params;

    fn verdict(params: &Value, received: Received<'_>) -> Verdict {
        let mut all = json!({"url": "https://h/"});
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let params: HttpParams = parse_params(&all).unwrap();
        judge(&params, &received, "2026-06-15T12:00:00Z".parse().unwrap())
    }

    fn answer(status: u16) -> Received<'static> {
        Received { status, retry_after: None, body: b"", is_cut: false }
    }

    fn retry(verdict: &Verdict) -> RetryAdvice {
        match verdict {
            Verdict::Miss { retry, .. } => *retry,
            Verdict::AsExpected => panic!("expected a miss"),
        }
    }

    #[test]
    fn statuses_that_cannot_get_better_are_final() {
        for status in [301, 400, 401, 403, 404, 405, 410, 422] {
            assert_eq!(retry(&verdict(&json!({}), answer(status))), RetryAdvice::Never, "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(
                retry(&verdict(&json!({}), answer(status))),
                RetryAdvice::ByPolicy,
                "{status}"
            );
        }
    }

    #[test]
    fn own_rules_decide_first_and_final_beats_retry() {
        let rules = json!({"retry_on": [404, 500], "final_on": [500]});
        assert_eq!(retry(&verdict(&rules, answer(404))), RetryAdvice::ByPolicy);
        assert_eq!(retry(&verdict(&rules, answer(500))), RetryAdvice::Never);
    }

    #[test]
    fn i6_a_server_says_when_to_come_back() {
        let busy = Received { retry_after: Some("30"), ..answer(503) };
        let wait = RetryAdvice::After(Duration::from_secs(30));
        assert_eq!(retry(&verdict(&json!({}), busy)), wait);
        let gone = Received { retry_after: Some("30"), ..answer(404) };
        assert_eq!(retry(&verdict(&json!({}), gone)), RetryAdvice::Never);
    }

    #[test]
    fn the_body_is_held_to_every_expectation() {
        let body = br#"{"status": "ok", "n": 3}"#;
        let received = Received { body, ..answer(200) };
        for expect in [
            json!({"body_contains": "ok"}),
            json!({"body_matches": "\"n\": \\d"}),
            json!({"json": {"/status": "ok", "/n": 3}}),
        ] {
            assert_eq!(verdict(&json!({ "expect": expect }), received), Verdict::AsExpected);
        }
        for expect in [
            json!({"body_contains": "nope"}),
            json!({"body_matches": "^x"}),
            json!({"json": {"/status": "down"}}),
            json!({"json": {"/missing": 1}}),
            json!({"status": [204]}),
        ] {
            assert_ne!(verdict(&json!({ "expect": expect }), received), Verdict::AsExpected);
        }
    }

    #[test]
    fn l3_a_body_that_was_cut_is_no_ground_for_a_yes() {
        let cut = Received { body: b"ok", is_cut: true, ..answer(200) };
        let with_body = json!({"expect": {"body_contains": "ok"}});
        assert_eq!(retry(&verdict(&with_body, cut)), RetryAdvice::Never);
        assert_eq!(verdict(&json!({}), cut), Verdict::AsExpected);
    }
}
