//! The announcement: 1024 bytes that a miner finds and a pool pays for (spec §3).

use crate::{Hash32, Hash64, WorkBits};

/// Depth of the Merkle tree over a table's 8192 items.
pub const MERKLE_DEPTH: usize = 13;

/// The fields that a miner chooses before it mines: what is hashed of an announcement apart from its soft nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chooses both tables.
    pub hard_nonce: u32,
    /// How hard the announcement's hash is to find.
    pub work_bits: WorkBits,
    /// Height of the block whose hash the announcement is bound to.
    pub parent_block_height: u32,
    /// Type of the content; zero for none.
    pub content_type: u32,
    /// Length of the content in bytes; zero for none.
    pub content_length: u32,
    /// Hash of the content; zeros for none.
    pub content_hash: Hash32,
    /// Key that the pool wants announcements to be signed with; zeros for none.
    pub signing_key: [u8; 32],
}

impl Header {
    /// Length of the encoded header in bytes.
    pub const LEN: usize = 88;

    /// A header without content.
    pub fn new(
        hard_nonce: u32,
        work_bits: WorkBits,
        parent_block_height: u32,
        signing_key: [u8; 32],
    ) -> Self {
        Self {
            hard_nonce,
            work_bits,
            parent_block_height,
            content_type: 0,
            content_length: 0,
            content_hash: [0; 32],
            signing_key,
        }
    }

    /// The first 88 bytes of an announcement of version 1 whose soft nonce is zero (spec §3).
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = 1;
        out[4..8].copy_from_slice(&self.hard_nonce.to_le_bytes());
        out[8..12].copy_from_slice(&self.work_bits.get().to_le_bytes());
        out[12..16].copy_from_slice(&self.parent_block_height.to_le_bytes());
        out[16..20].copy_from_slice(&self.content_type.to_le_bytes());
        out[20..24].copy_from_slice(&self.content_length.to_le_bytes());
        out[24..56].copy_from_slice(&self.content_hash);
        out[56..88].copy_from_slice(&self.signing_key);
        out
    }
}

/// An announcement, masked as it travels (spec §3, §9). Nothing is known of its validity.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Announcement([u8; Self::LEN]);

impl Announcement {
    /// Length in bytes.
    pub const LEN: usize = 1024;

    /// Takes the bytes as they are.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes as they travel.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The bytes, to be changed in place.
    pub fn as_bytes_mut(&mut self) -> &mut [u8; Self::LEN] {
        &mut self.0
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }

    /// The version, 1 in every announcement that this crate builds.
    pub fn version(&self) -> u8 {
        self.0[0]
    }

    /// The soft nonce, 24 bits.
    pub fn soft_nonce(&self) -> u32 {
        self.u32_at(0) >> 8
    }

    /// The hard nonce.
    pub fn hard_nonce(&self) -> u32 {
        self.u32_at(4)
    }

    /// The work bits as they stand, valid or not: see [`WorkBits::new`].
    pub fn work_bits(&self) -> u32 {
        self.u32_at(8)
    }

    /// Height of the parent block.
    pub fn parent_block_height(&self) -> u32 {
        self.u32_at(12)
    }

    /// Hash of the content; zeros for none.
    pub fn content_hash(&self) -> &[u8] {
        &self.0[24..56]
    }

    /// The signing key; zeros for an unsigned announcement.
    pub fn signing_key(&self) -> &[u8] {
        &self.0[56..88]
    }

    /// The root of table 1's Merkle tree, the one part of the branch that is in the clear.
    pub fn merkle_root(&self) -> Hash64 {
        let mut root = [0; 64];
        root.copy_from_slice(&self.0[920..984]);
        root
    }

    /// The first 88 bytes with the soft nonce set to zero: what both `ann_hash`es are made of (spec §8).
    pub fn header_bytes(&self) -> [u8; Header::LEN] {
        let mut out = [0; Header::LEN];
        out.copy_from_slice(&self.0[..Header::LEN]);
        out[1..4].fill(0);
        out
    }

    /// The announcement hash: B32 of the 1024 bytes (spec §10).
    pub fn hash(&self) -> Hash32 {
        let digest = blake2b_simd::Params::new().hash_length(32).hash(&self.0);
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_bytes());
        out
    }
}

impl std::fmt::Debug for Announcement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcement")
            .field("parent_block_height", &self.parent_block_height())
            .field("hard_nonce", &self.hard_nonce())
            .field("soft_nonce", &self.soft_nonce())
            .field("work_bits", &format_args!("{:#010x}", self.work_bits()))
            .finish_non_exhaustive()
    }
}

/// First 8 bytes of an announcement hash, the number that spreads announcements over handlers and by which
/// duplicates are spotted (spec §10).
pub fn short_hash(hash: &Hash32) -> u64 {
    u64::from_le_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]])
}
