//! What the header of a state asks for in CRYPT (spec §7), for items and for the search alike.

use crate::portable::State;

/// Where additional data and message begin. They are counted in units of 16 bytes.
pub(super) const CONTENT: usize = 48;
pub(super) const UNIT: usize = 16;

/// Additional data and message fit behind the header.
pub(super) const CONTENT_UNITS: usize = (State::LEN - CONTENT) / UNIT;

/// Most additional data, in bytes.
pub(super) const ADDITIONAL: usize = 7 * UNIT;

/// What a header asks for.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// The header's `data` after CRYPT.
    pub data: u32,
    pub decrypts: bool,
    /// Units of additional data, and of message.
    pub add: usize,
    pub len: usize,
    /// Bytes that are taken off the lengths.
    azc: usize,
    pub tzc: usize,
}

impl Plan {
    /// Of the word from which FUZZ derives the header.
    pub fn new(word: u32) -> Self {
        let data = word & 0x00ff_ffff | 32 << 17;
        let field = |at: u32, bits: u32| (data >> at) as usize & ((1 << bits) - 1);
        let add = field(13, 3);
        let len = field(17, 7).min(CONTENT_UNITS - add);
        let truncated = u32::from(len != field(17, 7));
        Self {
            data: data & !(0xff << 16) | truncated << 16 | (len as u32) << 17,
            decrypts: field(12, 1) == 1,
            add,
            len,
            azc: field(0, 4),
            tzc: field(8, 4),
        }
    }

    /// Units of content.
    pub fn units(&self) -> usize {
        self.add + self.len
    }

    /// Where the message begins in the state, and where it ends.
    pub fn message(&self) -> usize {
        CONTENT + self.add * UNIT
    }

    pub fn end(&self) -> usize {
        CONTENT + self.units() * UNIT
    }

    /// The block of lengths (spec §7, step 4).
    pub fn lengths(&self) -> [u64; 2] {
        let additional = ((self.add * UNIT) as u64).wrapping_sub(self.azc as u64);
        [additional, (self.len * UNIT - self.tzc) as u64]
    }
}
