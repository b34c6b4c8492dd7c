//! Text from outside as a log or a terminal can bear it.

/// The text with another character in place of each that a terminal obeys; lines stay lines.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
