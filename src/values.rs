//! The plain values that cross from box to box.

use std::{
    fmt,
    ops::{Deref, Range},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use kernels::{Announcement, Hash32, Header, WorkBits, announcement::short_hash};
use url::Url;

use crate::protocol::BlockHash;

/// A moment: time since the process started. State machines are told it; they never ask.
pub type Moment = Duration;

/// What the leading pool wants mined. A new one replaces the old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Counts up; a later job has a larger number.
    pub id: u64,
    /// Hash of the block mined on.
    pub parent_hash: BlockHash,
    /// Its height.
    pub parent_height: u32,
    /// Work bits that announcements are mined with: the pool's, or harder ones of our own choice.
    pub work_bits: WorkBits,
    /// Key that announcements carry; zeros for none.
    pub signing_key: [u8; 32],
}

impl Job {
    /// The header of this job's announcements with one hard nonce.
    pub fn header(&self, hard_nonce: u32) -> Header {
        Header::new(hard_nonce, self.work_bits, self.parent_height, self.signing_key)
    }

    /// The value of `x-pc-worknum`.
    pub fn work_number(&self) -> u32 {
        self.parent_height + 1
    }
}

/// One round's worth of hard nonces. A backend mines one of them, or as many as it pleases, and never another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Counts up over all jobs and backends.
    pub id: u64,
    /// What it is mined for.
    pub job: Arc<Job>,
    /// The hard nonces that may be tried, none of which was or will be handed to anybody else.
    pub hard_nonces: HardNonces,
}

/// A run of hard nonces, wrapping at 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardNonces {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl HardNonces {
    /// The hard nonces in order.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |i| self.first.wrapping_add(i))
    }
}

/// Which backend found an announcement: an index into the list of backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub usize);

/// Which pool, in the order that the user named them: the first one leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub usize);

/// An announcement that was found, and what must be known to hand it in.
#[derive(Clone, Debug)]
pub struct Found {
    /// The announcement.
    pub announcement: Announcement,
    /// Its announcement hash: chooses the handler (spec §10).
    pub hash: Hash32,
    /// What it was mined for.
    pub job: Arc<Job>,
    /// Who found it.
    pub backend: BackendId,
}

impl Found {
    /// Hashes the announcement.
    pub fn new(announcement: Announcement, job: Arc<Job>, backend: BackendId) -> Self {
        Self { hash: announcement.hash(), announcement, job, backend }
    }

    /// The index of the handler, out of `handlers`, that takes it.
    ///
    /// # Panics
    /// If there is no handler.
    pub fn handler_index(&self, handlers: usize) -> usize {
        (short_hash(&self.hash) % handlers as u64) as usize
    }
}

/// What a pool says, as far as it could be understood: who takes announcements, and which.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PoolView {
    /// Addresses of the ann handlers; the order matters.
    pub handlers: Vec<Address>,
    /// Height of the newest block.
    pub tip_height: u32,
    /// Work bits asked for; `None`: unknown, or the pool cannot be mined on.
    pub ann_target: Option<WorkBits>,
    /// The newest blocks that are known, in order of height and without gaps; the last may be the tip.
    /// Empty for a secondary pool, whose blocks nobody asks for.
    pub blocks: Vec<Block>,
}

/// Where a pool or a handler is. All that prints it leaves out the user name and the password that are in it: logs, status
/// lines and metrics are read by others. What connects asks for [`Url::as_str`], which has them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Url);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        // These fail only for addresses that have no place for a name.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        f.write_str(url.as_str())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Deref for Address {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.0
    }
}

impl From<Url> for Address {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl FromStr for Address {
    type Err = url::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A block that can be, or could be, mined on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// Key that announcements on it are signed with; zeros for none.
    pub signing_key: [u8; 32],
}

impl PoolView {
    /// The heights of the parents that handlers take announcements for: the newest six.
    pub fn window(&self) -> Range<u32> {
        (self.tip_height + 1).saturating_sub(crate::protocol::WINDOW)..self.tip_height + 1
    }

    /// Whether a pool lists a handler to say that it wants no announcements there.
    pub fn wants_nothing_at(handler: &url::Url) -> bool {
        handler.host_str() == Some("invalid")
    }

    /// The block at a height, if it is known.
    pub fn block_at(&self, height: u32) -> Option<&Block> {
        self.blocks.iter().find(|block| block.height == height)
    }
}

/// Why announcements are as hard as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hardness {
    /// The leading pool asks for it, or for something hardly easier (see [`WorkBitsRule`](crate::pool::WorkBitsRule)).
    #[default]
    Pool,
    /// The user wants none that are easier.
    MinDifficulty,
    /// The upload limit does not let as many through as easier ones would be.
    MaxUpload,
}

impl fmt::Display for Hardness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "pool",
            Self::MinDifficulty => "min-difficulty",
            Self::MaxUpload => "max-upload",
        })
    }
}

/// Why mining is paused. It goes on when no reason is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PauseReason {
    /// Somebody asked for it: by key or over the API.
    User,
    /// The machine runs on its battery.
    Battery,
    /// Somebody works at the machine.
    UserActive,
}

impl PauseReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::User, Self::Battery, Self::UserActive];

    /// What it is called in JSON and in metrics; its [`Display`](fmt::Display) is for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Battery => "battery",
            Self::UserActive => "user_active",
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "asked to",
            Self::Battery => "on battery",
            Self::UserActive => "somebody is at the machine",
        })
    }
}

/// Something that a state machine wants said in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub level: tracing::Level,
    /// One line: what happened, where, and what to do or what is done about it.
    pub text: String,
}

impl Notice {
    /// Something is wrong and mining suffers.
    pub fn error(text: impl Into<String>) -> Self {
        Self { level: tracing::Level::ERROR, text: text.into() }
    }

    /// Something is wrong and was dealt with.
    pub fn warn(text: impl Into<String>) -> Self {
        Self { level: tracing::Level::WARN, text: text.into() }
    }

    /// Something that a user wants to know.
    pub fn info(text: impl Into<String>) -> Self {
        Self { level: tracing::Level::INFO, text: text.into() }
    }

    /// Something that only matters when looking for a fault.
    pub fn debug(text: impl Into<String>) -> Self {
        Self { level: tracing::Level::DEBUG, text: text.into() }
    }

    /// Says it to the log.
    pub fn log(&self) {
        match self.level {
            tracing::Level::ERROR => tracing::error!("{}", self.text),
            tracing::Level::WARN => tracing::warn!("{}", self.text),
            tracing::Level::INFO => tracing::info!("{}", self.text),
            _ => tracing::debug!("{}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_without_user_name_and_password_however_it_is_printed() {
        for (text, expected) in [
            ("http://me:s%22e@pool.example/config.json", "http://pool.example/config.json"),
            ("http://token@pool.example:81/", "http://pool.example:81/"),
            ("https://pool.example/a?b=c", "https://pool.example/a?b=c"),
        ] {
            let address: Address = text.parse().expect("an address");
            let printed = [address.to_string(), format!("{address:?}"), format!("{:?}", [&address])];
            assert_eq!(printed[0], expected);
            assert!(printed.iter().all(|text| text.contains(expected)), "{printed:?}");
            assert_eq!(address.as_str(), text, "what connects needs all of it");
        }
    }
}
