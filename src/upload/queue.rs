//! What waits for one handler.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use kernels::Announcement;

use super::batch::Parcel;
use crate::values::{Found, Job, Moment};

/// Batches that wait, oldest first, and the one that is still being filled.
///
/// **Bound**: `Settings::queue_bytes` of announcements, the batch being filled among them; what is in flight is
/// not counted. All queues of a pool together hold `Settings::pool_bytes` at most: a pool may list many handlers.
/// Whoever puts something in calls [`Queue::pop_over`] until it gives nothing, then for the largest queue until
/// the pool's bound is kept. **What is dropped**: the oldest batch, whole, checked or not; the one being filled
/// only when nothing else is left. The oldest is worth least: it goes stale first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    parcels: VecDeque<Parcel>,
    open: Option<Open>,
    len: usize,
}

/// A batch that is being filled.
#[derive(Debug)]
pub(super) struct Open {
    pub job: Arc<Job>,
    pub announcements: Vec<Arc<Found>>,
    pub age: u64,
    pub opened: Moment,
    /// When it is closed, full or not.
    pub due: Moment,
}

impl Queue {
    /// Announcements in it.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        self.parcels.iter()
    }

    pub fn parcels_mut(&mut self) -> impl Iterator<Item = &mut Parcel> {
        self.parcels.iter_mut()
    }

    /// When the batch being filled is to be closed.
    pub fn due(&self) -> Option<Moment> {
        self.open.as_ref().map(|open| open.due)
    }

    /// Adds one announcement to the batch being filled, which is closed if it is full or of another job. One that
    /// is begun is begun as of `opened`, and may get as old as `oldest` says.
    pub fn add(
        &mut self,
        found: Arc<Found>,
        age: u64,
        opened: Moment,
        oldest: impl FnOnce() -> Duration,
        batch_len: usize,
    ) {
        if self.open.as_ref().is_some_and(|open| !same_job(&open.job, &found.job)) {
            self.close();
        }
        self.len += 1;
        let open = self.open.get_or_insert_with(|| Open {
            job: found.job.clone(),
            announcements: Vec::new(),
            age,
            opened,
            due: opened + oldest(),
        });
        open.announcements.push(found);
        if open.announcements.len() >= batch_len {
            self.close();
        }
    }

    /// Closes the batch being filled, if there is one.
    pub fn close(&mut self) {
        if let Some(open) = self.take_open() {
            self.insert(Parcel::new(open.job, open.announcements, open.age));
        }
    }

    /// Puts a parcel in its place by age.
    pub fn insert(&mut self, parcel: Parcel) {
        self.len += parcel.len();
        let place = self.parcels.partition_point(|other| other.age <= parcel.age);
        self.parcels.insert(place, parcel);
    }

    /// Puts a parcel before all that are not older: what was posted before its siblings is so again.
    pub fn insert_first(&mut self, parcel: Parcel) {
        self.len += parcel.len();
        let place = self.parcels.partition_point(|other| other.age < parcel.age);
        self.parcels.insert(place, parcel);
    }

    /// Puts a parcel at the end, into the last one if they are alike and fit together: a changed list of
    /// handlers takes parcels apart, and this makes whole ones of the pieces.
    pub fn join(&mut self, parcel: Parcel, batch_len: usize) {
        if let Some(last) = self.parcels.back_mut()
            && last.state == parcel.state
            && last.history == parcel.history
            && same_job(&last.batch.job, &parcel.batch.job)
            && last.len() + parcel.len() <= batch_len
        {
            self.len += parcel.len();
            Arc::make_mut(&mut last.batch).announcements.extend_from_slice(&parcel.batch.announcements);
        } else {
            self.insert(parcel);
        }
    }

    /// Takes the parcel that is so many places from the oldest.
    pub fn take(&mut self, place: usize) -> Option<Parcel> {
        let parcel = self.parcels.remove(place)?;
        self.len -= parcel.len();
        Some(parcel)
    }

    /// Takes the oldest batch if there are more than `bytes` in the queue.
    pub fn pop_over(&mut self, bytes: usize) -> Option<Parcel> {
        if self.len * Announcement::LEN <= bytes {
            return None;
        }
        if self.parcels.is_empty() {
            self.close();
        }
        let parcel = self.parcels.pop_front()?;
        self.len -= parcel.len();
        Some(parcel)
    }

    /// Takes the batch being filled.
    pub fn take_open(&mut self) -> Option<Open> {
        let open = self.open.take()?;
        self.len -= open.announcements.len();
        Some(open)
    }

    /// Takes the parcels that `unwanted` is true for.
    pub fn extract(&mut self, unwanted: impl Fn(&Parcel) -> bool) -> Vec<Parcel> {
        let parcels = mem::take(&mut self.parcels);
        let (out, stay): (Vec<_>, Vec<_>) = parcels.into_iter().partition(unwanted);
        self.parcels = stay.into();
        self.len -= out.iter().map(Parcel::len).sum::<usize>();
        out
    }

    /// Closes the batch being filled if it is of a job that `unwanted` is true for, so that it can be extracted.
    pub fn close_if(&mut self, unwanted: impl Fn(&Job) -> bool) {
        if self.open.as_ref().is_some_and(|open| unwanted(&open.job)) {
            self.close();
        }
    }
}

/// Jobs are mostly the very same value; otherwise the one that another process, or another pool, thought of.
fn same_job(a: &Arc<Job>, b: &Arc<Job>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}
