//! What every controller needs: the window, the background threads, and the channel back from them.

use std::rc::Rc;

use slint::{ComponentHandle as _, Weak};
use ui::BackgroundRuntime;

use crate::message::Message;
use crate::window::{Api, Main};

/// Sends messages from background threads to the thread of the window.
pub(crate) type UiSender = ui::UiSender<Message>;
/// Receives these messages on the thread of the window.
pub(crate) type UiReceiver = ui::UiReceiver<Message>;

/// The window, the background threads, and the channel back from them.
#[derive(Clone)]
pub(crate) struct Backend {
    window: Weak<Main>,
    pub(crate) background: Rc<BackgroundRuntime>,
    pub(crate) sender: UiSender,
}

impl Backend {
    pub(crate) fn new(window: &Main, background: BackgroundRuntime, sender: UiSender) -> Self {
        Backend { window: window.as_weak(), background: Rc::new(background), sender }
    }

    /// Reads or changes what the window shows. Does nothing after the window was dropped.
    pub(crate) fn api(&self, act: impl FnOnce(&Api<'_>)) {
        if let Some(window) = self.window.upgrade() {
            act(&window.global::<Api>());
        }
    }

    pub(crate) fn window(&self, act: impl FnOnce(&Main)) {
        if let Some(window) = self.window.upgrade() {
            act(&window);
        }
    }
}
