//! RandGen, written as the specification has it (spec §4).

use kernels::Hash32;

use super::sodium::Sodium;
use super::{Words, expand};

/// Words of a program buffer.
pub const BUFFER_WORDS: usize = 2048;

const MEMORY: u32 = 65;
const IN: u32 = 64;
const LOOP: u32 = 66;
const IF_LIKELY: u32 = 67;
const IF_RANDOM: u32 = 68;
const JMP: u32 = 69;
const END: u32 = 70;

/// Number of the first opcode, number of opcodes, cost, outputs, and whether there is an operand B and pairs.
struct Kind {
    first: u32,
    ops: u32,
    cost: u32,
    outputs: usize,
    has_b: bool,
    pairs: bool,
}

const ONE_TO_ONE: Kind = Kind { first: 1, ops: 11, cost: 1, outputs: 1, has_b: false, pairs: false };
const TWO_TO_ONE: Kind = Kind { first: 12, ops: 24, cost: 2, outputs: 1, has_b: true, pairs: false };
const TWO_TO_TWO: Kind = Kind { first: 36, ops: 15, cost: 4, outputs: 2, has_b: true, pairs: false };
const FOUR_TO_TWO: Kind = Kind { first: 51, ops: 8, cost: 8, outputs: 2, has_b: true, pairs: true };
const FOUR_TO_FOUR: Kind = Kind { first: 59, ops: 5, cost: 16, outputs: 4, has_b: true, pairs: true };

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Marker,
    Unused,
    Used,
}

/// The program buffer of a seed, and how many of its words are instructions.
///
/// # Panics
/// If there are more than 2048 instructions. No seed is known that gives so many.
pub fn generate(sodium: Sodium, seed: &Hash32) -> (Box<Words<BUFFER_WORDS>>, usize) {
    let mut generator = RandGen {
        sodium,
        seed: *seed,
        drawn: [0; 16],
        left: 0,
        draws: 0,
        out: Vec::new(),
        vars: Vec::new(),
        scope: 0,
    };
    generator.add_loop(20_000);
    let mut bytes = [0; 4 * BUFFER_WORDS];
    expand(sodium, seed, 0, &mut bytes);
    let mut buffer = Box::new(Words::from_bytes(&bytes));
    let len = generator.out.len();
    assert!(len <= BUFFER_WORDS, "the program is too big");
    buffer.0[..len].copy_from_slice(&generator.out);
    (buffer, len)
}

struct RandGen {
    sodium: Sodium,
    seed: Hash32,
    drawn: [u32; 16],
    left: usize,
    draws: u32,
    out: Vec<u32>,
    vars: Vec<Entry>,
    scope: u32,
}

impl RandGen {
    fn rand(&mut self) -> u32 {
        if self.left == 0 {
            let mut bytes = [0; 64];
            expand(self.sodium, &self.seed, self.draws, &mut bytes);
            self.drawn = Words::from_bytes(&bytes).0;
            self.draws += 1;
            self.left = 16;
        }
        self.left -= 1;
        self.drawn[15 - self.left]
    }

    fn coin(&mut self, m: u32) -> bool {
        self.rand().is_multiple_of(m)
    }

    fn range(&mut self, a: u32, b: u32) -> u32 {
        self.rand() % (b - a) + a
    }

    fn open_scope(&mut self) {
        self.scope += 1;
        self.vars.push(Entry::Marker);
    }

    fn close_scope(&mut self) {
        self.out.push(END);
        self.scope -= 1;
        while self.vars.pop() != Some(Entry::Marker) {}
    }

    fn add_loop(&mut self, mut budget: u32) {
        let len = self.range(2, 7 + self.scope * 29);
        let accesses = self.range(2, 4);
        if budget < 20 * len {
            return;
        }
        budget /= len;
        self.out.push(LOOP | len << 20);
        self.open_scope();
        let template = self.rand() << 8 | MEMORY;
        for _ in 0..accesses {
            if !spend(&mut budget, 20) {
                break;
            }
            self.vars.push(Entry::Unused);
            let carry = self.rand() & 15;
            self.out.push(template & !(15 << 9) | carry << 9);
        }
        self.add_body(&mut budget);
        self.close_scope();
    }

    fn add_body(&mut self, budget: &mut u32) {
        loop {
            let max = self.range(2, 12);
            for i in 1..=max {
                let paid = self.coin(4 * max / i) && self.add_op(&FOUR_TO_FOUR, budget)
                    || self.coin(3 * max / i) && self.add_op(&FOUR_TO_TWO, budget)
                    || self.coin(3 * max / i) && self.add_op(&TWO_TO_TWO, budget)
                    || self.coin(2 * max / i) && self.add_op(&TWO_TO_ONE, budget)
                    || self.coin(i) && self.add_input(budget)
                    || self.add_op(&ONE_TO_ONE, budget);
                if !paid {
                    return;
                }
            }
            if self.rand() % 64 + self.out.len() as u32 * 25 / 2048 < 50 && !self.add_branch(budget) {
                return;
            }
            if self.rand() % 32 < 23 {
                self.add_loop(*budget);
                return;
            }
        }
    }

    fn add_op(&mut self, kind: &Kind, budget: &mut u32) -> bool {
        let draw = self.rand();
        if !spend(budget, kind.cost) {
            return false;
        }
        let mut word = kind.first + draw % kind.ops;
        word |= (self.pick_variable(kind.pairs) as u32) << 9;
        if kind.has_b {
            word |= if self.coin(4) {
                self.rand() << 20 | 1 << 18
            } else {
                (self.pick_variable(kind.pairs) as u32) << 20
            };
        }
        self.out.push(word);
        self.vars.resize(self.vars.len() + kind.outputs, Entry::Unused);
        true
    }

    fn add_input(&mut self, budget: &mut u32) -> bool {
        if !spend(budget, 2) {
            return false;
        }
        self.vars.push(Entry::Unused);
        let word = self.rand() << 8 | IN;
        self.out.push(word);
        true
    }

    fn add_branch(&mut self, budget: &mut u32) -> bool {
        if !spend(budget, 50) {
            return false;
        }
        let opcode = if self.coin(2) { IF_RANDOM } else { IF_LIKELY };
        let operand = (self.pick_variable(false) as u32) << 9;
        self.out.push(operand | opcode | 2 << 20);
        let share = *budget * 7 / 32;
        let to_second = self.add_scoped_body(share);
        let past_second = self.add_scoped_body(share);
        self.out[to_second] = ((past_second - to_second) as u32) << 8 | JMP;
        self.out[past_second] = ((self.out.len() - past_second - 1) as u32) << 8 | JMP;
        true
    }

    /// A place for a JMP, and a body after it. Where the place is.
    fn add_scoped_body(&mut self, mut budget: u32) -> usize {
        let jump = self.out.len();
        self.out.push(JMP);
        self.open_scope();
        self.add_body(&mut budget);
        self.close_scope();
        jump
    }

    /// The specification's `getvar`.
    fn pick_variable(&mut self, pair: bool) -> usize {
        let mut end = self.vars.len();
        let marker = loop {
            let marker = self.vars[..end]
                .iter()
                .rposition(|entry| *entry == Entry::Marker)
                .expect("the outermost scope is open");
            if end - marker > 1 + usize::from(pair) && (marker == 0 || !self.coin(4)) {
                break marker;
            }
            end = marker;
        };
        let first = marker + 1;
        let mut at = self.range(first as u32, end as u32) as usize;
        loop {
            at = if at + 1 >= end { first } else { at + 1 };
            if (!pair || at > first) && self.coin(8) {
                break;
            }
            if self.vars[at] == Entry::Unused && (!pair || self.vars[at - 1] == Entry::Unused) {
                break;
            }
        }
        self.vars[at] = Entry::Used;
        if pair {
            self.vars[at - 1] = Entry::Used;
        }
        at
    }
}

fn spend(budget: &mut u32, cost: u32) -> bool {
    let affordable = *budget >= cost;
    if affordable {
        *budget -= cost;
    }
    affordable
}
