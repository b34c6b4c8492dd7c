//! Lines of text of bounded width, parts of which have colours.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::plain::is_obeyed;

/// A line in the making.
#[derive(Clone, Debug, Default)]
pub struct Line {
    parts: Vec<(Style, String)>,
}

impl Line {
    /// Adds text.
    #[must_use]
    pub fn text(self, text: impl AsRef<str>) -> Self {
        self.styled(Style::new(), text)
    }

    /// Adds text that looks so. Characters that would move the cursor become blanks: some text is a pool's.
    #[must_use]
    pub fn styled(mut self, style: Style, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect();
        self.parts.push((style, text));
        self
    }

    /// Adds blanks up to a column.
    #[must_use]
    pub fn pad_to(self, column: usize) -> Self {
        let blanks = column.saturating_sub(self.width());
        self.text(" ".repeat(blanks))
    }

    /// Columns that it takes.
    pub fn width(&self) -> usize {
        self.parts.iter().map(|(_, text)| text.width()).sum()
    }

    /// The line, cut off at `width` columns, with colours or without.
    pub fn render(&self, width: usize, color: bool) -> String {
        let mut out = String::new();
        let mut left = width;
        for (style, text) in &self.parts {
            let whole = text.width() <= left;
            let text = if whole { text.clone() } else { cut(text, left) };
            if color {
                out += &format!("{style}{text}{style:#}");
            } else {
                out += &text;
            }
            left -= text.width();
            if !whole {
                break;
            }
        }
        if color { out } else { out.trim_end().to_owned() }
    }
}

/// Text in `width` columns at the most; the last is an ellipsis where something had to go.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let columns = c.width().unwrap_or(0);
        if columns > left {
            break;
        }
        left -= columns;
        out.push(c);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_never_wider_than_asked_for_and_holds_no_control_characters() {
        let bold = Style::new().bold();
        let line = Line::default().text("plain ").styled(bold, "bold 東京").text(" \x1b[2Jlast\n");
        for width in 0..40 {
            let shown = line.render(width, false);
            assert!(shown.width() <= width, "{width}: {shown:?}");
            let colored = line.render(width, true);
            assert_eq!(anstream::adapter::strip_str(&colored).to_string().trim_end(), shown);
        }
        assert_eq!(line.render(40, false), "plain bold 東京  [2Jlast");
        assert_eq!(line.render(12, false), "plain bold …");
        assert!(!line.render(40, true).contains("\x1b[2J"));
    }
}
