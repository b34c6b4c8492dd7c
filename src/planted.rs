//! What the simulations share: what is to come in a schedule, the verdict on it, and bugs that they plant to show that
//! their checks would find them.

use std::{cell::Cell, collections::BTreeMap};

use crate::values::Moment;

/// What is to come, each at its moment; of one moment in the order in which it was put down.
#[derive(Debug)]
pub struct Agenda<T> {
    coming: BTreeMap<(Moment, u64), T>,
    last: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { coming: BTreeMap::new(), last: 0 }
    }
}

impl<T> Agenda<T> {
    /// Puts something down.
    pub fn put(&mut self, moment: Moment, what: T) {
        self.last += 1;
        self.coming.insert((moment, self.last), what);
    }

    /// When the next thing comes.
    pub fn next(&self) -> Option<Moment> {
        self.coming.first_key_value().map(|((moment, _), _)| *moment)
    }

    /// The next thing, with its moment.
    pub fn take(&mut self) -> Option<(Moment, T)> {
        self.coming.pop_first().map(|((moment, _), what)| (moment, what))
    }
}

/// What is wrong in a schedule, if anything is.
pub type Verdict = Result<(), String>;

/// Ends a function that gives a [`Verdict`] with these words, unless something is true.
macro_rules! check {
    ($true:expr, $($words:tt)*) => {
        if !$true {
            return Err(format!($($words)*));
        }
    };
}
pub(crate) use check;

/// A bug that the pools' clients, the scheduler, the loop or the uploader could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A block that could not be had once is not asked for again.
    BlockAskedOnce,
    /// After a failure the configuration is not asked for any more.
    PollingStops,
    /// A tip that is no higher than the last one is not followed.
    ReorganisationIgnored,
    /// The list of handlers stays what it was at first.
    HandlersFrozen,
    /// Another target makes no other job.
    TargetIgnored,
    /// A leader that is down goes on leading.
    DeadLeaderStays,
    /// A pool that was down does not lead again.
    NeverLeadsBack,
    /// Two rounds have a hard nonce in common.
    NonceTwice,
    /// No round takes the place of one that has ended.
    EndedFeedsNobody,
    /// A backend that has failed gets rounds.
    FailedIsFed,
    /// The first rounds for a new job are of the old one.
    OldJobOnceMore,
    /// Nobody gets rounds when a pause is over.
    ResumeFeedsNobody,
    /// What is at work goes on in a pause.
    PauseStopsNothing,
    /// What is found in a pause does not count.
    FoundInPauseIsLost,
    /// What handlers answer while the last is handed in is not listened to.
    DeafWhileDraining,
    /// Only the leading pool's news reach the uploader.
    SecondariesUnheard,
    /// A batch that a handler has no room for is dropped.
    DropBatchOn503,
    /// A batch that was not answered in time counts as unknown, and goes on.
    CountTwiceOnTimeout,
    /// Announcements go to the handler after the right one.
    WrongHandler,
    /// What waits is lost when the list of handlers changes.
    LoseAtListChange,
    /// Batches that are not full are lost when mining stops.
    LoseOpenAtDrain,
    /// Found is what became of everything: hides a loss, and so comes with one, [`Self::DropBatchOn503`].
    FoundFromFates,
    /// The good part of a refused batch is lost.
    ForgetGoodPart,
    /// A batch that was taken is sent again.
    ResendAccepted,
    /// An answer that cannot be read counts as a good one.
    GarbageIsAccepted,
    /// What a full queue drops counts nowhere.
    SilentOverflow,
    /// What is stale is sent all the same.
    KeepStale,
    /// What was taken in a post without an answer counts as a duplicate.
    LateIsDuplicate,
    /// Batches wait until they are full.
    IgnoreAge,
    /// A pool that was taken away gets what is found later.
    FeedRemovedPool,
    /// What a pool that was taken away did not get in time counts nowhere.
    DropRemovedSilently,
    /// Of a backend that has erred, samples are checked as before.
    TrustErring,
    /// The limit on uploads is not kept.
    IgnoreLimit,
    /// What a handler refuses though it is valid is sent again at once, and all that is like it, too.
    NeverInDoubt,
}

impl Bug {
    /// Those of clients, scheduler and loop.
    pub const OF_MINER: [Self; 16] = [
        Self::BlockAskedOnce,
        Self::PollingStops,
        Self::ReorganisationIgnored,
        Self::HandlersFrozen,
        Self::TargetIgnored,
        Self::DeadLeaderStays,
        Self::NeverLeadsBack,
        Self::NonceTwice,
        Self::EndedFeedsNobody,
        Self::FailedIsFed,
        Self::OldJobOnceMore,
        Self::ResumeFeedsNobody,
        Self::PauseStopsNothing,
        Self::FoundInPauseIsLost,
        Self::DeafWhileDraining,
        Self::SecondariesUnheard,
    ];

    /// Those of the uploader.
    pub const OF_UPLOADER: [Self; 18] = [
        Self::DropBatchOn503,
        Self::CountTwiceOnTimeout,
        Self::WrongHandler,
        Self::LoseAtListChange,
        Self::LoseOpenAtDrain,
        Self::FoundFromFates,
        Self::ForgetGoodPart,
        Self::ResendAccepted,
        Self::GarbageIsAccepted,
        Self::SilentOverflow,
        Self::KeepStale,
        Self::LateIsDuplicate,
        Self::IgnoreAge,
        Self::FeedRemovedPool,
        Self::DropRemovedSilently,
        Self::TrustErring,
        Self::IgnoreLimit,
        Self::NeverInDoubt,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the miners of this thread have that bug.
pub fn planted(bug: Bug) -> bool {
    PLANTED.get().is_some_and(|planted| {
        planted == bug || (planted == Bug::FoundFromFates && bug == Bug::DropBatchOn503)
    })
}

/// Does something with a bug planted in this thread's miners.
pub fn with<T>(bug: Bug, f: impl FnOnce() -> T) -> T {
    struct Dug;
    impl Drop for Dug {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(Some(bug));
    let _dug = Dug;
    f()
}
