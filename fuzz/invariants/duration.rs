//! Lengths of time.

use sexton::model::HumanDuration;

use super::text::{is_inert, text_of};

/// What is read is within the limit, and its printed form is read as the same length, in a file and in the database's JSON.
pub(crate) fn check(data: &[u8]) {
    let Some(text) = text_of(data) else { return };
    match text.parse::<HumanDuration>() {
        Ok(length) => {
            assert!(length.get() <= HumanDuration::MAX, "{text:?} is longer than the longest");
            let shown = length.to_string();
            assert_eq!(shown.parse(), Ok(length), "{text:?} is shown as {shown}");
            let stored = serde_json::to_string(&length).expect("a length is a JSON string");
            let kept: HumanDuration = serde_json::from_str(&stored).expect("it reads back");
            assert_eq!(kept, length, "{text:?} is stored as {stored}");
            assert_eq!(format!(" {text}\t").parse(), Ok(length), "white space around {text:?}");
        }
        Err(error) => assert!(is_inert(&error.to_string()), "{error:?}"),
    }
}
