//! The patient app: uploads a patient's name, record number, medical images and ECG strips.
//!
//! The window ([`window`]) shows the values of [`window::Api`] and contains no logic. The
//! [`AppController`](app::AppController) runs on the thread of the window and owns one controller for each part of it. All
//! work that may take time runs on background threads and returns as a [`Message`](message::Message).

mod account;
mod analysis;
mod app;
mod args;
mod backend;
mod callbacks;
mod connection;
mod drop_files;
mod ecg_file;
mod file_browser;
mod file_dialog;
mod folder;
mod image_view;
mod message;
mod messages;
mod model;
mod patient_form;
mod recording;
mod selected_files;
mod settings;
mod uploads;
pub mod window;

use std::rc::Rc;

use slint::ComponentHandle as _;
use ui::{FileChooser, Settings};

use app::AppController;
pub use args::Args;
use file_dialog::DesktopDialogs;
use settings::AppSettings;
pub use ui::StartError;
use window::Main;

/// The German texts of this app and of the shared widgets. The build script merges them.
const GERMAN: &str = include_str!(concat!(env!("OUT_DIR"), "/lang/de/LC_MESSAGES/bedside-patient.po"));

/// The app. Lives on the thread of its window.
pub struct App {
    window: Main,
    controller: Rc<std::cell::RefCell<AppController>>,
}

impl App {
    /// Creates the window and the controllers. Does not show the window yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(args: &Args, chooser: Rc<dyn FileChooser>, quit: Box<dyn Fn()>) -> Result<Self, StartError> {
        let file = args.connection.settings_file("patient");
        let saved: Settings = file.load()?;
        let effective = args.connection.apply_to(&saved)?;
        let language = args.window.language();
        ui::text::set_language(language, GERMAN);
        let window = Main::new()?;
        ui::select_language(language);
        window.window().set_fullscreen(args.window.fullscreen);
        let settings = AppSettings { file, saved, effective };
        let controller = AppController::new(&window, args, settings, chooser, quit)?;
        callbacks::connect(&window, &controller);
        drop_files::connect(&window, &controller);
        Ok(App { window, controller })
    }

    /// The window.
    #[must_use]
    pub fn window(&self) -> &Main {
        &self.window
    }

    /// Selects files that were dropped on the window: PNG and JPEG files as medical images, all others as ECGs.
    pub fn drop_files(&self, files: Vec<std::path::PathBuf>) {
        self.controller.borrow_mut().files_dropped(files);
    }

    /// Shows the window and runs until the user quits.
    ///
    /// # Errors
    /// [`StartError::Window`].
    pub fn run(&self) -> Result<(), StartError> {
        // The name of the desktop entry in deploy/packaging, so that the desktop shows its icon.
        slint::set_xdg_app_id("bedside-patient")?;
        Ok(self.window.run()?)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.controller.borrow_mut().stop();
    }
}

/// Runs the app until the user quits.
///
/// # Errors
/// [`StartError`].
pub fn run(args: Args) -> Result<(), StartError> {
    let quit = || drop(slint::quit_event_loop());
    App::new(&args, Rc::new(DesktopDialogs), Box::new(quit))?.run()
}
