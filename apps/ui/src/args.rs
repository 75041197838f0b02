//! The command-line flags and environment variables that both apps share.

use std::path::{Path, PathBuf};

use client::NatsCredentials;

use crate::settings::{Settings, SettingsError, SettingsFile, Theme};
use crate::text::Language;
use crate::tr;

/// The connection settings on the command line. They override the settings file and are never written to it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Address of the gateway, for example http://127.0.0.1:5011
    #[arg(long, env = "BEDSIDE_GATEWAY", value_name = "URL")]
    pub gateway: Option<String>,
    /// Access token, if the gateway requires one. Prefer --token-file: other users can see flags in the process list
    #[arg(long, env = "BEDSIDE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that contains the access token and nothing else
    #[arg(long, env = "BEDSIDE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// PEM file of certificates to trust in addition to those of the operating system
    #[arg(long, env = "BEDSIDE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// NATS servers that push updates, for example nats://127.0.0.1:4222. By default the gateway pushes updates
    #[arg(long, env = "BEDSIDE_NATS", value_name = "URL")]
    pub nats: Option<String>,
    /// File of NATS credentials: one line with user:password or a token
    #[arg(long, env = "BEDSIDE_NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// NATS user; requires a password
    #[arg(long, env = "BEDSIDE_NATS_USER", value_name = "USER", conflicts_with = "nats_creds")]
    pub nats_user: Option<String>,
    /// Password of the NATS user. Prefer --nats-password-file: other users can see flags in the process list
    #[arg(long, env = "BEDSIDE_NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub nats_password: Option<String>,
    /// File that contains the password of the NATS user and nothing else
    #[arg(long, env = "BEDSIDE_NATS_PASSWORD_FILE", value_name = "FILE")]
    pub nats_password_file: Option<PathBuf>,
    /// Inbox prefix that the NATS user may subscribe to
    #[arg(long, env = "BEDSIDE_NATS_INBOX", value_name = "PREFIX")]
    pub nats_inbox: Option<String>,
    /// Settings file. By default a file in the configuration directory of the user
    #[arg(long, env = "BEDSIDE_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Colour theme of the app
    #[arg(long, env = "BEDSIDE_THEME", value_enum)]
    pub theme: Option<Theme>,
}

/// How the window starts.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Window")]
pub struct WindowArgs {
    /// Fills the whole screen. F11 switches it on and off
    #[arg(long, env = "BEDSIDE_FULLSCREEN")]
    pub fullscreen: bool,
    /// Language of the app. By default the language of the environment (LANGUAGE, LC_ALL, LC_MESSAGES, LANG)
    #[arg(long, env = "BEDSIDE_LANGUAGE", value_enum)]
    pub language: Option<Language>,
}

impl WindowArgs {
    /// The language on the command line, or else that of the environment.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language.unwrap_or_else(|| Language::of_environment(|name| std::env::var(name).ok()))
    }
}

impl ConnectionArgs {
    /// The settings file given on the command line, or else the default file of `app`.
    #[must_use]
    pub fn settings_file(&self, app: &str) -> SettingsFile {
        self.settings.as_ref().map_or_else(|| SettingsFile::of_app(app), SettingsFile::at)
    }

    /// The saved settings, overridden by everything that the command line gives.
    ///
    /// # Errors
    /// [`SettingsError::Referenced`]: the token file cannot be read.
    pub fn apply_to(&self, saved: &Settings) -> Result<Settings, SettingsError> {
        let mut settings = saved.clone();
        let path = |path: &PathBuf| path.display().to_string();
        if let Some(gateway) = &self.gateway {
            settings.gateway.clone_from(gateway);
        }
        if let Some(file) = &self.token_file {
            settings.token = read(tr!("token file"), file)?;
        }
        if let Some(token) = &self.token {
            token.trim().clone_into(&mut settings.token);
        }
        if let Some(ca) = &self.ca {
            settings.ca = path(ca);
        }
        if let Some(nats) = &self.nats {
            settings.nats.clone_from(nats);
        }
        if let Some(file) = &self.nats_creds {
            settings.nats_credentials = path(file);
        }
        if let Some(user) = self.nats_user.clone().filter(|user| !user.is_empty()) {
            let password = match (&self.nats_password, &self.nats_password_file) {
                (Some(password), _) => password.clone(),
                (None, Some(file)) => read(tr!("NATS password file"), file)?,
                (None, None) => {
                    return Err(SettingsError::Client(client::ClientError::Settings(
                        "--nats-user requires --nats-password-file or BEDSIDE_NATS_PASSWORD".to_owned(),
                    )));
                }
            };
            settings.nats_login = Some(NatsCredentials::Password { user, password });
            settings.nats_credentials.clear();
        }
        if let Some(inbox) = &self.nats_inbox {
            settings.nats_inbox.clone_from(inbox);
        }
        if let Some(theme) = self.theme {
            settings.theme = theme;
        }
        Ok(settings)
    }
}

/// Reads a file that contains a secret. Surrounding white space is removed.
fn read(what: &'static str, file: &Path) -> Result<String, SettingsError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => {
            Err(SettingsError::Referenced { what, path: file.to_owned(), reason: error.to_string() })
        }
    }
}
