//! What every opcode computes (spec §5).

use crate::program::{Op, Operand};

/// The registers of a run and which of them an instruction is about.
pub(super) struct Frame<'a> {
    pub registers: &'a mut [u32],
    /// First slot of the results.
    pub out: u16,
    pub a: u16,
    pub b: Operand,
}

// All inlined by force: some of these stay calls otherwise, which costs a tenth of a run.

impl Frame<'_> {
    #[inline(always)]
    fn word(&self, slot: u16) -> u32 {
        self.registers[usize::from(slot)]
    }

    #[inline(always)]
    fn pair(&self, slot: u16) -> u64 {
        join(self.word(slot), self.word(slot + 1))
    }

    #[inline(always)]
    fn b_word(&self) -> u32 {
        match self.b {
            Operand::Register(slot) => self.word(slot),
            Operand::Immediate(value) => value as u32,
        }
    }

    #[inline(always)]
    fn b_pair(&self) -> u64 {
        match self.b {
            Operand::Register(slot) => self.pair(slot),
            Operand::Immediate(value) => value,
        }
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, words: [u32; N]) {
        let out = usize::from(self.out);
        self.registers[out..out + N].copy_from_slice(&words);
    }

    #[inline(always)]
    fn one(mut self, compute: impl Fn(u32) -> u32) {
        self.put([compute(self.word(self.a))]);
    }

    #[inline(always)]
    fn two(mut self, compute: impl Fn(u32, u32) -> u32) {
        self.put([compute(self.word(self.a), self.b_word())]);
    }

    #[inline(always)]
    fn two_wide(mut self, compute: impl Fn(u32, u32) -> u64) {
        self.put(split(compute(self.word(self.a), self.b_word())));
    }

    #[inline(always)]
    fn four(mut self, compute: impl Fn(u64, u64) -> u64) {
        self.put(split(compute(self.pair(self.a), self.b_pair())));
    }

    #[inline(always)]
    fn four_wide(mut self, compute: impl Fn(u64, u64) -> u128) {
        let result = compute(self.pair(self.a), self.b_pair());
        let ([w0, w1], [w2, w3]) = (split(result as u64), split((result >> 64) as u64));
        self.put([w0, w1, w2, w3]);
    }
}

/// Computes `op` and puts the results on the registers.
///
/// Counts of shifts and rotates are modulo the part's width, as `wrapping_shl` and its kin have it.
#[inline(always)]
#[rustfmt::skip]
pub(super) fn execute(op: Op, frame: Frame) {
    match op {
        Op::Popcnt8 => frame.one(|a| bytes(a, a, |a, _| a.count_ones() as u8)),
        Op::Popcnt16 => frame.one(|a| halves(a, a, |a, _| a.count_ones() as u16)),
        Op::Popcnt32 => frame.one(u32::count_ones),
        Op::Clz8 => frame.one(|a| bytes(a, a, |a, _| a.leading_zeros() as u8)),
        Op::Clz16 => frame.one(|a| halves(a, a, |a, _| a.leading_zeros() as u16)),
        Op::Clz32 => frame.one(u32::leading_zeros),
        Op::Ctz8 => frame.one(|a| bytes(a, a, |a, _| a.trailing_zeros() as u8)),
        Op::Ctz16 => frame.one(|a| halves(a, a, |a, _| a.trailing_zeros() as u16)),
        Op::Ctz32 => frame.one(u32::trailing_zeros),
        Op::Bswap16 => frame.one(|a| halves(a, a, |a, _| a.swap_bytes())),
        Op::Bswap32 => frame.one(u32::swap_bytes),

        Op::Add8 => frame.two(|a, b| bytes(a, b, u8::wrapping_add)),
        Op::Add16 => frame.two(|a, b| halves(a, b, u16::wrapping_add)),
        Op::Add32 => frame.two(u32::wrapping_add),
        Op::Sub8 => frame.two(|a, b| bytes(a, b, u8::wrapping_sub)),
        Op::Sub16 => frame.two(|a, b| halves(a, b, u16::wrapping_sub)),
        Op::Sub32 => frame.two(u32::wrapping_sub),
        Op::Shll8 => frame.two(|a, b| bytes(a, b, |a, b| a.wrapping_shl(b.into()))),
        Op::Shll16 => frame.two(|a, b| halves(a, b, |a, b| a.wrapping_shl(b.into()))),
        Op::Shll32 => frame.two(u32::wrapping_shl),
        Op::Shrl8 => frame.two(|a, b| bytes(a, b, |a, b| a.wrapping_shr(b.into()))),
        Op::Shrl16 => frame.two(|a, b| halves(a, b, |a, b| a.wrapping_shr(b.into()))),
        Op::Shrl32 => frame.two(u32::wrapping_shr),
        Op::Shra8 => frame.two(|a, b| bytes(a, b, |a, b| (a as i8).wrapping_shr(b.into()) as u8)),
        Op::Shra16 => frame.two(|a, b| halves(a, b, |a, b| (a as i16).wrapping_shr(b.into()) as u16)),
        Op::Shra32 => frame.two(|a, b| (a as i32).wrapping_shr(b) as u32),
        Op::Rotl8 => frame.two(|a, b| bytes(a, b, |a, b| a.rotate_left(u32::from(b) % 8))),
        Op::Rotl16 => frame.two(|a, b| halves(a, b, |a, b| a.rotate_left(u32::from(b) % 16))),
        Op::Rotl32 => frame.two(|a, b| a.rotate_left(b % 32)),
        Op::Mul8 => frame.two(|a, b| bytes(a, b, u8::wrapping_mul)),
        Op::Mul16 => frame.two(|a, b| halves(a, b, u16::wrapping_mul)),
        Op::Mul32 => frame.two(u32::wrapping_mul),
        Op::And => frame.two(|a, b| a & b),
        Op::Or => frame.two(|a, b| a | b),
        Op::Xor => frame.two(|a, b| a ^ b),

        Op::Add8C => frame.two_wide(|a, b| wide_bytes(a, b, |a, b| u16::from(a) + u16::from(b))),
        Op::Add16C => frame.two_wide(|a, b| wide_halves(a, b, |a, b| u32::from(a) + u32::from(b))),
        Op::Add32C => frame.two_wide(|a, b| u64::from(a) + u64::from(b)),
        Op::Sub8C => frame.two_wide(|a, b| wide_bytes(a, b, |a, b| u16::from(a).wrapping_sub(b.into()))),
        Op::Sub16C => frame.two_wide(|a, b| wide_halves(a, b, |a, b| u32::from(a).wrapping_sub(b.into()))),
        Op::Sub32C => frame.two_wide(|a, b| u64::from(a).wrapping_sub(b.into())),
        Op::Mul8C => frame.two_wide(|a, b| wide_bytes(a, b, |a, b| (i16::from(a as i8) * i16::from(b as i8)) as u16)),
        Op::Mul16C => frame.two_wide(|a, b| wide_halves(a, b, |a, b| (i32::from(a as i16) * i32::from(b as i16)) as u32)),
        Op::Mul32C => frame.two_wide(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64),
        Op::Mulsu8C => frame.two_wide(|a, b| wide_bytes(a, b, |a, b| (i16::from(a as i8)).wrapping_mul(b.into()) as u16)),
        Op::Mulsu16C => frame.two_wide(|a, b| wide_halves(a, b, |a, b| i32::from(a as i16).wrapping_mul(b.into()) as u32)),
        Op::Mulsu32C => frame.two_wide(|a, b| i64::from(a as i32).wrapping_mul(b.into()) as u64),
        Op::Mulu8C => frame.two_wide(|a, b| wide_bytes(a, b, |a, b| u16::from(a) * u16::from(b))),
        Op::Mulu16C => frame.two_wide(|a, b| wide_halves(a, b, |a, b| u32::from(a) * u32::from(b))),
        Op::Mulu32C => frame.two_wide(|a, b| u64::from(a) * u64::from(b)),

        Op::Add64 => frame.four(u64::wrapping_add),
        Op::Sub64 => frame.four(u64::wrapping_sub),
        Op::Shll64 => frame.four(|a, b| a.wrapping_shl(b as u32)),
        Op::Shrl64 => frame.four(|a, b| a.wrapping_shr(b as u32)),
        Op::Shra64 => frame.four(|a, b| (a as i64).wrapping_shr(b as u32) as u64),
        Op::Rotl64 => frame.four(|a, b| a.rotate_left(b as u32 % 64)),
        Op::Rotr64 => frame.four(|a, b| a.rotate_right(b as u32 % 64)),
        Op::Mul64 => frame.four(u64::wrapping_mul),

        Op::Add64C => frame.four_wide(|a, b| u128::from(a) + u128::from(b)),
        Op::Sub64C => frame.four_wide(|a, b| u128::from(a).wrapping_sub(b.into())),
        Op::Mul64C => frame.four_wide(|a, b| (i128::from(a as i64) * i128::from(b as i64)) as u128),
        Op::Mulsu64C => frame.four_wide(|a, b| i128::from(a as i64).wrapping_mul(b.into()) as u128),
        Op::Mulu64C => frame.four_wide(|a, b| u128::from(a) * u128::from(b)),
    }
}

/// Computes `op` of two operands of 64 bits, of which 32-bit kinds take the low words. Results in the order in which
/// they are pushed; those past the kind's outputs are zero.
pub fn compute(op: Op, a: u64, b: u64) -> [u32; 4] {
    let mut registers = [0; 6];
    registers[..2].copy_from_slice(&split(a));
    execute(op, Frame { registers: &mut registers, out: 2, a: 0, b: Operand::Immediate(b) });
    let mut results = [0; 4];
    results.copy_from_slice(&registers[2..]);
    results
}

#[inline(always)]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Low word first.
#[inline(always)]
fn split(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

/// Each byte by itself, back in place.
#[inline(always)]
fn bytes(a: u32, b: u32, compute: impl Fn(u8, u8) -> u8) -> u32 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    u32::from_le_bytes(std::array::from_fn(|i| compute(a[i], b[i])))
}

/// Each half by itself, back in place.
#[inline(always)]
fn halves(a: u32, b: u32, compute: impl Fn(u16, u16) -> u16) -> u32 {
    let low = compute(a as u16, b as u16);
    let high = compute((a >> 16) as u16, (b >> 16) as u16);
    u32::from(low) | u32::from(high) << 16
}

/// Each byte gives 16 bits, lowest byte first.
#[inline(always)]
fn wide_bytes(a: u32, b: u32, compute: impl Fn(u8, u8) -> u16) -> u64 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    (0..4).fold(0, |result, i| result | u64::from(compute(a[i], b[i])) << (16 * i))
}

/// Each half gives 32 bits, the low half first.
#[inline(always)]
fn wide_halves(a: u32, b: u32, compute: impl Fn(u16, u16) -> u32) -> u64 {
    join(compute(a as u16, b as u16), compute((a >> 16) as u16, (b >> 16) as u16))
}
