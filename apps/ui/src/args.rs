//! Flags and environment variables that both apps understand.

use std::path::PathBuf;

use crate::settings::{Settings, SettingsError, SettingsFile, Theme};

/// How to reach the system. What is given here wins over the settings file, and is not written to it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// Address of the gateway, as in http://127.0.0.1:5011
    #[arg(long, env = "BEDSIDE_GATEWAY", value_name = "URL")]
    pub gateway: Option<String>,
    /// Access token, where the gateway asks for one; a flag shows in the list of processes, so prefer a file
    #[arg(long, env = "BEDSIDE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the access token and nothing else
    #[arg(long, env = "BEDSIDE_TOKEN_FILE", value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// File of certificates (PEM) to trust besides those of the operating system
    #[arg(long, env = "BEDSIDE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// NATS servers to take updates from, as in nats://127.0.0.1:4222; without, the gateway pushes them
    #[arg(long, env = "BEDSIDE_NATS", value_name = "URL")]
    pub nats: Option<String>,
    /// File of NATS credentials: one line, user:password, or a token
    #[arg(long, env = "BEDSIDE_NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// Prefix of the reply subjects of the NATS user
    #[arg(long, env = "BEDSIDE_NATS_INBOX", value_name = "PREFIX")]
    pub nats_inbox: Option<String>,
    /// File to keep the settings in; by default one in your folder of configurations
    #[arg(long, env = "BEDSIDE_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Look of the app
    #[arg(long, env = "BEDSIDE_THEME", value_enum)]
    pub theme: Option<Theme>,
}

impl ConnectionArgs {
    /// The settings file: that of `app`, unless another one is given.
    #[must_use]
    pub fn file(&self, app: &str) -> SettingsFile {
        self.settings.as_ref().map_or_else(|| SettingsFile::of_app(app), SettingsFile::at)
    }

    /// What is in force: `kept` with everything that is given here laid over it.
    ///
    /// # Errors
    /// [`SettingsError::Named`] when the token file cannot be read.
    pub fn over(&self, kept: &Settings) -> Result<Settings, SettingsError> {
        let mut settings = kept.clone();
        let path = |path: &PathBuf| path.display().to_string();
        if let Some(gateway) = &self.gateway {
            settings.gateway.clone_from(gateway);
        }
        if let Some(file) = &self.token_file {
            let fail = |error: std::io::Error| SettingsError::Named {
                what: "token file",
                path: file.clone(),
                reason: error.to_string(),
            };
            std::fs::read_to_string(file).map_err(fail)?.trim().clone_into(&mut settings.token);
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
        if let Some(inbox) = &self.nats_inbox {
            settings.nats_inbox.clone_from(inbox);
        }
        if let Some(theme) = self.theme {
            settings.theme = theme;
        }
        Ok(settings)
    }
}
