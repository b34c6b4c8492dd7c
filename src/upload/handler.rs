//! One ann handler of one pool.

use std::time::Duration;

use super::{
    answer::Trouble,
    backoff::BackOff,
    doubt::Doubts,
    ledger::{Fate, HandlerRow},
    queue::Queue,
};
use crate::{
    complaints::Complaints,
    values::{Address, Moment, PoolView},
};

/// A place on a pool's list of handlers, and what waits for it.
pub(super) struct Handler {
    /// Never used for two handlers.
    pub id: u64,
    pub url: Address,
    pub queue: Queue,
    pub back_off: BackOff,
    /// What is wrong with it; `None` while all is well.
    pub trouble: Option<Trouble>,
    /// The kinds of trouble that are told.
    pub troubles: Complaints,
    /// What it refuses though it is valid.
    pub doubts: Doubts,
    /// The number of the last post to it.
    pub last_turn: u64,
    /// Posts not answered yet.
    pub posts: usize,
    /// Announcements in them.
    pub in_flight: usize,
    /// That it refuses what is in batches.
    pub refusals: Complaints,
    /// That batches are too large for it was told.
    pub told_too_large: bool,
    /// Even a single announcement was too large for it, and nothing was taken since.
    pub takes_no_size: bool,
    /// That its counts make no sense was told.
    pub told_nonsense: bool,
    pub accepted: u64,
    pub duplicate: u64,
    pub rejected: u64,
    pub stale: u64,
    pub overflow: u64,
    pub unknown: u64,
    pub latency: Option<Duration>,
}

impl Handler {
    pub fn new(id: u64, url: Address) -> Self {
        Self {
            id,
            url,
            queue: Queue::default(),
            back_off: BackOff::default(),
            trouble: None,
            troubles: Complaints::default(),
            doubts: Doubts::default(),
            last_turn: 0,
            posts: 0,
            in_flight: 0,
            refusals: Complaints::default(),
            told_too_large: false,
            takes_no_size: false,
            told_nonsense: false,
            accepted: 0,
            duplicate: 0,
            rejected: 0,
            stale: 0,
            overflow: 0,
            unknown: 0,
            latency: None,
        }
    }

    /// Whether the pool lists it to say that it wants no announcements there.
    pub fn wants_nothing(&self) -> bool {
        PoolView::wants_nothing_at(&self.url)
    }

    /// From when on one more post may be made, as far as is known now. One in trouble gets a single post at a
    /// time, so that it is not met by all that has gathered when it comes back.
    pub fn free_from(&self, uploaders: usize) -> Option<Moment> {
        match self.back_off.until() {
            Some(until) => (self.posts == 0).then_some(until),
            None => (self.posts < uploaders).then_some(Moment::ZERO),
        }
    }

    /// Writes down that announcements meant for it were lost. Those that are unwanted are the pool's affair.
    pub fn lose(&mut self, fate: Fate, n: usize) {
        *match fate {
            Fate::Rejected => &mut self.rejected,
            Fate::Stale => &mut self.stale,
            Fate::Overflow => &mut self.overflow,
            Fate::Unknown => &mut self.unknown,
            Fate::Unwanted => return,
        } += n as u64;
    }

    pub fn row(&self) -> HandlerRow {
        HandlerRow {
            url: self.url.to_string(),
            queued: self.queue.len() as u64,
            in_flight: self.in_flight as u64,
            posts: self.posts,
            accepted: self.accepted,
            duplicate: self.duplicate,
            rejected: self.rejected,
            stale: self.stale,
            overflow: self.overflow,
            unknown: self.unknown,
            latency: self.latency,
            trouble: match &self.trouble {
                Some(trouble) => Some(trouble.to_string()),
                None => self.doubts.refuses_valid().then(|| "refuses announcements that are valid".into()),
            },
            retry_at: self.back_off.until(),
        }
    }
}
