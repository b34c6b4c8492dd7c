//! The validator and its result codes (spec §10).

use crate::{Announcement, Hash32};

/// Why a validator refuses an announcement. The order is that in which failures are looked for, apart from
/// invalid work bits, which are [`Invalid::InsufficientWork`] before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Invalid {
    /// Code 4: the soft nonce is above the maximum of the work bits.
    #[error("SOFT_NONCE_HIGH")]
    SoftNonceHigh,
    /// Code 2: the item prefix is not zero after unmasking.
    #[error("INVAL_ITEM4")]
    Item4Prefix,
    /// Code 1: the item is not in the tree, or a program is invalid.
    #[error("INVAL")]
    Inval,
    /// Code 3: the hash does not meet the work bits, or nothing ever could.
    #[error("INSUF_POW")]
    InsufficientWork,
}

impl Invalid {
    /// The validator's result code; 0 stands for a valid announcement.
    pub fn code(self) -> u8 {
        match self {
            Self::Inval => 1,
            Self::Item4Prefix => 2,
            Self::InsufficientWork => 3,
            Self::SoftNonceHigh => 4,
        }
    }
}

/// Validates announcements, sharing what announcements of one hard nonce have in common.
#[derive(Default)]
pub struct Validator {}

impl Validator {
    /// A validator that remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Validates one announcement against its parent block's hash (internal order).
    ///
    /// # Errors
    /// The first failure in the validator's order (spec §10).
    pub fn validate(&mut self, _announcement: &Announcement, _parent_hash: &Hash32) -> Result<(), Invalid> {
        unimplemented!("arrives with the portable kernel")
    }
}
