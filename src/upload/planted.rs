//! Bugs that the simulation plants, to show that its checks would find them.

use std::cell::Cell;

/// A bug that an uploader could have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    DropBatchOn503,
    CountTwiceOnTimeout,
    WrongHandler,
    LoseAtListChange,
    LoseOpenAtDrain,
    /// Hides a loss, and so comes with one: a batch is also dropped on 503.
    FoundFromFates,
    ForgetGoodPart,
    ResendAccepted,
    GarbageIsAccepted,
    SilentOverflow,
    KeepStale,
    LateIsDuplicate,
    IgnoreAge,
    FeedRemovedPool,
    DropRemovedSilently,
    TrustErring,
    IgnoreLimit,
}

impl Bug {
    pub const ALL: [Self; 17] = [
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
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the uploaders of this thread have that bug.
pub(super) fn planted(bug: Bug) -> bool {
    PLANTED.get().is_some_and(|planted| {
        planted == bug || (planted == Bug::FoundFromFates && bug == Bug::DropBatchOn503)
    })
}

/// Does something with a bug planted in this thread's uploaders.
pub(super) fn with<T>(bug: Option<Bug>, f: impl FnOnce() -> T) -> T {
    struct Dug;
    impl Drop for Dug {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    PLANTED.set(bug);
    let _dug = Dug;
    f()
}
