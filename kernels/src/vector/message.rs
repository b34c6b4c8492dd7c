//! What Poly1305 authenticates.

/// Where the head of a message ends.
pub(crate) const HEAD_BLOCKS: usize = 60;

/// A message in one or two pieces, and the state whose one-time key authenticates it.
#[derive(Clone, Copy)]
pub(crate) struct Message {
    /// The state's header: nonce in bytes 0..12, key in bytes 16..48.
    pub header: *const u8,
    /// Blocks 0 to [`HEAD_BLOCKS`].
    pub head: *const u8,
    /// The blocks from [`HEAD_BLOCKS`] on; points to where block 0 would be if all of them lay in one piece.
    pub tail: *const u8,
    /// How many blocks, the one of the lengths not counted.
    pub blocks: u32,
    /// The two lengths that are the last block.
    pub lengths: [u64; 2],
}
