//! What both desktop apps share: settings, the thread of the network, the connection light, words for numbers and times,
//! pictures and traces, and file dialogs. The widgets and the theme are in `ui/`, imported by the apps as `@ui/widgets.slint`.
//!
//! Nothing here blocks the thread of the window: whatever may take time runs on [`Network`] and comes back as a message.

mod args;
mod connection;
mod files;
mod network;
mod picture;
mod settings;
pub mod times;
pub mod trace;
pub mod words;

pub use args::ConnectionArgs;
pub use connection::{Level, Light, light};
pub use files::{FileChooser, FileFilter, NativeDialogs, OpenRequest, SaveRequest};
pub use network::{Network, Task};
pub use picture::{Picture, PictureError};
pub use settings::{Settings, SettingsError, SettingsFile, Theme, read_credentials};
