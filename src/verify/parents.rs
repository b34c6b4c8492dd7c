//! The hashes of parent blocks, as a pool's master tells them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use url::Url;

use crate::{
    pool::{self, FetchError, Fetcher, Pools},
    protocol::{BlockHash, MINE_OLD_MAX},
    values::{PoolId, PoolView},
};

/// Where the hashes of parent blocks come from.
#[derive(Debug)]
pub enum Parents {
    /// The user gave the one that all announcements have.
    Given(BlockHash),
    /// A pool tells those of its newest blocks.
    Pool(PoolBlocks),
}

impl Parents {
    /// Fetches what is not known yet of the blocks at some heights. What cannot be had is told by [`Parents::find`].
    pub fn fetch(&mut self, heights: impl Iterator<Item = u32>) {
        match self {
            Self::Given(_) => {}
            Self::Pool(blocks) => blocks.fetch(heights),
        }
    }

    /// The hash of the block at a height.
    ///
    /// # Errors
    /// If the pool does not tell it.
    pub fn find(&self, height: u32) -> Result<BlockHash, NoParent> {
        match self {
            Self::Given(hash) => Ok(*hash),
            Self::Pool(blocks) => blocks.find(height),
        }
    }
}

/// The blocks that a pool told of.
#[derive(Debug)]
pub struct PoolBlocks {
    pool: Url,
    tip: u32,
    known: BTreeMap<u32, BlockHash>,
    /// Why some are not known though they were asked for.
    failure: Option<String>,
}

/// An announcement's parent block is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoParent {
    /// The block is above the tip or far below it.
    #[error(
        "parent block unknown: {height} is not among the newest {MINE_OLD_MAX} blocks of the pool, which is at {tip}"
    )]
    OutOfReach {
        /// The height asked for.
        height: u32,
        /// The tip's height.
        tip: u32,
    },
    /// The pool does not tell of it.
    #[error("parent block unknown: the pool does not tell of block {height}: {reason}")]
    NotTold {
        /// The height asked for.
        height: u32,
        /// What went wrong.
        reason: String,
    },
}

/// A pool does not even tell its newest block.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A request failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The answer is of no use.
    #[error("the pool does not tell its newest block: {0}; give the parent block's hash with --parent")]
    Answer(String),
}

impl PoolBlocks {
    /// Asks a pool for its tip.
    ///
    /// # Errors
    /// If it does not tell it.
    pub fn of(pool: &Url) -> Result<Self, PoolError> {
        let (view, failure) = ask(pool, pool::Settings::default(), |view| view.tip_height >= 1);
        match (view, failure) {
            (Some(view), None) => {
                Ok(Self { pool: pool.clone(), tip: view.tip_height, known: BTreeMap::new(), failure: None })
            }
            (_, Some(error)) => Err(error),
            (None, None) => Err(PoolError::Answer(SILENCE.into())),
        }
    }

    fn is_in_reach(&self, height: u32) -> bool {
        self.tip.checked_sub(height).is_some_and(|depth| depth <= MINE_OLD_MAX)
    }

    fn fetch(&mut self, heights: impl Iterator<Item = u32>) {
        let missing = heights.filter(|height| self.is_in_reach(*height) && !self.known.contains_key(height));
        let Some(lowest) = missing.min() else { return };
        // Mining that far below the tip is what makes the client walk back as far.
        let settings = pool::Settings { mine_old: Some(self.tip - lowest), ..pool::Settings::default() };
        let (view, failure) = ask(&self.pool, settings, |view| view.block_at(lowest).is_some());
        let blocks = view.map(|view| view.blocks).unwrap_or_default();
        self.known.extend(blocks.iter().map(|block| (block.height, block.hash)));
        self.failure = failure.map(|error| error.to_string());
    }

    fn find(&self, height: u32) -> Result<BlockHash, NoParent> {
        if !self.is_in_reach(height) {
            return Err(NoParent::OutOfReach { height, tip: self.tip });
        }
        let reason = || self.failure.clone().unwrap_or_else(|| SILENCE.into());
        self.known.get(&height).copied().ok_or_else(|| NoParent::NotTold { height, reason: reason() })
    }
}

const SILENCE: &str = "it sends nothing that could be used";

/// Runs a pool client until its view has what is wanted, or a request fails. Returns the view as far as it came, and
/// what failed.
fn ask(
    pool: &Url,
    settings: pool::Settings,
    enough: impl Fn(&PoolView) -> bool,
) -> (Option<PoolView>, Option<PoolError>) {
    let fetcher = Fetcher::new(1);
    let started = Instant::now();
    let mut pools = Pools::new(vec![pool.clone()], settings);
    let mut events = VecDeque::from([pool::Event::Tick]);
    let mut said = SILENCE.to_owned();
    while let Some(event) = events.pop_front() {
        let effects = pools.handle(event, started.elapsed());
        // Before anything more is fetched: that may fail.
        if let Some(view) = pools.view(PoolId(0)).filter(|view| enough(view)) {
            return (Some(view.clone()), None);
        }
        for effect in effects {
            match effect {
                pool::Effect::Fetch(fetch) => match fetcher.fetch(&fetch) {
                    Ok(body) => {
                        let (request, result) = (fetch.request, Ok(body));
                        events.push_back(pool::Event::Fetched { request, result });
                    }
                    Err(error) => return (pools.view(PoolId(0)).cloned(), Some(error.into())),
                },
                pool::Effect::Note(notice) if notice.level <= tracing::Level::WARN => said = notice.text,
                pool::Effect::Note(_) | pool::Effect::View { .. } | pool::Effect::Mine(_) => {}
            }
        }
    }
    (pools.view(PoolId(0)).cloned(), Some(PoolError::Answer(said)))
}
