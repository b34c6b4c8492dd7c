//! What other threads ask of a running miner.

use std::sync::mpsc::Sender;

use super::{Settings, event_loop::Message};
use crate::values::PauseReason;

/// Asks a miner to pause, to go on, to stop or to change its settings, from any thread. No call waits for the miner.
#[derive(Clone)]
pub struct Control(Sender<Message>);

impl Control {
    pub(super) fn new(sender: Sender<Message>) -> Self {
        Self(sender)
    }

    /// A control of no miner at all.
    #[cfg(test)]
    pub(crate) fn to_nobody() -> Self {
        Self(std::sync::mpsc::channel().0)
    }

    /// Stops mining until [`Control::resume`] has taken back every reason. Uploads go on.
    pub fn pause(&self, reason: PauseReason) {
        self.send(Message::Pause(reason));
    }

    /// Takes a reason to pause back; mining goes on if no other is left.
    pub fn resume(&self, reason: PauseReason) {
        self.send(Message::Resume(reason));
    }

    /// The first time it stops mining and hands in what was found; the second time it ends everything.
    pub fn stop(&self) {
        self.send(Message::Stop);
    }

    /// Stops mining and hands in what was found, unless that is under way: however often, it ends nothing early.
    pub fn finish(&self) {
        self.send(Message::Finish);
    }

    /// From now on these settings hold, as far as they can change while mining: the pools (none: those that there
    /// are stay), how they are asked, who is paid, how announcements are handed in and how fast, how hard they are
    /// at least, what becomes of work on a block when there is a new one, the threads of the CPU backend and the time
    /// between two status lines.
    pub fn change(&self, settings: Settings) {
        self.send(Message::Change(Box::new(settings)));
    }

    fn send(&self, message: Message) {
        // A miner that has ended already needs no telling.
        let _ = self.0.send(message);
    }
}
