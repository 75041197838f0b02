//! The message channel from background threads to the UI thread.
//!
//! Messages arrive in the order in which they are sent. The receiver never blocks the UI thread: [`UiSender::send`] calls a
//! wake function, once for all messages that are waiting, and the UI thread then takes them with [`UiReceiver::try_recv`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// Sends messages to the UI thread. Clones send to the same receiver.
pub struct UiSender<M> {
    sender: Sender<M>,
    wake_pending: Arc<AtomicBool>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl<M> Clone for UiSender<M> {
    fn clone(&self) -> Self {
        UiSender {
            sender: self.sender.clone(),
            wake_pending: self.wake_pending.clone(),
            wake: self.wake.clone(),
        }
    }
}

impl<M> std::fmt::Debug for UiSender<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UiSender(…)")
    }
}

impl<M> UiSender<M> {
    /// Sends a message and wakes the UI thread unless a wake is already pending. Does nothing once the receiver is gone.
    pub fn send(&self, message: M) {
        if self.sender.send(message).is_ok() && !self.wake_pending.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }
}

/// Receives messages on the UI thread.
#[derive(Debug)]
pub struct UiReceiver<M> {
    receiver: Receiver<M>,
    wake_pending: Arc<AtomicBool>,
}

impl<M> UiReceiver<M> {
    /// The next message, if one has arrived.
    #[must_use]
    pub fn try_recv(&self) -> Option<M> {
        // Cleared before the queue is read: a message that arrives after the read wakes the UI thread again.
        self.wake_pending.store(false, Ordering::Release);
        self.receiver.try_recv().ok()
    }

    /// The next message. Blocks until one arrives or `limit` has passed. For tests without an event loop.
    #[must_use]
    pub fn recv_timeout(&self, limit: Duration) -> Option<M> {
        self.wake_pending.store(false, Ordering::Release);
        self.receiver.recv_timeout(limit).ok()
    }
}

/// Creates a channel. `wake` runs on the sending thread and has to make the UI thread call [`UiReceiver::try_recv`] until
/// it returns `None`.
pub fn channel<M>(wake: impl Fn() + Send + Sync + 'static) -> (UiSender<M>, UiReceiver<M>) {
    let (sender, receiver) = mpsc::channel();
    let wake_pending = Arc::new(AtomicBool::new(false));
    let sender = UiSender { sender, wake_pending: wake_pending.clone(), wake: Arc::new(wake) };
    (sender, UiReceiver { receiver, wake_pending })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn ui_thread_is_woken_once_for_all_waiting_messages() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = wakes.clone();
        let wake = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let (sender, receiver) = channel(wake);
        sender.send(1);
        sender.clone().send(2);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert_eq!([receiver.try_recv(), receiver.try_recv(), receiver.try_recv()], [Some(1), Some(2), None]);
        sender.send(3);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
        assert_eq!(receiver.recv_timeout(Duration::ZERO), Some(3));
    }
}
