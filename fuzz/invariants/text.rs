//! What every input and every message has in common.

use sexton::model::is_harmful;

/// The text of an input; none where its bytes are no text.
pub(crate) fn text_of(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Whether a message may be shown on a terminal as it is. It may have several lines.
pub(crate) fn is_inert(message: &str) -> bool {
    !message.is_empty() && !message.chars().any(|c| c != '\n' && is_harmful(c))
}
