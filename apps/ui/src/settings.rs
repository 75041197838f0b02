//! The connection settings and the settings file.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use client::{Gateway, NatsCredentials, NatsSettings, Token};
use serde::{Deserialize, Serialize};

use crate::tr;

/// The address of a gateway on the same machine.
pub(crate) const DEFAULT_GATEWAY: &str = client::DEFAULT_GATEWAY;
/// The inbox prefix that the full stack grants to apps.
pub(crate) const DEFAULT_INBOX: &str = client::DEFAULT_NATS_INBOX;

/// The reason why settings cannot be read, written or used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The settings file exists, but cannot be read or parsed.
    #[error("{}", tr!("the settings file {} cannot be read: {}", .path.display(), .reason))]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// The settings file cannot be written.
    #[error("{}", tr!("the settings file {} cannot be written: {}", .path.display(), .reason))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// A file that the settings refer to cannot be read.
    #[error("{}", tr!("the {} {} cannot be read: {}", .what, .path.display(), .reason))]
    Referenced {
        /// What the file is for, such as "token file".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: String,
    },
    /// No client can be made from the settings.
    #[error(transparent)]
    Client(#[from] client::ClientError),
}

/// The colour theme.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// Follows the operating system.
    #[default]
    System,
    /// Dark text on a light background.
    Light,
    /// Light text on a dark background.
    Dark,
}

/// The settings of a connection. An empty text means "not set".
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Address of the gateway.
    pub gateway: String,
    /// Access token.
    pub token: String,
    /// Secret of the session of the person who has logged in. It replaces the access token. Only in memory, never saved.
    #[serde(skip)]
    pub session: Option<Token>,
    /// PEM file of certificates to trust in addition to those of the operating system, for HTTPS and NATS.
    pub ca: String,
    /// Addresses of NATS servers, separated by commas. If empty, updates come from the gateway.
    pub nats: String,
    /// File of NATS credentials, see [`read_credentials`].
    pub nats_credentials: String,
    /// User and password from the command line or the environment. Never saved. The file of credentials takes precedence.
    #[serde(skip)]
    pub nats_login: Option<NatsCredentials>,
    /// Inbox prefix of the NATS user.
    pub nats_inbox: String,
    /// Colour theme of the app.
    pub theme: Theme,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            gateway: DEFAULT_GATEWAY.to_owned(),
            token: String::new(),
            session: None,
            ca: String::new(),
            nats: String::new(),
            nats_credentials: String::new(),
            nats_login: None,
            nats_inbox: DEFAULT_INBOX.to_owned(),
            theme: Theme::System,
        }
    }
}

// Implemented by hand so that the token is never logged.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("gateway", &self.gateway)
            .field("token", &if self.token.is_empty() { "" } else { "…" })
            .field("session", &self.session)
            .field("ca", &self.ca)
            .field("nats", &self.nats)
            .field("nats_credentials", &self.nats_credentials)
            .field("nats_login", &self.nats_login)
            .field("nats_inbox", &self.nats_inbox)
            .field("theme", &self.theme)
            .finish()
    }
}

impl Settings {
    /// The settings without surrounding blanks.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let trim = |text: &str| text.trim().to_owned();
        Settings {
            gateway: trim(&self.gateway),
            token: trim(&self.token),
            session: self.session.clone(),
            ca: trim(&self.ca),
            nats: trim(&self.nats),
            nats_credentials: trim(&self.nats_credentials),
            nats_login: self.nats_login.clone(),
            nats_inbox: trim(&self.nats_inbox),
            theme: self.theme,
        }
    }

    /// The settings to save after the user changed the settings in force from `shown` to `edited`. Every field that the
    /// user did not change stays as it is in the file (`self`), so that a token from the environment is not saved.
    #[must_use]
    pub fn with_edits(&self, shown: &Settings, edited: &Settings) -> Settings {
        let pick = |saved: &String, shown: &String, edited: &String| {
            if shown == edited { saved.clone() } else { edited.clone() }
        };
        Settings {
            gateway: pick(&self.gateway, &shown.gateway, &edited.gateway),
            token: pick(&self.token, &shown.token, &edited.token),
            session: None,
            ca: pick(&self.ca, &shown.ca, &edited.ca),
            nats: pick(&self.nats, &shown.nats, &edited.nats),
            nats_credentials: pick(&self.nats_credentials, &shown.nats_credentials, &edited.nats_credentials),
            nats_login: None,
            nats_inbox: pick(&self.nats_inbox, &shown.nats_inbox, &edited.nats_inbox),
            theme: if shown.theme == edited.theme { self.theme } else { edited.theme },
        }
    }

    /// Creates a client of the gateway and, if a NATS server is set, the settings of the NATS connection. Sends nothing.
    /// Reads files, so call it off the UI thread.
    ///
    /// # Errors
    /// [`SettingsError`]: the settings are invalid, or a file that they refer to cannot be read.
    pub fn clients(&self) -> Result<(Gateway, Option<NatsSettings>), SettingsError> {
        Ok((self.gateway_client()?, self.nats_settings()?))
    }

    /// The settings of a client that is not logged in and has no access token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Settings { token: String::new(), session: None, ..self.clone() }
    }

    /// Creates a client of the gateway. Sends nothing. Reads the certificates, so call it off the UI thread.
    ///
    /// # Errors
    /// [`SettingsError`]: the settings are invalid, or the certificates cannot be read.
    pub fn gateway_client(&self) -> Result<Gateway, SettingsError> {
        let token = match &self.session {
            Some(secret) => Some(secret.clone()),
            None => Some(self.token.trim()).filter(|token| !token.is_empty()).map(Token::new).transpose()?,
        };
        let extra_certificates = match self.ca.trim() {
            "" => None,
            path => Some(fs::read(path).map_err(referenced(tr!("file of certificates"), path))?),
        };
        let address = match self.gateway.trim() {
            "" => DEFAULT_GATEWAY,
            address => address,
        };
        let settings =
            client::Settings { extra_certificates, ..client::Settings::new(address).with_token(token) };
        Ok(Gateway::new(&settings)?)
    }

    /// The settings of the NATS connection. `None` if no NATS server is set. Reads the credentials, so call it off the UI
    /// thread.
    ///
    /// # Errors
    /// [`SettingsError::Referenced`]: the credentials cannot be read.
    pub fn nats_settings(&self) -> Result<Option<NatsSettings>, SettingsError> {
        let url = self.nats.trim();
        if url.is_empty() {
            return Ok(None);
        }
        let credentials = match self.nats_credentials.trim() {
            "" => self.nats_login.clone(),
            path => Some(read_credentials(Path::new(path))?),
        };
        let inbox = self.nats_inbox.trim();
        Ok(Some(NatsSettings {
            credentials,
            inbox_prefix: if inbox.is_empty() { DEFAULT_INBOX.to_owned() } else { inbox.to_owned() },
            extra_certificates: Some(self.ca.trim()).filter(|path| !path.is_empty()).map(PathBuf::from),
            ..NatsSettings::new(url)
        }))
    }
}

/// Reads a file of NATS credentials: one line with `user:password` or a token.
///
/// # Errors
/// [`SettingsError::Referenced`]: the file cannot be read or is empty.
pub fn read_credentials(path: &Path) -> Result<NatsCredentials, SettingsError> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(referenced(tr!("file of NATS credentials"), &shown))?;
    match text.trim() {
        "" => Err(referenced(tr!("file of NATS credentials"), &shown)(io::Error::other(tr!("it is empty")))),
        line => Ok(NatsCredentials::parse(line)),
    }
}

fn referenced(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> SettingsError {
    let path = PathBuf::from(path);
    move |error| SettingsError::Referenced { what, path, reason: error.to_string() }
}

/// A JSON file that stores settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile(PathBuf);

impl SettingsFile {
    /// The file at this path.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        SettingsFile(path.into())
    }

    /// The default file of an app: `bedside/<app>.json` in the configuration directory of the user, or in the current
    /// directory if there is no configuration directory.
    #[must_use]
    pub fn of_app(app: &str) -> Self {
        let folder = dirs::config_dir().unwrap_or_default().join("bedside");
        SettingsFile(folder.join(format!("{app}.json")))
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads the settings. Returns the defaults if the file does not exist.
    ///
    /// # Errors
    /// [`SettingsError::Read`]: the file exists, but cannot be read or parsed.
    pub fn load<T: Default + for<'a> Deserialize<'a>>(&self) -> Result<T, SettingsError> {
        let fail = |reason: String| SettingsError::Read { path: self.0.clone(), reason };
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Replaces the file atomically. Only the owner can read the file, because it may contain a token.
    ///
    /// # Errors
    /// [`SettingsError::Write`].
    pub fn save<T: Serialize>(&self, settings: &T) -> Result<(), SettingsError> {
        self.replace(settings)
            .map_err(|error| SettingsError::Write { path: self.0.clone(), reason: error.to_string() })
    }

    fn replace<T: Serialize>(&self, settings: &T) -> io::Result<()> {
        if let Some(folder) = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder)?;
        }
        let part = self.0.with_extension("json.part");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&part)?;
        serde_json::to_writer_pretty(&mut file, settings)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&part, &self.0)
    }
}
