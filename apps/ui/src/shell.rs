//! Start-up errors, exit codes, and the conversions between the types of this crate and those that Slint generates.

use std::io;
use std::process::ExitCode;

use crate::SettingsError;

/// Exit code for a command line or a settings file that cannot work (`EX_USAGE`).
const EXIT_USAGE: u8 = 64;

/// The reason why an app cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are invalid or cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No window can be opened, for example because there is no display.
    #[error("cannot open a window: {0}")]
    Window(#[from] slint::PlatformError),
    /// The operating system does not provide threads.
    #[error("cannot start the background threads: {0}")]
    Threads(#[from] io::Error),
}

impl StartError {
    /// The exit code of the process: 64 for invalid settings, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Settings(_) => EXIT_USAGE,
            StartError::Window(_) | StartError::Threads(_) => 1,
        }
    }
}

/// Converts the result of an app into the exit code of its process. Prints an error to standard error, after the name of
/// the app.
#[must_use]
pub fn exit(app: &str, result: Result<(), StartError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{app}: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Implements the conversions between this crate's types and the types that Slint generates in the module `$window`.
///
/// Each app compiles the shared Slint files on its own and so has its own `ThemeChoice`, `ConnectionLevel` and
/// `SettingsForm`.
#[macro_export]
macro_rules! window_conversions {
    ($window:ident) => {
        impl From<$crate::Theme> for $window::ThemeChoice {
            fn from(theme: $crate::Theme) -> Self {
                match theme {
                    $crate::Theme::System => $window::ThemeChoice::System,
                    $crate::Theme::Light => $window::ThemeChoice::Light,
                    $crate::Theme::Dark => $window::ThemeChoice::Dark,
                }
            }
        }

        impl From<$window::ThemeChoice> for $crate::Theme {
            fn from(choice: $window::ThemeChoice) -> Self {
                match choice {
                    $window::ThemeChoice::System => $crate::Theme::System,
                    $window::ThemeChoice::Light => $crate::Theme::Light,
                    $window::ThemeChoice::Dark => $crate::Theme::Dark,
                }
            }
        }

        impl From<$crate::ConnectionLevel> for $window::ConnectionLevel {
            fn from(level: $crate::ConnectionLevel) -> Self {
                match level {
                    $crate::ConnectionLevel::Unknown => $window::ConnectionLevel::Unknown,
                    $crate::ConnectionLevel::Good => $window::ConnectionLevel::Good,
                    $crate::ConnectionLevel::Fair => $window::ConnectionLevel::Fair,
                    $crate::ConnectionLevel::Bad => $window::ConnectionLevel::Bad,
                }
            }
        }

        impl From<&$crate::Settings> for $window::SettingsForm {
            fn from(settings: &$crate::Settings) -> Self {
                $window::SettingsForm {
                    gateway: settings.gateway.as_str().into(),
                    token: settings.token.as_str().into(),
                    ca: settings.ca.as_str().into(),
                    nats: settings.nats.as_str().into(),
                    nats_credentials: settings.nats_credentials.as_str().into(),
                    theme: settings.theme.into(),
                }
            }
        }

        impl $window::SettingsForm {
            /// The settings in the form, without surrounding blanks. Settings that the form does not contain are those
            /// of `base`.
            pub(crate) fn to_settings(&self, base: &$crate::Settings) -> $crate::Settings {
                let settings = $crate::Settings {
                    gateway: self.gateway.to_string(),
                    token: self.token.to_string(),
                    ca: self.ca.to_string(),
                    nats: self.nats.to_string(),
                    nats_credentials: self.nats_credentials.to_string(),
                    theme: self.theme.into(),
                    ..base.clone()
                };
                let settings = settings.trimmed();
                // A session belongs to its gateway.
                let session = settings.session.clone().filter(|_| settings.gateway == base.gateway);
                $crate::Settings { session, ..settings }
            }
        }
    };
}

/// Connects the callback of F11 to the window: it switches between the whole screen and a normal window.
#[macro_export]
macro_rules! connect_fullscreen {
    ($window:expr, $api:expr) => {{
        let weak = slint::ComponentHandle::as_weak($window);
        $api.on_toggle_fullscreen(move || {
            if let Some(window) = weak.upgrade() {
                let window = slint::ComponentHandle::window(&window);
                window.set_fullscreen(!window.is_fullscreen());
            }
        });
    }};
}
