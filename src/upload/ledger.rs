//! The ledger: where every announcement is, for every pool.

use std::{collections::BTreeMap, fmt, iter::Sum, time::Duration};

use kernels::Invalid;

use super::answer::Refusal;
use crate::values::Moment;

/// Where every announcement is, for every pool, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// What each backend says that it found, in the order of backends. Never summed from the fates.
    pub found_by: Vec<u64>,
    /// One account per pool, in the order of pools.
    pub pools: Vec<Account>,
}

/// One pool's side of the ledger. Counts are announcements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// What the pool is called: its address without user name and password, and a number where that would be another's.
    pub pool: String,
    /// Found by all backends, as they count themselves, while the pool was mined for.
    pub found: u64,
    /// Found by all backends while the pool was not mined for: before it was named, or after it was taken away.
    pub missed: u64,
    /// The pool has them and pays for them.
    pub accepted: u64,
    /// Part of `accepted`: taken in a post that was never answered, and told of only when they were sent again.
    pub told_late: u64,
    /// The pool had them already, from somebody else or from an earlier run.
    pub duplicate: u64,
    /// Refused, or found not to be valid here.
    pub rejected: u64,
    /// Their parent block is too old or is no longer part of the chain.
    pub stale: u64,
    /// Dropped because a queue was full.
    pub overflow: u64,
    /// Posted, but whether they were taken was never told.
    pub unknown: u64,
    /// Not for this pool: it would refuse them, or said so.
    pub unwanted: u64,
    /// Waiting: in a batch being filled, being checked, or in a queue.
    pub queued: u64,
    /// Posted and not answered yet.
    pub in_flight: u64,
    /// Why announcements were lost: the counts of each fate but `accepted` and `duplicate` add up to it.
    pub causes: BTreeMap<(Fate, Cause), u64>,
    /// Bytes of announcements posted, those sent again counted again.
    pub bytes_uploaded: u64,
    /// Handlers in the pool's order.
    pub handlers: Vec<HandlerRow>,
}

/// One handler, for displays. Its counts begin anew when the pool takes it off its list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerRow {
    /// Where it is, without user name and password.
    pub url: String,
    /// Announcements that wait for it.
    pub queued: u64,
    /// Announcements posted to it and not answered yet.
    pub in_flight: u64,
    /// Posts not answered yet.
    pub posts: usize,
    /// Announcements that it took.
    pub accepted: u64,
    /// Announcements that it had already.
    pub duplicate: u64,
    /// Announcements that it refused.
    pub rejected: u64,
    /// Announcements for it that went stale before it took them.
    pub stale: u64,
    /// Announcements for it that were dropped because a queue was full.
    pub overflow: u64,
    /// Announcements of which it never told whether it took them.
    pub unknown: u64,
    /// How long its last answer took.
    pub latency: Option<Duration>,
    /// What is wrong with it, while it is left alone or given a little at a time.
    pub trouble: Option<String>,
    /// When it is tried again; `None` while all is well.
    pub retry_at: Option<Moment>,
}

impl HandlerRow {
    /// Bytes of announcements that wait for it.
    pub fn queued_bytes(&self) -> u64 {
        self.queued * kernels::Announcement::LEN as u64
    }
}

/// How an announcement was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// See [`Account::rejected`].
    Rejected,
    /// See [`Account::stale`].
    Stale,
    /// See [`Account::overflow`].
    Overflow,
    /// See [`Account::unknown`]; the cause says why it was not sent once more.
    Unknown,
    /// See [`Account::unwanted`].
    Unwanted,
}

/// Why an announcement was lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The parent block has left the window of the newest six.
    ParentTooOld,
    /// The parent block is no longer part of the chain.
    ParentReplaced,
    /// The handler said that the parent is out of range.
    OutOfRange,
    /// The handler refused the batch.
    Refused(Refusal),
    /// It does not validate here; the validator's code.
    Invalid(u8),
    /// The handler counted it neither as accepted nor as a duplicate.
    Remainder,
    /// The queue was full.
    QueueFull,
    /// The drain time was over.
    OutOfTime,
    /// The pool lists a handler whose host is `invalid`.
    NoHandler,
    /// The pool is not mined for any more.
    PoolRemoved,
    /// The pool asks for harder work bits.
    TooEasy,
    /// The pool expects another signing key.
    OtherKey,
    /// The parent is far above the newest block that the pool knows.
    ParentAhead,
    /// The handler has refused what is mined on that parent again and again, though it validates here.
    ParentRefused,
}

impl Cause {
    /// The cause of an announcement that does not validate here.
    pub fn invalid(verdict: Invalid) -> Self {
        Self::Invalid(verdict.code())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ParentTooOld => "parent block too old",
            Self::ParentReplaced => "parent block reorganised away",
            Self::OutOfRange => "handler: block number out of range",
            Self::Refused(refusal) => return write!(f, "handler: {refusal}"),
            Self::Invalid(code) => {
                return write!(
                    f,
                    "does not validate here: {}",
                    match code {
                        1 => "INVAL",
                        2 => "INVAL_ITEM4",
                        3 => "INSUF_POW",
                        _ => "SOFT_NONCE_HIGH",
                    }
                );
            }
            Self::Remainder => "handler counted it nowhere",
            Self::QueueFull => "queue full",
            Self::OutOfTime => "no answer in time",
            Self::NoHandler => "pool does not want announcements",
            Self::PoolRemoved => "pool removed from the settings",
            Self::TooEasy => "pool asks for harder work",
            Self::OtherKey => "pool expects another signing key",
            Self::ParentAhead => "pool does not know the parent block",
            Self::ParentRefused => "handler refuses all that is mined on the parent block",
        })
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => "rejected",
            Self::Stale => "stale",
            Self::Overflow => "overflow",
            Self::Unknown => "unknown",
            Self::Unwanted => "unwanted",
        })
    }
}

impl Ledger {
    /// Whether every pool's account adds up, to the last announcement.
    pub fn adds_up(&self) -> bool {
        let found: u64 = self.found_by.iter().sum();
        self.pools.iter().all(|account| account.found + account.missed == found && account.adds_up())
    }
}

impl Account {
    /// Whether each announcement found is in exactly one place, and each loss has its cause.
    pub fn adds_up(&self) -> bool {
        let caused = |fate| u64::sum(self.causes.iter().filter(|((f, _), _)| *f == fate).map(|(_, n)| *n));
        self.found == self.settled() + self.queued + self.in_flight
            && caused(Fate::Rejected) == self.rejected
            && caused(Fate::Stale) == self.stale
            && caused(Fate::Overflow) == self.overflow
            && caused(Fate::Unknown) == self.unknown
            && caused(Fate::Unwanted) == self.unwanted
            && self.told_late <= self.accepted
    }

    /// Announcements whose fate is decided.
    pub fn settled(&self) -> u64 {
        self.accepted
            + self.duplicate
            + self.rejected
            + self.stale
            + self.overflow
            + self.unknown
            + self.unwanted
    }

    /// What part of the announcements was accepted, of those that no longer wait; `None` before there are any.
    pub fn goodrate(&self) -> Option<f64> {
        let done = self.found.checked_sub(self.queued + self.in_flight)?;
        (done > 0).then(|| self.accepted as f64 / done as f64)
    }

    /// Writes `n` lost announcements down.
    pub(super) fn lose(&mut self, fate: Fate, cause: Cause, n: usize) {
        let n = n as u64;
        if n == 0 {
            return;
        }
        *match fate {
            Fate::Rejected => &mut self.rejected,
            Fate::Stale => &mut self.stale,
            Fate::Overflow => &mut self.overflow,
            Fate::Unknown => &mut self.unknown,
            Fate::Unwanted => &mut self.unwanted,
        } += n;
        *self.causes.entry((fate, cause)).or_default() += n;
    }
}
