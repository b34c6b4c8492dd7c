//! Each backend proves itself on a known round before it mines.

use kernels::{
    Announcement, Hash32, Header, Kernel, WorkBits,
    primitives::b32,
    round::{RoundMemory, mine_round},
};

/// The round: the first one of difficulty 2 among the test vectors.
const HARD_NONCE: u32 = 0x4ef4_09d0;
const WORK_BITS: u32 = 0x207f_ffff;
const PARENT_HEIGHT: u32 = 0x0007_d887;
const PARENT_HASH: &str = "e9ac2bc0470d9e3f0bde12e3d96b4084dce6a9730e36b7f6c62038202cbad72b";

/// How many announcements it has.
const ANNOUNCEMENTS: usize = 533;

/// B32 of all of them, one after the other, lowest soft nonce first.
const CHECKSUM: &str = "f77d1c02d7ed321b02c6cb69eb4b8307f2b0c4fd85fda8d5c6815d6d7fbff104";

/// A round whose outcome is known.
pub struct KnownRound {
    /// Its header, hard nonce included.
    pub header: Header,
    /// Its parent's hash.
    pub parent_hash: Hash32,
}

impl KnownRound {
    /// The round.
    pub fn new() -> Self {
        let work_bits = WorkBits::new(WORK_BITS).expect("the easiest work bits are valid");
        let mut parent_hash = [0; 32];
        hex::decode_to_slice(PARENT_HASH, &mut parent_hash).expect("64 digits");
        Self { header: Header::new(HARD_NONCE, work_bits, PARENT_HEIGHT, [0; 32]), parent_hash }
    }

    /// Holds a backend's announcements, lowest soft nonce first, to the known ones.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(&self, announcements: &[Announcement]) -> Result<(), String> {
        if announcements.len() != ANNOUNCEMENTS {
            let found = announcements.len();
            return Err(format!("of a round with {ANNOUNCEMENTS} announcements it found {found}"));
        }
        let bytes: Vec<&[u8]> = announcements.iter().map(|a| a.as_bytes().as_slice()).collect();
        let checksum = hex::encode(b32(&bytes));
        if checksum != CHECKSUM {
            return Err(format!("the announcements' checksum is {checksum}, not {CHECKSUM}"));
        }
        Ok(())
    }
}

/// Has a CPU kernel mine the known round.
///
/// # Errors
/// What is wrong with its announcements.
pub fn prove(kernel: Kernel) -> Result<(), String> {
    let known = KnownRound::new();
    let nonces = 0..known.header.work_bits.soft_nonce_max() + 1;
    let mut memory = RoundMemory::default();
    let found = mine_round(&known.header, &known.parent_hash, &mut *kernel.passes(), nonces, &mut memory)
        .map_err(|error| format!("of a round that can be mined it says: {error}"))?;
    known.check(&found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_proves_itself() {
        for kernel in Kernel::available() {
            assert_eq!(prove(kernel), Ok(()), "{kernel}");
        }
    }

    #[test]
    fn one_wrong_bit_is_noticed() {
        let known = KnownRound::new();
        let nonces = 0..known.header.work_bits.soft_nonce_max() + 1;
        let passes = &mut *Kernel::Portable.passes();
        let mut found =
            mine_round(&known.header, &known.parent_hash, passes, nonces, &mut RoundMemory::default())
                .expect("the round can be mined");
        assert!(known.check(&found[1..]).is_err());
        found[7].as_bytes_mut()[1000] ^= 4;
        assert!(known.check(&found).is_err());
    }
}
