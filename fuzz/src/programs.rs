//! Programs that are well formed, whatever bytes they are made from: most of what an interpreter does is out of reach
//! of words at random.

use kernels::program::{BUFFER_WORDS, Op};

use crate::bytes::Bytes;

/// Opcodes that do not compute (spec §5).
const IN: u32 = 64;
const MEMORY: u32 = 65;
const LOOP: u32 = 66;
const IF_LIKELY: u32 = 67;
const IF_RANDOM: u32 = 68;
const JMP: u32 = 69;
const END: u32 = 70;

/// The most words that are made of bytes; what is open then is closed after them.
const WORDS: usize = 1500;

/// The most scopes inside each other.
const DEPTH: usize = 24;

/// The most turns of a loop, those of the loops around it counted in.
const TURNS: u32 = 600;

enum Scope {
    Loop {
        turns: u32,
    },
    /// With the index of the JMP that leads to the second body.
    Then(usize),
    /// With the index of the JMP that leads past it.
    Else(usize),
}

#[derive(Default)]
struct Builder {
    words: Vec<u32>,
    /// As spec §5 numbers it: `false` is a marker.
    stack: Vec<bool>,
    scopes: Vec<(Scope, usize)>,
}

/// Makes a program of bytes. Its words, which are at most 2048.
pub fn build(mut bytes: Bytes<'_>) -> Vec<u32> {
    let mut builder = Builder::default();
    builder.open_loop(2 + u32::from(bytes.u8()) % 30);
    while !bytes.is_empty() && builder.words.len() < WORDS {
        builder.add(&mut bytes);
    }
    while !builder.scopes.is_empty() {
        builder.close();
    }
    debug_assert!(builder.words.len() <= BUFFER_WORDS);
    builder.words
}

impl Builder {
    fn add(&mut self, bytes: &mut Bytes<'_>) {
        let code = 1 + u32::from(bytes.u8()) % END;
        match code {
            IN | JMP => self.input(bytes),
            MEMORY => {
                self.words.push(MEMORY | bytes.u32() << 9);
                self.stack.push(true);
            }
            LOOP if self.scopes.len() < DEPTH => {
                let count = 2 + u32::from(bytes.u8()) % 6;
                if self.turns() * count <= TURNS {
                    self.open_loop(count);
                }
            }
            IF_LIKELY | IF_RANDOM if self.scopes.len() < DEPTH => {
                let Some(a) = self.operand(bytes, false) else { return self.input(bytes) };
                self.words.push(code | a << 9 | 2 << 20);
                self.words.push(JMP);
                self.open(Scope::Then(self.words.len() - 1));
            }
            END if self.scopes.len() > 1 => self.close(),
            code => match Op::from_code(code) {
                Some(op) => self.compute(op, bytes),
                None => self.input(bytes),
            },
        }
    }

    fn input(&mut self, bytes: &mut Bytes<'_>) {
        self.words.push(IN | u32::from(bytes.u16()) << 18);
        self.stack.push(true);
    }

    fn compute(&mut self, op: Op, bytes: &mut Bytes<'_>) {
        let kind = op.kind();
        let Some(a) = self.operand(bytes, kind.takes_pairs()) else { return self.input(bytes) };
        let mut word = op as u32 | a << 9;
        if kind.has_b() {
            let choice = bytes.u8();
            match self.operand(bytes, kind.takes_pairs()) {
                Some(b) if choice & 1 == 0 => word |= b << 20,
                _ => word |= 1 << 18 | u32::from(choice & 2) << 18 | u32::from(bytes.u16()) << 20,
            }
        }
        self.words.push(word);
        self.stack.extend((0..kind.outputs()).map(|_| true));
    }

    /// A register near the one that the next byte asks for, or none if there is none that fits.
    fn operand(&self, bytes: &mut Bytes<'_>, pair: bool) -> Option<u32> {
        let reach = self.stack.len().min(512);
        let fits = |at: &usize| self.stack[*at] && (!pair || (*at > 0 && self.stack[*at - 1]));
        let wanted = reach.checked_sub(1)? - usize::from(bytes.u8()) % reach;
        (0..=wanted).rev().chain(wanted..reach).find(fits).map(|at| at as u32)
    }

    fn turns(&self) -> u32 {
        self.scopes
            .iter()
            .map(|(scope, _)| if let Scope::Loop { turns } = scope { *turns } else { 1 })
            .product()
    }

    fn open_loop(&mut self, turns: u32) {
        self.words.push(LOOP | turns << 20);
        self.open(Scope::Loop { turns });
    }

    fn open(&mut self, scope: Scope) {
        self.scopes.push((scope, self.stack.len()));
        self.stack.push(false);
    }

    fn close(&mut self) {
        let Some((scope, marker)) = self.scopes.pop() else { return };
        self.stack.truncate(marker);
        self.words.push(END);
        match scope {
            Scope::Loop { .. } => {}
            Scope::Then(jump) => {
                self.words.push(JMP);
                self.lead(jump);
                self.open(Scope::Else(self.words.len() - 1));
            }
            Scope::Else(jump) => self.lead(jump),
        }
    }

    /// Lets a JMP lead to the next word.
    fn lead(&mut self, jump: usize) {
        self.words[jump] = JMP | ((self.words.len() - jump - 1) as u32) << 8;
    }
}
