//! Instants that lie ahead, as requests give them.

use jiff::Timestamp;

use crate::model::{HumanDuration, inert};

/// An instant, RFC 3339, or how long after `now` it is (`2h`). It is the daemon's time that counts then, whatever the clock of who asks says.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn ahead(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let shown: String = text.chars().take(60).collect();
    let shown = inert(&shown);
    let distance = text.parse::<HumanDuration>().map_err(|_neither| {
        format!(
            "`{shown}` is neither an instant like 2026-12-01T03:00:00Z nor a length of time like 2h"
        )
    })?;
    now.checked_add(distance.get())
        .map_err(|_too_far| format!("`{shown}` from now is after the last year there is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_from_the_time_of_the_daemon_and_an_instant_from_nothing() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(ahead("2h", now), Ok("2026-01-01T02:00:00Z".parse().unwrap()));
        assert_eq!(
            ahead("2020-01-01T01:00:00+01:00", now),
            Ok("2020-01-01T00:00:00Z".parse().unwrap())
        );
        for wrong in ["", "2", "-2h", "soon", "2026-01-01"] {
            assert!(ahead(wrong, now).is_err(), "{wrong}");
        }
        assert!(ahead("1000 weeks", Timestamp::MAX).is_err());
    }
}
