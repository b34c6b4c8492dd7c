//! Batches: what is posted at once, and what is remembered of each on its way to one pool.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::values::{BackendId, Found, Job, Moment};

/// Of how many announcements of a backend one is validated before they leave; of each batch one at least.
///
/// Hardware that errs in a part e of what it finds is noticed after `SAMPLED / e` announcements in the mean, and after
/// `SAMPLED · ln(10⁻⁶) / ln(1 − e)` but for one case in a million: 6,400 and 88,000 for 1 %, 640 and 8,400 for 10 %. The
/// backend is stopped for good then, and all that is left of its announcements is validated before it leaves.
pub const SAMPLED: usize = 64;

/// Announcements that are posted together: all of one job, and so of one parent, target and signing key.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What all of them were mined for.
    pub job: Arc<Job>,
    /// The announcements, at least one.
    pub announcements: Vec<Arc<Found>>,
}

impl Batch {
    /// How many announcements there are.
    pub fn len(&self) -> usize {
        self.announcements.len()
    }

    /// Whether there are none: never so in a batch that is posted.
    pub fn is_empty(&self) -> bool {
        self.announcements.is_empty()
    }
}

/// A closed batch on its way to one pool.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub batch: Arc<Batch>,
    /// Smaller is older: says which is posted, and dropped, first.
    pub age: u64,
    pub state: State,
    pub history: History,
    /// Not to be posted earlier than this.
    pub not_before: Moment,
    /// How many backends were known to err when it was last checked.
    pub erring_known: usize,
}

/// How far a parcel has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No sample was checked yet.
    Unchecked,
    /// Waits for the verdicts of the check with this number.
    Waiting(u64),
    /// May be posted.
    Ready,
}

/// What happened to a parcel in earlier posts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// A post of it ended without a word on whether it was taken.
    pub maybe_delivered: bool,
    /// The list of handlers (see `Delivery`) by which it was sorted when it was last told `submit elsewhere`.
    pub astray: Option<u64>,
    /// It was refused for what is in it, and is the part that is good.
    pub sifted: bool,
}

impl Parcel {
    pub fn new(job: Arc<Job>, announcements: Vec<Arc<Found>>, age: u64) -> Self {
        Self {
            batch: Arc::new(Batch { job, announcements }),
            age,
            state: State::Unchecked,
            history: History::default(),
            not_before: Moment::ZERO,
            erring_known: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.batch.len()
    }

    /// Takes it apart by handler; in one piece if all of it belongs to one.
    pub fn split(self, handler_of: impl Fn(&Found) -> usize) -> Vec<(usize, Self)> {
        let mut parts: BTreeMap<usize, Vec<Arc<Found>>> = BTreeMap::new();
        for found in &self.batch.announcements {
            parts.entry(handler_of(found)).or_default().push(found.clone());
        }
        if parts.len() == 1 {
            return parts.into_keys().map(|handler| (handler, self.clone())).collect();
        }
        let job = &self.batch.job;
        parts
            .into_iter()
            .map(|(handler, announcements)| {
                (handler, Self { batch: Arc::new(Batch { job: job.clone(), announcements }), ..self.clone() })
            })
            .collect()
    }

    /// Keeps the first `len` announcements and gives the others; there must be more than that.
    pub fn cut(&mut self, len: usize) -> Self {
        let rest = Arc::make_mut(&mut self.batch).announcements.split_off(len);
        let batch = Batch { job: self.batch.job.clone(), announcements: rest };
        Self { batch: Arc::new(batch), ..self.clone() }
    }

    /// Cuts it in two; there must be at least two announcements.
    pub fn halves(self) -> [Self; 2] {
        let (first, second) = self.batch.announcements.split_at(self.len() / 2);
        [first, second].map(|part| {
            let batch = Batch { job: self.batch.job.clone(), announcements: part.to_vec() };
            Self { batch: Arc::new(batch), ..self.clone() }
        })
    }

    /// Whether a sample must be checked before it may be posted: of any batch once, and again of one with something
    /// from a backend that was found to err since.
    pub fn needs_check(&self, erring: &BTreeSet<BackendId>) -> bool {
        match self.state {
            State::Unchecked => true,
            State::Waiting(_) => false,
            State::Ready => {
                self.erring_known < erring.len()
                    && self.batch.announcements.iter().any(|found| erring.contains(&found.backend))
            }
        }
    }

    /// A random one in [`SAMPLED`] of each backend's announcements, but at least one; all of those that err.
    pub fn sample(&self, rng: &mut fastrand::Rng, erring: &BTreeSet<BackendId>) -> Vec<Arc<Found>> {
        let mut of_backend: BTreeMap<BackendId, Vec<&Arc<Found>>> = BTreeMap::new();
        for found in &self.batch.announcements {
            of_backend.entry(found.backend).or_default().push(found);
        }
        let mut sample = Vec::new();
        for (backend, found) in &mut of_backend {
            rng.shuffle(found);
            let len = if erring.contains(backend) { found.len() } else { found.len().div_ceil(SAMPLED) };
            sample.extend(found[..len].iter().map(|found| Arc::clone(found)));
        }
        sample
    }
}
