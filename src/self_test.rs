//! Each backend proves itself on a known round before it mines, and the kernel that everything else uses does so once.

use std::sync::OnceLock;

use kernels::{
    Announcement, Hash32, Header, Kernel, Validator, WorkBits,
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

/// A kernel that is used, and why it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The kernel.
    pub kernel: Kernel,
    /// Why, for people.
    pub reason: String,
}

/// A kernel computes wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CPU's {kernel} kernel computes wrongly, so it is not used: {reason}")]
pub struct Wrong {
    /// Its name.
    pub kernel: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// The kernel of this process: the fastest that computes as it should, which is found out once.
///
/// # Errors
/// If none does.
pub fn fastest() -> Result<Choice, Wrong> {
    static FASTEST: OnceLock<Result<Choice, Wrong>> = OnceLock::new();
    FASTEST.get_or_init(|| first_right(&Kernel::available(), prove)).clone()
}

/// The kernel that was asked for.
///
/// # Errors
/// If it computes wrongly.
pub fn asked_for(kernel: Kernel) -> Result<Choice, Wrong> {
    prove(kernel).map_err(|reason| Wrong { kernel: kernel.name(), reason })?;
    Ok(Choice { kernel, reason: "asked for".into() })
}

/// A validator with the kernel of this process; where none computes as it should, with the one that defines what that is.
pub fn validator() -> Validator {
    Validator::with_kernel(fastest().map_or(Kernel::Portable, |choice| choice.kernel))
}

fn first_right(available: &[Kernel], prove: impl Fn(Kernel) -> Result<(), String>) -> Result<Choice, Wrong> {
    let mut first_wrong = None;
    for &kernel in available {
        match prove(kernel) {
            Ok(()) => {
                let fastest = || "the fastest that this processor can run".into();
                let reason = first_wrong.map_or_else(fastest, |wrong: Wrong| wrong.to_string());
                return Ok(Choice { kernel, reason });
            }
            Err(reason) => {
                let wrong = Wrong { kernel: kernel.name(), reason };
                tracing::warn!("{wrong}");
                first_wrong.get_or_insert(wrong);
            }
        }
    }
    Err(first_wrong.expect("the portable kernel is always there"))
}

/// Has a CPU kernel mine the known round.
///
/// # Errors
/// What is wrong with its announcements.
fn prove(kernel: Kernel) -> Result<(), String> {
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
    fn a_kernel_that_computes_wrongly_gives_way() {
        let available = Kernel::available();
        let (fastest, slowest) = (available[0], available[available.len() - 1]);
        let choice = first_right(&available, |_| Ok(())).expect("all kernels are right");
        assert_eq!(
            (choice.kernel, choice.reason.as_str()),
            (fastest, "the fastest that this processor can run")
        );
        let wrong = |kernel: Kernel| if kernel == Kernel::Portable { Ok(()) } else { Err("2 of 3".into()) };
        let choice = first_right(&available, wrong).expect("one kernel is right");
        assert_eq!(choice.kernel, slowest);
        if fastest != slowest {
            let said = format!("the CPU's {fastest} kernel computes wrongly, so it is not used: 2 of 3");
            assert_eq!(choice.reason, said);
        }
        assert!(first_right(&available, |_| Err("nothing".into())).is_err());
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
