//! Bugs that the simulation of the whole miner plants, to show that its checks would find them.

use std::cell::Cell;

/// A bug that the pools' clients, the scheduler or the loop could have.
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
}

impl Bug {
    pub const ALL: [Self; 16] = [
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
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the miners of this thread have that bug.
pub fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
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
