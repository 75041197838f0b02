//! The station app: all patients at one look, one patient in full, and a word on how fresh each value is.
//!
//! What is known is in plain models (`alarms`, `wall`, `patient`, `pages`); [`station`](self) ties them to the window and
//! to the network. Nothing that may take time runs on the thread of the window: see `link`.

pub mod age;
pub mod alarms;
mod args;
mod ecg_pane;
mod fetch;
mod keeper;
mod kept;
mod link;
pub mod pages;
pub mod patient;
mod phrases;
mod save;
mod station;
mod trend_pane;
pub mod wall;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use slint::ComponentHandle;

pub use args::Args;
use station::{Start, Station};

/// The windows, as generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::unwrap_used,
    clippy::todo,
    clippy::expect_used,
    reason = "generated"
)]
pub mod window {
    slint::include_modules!();
}

/// Why the app cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no screen to draw on.
    #[error("no window can be opened: {0}")]
    Window(#[from] slint::PlatformError),
    /// The operating system gives no threads.
    #[error("the network cannot be started: {0}")]
    Network(#[from] std::io::Error),
}

/// A station with its window. Lives on the thread that made it.
pub struct App(Rc<RefCell<Station>>);

impl App {
    /// Makes the window and begins to connect. Nothing is shown before [`App::run`].
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(args: Args) -> Result<Self, StartError> {
        let window = window::Main::new()?;
        let weak = window.as_weak();
        let (outbox, inbox) = link::channel(move || {
            // Fails only when the window is gone, or in a test without an event loop, which takes messages itself.
            let _ = weak.upgrade_in_event_loop(|window| window.global::<window::Api>().invoke_deliver());
        });
        let settings = args.connection.settings_file("monitor");
        let alarms = args.alarms.clone().unwrap_or_else(|| kept::alarms_beside(settings.path()));
        let start = Start {
            keeper: keeper::Keeper::start(settings.clone(), alarms.clone(), outbox.clone())?,
            link: link::Link::start(outbox)?,
            connection: args.connection,
            settings,
            alarms,
            stale_after: args.stale_after,
            patient: args.patient,
        };
        Ok(App(Station::start(start, window, inbox)))
    }

    /// Shows the window and works until somebody quits.
    ///
    /// # Errors
    /// [`StartError::Window`].
    pub fn run(self) -> Result<(), StartError> {
        let window = self.window();
        window.show()?;
        slint::run_event_loop()?;
        self.0.borrow_mut().end();
        Ok(())
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> window::Main {
        self.0.borrow().window().clone_strong()
    }

    /// Waits for one message from the network and takes it, where no event loop does; `false` if none came in time.
    pub fn wait(&self, limit: Duration) -> bool {
        self.0.borrow_mut().wait(limit)
    }

    /// Sets the clock of this computer wrong by so many milliseconds, as far as this station is concerned.
    pub fn set_clock_wrong(&self, by_ms: i64) {
        self.0.borrow_mut().set_clock_wrong(by_ms);
    }

    /// Lets time pass, to see what age does to values.
    pub fn turn_clock(&self, by: Duration) {
        self.0.borrow_mut().turn_clock(by);
    }

    /// Takes back what [`App::turn_clock`] did.
    pub fn turn_clock_back(&self) {
        self.0.borrow_mut().turn_clock_back();
    }

    /// Whether somebody has quit.
    #[must_use]
    pub fn has_quit(&self) -> bool {
        self.0.borrow().has_quit()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App(…)")
    }
}
