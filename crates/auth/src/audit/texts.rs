//! The form of texts in records: short, without tokens, and safe to print.

use crate::secret::without_tokens;

/// The maximum number of characters of a text of the client in a record: of the header `user-agent`, or of a name in a body.
const MAX_TEXT_CHARACTERS: usize = 200;

/// Returns a text of the client as records have it: short, without tokens and without control characters.
pub(super) fn shown(text: &str) -> String {
    without_tokens(text).chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARACTERS).collect()
}

/// Returns the name or id of a thing as records have it: without tokens, and with control characters escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in without_tokens(text).chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

/// Returns a name in a body as records have it: short, without tokens, and with control characters escaped.
pub(super) fn shown_name(text: &str) -> String {
    let short: String = without_tokens(text).chars().take(MAX_TEXT_CHARACTERS).collect();
    escaped(&short)
}
