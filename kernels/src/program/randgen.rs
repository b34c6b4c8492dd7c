//! RandGen: the program that belongs to a seed (spec §4).

use super::instruction::{code, input_word};
use super::{BUFFER_WORDS, InvalidProgram, Kind, table_cost};
use crate::Hash32;
use crate::primitives::{expand_blocks, expand_starts};

/// What the first budget of a program is.
const BUDGET: u32 = 20_000;

/// A program buffer, and how many of its words are instructions.
type Generated = (Box<[u32; BUFFER_WORDS]>, usize);

/// `RANDGEN(seed)`; `None` as soon as it is clear that [`Program::table_cost`](super::Program::table_cost) is going to be
/// above `price`.
pub(super) fn generate(seed: &Hash32, price: u64) -> Result<Option<Generated>, InvalidProgram> {
    let mut generator = Generator::new(seed, price);
    generator.add_loop(BUDGET);
    if generator.is_too_dear() {
        return Ok(None);
    }
    if generator.too_big {
        return Err(InvalidProgram::TooBig);
    }
    let mut buffer = expanded_buffer(seed);
    buffer[..generator.instructions.len()].copy_from_slice(&generator.instructions);
    Ok(Some((buffer, generator.instructions.len())))
}

fn expanded_buffer(seed: &Hash32) -> Box<[u32; BUFFER_WORDS]> {
    let mut blocks = [[0; 4 * WORDS]; BUFFER_WORDS / WORDS];
    expand_blocks(seed, 0, &mut blocks);
    let mut buffer = Box::new([0; BUFFER_WORDS]);
    for (word, bytes) in buffer.iter_mut().zip(blocks.as_flattened().as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    buffer
}

/// Expansions that random words are drawn from at a time, and words of each, which are a keystream block.
const STARTS: usize = 16;
const WORDS: usize = 16;

/// The 32-bit words that a seed expands to.
struct Random<'a> {
    seed: &'a Hash32,
    /// Number of the next expansion.
    next: u32,
    words: [u32; STARTS * WORDS],
    /// How many of `words` are used up.
    used: usize,
}

impl<'a> Random<'a> {
    fn new(seed: &'a Hash32) -> Self {
        Self { seed, next: 0, words: [0; STARTS * WORDS], used: STARTS * WORDS }
    }

    #[inline]
    fn word(&mut self) -> u32 {
        if self.used == self.words.len() {
            self.expand();
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    #[cold]
    fn expand(&mut self) {
        let mut starts = [[0; 4 * WORDS]; STARTS];
        expand_starts(self.seed, self.next, &mut starts);
        self.next += STARTS as u32;
        for (word, bytes) in self.words.iter_mut().zip(starts.as_flattened().as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        self.used = 0;
    }

    /// True once in `m` times.
    fn coin(&mut self, m: u32) -> bool {
        remainder(self.word(), m) == 0
    }

    /// A number from `low` up to, not including, `high`.
    fn range(&mut self, low: u32, high: u32) -> u32 {
        remainder(self.word(), high - low) + low
    }
}

/// `2^64 / m`, rounded up, for the divisors that come up all the time.
const RECIPROCALS: [u64; 128] = {
    let mut reciprocals = [0; 128];
    let mut m = 1;
    while m < reciprocals.len() {
        reciprocals[m] = (u64::MAX / m as u64).wrapping_add(1);
        m += 1;
    }
    reciprocals
};

/// `word % m`, without a division for most divisors. The fraction of `word / m` is exact enough for 32 bits
/// (D. Lemire, O. Kaser, N. Kurz, "Faster remainder by direct computation", 2019).
fn remainder(word: u32, m: u32) -> u32 {
    match RECIPROCALS.get(m as usize) {
        Some(reciprocal) => {
            let fraction = reciprocal.wrapping_mul(word.into());
            ((u128::from(fraction) * u128::from(m)) >> 64) as u32
        }
        None => word % m,
    }
}

/// What is on the generator's stack, which mirrors the registers' at run time.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Marker,
    Unused,
    Used,
}

struct Generator<'a> {
    random: Random<'a>,
    stack: Vec<Entry>,
    /// Positions of the markers on the stack, one per open scope.
    markers: Vec<usize>,
    instructions: Vec<u32>,
    too_big: bool,
    /// How often what is emitted now is run.
    turns: u64,
    /// What the program is going to cost at the least, as [`Program::static_cost`](super::Program::static_cost) counts.
    cost: u64,
    reads_word0: bool,
    price: u64,
}

impl<'a> Generator<'a> {
    fn new(seed: &'a Hash32, price: u64) -> Self {
        Self {
            random: Random::new(seed),
            stack: Vec::with_capacity(256),
            markers: Vec::with_capacity(32),
            instructions: Vec::with_capacity(BUFFER_WORDS),
            too_big: false,
            turns: 1,
            cost: 0,
            reads_word0: false,
            price,
        }
    }

    fn is_too_dear(&self) -> bool {
        table_cost(self.cost, self.reads_word0) > self.price
    }

    /// Takes `cost` out of the budget if it is there. A program that is too dear already can pay for nothing more, which
    /// soon ends it.
    fn spend(&self, budget: &mut u32, cost: u32) -> bool {
        match budget.checked_sub(cost) {
            Some(rest) if !self.is_too_dear() => {
                *budget = rest;
                true
            }
            _ => false,
        }
    }

    /// Emits an instruction that takes part in the program's cost.
    fn emit_step(&mut self, word: u32) {
        self.cost += self.turns;
        self.emit(word);
    }

    fn emit(&mut self, word: u32) {
        if self.instructions.len() == BUFFER_WORDS {
            self.too_big = true;
        } else {
            self.instructions.push(word);
        }
    }

    /// Emits a JMP whose distance is not known yet.
    fn emit_jump(&mut self) -> usize {
        self.emit(code::JMP);
        self.instructions.len() - 1
    }

    fn open_scope(&mut self) {
        // The END is sure to come.
        self.cost += self.turns;
        self.markers.push(self.stack.len());
        self.stack.push(Entry::Marker);
    }

    fn close_scope(&mut self) {
        self.emit(code::END);
        let marker = self.markers.pop().expect("every scope that closes was opened");
        self.stack.truncate(marker);
    }

    fn push_variables(&mut self, count: u16) {
        // They are put out at the scope's end.
        self.cost += self.turns * u64::from(count);
        self.stack.extend((0..count).map(|_| Entry::Unused));
    }

    fn add_loop(&mut self, budget: u32) {
        let depth = self.markers.len() as u32;
        let count = self.random.range(2, 7 + depth * 29);
        let accesses = self.random.range(2, 4);
        if budget < 20 * count {
            return;
        }
        let mut budget = budget / count;
        self.emit_step(code::LOOP | count << 20);
        let turns = self.turns;
        self.turns *= u64::from(count);
        self.open_scope();
        let template = self.random.word() << 8 | code::MEMORY;
        for _ in 0..accesses {
            if !self.spend(&mut budget, 20) {
                break;
            }
            self.push_variables(1);
            let carry = self.random.word() & 15;
            self.emit_step(template & !(15 << 9) | carry << 9);
        }
        self.add_body(&mut budget);
        self.close_scope();
        self.turns = turns;
    }

    /// Adds instructions until the budget or luck runs out; the first loop ends it, paid for or not.
    fn add_body(&mut self, budget: &mut u32) {
        loop {
            if !self.add_straight_line(budget) {
                return;
            }
            let filled = self.instructions.len() as u32 * 25 / BUFFER_WORDS as u32;
            if self.random.word() % 64 + filled < 50 && !self.add_branch(budget) {
                return;
            }
            if self.random.word() % 32 < 23 {
                self.add_loop(*budget);
                return;
            }
        }
    }

    /// A run of operations and inputs. False if one could not be paid for.
    fn add_straight_line(&mut self, budget: &mut u32) -> bool {
        let max = self.random.range(2, 12);
        (1..=max).all(|i| {
            (self.random.coin(4 * max / i) && self.add_op(Kind::FourToFour, budget))
                || (self.random.coin(3 * max / i) && self.add_op(Kind::FourToTwo, budget))
                || (self.random.coin(3 * max / i) && self.add_op(Kind::TwoToTwo, budget))
                || (self.random.coin(2 * max / i) && self.add_op(Kind::TwoToOne, budget))
                || (self.random.coin(i) && self.add_input(budget))
                || self.add_op(Kind::OneToOne, budget)
        })
    }

    fn add_op(&mut self, kind: Kind, budget: &mut u32) -> bool {
        let draw = self.random.word() as usize;
        if !self.spend(budget, cost(kind)) {
            return false;
        }
        let op = kind.ops()[draw % kind.ops().len()];
        let mut word = op as u32 | self.operand_a(kind.takes_pairs());
        if kind.has_b() {
            word |= self.operand_b(kind.takes_pairs());
        }
        self.emit_step(word);
        self.push_variables(kind.outputs());
        true
    }

    fn add_input(&mut self, budget: &mut u32) -> bool {
        if !self.spend(budget, 2) {
            return false;
        }
        self.push_variables(1);
        let word = self.random.word() << 8 | code::IN;
        self.reads_word0 |= input_word(word) == 0;
        self.emit_step(word);
        true
    }

    fn add_branch(&mut self, budget: &mut u32) -> bool {
        if !self.spend(budget, 50) {
            return false;
        }
        let opcode = if self.random.coin(2) { code::IF_RANDOM } else { code::IF_LIKELY };
        let operand = self.operand_a(false);
        self.emit_step(operand | opcode | 2 << 20);
        let share = *budget * 7 / 32;
        let to_second = self.emit_jump();
        self.add_scoped_body(share);
        let past_second = self.emit_jump();
        self.add_scoped_body(share);
        self.instructions[to_second] |= ((past_second - to_second) as u32) << 8;
        self.instructions[past_second] |= ((self.instructions.len() - past_second - 1) as u32) << 8;
        true
    }

    fn add_scoped_body(&mut self, mut budget: u32) {
        self.open_scope();
        self.add_body(&mut budget);
        self.close_scope();
    }

    // Indices are not masked: one above 511 spills into the bits above, and means what it then says (spec §4).

    fn operand_a(&mut self, pair: bool) -> u32 {
        (self.pick_variable(pair) as u32) << 9
    }

    fn operand_b(&mut self, pair: bool) -> u32 {
        if self.random.coin(4) {
            self.random.word() << 20 | 1 << 18
        } else {
            (self.pick_variable(pair) as u32) << 20
        }
    }

    /// The spec's `getvar`: a variable, or the upper one of a pair, by preference one not used yet.
    fn pick_variable(&mut self, pair: bool) -> usize {
        let (first, end) = self.pick_frame(pair);
        let mut at = self.random.range(first as u32, end as u32) as usize;
        loop {
            at = if at + 1 >= end { first } else { at + 1 };
            let allowed = !pair || at > first;
            if allowed && (self.random.coin(8) || self.is_unused(at, pair)) {
                break;
            }
        }
        self.stack[at] = Entry::Used;
        if pair {
            self.stack[at - 1] = Entry::Used;
        }
        at
    }

    fn is_unused(&self, at: usize, pair: bool) -> bool {
        self.stack[at] == Entry::Unused && (!pair || self.stack[at - 1] == Entry::Unused)
    }

    /// The first and past-the-last position of the variables of the frame to pick from.
    fn pick_frame(&mut self, pair: bool) -> (usize, usize) {
        let mut end = self.stack.len();
        for &marker in self.markers.iter().rev() {
            let first = marker + 1;
            let is_large_enough = end - first > usize::from(pair);
            if is_large_enough && (marker == 0 || !self.random.coin(4)) {
                return (first, end);
            }
            end = marker;
        }
        unreachable!("the outermost frame holds at least two variables")
    }
}

fn cost(kind: Kind) -> u32 {
    match kind {
        Kind::OneToOne => 1,
        Kind::TwoToOne => 2,
        Kind::TwoToTwo => 4,
        Kind::FourToTwo => 8,
        Kind::FourToFour => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;

    #[test]
    fn the_cost_is_known_as_it_is_decoded() {
        for i in 0..300u32 {
            let seed = seed(i);
            let program = Program::generate(&seed).expect("a valid program");
            let mut generator = Generator::new(&seed, u64::MAX);
            generator.add_loop(BUDGET);
            assert_eq!(
                (generator.cost, generator.reads_word0),
                (program.static_cost(), program.reads_word0())
            );
        }
    }

    #[test]
    fn programs_are_abandoned_just_above_the_price() {
        let (mut taken, mut words, mut emitted) = (0, 0, 0);
        for i in 0..300u32 {
            let seed = seed(i);
            let program = Program::generate(&seed).expect("a valid program");
            let cost = program.table_cost();
            let at_its_cost = Program::generate_at_most(&seed, cost).expect("valid").expect("not dearer");
            assert_eq!((at_its_cost.words(), at_its_cost.memory()), (program.words(), program.memory()));
            assert!(Program::generate_at_most(&seed, cost - 1).expect("valid").is_none(), "it costs {cost}");

            let mut generator = Generator::new(&seed, 3000);
            generator.add_loop(BUDGET);
            taken += u32::from(!generator.is_too_dear());
            assert_eq!(generator.is_too_dear(), cost > 3000);
            words += program.words().len();
            emitted += generator.instructions.len();
        }
        assert!((1..100).contains(&taken), "{taken} of 300");
        assert!(emitted < words * 3 / 4, "{emitted} of {words} instructions were emitted");
    }

    fn seed(i: u32) -> Hash32 {
        crate::primitives::b32(&[&i.to_le_bytes()])
    }

    #[test]
    fn remainders_are_those_of_a_division() {
        let words = (0..2000u32).map(|i| i.wrapping_mul(0x9e37_79b9));
        for word in words.chain([0, 1, 127, 128, u32::MAX - 1, u32::MAX]) {
            for m in (1..300).chain([8191]) {
                assert_eq!(remainder(word, m), word % m, "{word} % {m}");
                assert_eq!(remainder(word / m * m, m), 0, "a multiple of {m}");
            }
        }
    }
}
