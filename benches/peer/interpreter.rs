//! Runs a program's words as they stand, for one item (spec §5, §6).

use super::Words;
use super::randgen::BUFFER_WORDS;

/// An item that executes this many instructions in a cycle is invalid.
const LIMIT: u32 = 20_001;

/// 2048 instructions push at most four registers or a marker each. A power of two, so that a mask keeps indices inside.
const STACK: usize = 1 << 13;

/// Runs programs; keeps its stacks from run to run.
pub struct Interpreter {
    registers: Box<[u32; STACK]>,
    scopes: Vec<Scope>,
}

/// A scope that is open.
#[derive(Clone, Copy)]
struct Scope {
    /// Where its marker is on the stack.
    marker: usize,
    /// For a loop: its first instruction, its turns, and the index of the loop around it. A branch has no turns.
    body: usize,
    turns: u32,
    outer_index: u32,
}

impl Interpreter {
    pub fn new() -> Self {
        Self { registers: Box::new([0; STACK]), scopes: Vec::with_capacity(64) }
    }

    /// Both cycles of the program for item number `item`.
    ///
    /// # Panics
    /// If a cycle reaches 20001 instructions. No such program is known.
    pub fn run(&mut self, program: &Words<BUFFER_WORDS>, item: u32, state: &mut [u8; 2048]) {
        let mut words = Words::<512>::from_bytes(state);
        let memory =
            program.0[item as usize % 1792..].first_chunk().expect("1791 + 256 words are inside the buffer");
        let (left, right) = words.0.split_at_mut(256);
        let left: &mut [u32; 256] = left.try_into().expect("half of 512");
        let right: &mut [u32; 256] = right.try_into().expect("half of 512");
        self.run_cycle(&program.0, memory, left, right);
        self.run_cycle(&program.0, memory, right, left);
        words.put_bytes(state);
    }

    fn run_cycle(
        &mut self,
        program: &[u32; BUFFER_WORDS],
        memory: &[u32; 256],
        input: &[u32; 256],
        output: &mut [u32; 256],
    ) {
        let registers = &mut *self.registers;
        let scopes = &mut self.scopes;
        scopes.clear();
        let (mut pc, mut top, mut index, mut output_at, mut executed) = (0, 0, 0u32, 0u8, 0);
        loop {
            let word = program[pc & (BUFFER_WORDS - 1)];
            pc += 1;
            executed += 1;
            assert!(executed < LIMIT, "the item executes too many instructions");

            macro_rules! push {
                ($($value:expr),*) => {{
                    $(registers[top & (STACK - 1)] = $value; top += 1;)*
                }};
            }
            macro_rules! one {
                ($f:expr) => {{
                    let a = registers[(word >> 9 & 511) as usize];
                    push!($f(a))
                }};
            }
            macro_rules! operands {
                () => {{
                    let a = registers[(word >> 9 & 511) as usize];
                    let is_immediate = word & 1 << 18 != 0;
                    let b = if is_immediate {
                        immediate(word) as u32
                    } else {
                        registers[(word >> 20 & 511) as usize]
                    };
                    (a, b)
                }};
            }
            macro_rules! two {
                ($f:expr) => {{
                    let (a, b) = operands!();
                    push!($f(a, b))
                }};
            }
            macro_rules! two_wide {
                ($f:expr) => {{
                    let (a, b) = operands!();
                    let result: u64 = $f(a, b);
                    push!(result as u32, (result >> 32) as u32)
                }};
            }
            macro_rules! pair {
                ($field:expr) => {{
                    let high = $field & 511;
                    let low = registers[(high.wrapping_sub(1) & 511) as usize];
                    u64::from(low) | u64::from(registers[high as usize]) << 32
                }};
            }
            macro_rules! pairs {
                () => {{
                    let a = pair!(word >> 9);
                    let is_immediate = word & 1 << 18 != 0;
                    let b = if is_immediate { immediate(word) } else { pair!(word >> 20) };
                    (a, b)
                }};
            }
            macro_rules! four {
                ($f:expr) => {{
                    let (a, b) = pairs!();
                    let result: u64 = $f(a, b);
                    push!(result as u32, (result >> 32) as u32)
                }};
            }
            macro_rules! four_wide {
                ($f:expr) => {{
                    let (a, b) = pairs!();
                    let result: u128 = $f(a, b);
                    push!(result as u32, (result >> 32) as u32, (result >> 64) as u32, (result >> 96) as u32)
                }};
            }

            match word & 0xff {
                // POPCNT, CLZ, CTZ: 8, 16, 32; BSWAP: 16, 32
                1 => one!(|a| bytes(a, a, |a, _| a.count_ones() as u8)),
                2 => one!(|a| halves(a, a, |a, _| a.count_ones() as u16)),
                3 => one!(|a: u32| a.count_ones()),
                4 => one!(|a| bytes(a, a, |a, _| a.leading_zeros() as u8)),
                5 => one!(|a| halves(a, a, |a, _| a.leading_zeros() as u16)),
                6 => one!(|a: u32| a.leading_zeros()),
                7 => one!(|a| bytes(a, a, |a, _| a.trailing_zeros() as u8)),
                8 => one!(|a| halves(a, a, |a, _| a.trailing_zeros() as u16)),
                9 => one!(|a: u32| a.trailing_zeros()),
                10 => one!(|a| halves(a, a, |a, _| a.swap_bytes())),
                11 => one!(|a: u32| a.swap_bytes()),

                // ADD, SUB, SHLL, SHRL, SHRA, ROTL, MUL: 8, 16, 32; AND, OR, XOR
                12 => two!(|a, b| bytes(a, b, u8::wrapping_add)),
                13 => two!(|a, b| halves(a, b, u16::wrapping_add)),
                14 => two!(u32::wrapping_add),
                15 => two!(|a, b| bytes(a, b, u8::wrapping_sub)),
                16 => two!(|a, b| halves(a, b, u16::wrapping_sub)),
                17 => two!(u32::wrapping_sub),
                18 => two!(|a, b| bytes(a, b, |a, b| a.wrapping_shl(b.into()))),
                19 => two!(|a, b| halves(a, b, |a, b| a.wrapping_shl(b.into()))),
                20 => two!(u32::wrapping_shl),
                21 => two!(|a, b| bytes(a, b, |a, b| a.wrapping_shr(b.into()))),
                22 => two!(|a, b| halves(a, b, |a, b| a.wrapping_shr(b.into()))),
                23 => two!(u32::wrapping_shr),
                24 => two!(|a, b| bytes(a, b, |a, b| (a as i8).wrapping_shr(b.into()) as u8)),
                25 => two!(|a, b| halves(a, b, |a, b| (a as i16).wrapping_shr(b.into()) as u16)),
                26 => two!(|a, b| (a as i32).wrapping_shr(b) as u32),
                27 => two!(|a, b| bytes(a, b, |a, b| a.rotate_left(b.into()))),
                28 => two!(|a, b| halves(a, b, |a, b| a.rotate_left(b.into()))),
                29 => two!(u32::rotate_left),
                30 => two!(|a, b| bytes(a, b, u8::wrapping_mul)),
                31 => two!(|a, b| halves(a, b, u16::wrapping_mul)),
                32 => two!(u32::wrapping_mul),
                33 => two!(|a, b| a & b),
                34 => two!(|a, b| a | b),
                35 => two!(|a, b| a ^ b),

                // ADDC, SUBC, MULC, MULSUC, MULUC: 8, 16, 32
                36 => two_wide!(|a, b| wide_bytes(a, b, |a, b| u16::from(a) + u16::from(b))),
                37 => two_wide!(|a, b| wide_halves(a, b, |a, b| u32::from(a) + u32::from(b))),
                38 => two_wide!(|a, b| u64::from(a) + u64::from(b)),
                39 => two_wide!(|a, b| wide_bytes(a, b, |a, b| u16::from(a).wrapping_sub(b.into()))),
                40 => two_wide!(|a, b| wide_halves(a, b, |a, b| u32::from(a).wrapping_sub(b.into()))),
                41 => two_wide!(|a, b: u32| u64::from(a).wrapping_sub(b.into())),
                42 => {
                    two_wide!(
                        |a, b| wide_bytes(a, b, |a, b| (a as i8 as i16).wrapping_mul(b as i8 as i16) as u16)
                    )
                }
                43 => two_wide!(|a, b| wide_halves(a, b, |a, b| (a as i16 as i32)
                    .wrapping_mul(b as i16 as i32)
                    as u32)),
                44 => two_wide!(|a, b| i64::from(a as i32).wrapping_mul((b as i32).into()) as u64),
                45 => {
                    two_wide!(|a, b| wide_bytes(a, b, |a, b| (a as i8 as i16).wrapping_mul(b.into()) as u16))
                }
                46 => {
                    two_wide!(|a, b| wide_halves(a, b, |a, b| (a as i16 as i32).wrapping_mul(b.into()) as u32))
                }
                47 => two_wide!(|a, b: u32| i64::from(a as i32).wrapping_mul(b.into()) as u64),
                48 => two_wide!(|a, b| wide_bytes(a, b, |a, b| u16::from(a) * u16::from(b))),
                49 => two_wide!(|a, b| wide_halves(a, b, |a, b| u32::from(a) * u32::from(b))),
                50 => two_wide!(|a, b| u64::from(a) * u64::from(b)),

                // ADD64, SUB64, SHLL64, SHRL64, SHRA64, ROTL64, ROTR64, MUL64
                51 => four!(u64::wrapping_add),
                52 => four!(u64::wrapping_sub),
                53 => four!(|a: u64, b| a.wrapping_shl(b as u32)),
                54 => four!(|a: u64, b| a.wrapping_shr(b as u32)),
                55 => four!(|a, b| (a as i64).wrapping_shr(b as u32) as u64),
                56 => four!(|a: u64, b| a.rotate_left(b as u32 & 63)),
                57 => four!(|a: u64, b| a.rotate_right(b as u32 & 63)),
                58 => four!(u64::wrapping_mul),

                // ADD64C, SUB64C, MUL64C, MULSU64C, MULU64C
                59 => four_wide!(|a, b| u128::from(a) + u128::from(b)),
                60 => four_wide!(|a, b: u64| u128::from(a).wrapping_sub(b.into())),
                61 => four_wide!(|a, b| i128::from(a as i64).wrapping_mul((b as i64).into()) as u128),
                62 => four_wide!(|a, b: u64| i128::from(a as i64).wrapping_mul(b.into()) as u128),
                63 => four_wide!(|a, b| u128::from(a) * u128::from(b)),

                // IN
                64 => push!(input[(immediate(word) & 255) as usize]),
                // MEMORY
                65 => {
                    let (base, step, carry) = (word >> 17, word >> 13 & 15, word >> 9 & 15);
                    let at = base.wrapping_add(index.wrapping_add(carry).wrapping_mul(step));
                    push!(memory[(at & 255) as usize])
                }
                // LOOP
                66 => {
                    scopes.push(Scope { marker: top, body: pc, turns: word >> 20, outer_index: index });
                    top += 1;
                    index = 0;
                }
                // IF_LIKELY, IF_RANDOM: over the JMP into the first body, or by it into the second
                opcode @ (67 | 68) => {
                    let mask = if opcode == 67 { 7 } else { 1 };
                    if registers[(word >> 9 & 511) as usize] & mask == 0 {
                        executed += 1;
                        pc += (program[pc & (BUFFER_WORDS - 1)] >> 8) as usize;
                    }
                    pc += 1;
                    scopes.push(Scope { marker: top, body: 0, turns: 0, outer_index: 0 });
                    top += 1;
                }
                // JMP
                69 => pc += (word >> 8) as usize,
                // END
                70 => {
                    let scope = scopes.last().expect("RandGen closes what it opened");
                    for value in &registers[scope.marker + 1..top] {
                        let word = &mut output[usize::from(output_at)];
                        *word = word.wrapping_add(*value);
                        output_at = output_at.wrapping_add(1);
                    }
                    top = scope.marker;
                    if index + 1 < scope.turns {
                        index += 1;
                        pc = scope.body;
                        top += 1;
                        continue;
                    }
                    if scope.turns > 0 {
                        index = scope.outer_index;
                    }
                    scopes.pop();
                    if scopes.is_empty() {
                        return;
                    }
                }
                opcode => unreachable!("RandGen emits no opcode {opcode}"),
            }
        }
    }
}

/// The 64-bit value of an immediate.
#[inline(always)]
fn immediate(word: u32) -> u64 {
    let field = (word as i32 >> 20) as u64;
    if word & 1 << 19 == 0 {
        return field;
    }
    let (a, b, i, sign) = (field & 31, field >> 5 & 31, field >> 10 & 1, field >> 11);
    ((i << 63).wrapping_sub(1) ^ 1 << b ^ 1 << a) | (sign & 1) << 63
}

/// Each byte by itself, back in place.
#[inline(always)]
fn bytes(a: u32, b: u32, f: impl Fn(u8, u8) -> u8) -> u32 {
    let part = |i: u32| u32::from(f((a >> (8 * i)) as u8, (b >> (8 * i)) as u8)) << (8 * i);
    part(0) | part(1) | part(2) | part(3)
}

/// Each half by itself, back in place.
#[inline(always)]
fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
}

/// Each byte gives 16 bits, lowest byte first.
#[inline(always)]
fn wide_bytes(a: u32, b: u32, f: impl Fn(u8, u8) -> u16) -> u64 {
    let part = |i: u32| u64::from(f((a >> (8 * i)) as u8, (b >> (8 * i)) as u8)) << (16 * i);
    part(0) | part(1) | part(2) | part(3)
}

/// Each half gives 32 bits, the low half first.
#[inline(always)]
fn wide_halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u32) -> u64 {
    u64::from(f(a as u16, b as u16)) | u64::from(f((a >> 16) as u16, (b >> 16) as u16)) << 32
}
