//! Text from outside as a log or a terminal can bear it.

/// Characters at the beginning and at the end that are left of a long text.
const ENDS: usize = 500;

/// The text with another character in place of each that a terminal obeys; lines stay lines. Of a long one its ends:
/// messages have what was read in their middle, and say at the end where it was.
pub(crate) fn plain(text: &str) -> String {
    let bear = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    let count = text.chars().count();
    if count <= 2 * ENDS {
        return text.chars().map(bear).collect();
    }
    let chars = || text.chars().map(bear);
    chars().take(ENDS).chain(" … ".chars()).chain(chars().skip(count - ENDS)).collect()
}

/// What is wrong with a text that should be JSON, with the place first, as everywhere else.
pub(crate) fn json_fault(error: &serde_json::Error) -> String {
    let told = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match told.strip_suffix(&place) {
        Some(what) => format!("line {}, column {}: {what}", error.line(), error.column()),
        None => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys_and_of_long_texts_both_ends() {
        assert_eq!(plain("a\x1b[1m\nb\u{9b}"), "a\u{fffd}[1m\nb\u{fffd}");
        let (whole, long) = ("ä".repeat(2 * ENDS), format!("first{}last\t", "ä".repeat(2 * ENDS)));
        assert_eq!(plain(&whole), whole);
        let cut = plain(&long);
        assert!(cut.starts_with("firstä") && cut.contains("ä … ä") && cut.ends_with("last\u{fffd}"), "{cut}");
        assert_eq!(cut.chars().count(), 2 * ENDS + 3);
    }
}
