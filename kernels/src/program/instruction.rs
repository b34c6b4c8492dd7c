//! Opcodes and decoded instructions (spec §5).

/// The opcodes that compute, numbered as in the specification from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the specification's")]
#[rustfmt::skip]
pub enum Op {
    Popcnt8 = 1, Popcnt16, Popcnt32,
    Clz8, Clz16, Clz32,
    Ctz8, Ctz16, Ctz32,
    Bswap16, Bswap32,
    Add8, Add16, Add32,
    Sub8, Sub16, Sub32,
    Shll8, Shll16, Shll32,
    Shrl8, Shrl16, Shrl32,
    Shra8, Shra16, Shra32,
    Rotl8, Rotl16, Rotl32,
    Mul8, Mul16, Mul32,
    And, Or, Xor,
    Add8C, Add16C, Add32C,
    Sub8C, Sub16C, Sub32C,
    Mul8C, Mul16C, Mul32C,
    Mulsu8C, Mulsu16C, Mulsu32C,
    Mulu8C, Mulu16C, Mulu32C,
    Add64, Sub64, Shll64, Shrl64, Shra64, Rotl64, Rotr64, Mul64,
    Add64C, Sub64C, Mul64C, Mulsu64C, Mulu64C,
}

/// How many registers an opcode takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1→1: one word in, one out; no operand B.
    OneToOne,
    /// 2→1: two words in, one out.
    TwoToOne,
    /// 2→2: two words in, two out.
    TwoToTwo,
    /// 4→2: two pairs in, one pair out.
    FourToTwo,
    /// 4→4: two pairs in, two pairs out.
    FourToFour,
}

impl Op {
    /// All of them, in order: the opcode numbered n is at n − 1.
    #[rustfmt::skip]
    pub const ALL: [Self; 63] = {
        use Op::*;
        [
            Popcnt8, Popcnt16, Popcnt32, Clz8, Clz16, Clz32, Ctz8, Ctz16, Ctz32, Bswap16, Bswap32,
            Add8, Add16, Add32, Sub8, Sub16, Sub32, Shll8, Shll16, Shll32, Shrl8, Shrl16, Shrl32,
            Shra8, Shra16, Shra32, Rotl8, Rotl16, Rotl32, Mul8, Mul16, Mul32, And, Or, Xor,
            Add8C, Add16C, Add32C, Sub8C, Sub16C, Sub32C, Mul8C, Mul16C, Mul32C,
            Mulsu8C, Mulsu16C, Mulsu32C, Mulu8C, Mulu16C, Mulu32C,
            Add64, Sub64, Shll64, Shrl64, Shra64, Rotl64, Rotr64, Mul64,
            Add64C, Sub64C, Mul64C, Mulsu64C, Mulu64C,
        ]
    };

    /// The opcode numbered `code`, if it is one that computes.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get((code as usize).checked_sub(1)?).copied()
    }

    /// What the opcode takes and gives.
    pub fn kind(self) -> Kind {
        match self as u8 {
            0..=11 => Kind::OneToOne,
            12..=35 => Kind::TwoToOne,
            36..=50 => Kind::TwoToTwo,
            51..=58 => Kind::FourToTwo,
            _ => Kind::FourToFour,
        }
    }
}

impl Kind {
    /// The opcodes of this kind, in order.
    pub fn ops(self) -> &'static [Op] {
        match self {
            Self::OneToOne => &Op::ALL[..11],
            Self::TwoToOne => &Op::ALL[11..35],
            Self::TwoToTwo => &Op::ALL[35..50],
            Self::FourToTwo => &Op::ALL[50..58],
            Self::FourToFour => &Op::ALL[58..],
        }
    }

    /// How many registers an opcode of this kind pushes.
    pub fn outputs(self) -> u16 {
        match self {
            Self::OneToOne | Self::TwoToOne => 1,
            Self::TwoToTwo | Self::FourToTwo => 2,
            Self::FourToFour => 4,
        }
    }

    /// Whether there is an operand B.
    pub fn has_b(self) -> bool {
        self != Self::OneToOne
    }

    /// Whether operands are pairs of registers, 64 bits.
    pub fn takes_pairs(self) -> bool {
        matches!(self, Self::FourToTwo | Self::FourToFour)
    }
}

/// Numbers of the opcodes that do not compute.
pub(super) mod code {
    pub const IN: u32 = 64;
    pub const MEMORY: u32 = 65;
    pub const LOOP: u32 = 66;
    pub const IF_LIKELY: u32 = 67;
    pub const IF_RANDOM: u32 = 68;
    pub const JMP: u32 = 69;
    pub const END: u32 = 70;
}

/// Operand B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A slot; of a pair the lower one, which holds the low word.
    Register(u16),
    /// A value, of which 32-bit kinds take the low word.
    Immediate(u64),
}

/// What an IF looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// IF_LIKELY: any of operand A's low three bits.
    Likely,
    /// IF_RANDOM: operand A's lowest bit.
    Random,
}

impl Condition {
    /// The bits of operand A of which one must be set.
    pub fn mask(self) -> u32 {
        match self {
            Self::Likely => 7,
            Self::Random => 1,
        }
    }
}

/// What an END closes, and so where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closes {
    /// A loop of `count` turns: back to instruction `begin`, the first of its body, until all are done.
    Loop {
        /// Index of the body's first instruction.
        begin: u16,
        /// How many turns there are.
        count: u16,
    },
    /// The first body of a branch: on to instruction `resume`, past the second body.
    Then {
        /// Index of the instruction after the whole branch.
        resume: u16,
    },
    /// The second body of a branch: on to the next instruction.
    Else,
}

/// A decoded instruction. Slots are those of [`Program`](super::Program); results go to consecutive slots from `out` on.
///
/// The JMPs of a branch are folded into the [`If`](Self::If) and the END of its first body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Computes `op` of its operands.
    Compute {
        /// What to compute.
        op: Op,
        /// First slot of the results.
        out: u16,
        /// Slot of operand A; of a pair the lower one, which holds the low word.
        a: u16,
        /// Operand B; a zero immediate where the kind has none.
        b: Operand,
    },
    /// IN: takes a word of the input.
    Input {
        /// Slot of the result.
        out: u16,
        /// Index of the input word.
        word: u8,
    },
    /// MEMORY: takes word `base + (loop index + carry) * step`, modulo 256, of the item's memory.
    Memory {
        /// Slot of the result.
        out: u16,
        /// Word that steps are counted from.
        base: u8,
        /// Words from one turn of the loop to the next.
        step: u8,
        /// Turns that are added to the loop index.
        carry: u8,
    },
    /// LOOP: starts the innermost loop's index at zero.
    Loop {
        /// How many turns the loop takes, 2 to 2047.
        count: u16,
    },
    /// IF: goes on if the condition holds, else to `otherwise`. Counts as two instructions (spec §6).
    If {
        /// What the condition looks at.
        condition: Condition,
        /// Slot of operand A.
        a: u16,
        /// Index of the second body's first instruction.
        otherwise: u16,
    },
    /// END: adds the scope's variables to the output, oldest first.
    End {
        /// Slot of the scope's oldest variable.
        first: u16,
        /// How many variables there are; may be none.
        count: u16,
        /// What comes next.
        closes: Closes,
    },
}

impl Instruction {
    /// How many executed instructions this one counts for (spec §6).
    pub fn executed(&self) -> u32 {
        match self {
            Self::If { .. } => 2,
            _ => 1,
        }
    }
}

/// The 64-bit value of an immediate (spec §5).
pub(super) fn immediate(word: u32) -> u64 {
    let field = (word as i32 >> 20) as u64;
    if word & (1 << 19) == 0 {
        return field;
    }
    let (a, b, i, sign) = (field & 31, field >> 5 & 31, field >> 10 & 1, field >> 11);
    ((i << 63).wrapping_sub(1) ^ (1 << b) ^ (1 << a)) | (sign & 1) << 63
}

/// The input word that an IN takes.
pub(super) fn input_word(word: u32) -> u8 {
    immediate(word) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opcodes_are_numbered_as_specified() {
        for (i, op) in Op::ALL.into_iter().enumerate() {
            assert_eq!(op as usize, i + 1);
            assert_eq!(Op::from_code(i as u32 + 1), Some(op));
            assert!(op.kind().ops().contains(&op));
        }
        assert_eq!((Op::from_code(0), Op::from_code(64)), (None, None));
    }

    #[test]
    fn immediates_are_signed_or_patterns() {
        assert_eq!(immediate(5 << 20), 5);
        assert_eq!(immediate(0xffe0_0000), -2i64 as u64);
        assert_eq!(immediate(1 << 19), u64::MAX, "bits 0 flipped twice");
        assert_eq!(immediate(1 << 19 | 3 << 20), u64::MAX ^ 1 ^ 8);
        assert_eq!(immediate(1 << 19 | (1 << 10 | 3) << 20), i64::MAX as u64 ^ 1 ^ 8);
        assert_eq!(immediate(1 << 19 | (1 << 11 | 1 << 10 | 3) << 20), u64::MAX ^ 1 ^ 8);
    }
}
