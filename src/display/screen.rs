//! A terminal that text scrolls through while a block of lines stays below it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use unicode_width::UnicodeWidthStr;

/// The terminal and what of the block is on it. Everything is written in one piece, so that nothing flickers.
///
/// No line of the block is as wide as the terminal: it would leave the cursor in a state that terminals disagree
/// about.
pub struct Screen<W> {
    to: W,
    /// Widths of the block's lines, the cursor being at the end of the last; empty: there is no block.
    painted: Vec<usize>,
    columns: usize,
}

/// Terminals that know this show nothing before [`END`]; all others ignore it.
const BEGIN: &str = "\x1b[?2026h";
const END: &str = "\x1b[?2026l";

impl<W: Write> Screen<W> {
    /// A terminal whose cursor is at the begin of a line.
    pub fn new(to: W) -> Self {
        Self { to, painted: Vec::new(), columns: 0 }
    }

    /// Writes text above the block and the block anew, for a terminal of so many columns.
    ///
    /// # Errors
    /// If the terminal cannot be written to.
    pub fn write(&mut self, text: &str, block: &[String], columns: usize) -> io::Result<()> {
        let mut out = String::from(BEGIN);
        self.go_up(&mut out, columns);
        if !text.is_empty() || columns != self.columns || block.len() != self.painted.len() {
            out += "\x1b[J";
        }
        out += text;
        if !text.is_empty() && !text.ends_with('\n') {
            out.push('\n');
        }
        self.painted.clear();
        for (number, line) in block.iter().enumerate() {
            if number > 0 {
                out.push('\n');
            }
            out += line;
            // The rest of what was there before.
            out += "\x1b[K";
            self.painted.push(anstream::adapter::strip_str(line).to_string().width());
        }
        self.columns = columns;
        out += END;
        self.to.write_all(out.as_bytes())?;
        self.to.flush()
    }

    /// Writes text and nothing else.
    ///
    /// # Errors
    /// If the terminal cannot be written to.
    pub fn write_plain(&mut self, text: &str) -> io::Result<()> {
        self.to.write_all(text.as_bytes())?;
        self.to.flush()
    }

    /// Takes the block away; the cursor is where it began.
    ///
    /// # Errors
    /// If the terminal cannot be written to.
    pub fn clear(&mut self, columns: usize) -> io::Result<()> {
        if self.painted.is_empty() { Ok(()) } else { self.write("", &[], columns) }
    }

    /// Forgets the block: somebody else wrote to the terminal, and the cursor is anywhere.
    pub fn forget(&mut self) {
        self.painted.clear();
    }

    /// To the begin of the block, or of the line if there is none. Lines of the block that have become too wide for a
    /// terminal were wrapped by it.
    fn go_up(&self, out: &mut String, columns: usize) {
        let rows_of = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let rows: usize = self.painted.iter().map(rows_of).sum();
        out.push('\r');
        if rows > 1 {
            write!(out, "\x1b[{}A", rows - 1).expect("a string takes everything");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal of 40 columns and 8 rows.
    struct Fake(vt100::Parser);

    impl Write for Fake {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // As the terminal driver does.
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8").replace('\n', "\r\n");
            self.0.process(text.as_bytes());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn screen() -> Screen<Fake> {
        Screen::new(Fake(vt100::Parser::new(8, 40, 100)))
    }

    fn rows(screen: &Screen<Fake>) -> Vec<String> {
        let columns = screen.to.0.screen().size().1;
        let mut rows: Vec<_> = screen.to.0.screen().rows(0, columns).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    fn lines(list: &[&str]) -> Vec<String> {
        list.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn text_scrolls_above_a_block_that_stays_whole() {
        let mut screen = screen();
        let block = lines(&["one", "\x1b[1mtwo\x1b[0m", "three"]);
        screen.write("", &block, 40).expect("written");
        assert_eq!(rows(&screen), ["one", "two", "three"]);
        screen.write("log 1\n", &block, 40).expect("written");
        screen.write("log 2\nlog 3", &block, 40).expect("written");
        assert_eq!(rows(&screen), ["log 1", "log 2", "log 3", "one", "two", "three"]);
        for number in 4..50 {
            screen.write(&format!("log {number}\n"), &block, 40).expect("written");
        }
        assert_eq!(rows(&screen), ["log 45", "log 46", "log 47", "log 48", "log 49", "one", "two", "three"]);
        screen.clear(40).expect("written");
        assert_eq!(rows(&screen), ["log 45", "log 46", "log 47", "log 48", "log 49"]);
        assert_eq!(screen.to.0.screen().cursor_position(), (5, 0));
    }

    #[test]
    fn a_line_of_the_log_that_is_wider_than_the_terminal_wraps_above_the_block() {
        let mut screen = screen();
        screen.write("", &lines(&["block"]), 40).expect("written");
        screen.write(&format!("{}\n", "x".repeat(90)), &lines(&["block"]), 40).expect("written");
        assert_eq!(rows(&screen), ["x".repeat(40), "x".repeat(40), "x".repeat(10), "block".into()]);
    }

    #[test]
    fn a_block_that_changes_leaves_nothing_of_the_one_before() {
        let mut screen = screen();
        screen.write("log\n", &lines(&["a long line", "second", "third"]), 40).expect("written");
        screen.write("", &lines(&["short"]), 40).expect("written");
        assert_eq!(rows(&screen), ["log", "short"]);
        screen.write("", &lines(&["s", "t"]), 40).expect("written");
        assert_eq!(rows(&screen), ["log", "s", "t"]);
    }

    #[test]
    fn a_terminal_that_got_narrower_and_wrapped_the_block_is_cleaned_up() {
        let mut screen = screen();
        screen.write("log\n", &lines(&["x".repeat(35).as_str(), "y"]), 40).expect("written");
        // What a terminal of 20 columns makes of it: the first line takes two rows.
        screen.to.0 = vt100::Parser::new(8, 20, 100);
        screen.to.0.process(format!("log\r\n{}\r\ny", "x".repeat(35)).as_bytes());
        screen.write("", &lines(&["narrow", "y"]), 20).expect("written");
        assert_eq!(rows(&screen), ["log", "narrow", "y"]);
    }

    #[test]
    fn a_repaint_is_one_write_that_erases_nothing_it_does_not_have_to() {
        struct Writes(Vec<Vec<u8>>);
        impl Write for Writes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut screen = Screen::new(Writes(Vec::new()));
        for _ in 0..2 {
            screen.write("", &lines(&["one", "two"]), 40).expect("written");
        }
        let written = String::from_utf8(screen.to.0.pop().expect("written")).expect("UTF-8");
        assert_eq!(screen.to.0.len(), 1);
        assert_eq!(written, format!("{BEGIN}\r\x1b[1Aone\x1b[K\ntwo\x1b[K{END}"));
    }
}
