//! What other threads ask of a running miner.

use std::sync::mpsc::Sender;

use super::Message;
use crate::values::PauseReason;

/// Asks a miner to pause, to go on or to stop, from any thread. No call waits for the miner.
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

    fn send(&self, message: Message) {
        // A miner that has ended already needs no telling.
        let _ = self.0.send(message);
    }
}
