//! Makes inputs of others, for where there is no libFuzzer: what comes out follows from the seed alone.

/// Values at which programs change their minds.
const EDGES: [u32; 12] =
    [0, 1, 7, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, !0];

/// Characters that readers of text look for.
const MARKS: &[u8] = b"\"'{}[]:,.=\\/#-+%\n\r\t 0e";

/// Makes inputs of others.
pub struct Mutator<'a> {
    rng: fastrand::Rng,
    words: &'a [&'a str],
    longest: usize,
}

impl<'a> Mutator<'a> {
    /// One whose inputs have at most `longest` bytes, and sometimes one of these words more.
    pub fn new(seed: u64, words: &'a [&'a str], longest: usize) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), words, longest }
    }

    /// An input that is like one or two of `corpus`; all of chance if that is empty.
    pub fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = match self.rng.choice(corpus) {
            Some(input) if self.rng.u8(..16) > 0 => input.clone(),
            _ => {
                let len = self.rng.usize(..=self.longest);
                std::iter::repeat_with(|| self.rng.u8(..)).take(len).collect()
            }
        };
        for _ in 0..1 << self.rng.u32(..5) {
            self.change(&mut input, corpus);
        }
        input.truncate(self.longest);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.rng.usize(..=input.len());
        let end = (at + (1 << self.rng.u32(..8))).min(input.len());
        match self.rng.u32(..10) {
            0 | 1 if at < input.len() => input[at] ^= 1 << self.rng.u32(..8),
            2 if at < input.len() => input[at] = self.rng.u8(..),
            3 if at < input.len() => input[at] = input[at].wrapping_add(self.rng.u8(..9).wrapping_sub(4)),
            4 => {
                let edge = EDGES[self.rng.usize(..EDGES.len())].to_le_bytes();
                for (byte, edge) in input[at..].iter_mut().zip(&edge[..1 << self.rng.u32(..3)]) {
                    *byte = *edge;
                }
            }
            5 => drop(input.drain(at..end)),
            6 => {
                let piece = input[at..end].to_vec();
                let to = self.rng.usize(..=input.len());
                input.splice(to..to, piece);
            }
            7 => {
                let mark = MARKS[self.rng.usize(..MARKS.len())];
                input.insert(at, mark);
            }
            8 if !self.words.is_empty() => {
                let word = self.words[self.rng.usize(..self.words.len())];
                let until = if self.rng.bool() { end } else { at };
                input.splice(at..until, word.bytes());
            }
            _ => {
                if let Some(other) = self.rng.choice(corpus) {
                    let from = self.rng.usize(..=other.len());
                    input.splice(at.., other[from..].iter().copied());
                }
            }
        }
    }
}
