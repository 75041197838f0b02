//! The parts that both desktop apps share: settings, background work, connection status, formatting, translations, signal
//! plots, and file dialogs.
//!
//! The widgets and the theme are Slint files in `ui/`. The apps import them as `@ui/widgets.slint`.
//!
//! Nothing here blocks the UI thread. Work that may take time runs on a [`BackgroundRuntime`] and returns its result as a
//! message through a [`channel`].

mod args;
mod background;
mod caption;
mod channel;
mod connection;
mod connection_test;
mod files;
pub mod format;
mod login;
mod picture;
pub mod rhythm;
mod settings;
mod shell;
pub mod text;
pub mod trace;

pub use args::{ConnectionArgs, WindowArgs};
pub use background::{BackgroundRuntime, Task};
pub use caption::Caption;
pub use channel::{UiReceiver, UiSender, channel};
pub use connection::{ConnectionLevel, ConnectionStatus};
pub use connection_test::{TestError, TestOutcome, test_connection};
pub use files::{FileChooser, FileFilter, NativeDialogs, OpenRequest, SaveRequest};
pub use login::{Login, account_title, is_person, log_in, log_out};
pub use picture::{Picture, PictureError};
pub use settings::{Settings, SettingsError, SettingsFile, Theme, read_credentials};
pub use shell::{StartError, exit};
pub use text::{Language, select_language};
