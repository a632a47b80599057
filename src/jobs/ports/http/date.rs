//! Times in header fields.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;

/// The longest wait that a server may ask for. A mistaken or hostile `Retry-After` would otherwise park a job for
/// years.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// An HTTP-date in any of the three forms that RFC 9110 §5.6.7 wants understood.
#[must_use]
pub fn http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let forms = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    forms.iter().find_map(|form| {
        let mut time = BrokenDownTime::parse(form, text).ok()?;
        time.set_offset(Some(jiff::tz::Offset::UTC));
        time.to_timestamp().ok()
    })
}

/// How long a `Retry-After` field asks to wait, in seconds or as a date, between nothing and one hour.
/// `None` when it says nothing that can be understood.
#[must_use]
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds still mean "very long".
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else if let Some(seconds) = value.strip_prefix('-') {
        let _negative: u64 = seconds.parse().ok()?;
        Duration::ZERO
    } else {
        let until = http_date(value)?.duration_since(now);
        Duration::try_from(until).unwrap_or(Duration::ZERO)
    };
    Some(wait.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "1994-11-06T08:49:00Z";

    #[test]
    fn the_three_forms_of_a_date_are_read() {
        let expected: Timestamp = "1994-11-06T08:49:37Z".parse().unwrap();
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_date(text), Some(expected), "{text}");
        }
        assert_eq!(http_date("soon"), None);
    }

    #[test]
    fn i6_a_wait_is_between_nothing_and_an_hour() {
        let wait = |value| retry_after(value, NOW.parse().unwrap()).map(|wait| wait.as_secs());
        for (value, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("99999999", Some(3600)),
            ("99999999999999999999999999", Some(3600)),
            ("-5", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:00:00 GMT", Some(3600)),
            ("soon", None),
            ("", None),
            ("1.5", None),
        ] {
            assert_eq!(wait(value), seconds, "{value}");
        }
    }
}
