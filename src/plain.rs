//! Text from outside as a log or a terminal can bear it.

/// Characters at the beginning and at the end that are left of a long text.
const ENDS: usize = 500;

/// Whether a terminal obeys a character instead of showing it, or shows others in another order because of it.
pub(crate) fn is_obeyed(c: char) -> bool {
    let has_no_shape = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    let breaks_lines_or_turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || has_no_shape || breaks_lines_or_turns
}

/// The text with another character in place of each that a terminal obeys; lines stay lines. Of a long one its ends:
/// messages have what was read in their middle, and say at the end where it was.
pub(crate) fn plain(text: &str) -> String {
    let bear = |c: char| if is_obeyed(c) && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
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
        assert_eq!(plain("a\u{202e}b\u{200b}\u{2028}ä–“中"), "a\u{fffd}b\u{fffd}\u{fffd}ä–“中");
        let (whole, long) = ("ä".repeat(2 * ENDS), format!("first{}last\t", "ä".repeat(2 * ENDS)));
        assert_eq!(plain(&whole), whole);
        let cut = plain(&long);
        assert!(cut.starts_with("firstä") && cut.contains("ä … ä") && cut.ends_with("last\u{fffd}"), "{cut}");
        assert_eq!(cut.chars().count(), 2 * ENDS + 3);
    }
}
