//! The wire: what master, ann handlers and miners say to each other, as plain data.
//!
//! Shared by both sides of it, the miner and the local pool. No I/O happens here.

mod block;
mod config;
mod hash;
mod submit;
mod work;

pub use block::{BlockHeader, BlockInfo};
pub use config::{Config, ConfigError};
pub use hash::BlockHash;
pub use submit::{AnnsResult, Answer, PayTo, PayToError, headers};
pub use work::difficulty_shown;

/// How many parents an ann handler takes announcements for: from `tip − 5` to the tip.
pub const WINDOW: u32 = 6;

/// The deepest `mineOldAnns` that is believed and followed, the pool's or the user's. Handlers take the newest six parents;
/// deeper than this is a mistake.
pub const MINE_OLD_MAX: u32 = 100;

/// The longest list of ann handlers that is believed.
pub const HANDLERS_MAX: usize = 256;

/// Announcements in a full batch.
pub const BATCH: usize = 1024;
