//! The bedside app: uploads a patient's name, record number, medical images and ECG strips.
//!
//! The window ([`window`]) shows what [`window::Api`] holds and decides nothing. One [`Desk`](desk) on the thread of the
//! window answers what the person does; everything that may take time runs on the network's threads and comes back as a
//! [message](message).

mod analysis;
mod args;
mod desk;
mod dialogs;
mod ecg_file;
mod link;
mod message;
mod patient_form;
mod recording;
mod sending;
mod staging;
pub mod window;

use std::rc::Rc;

use slint::ComponentHandle as _;
use ui::{FileChooser, NativeDialogs, Settings};

pub use args::Args;
use desk::Desk;
pub use ui::StartError;
use window::Main;

/// The app, on the thread of its window.
pub struct App {
    window: Main,
    desk: Rc<std::cell::RefCell<Desk>>,
}

impl App {
    /// Makes the window and everything behind it; nothing is shown yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(args: &Args, chooser: Rc<dyn FileChooser>, quit: Box<dyn Fn()>) -> Result<Self, StartError> {
        let file = args.connection.settings_file("patient");
        let kept: Settings = file.load()?;
        let shown = args.connection.apply_to(&kept)?;
        let window = Main::new()?;
        let desk = Desk::new(&window, args, dialogs::Kept { file, kept, shown }, chooser, quit)?;
        Ok(App { window, desk })
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &Main {
        &self.window
    }

    /// Shows the window and runs until the person quits.
    ///
    /// # Errors
    /// [`StartError::Window`].
    pub fn run(&self) -> Result<(), StartError> {
        Ok(self.window.run()?)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.desk.borrow_mut().stop();
    }
}

/// The whole app, until the person quits.
///
/// # Errors
/// [`StartError`].
pub fn run(args: Args) -> Result<(), StartError> {
    let quit = || drop(slint::quit_event_loop());
    App::new(&args, Rc::new(NativeDialogs), Box::new(quit))?.run()
}
