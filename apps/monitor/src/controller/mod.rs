//! The controllers: one per page, and the app controller that owns them.
//!
//! A page controller shows the state of the models on its page and owns the state that only this page has. It gets the shared
//! state as a [`context::Context`]. Everything that concerns several pages is in [`app::AppController`].

mod account;
mod alarms;
mod app;
mod callbacks;
mod connection;
mod context;
mod corrections;
mod dialogs;
mod limits;
mod live;
mod overview;
mod patient;
mod wards;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use app::AppController;

/// The interval of [`AppController::tick`].
const TICK: Duration = Duration::from_secs(1);

/// Connects the controller to the window and starts it.
pub(crate) fn start(app: AppController) -> Rc<RefCell<AppController>> {
    let app = Rc::new(RefCell::new(app));
    callbacks::register(&app);
    app.borrow_mut().start();
    let weak = Rc::downgrade(&app);
    app.borrow().live.set_timer(move || {
        if let Some(app) = weak.upgrade() {
            app.borrow_mut().live_frame();
        }
    });
    let weak = Rc::downgrade(&app);
    app.borrow().timer().start(slint::TimerMode::Repeated, TICK, move || {
        if let Some(app) = weak.upgrade() {
            app.borrow_mut().tick();
        }
    });
    app
}
