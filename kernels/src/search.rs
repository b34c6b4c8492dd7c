//! What a search keeps of a soft nonce from round to round (spec §8, step 5).

use crate::portable::State;
use crate::{Hash32, Winner};

/// Rounds of a soft nonce: items of table 2 that it reads.
pub const ROUNDS: u32 = 4;

/// A soft nonce's state between the rounds of a search, with room for what a kernel writes past its end. 2112 bytes:
/// an odd number of cache lines, so that neighbours do not compete for the same places of a cache.
///
/// [`Passes::init_states`](crate::Passes::init_states) starts it, four times
/// [`Passes::advance_states`](crate::Passes::advance_states) take it to its end, and
/// [`Passes::hash_states`](crate::Passes::hash_states) hashes it. Before each round,
/// [`next_item`](Self::next_item) says which item it will read.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct SearchState {
    /// The next item overwrites bytes 32 to 1056, so what they are between two rounds is up to the kernel.
    pub(crate) state: State,
    /// A kernel may write here what it likes.
    pub(crate) slack: [u8; Self::SLACK],
    pub(crate) soft_nonce: u32,
    /// The item that was read last.
    pub(crate) item: u32,
    /// Rounds that are behind it; one more once it is hashed.
    pub(crate) round: u32,
}

impl SearchState {
    /// A message's last keystream block reaches three units of 16 bytes past the state at most.
    pub(crate) const SLACK: usize = 48;

    /// What [`round`](Self::round) is of a state that is hashed.
    pub(crate) const HASHED: u32 = ROUNDS + 1;

    /// A state of no soft nonce yet.
    pub fn new() -> Self {
        Self {
            state: State([0; State::LEN]),
            slack: [0; Self::SLACK],
            soft_nonce: 0,
            item: 0,
            round: Self::HASHED,
        }
    }

    /// The soft nonce that the state belongs to.
    pub fn soft_nonce(&self) -> u32 {
        self.soft_nonce
    }

    /// The item that the next round reads.
    pub fn next_item(&self) -> u32 {
        self.state.next_item()
    }

    /// The soft nonce's hash.
    ///
    /// # Panics
    /// If the state is not hashed yet.
    pub fn hash(&self) -> &Hash32 {
        assert_eq!(self.round, Self::HASHED, "a state has a hash once it is hashed");
        self.state.0.first_chunk().expect("a state is longer than a hash")
    }

    /// The soft nonce as a winner, whether or not its hash meets any target.
    ///
    /// # Panics
    /// If the state is not hashed yet.
    pub fn winner(&self) -> Winner {
        assert_eq!(self.round, Self::HASHED, "a state is a winner's once it is hashed");
        Winner::new(self.soft_nonce, self.item, &self.state.0)
    }
}

impl Default for SearchState {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SearchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SearchState")
            .field("soft_nonce", &self.soft_nonce)
            .field("item", &self.item)
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}
