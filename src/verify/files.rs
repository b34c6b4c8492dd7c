//! Reading announcements from files.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use kernels::Announcement;

/// The largest file that is read: half a million announcements in hexadecimal.
const LARGEST: u64 = 1 << 30;

/// What was read from a file: the announcements that are whole, and what is wrong with the rest.
#[derive(Debug, Default)]
pub struct Contents {
    /// The announcements in order.
    pub announcements: Vec<Announcement>,
    /// What is wrong, in order.
    pub errors: Vec<ReadError>,
}

/// What cannot be read as announcements.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or may not be read.
    #[error("cannot read {file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What the system says. Not called the source: the text has it already.
        reason: io::Error,
    },
    /// The file is too large.
    #[error("{file} is larger than 1 GiB: split it")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// Raw bytes with a rest.
    #[error("{file}: {bytes} bytes are no whole number of announcements of 1024 bytes; {rest} are left over")]
    Remainder {
        /// The file.
        file: String,
        /// Its length.
        bytes: usize,
        /// What is left over.
        rest: usize,
    },
    /// A line of another length.
    #[error("{file}, line {line}: an announcement has 2048 hexadecimal digits, not {digits}")]
    LineLength {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// How many characters it has.
        digits: usize,
    },
    /// A line with something else than hexadecimal digits.
    #[error("{file}, line {line}: character {character} is no hexadecimal digit")]
    LineDigit {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The first such character of the line, from 1.
        character: usize,
    },
    /// Nothing at all.
    #[error("{file}: there is no announcement in it")]
    Empty {
        /// The file.
        file: String,
    },
}

/// Reads a file's announcements; `-` is standard input. They are 1024 bytes each, or lines of 2048 hexadecimal
/// digits, whichever the file is.
pub fn read(file: &Path) -> Contents {
    let name = file.display().to_string();
    match load(file) {
        Err(reason) => {
            Contents { errors: vec![ReadError::File { file: name, reason }], ..Contents::default() }
        }
        Ok(bytes) if bytes.len() as u64 > LARGEST => {
            Contents { errors: vec![ReadError::TooLarge { file: name }], ..Contents::default() }
        }
        Ok(bytes) => parse(&name, &bytes),
    }
}

fn load(file: &Path) -> io::Result<Vec<u8>> {
    let reader: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(file)?) };
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// As [`read`], of a file whose bytes are at hand; `file` is its name in errors.
pub fn parse(file: &str, bytes: &[u8]) -> Contents {
    let mut contents = if is_text(bytes) { parse_lines(file, bytes) } else { parse_raw(file, bytes) };
    if contents.announcements.is_empty() && contents.errors.is_empty() {
        contents.errors.push(ReadError::Empty { file: file.into() });
    }
    contents
}

/// Whether people could read most of it. Raw announcements are mostly hashes, of which two bytes in five are
/// characters by chance; a slip of the keyboard, or a note between the lines, makes text no less text.
fn is_text(bytes: &[u8]) -> bool {
    let readable = bytes.iter().filter(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()).count();
    readable > bytes.len() / 10 * 9
}

fn parse_raw(file: &str, bytes: &[u8]) -> Contents {
    let (records, rest) = bytes.as_chunks();
    let mut contents = Contents::default();
    contents.announcements.extend(records.iter().map(|record| Announcement::from_bytes(*record)));
    if !rest.is_empty() {
        let error = ReadError::Remainder { file: file.into(), bytes: bytes.len(), rest: rest.len() };
        contents.errors.push(error);
    }
    contents
}

fn parse_lines(file: &str, bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let text = text.trim_ascii();
        let mut bytes = [0; Announcement::LEN];
        let file = || file.to_owned();
        if text.is_empty() {
            continue;
        }
        if let Some(at) = text.iter().position(|byte| !byte.is_ascii_hexdigit()) {
            contents.errors.push(ReadError::LineDigit { file: file(), line, character: at + 1 });
        } else if hex::decode_to_slice(text, &mut bytes).is_err() {
            contents.errors.push(ReadError::LineLength { file: file(), line, digits: text.len() });
        } else {
            contents.announcements.push(Announcement::from_bytes(bytes));
        }
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announcement(n: u8) -> Announcement {
        Announcement::from_bytes([n; 1024])
    }

    fn hex_line(n: u8) -> String {
        hex::encode([n; 1024])
    }

    fn errors(contents: &Contents) -> Vec<String> {
        contents.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn raw_records_and_lines_of_digits_are_told_apart() {
        let raw = parse("f", &[[1; 1024], [2; 1024]].concat());
        assert_eq!(raw.announcements, [announcement(1), announcement(2)]);
        assert_eq!(errors(&raw), [""; 0]);
        let text = format!("{}\n\n  {}\r\n", hex_line(1), hex_line(0xab).to_uppercase());
        let lines = parse("f", text.as_bytes());
        assert_eq!(lines.announcements, [announcement(1), announcement(0xab)]);
        assert_eq!(errors(&lines), [""; 0]);
    }

    #[test]
    fn what_is_whole_is_read_and_what_is_not_is_named() {
        let raw = parse("f", &[&[1; 1024][..], &[7; 5]].concat());
        assert_eq!(raw.announcements.len(), 1);
        assert!(errors(&raw)[0].contains("5 are left over"), "{:?}", errors(&raw));
        let lines = parse("f", format!("abc\n{}\n", hex_line(1)).as_bytes());
        assert_eq!(lines.announcements.len(), 1);
        assert_eq!(errors(&lines), ["f, line 1: an announcement has 2048 hexadecimal digits, not 3"]);
        assert!(errors(&parse("f", b""))[0].contains("there is no announcement"));
        assert!(errors(&read(Path::new("/nonexistent")))[0].contains("cannot read /nonexistent: "));
    }

    #[test]
    fn a_typing_error_in_a_line_of_digits_is_named_and_the_other_lines_are_read() {
        for typo in ["o", "é", "\u{7}"] {
            let text = format!("{}\n# mine\n{typo}{}\n{}\n", hex_line(1), &hex_line(2)[1..], hex_line(3));
            let lines = parse("f", text.as_bytes());
            assert_eq!(lines.announcements, [announcement(1), announcement(3)]);
            let expected = [2, 3].map(|line| format!("f, line {line}: character 1 is no hexadecimal digit"));
            assert_eq!(errors(&lines), expected);
        }
    }
}
