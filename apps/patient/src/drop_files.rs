//! Files dropped on the window from other programs.
//!
//! The `DropArea` of Slint 1.18 receives drags inside the app only: its winit backend passes no file drops on. This module
//! takes the drop events of winit instead. winit 0.30 sends them on X11, Windows and macOS, one event for each file. On Wayland
//! it sends none, so that drag and drop has no effect there. The events carry no position: files are accepted anywhere in
//! the window.

use std::cell::RefCell;
use std::rc::Rc;

use slint::ComponentHandle as _;
use slint::winit_030::{EventResult, WinitWindowAccessor, winit::event::WindowEvent};

use crate::app::AppController;
use crate::window::Main;

/// Passes files that are dropped on the window to the controller. Has no effect where the window is not one of winit.
pub(crate) fn connect(window: &Main, controller: &Rc<RefCell<AppController>>) {
    let controller = Rc::downgrade(controller);
    window.window().on_winit_window_event(move |_, event| {
        if let Some(controller) = controller.upgrade()
            && let Ok(mut app) = controller.try_borrow_mut()
        {
            match event {
                WindowEvent::HoveredFile(_) => app.show_drop_hint(true),
                WindowEvent::HoveredFileCancelled => app.show_drop_hint(false),
                WindowEvent::DroppedFile(path) => app.files_dropped(vec![path.clone()]),
                _ => {}
            }
        }
        EventResult::Propagate
    });
}
