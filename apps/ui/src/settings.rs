//! What a person can set, and the file it is kept in.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use client::{Gateway, NatsCredentials, NatsSettings, Token};
use serde::{Deserialize, Serialize};

/// Where a gateway on the same machine is.
pub(crate) const DEFAULT_GATEWAY: &str = client::DEFAULT_GATEWAY;
/// Prefix of the reply subjects that the broker of the full stack gives to apps.
pub(crate) const DEFAULT_INBOX: &str = client::DEFAULT_NATS_INBOX;

/// Why settings cannot be read, kept or used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file is there and cannot be read.
    #[error("the settings file {path} cannot be read: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file cannot be written.
    #[error("the settings file {path} cannot be written: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file that the settings name cannot be read.
    #[error("the {what} {path} cannot be read: {reason}")]
    Named {
        /// What it is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The gateway cannot be reached with them.
    #[error(transparent)]
    Client(#[from] client::ClientError),
}

/// Light, dark, or as the operating system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the operating system has it.
    #[default]
    System,
    /// Dark letters on light ground.
    Light,
    /// Light letters on dark ground.
    Dark,
}

/// What a person can set. Empty means not set.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Address of the gateway.
    pub gateway: String,
    /// Access token.
    pub token: String,
    /// File of certificates (PEM) to trust besides those of the operating system, for HTTPS and NATS.
    pub ca: String,
    /// Addresses of NATS servers, separated by commas; without any, updates come from the gateway.
    pub nats: String,
    /// File of NATS credentials: see [`read_credentials`].
    pub nats_credentials: String,
    /// Prefix of the reply subjects of the NATS user.
    pub nats_inbox: String,
    /// Look of the app.
    pub theme: Theme,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            gateway: DEFAULT_GATEWAY.to_owned(),
            token: String::new(),
            ca: String::new(),
            nats: String::new(),
            nats_credentials: String::new(),
            nats_inbox: DEFAULT_INBOX.to_owned(),
            theme: Theme::System,
        }
    }
}

// By hand, so that a token never ends in a log.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("gateway", &self.gateway)
            .field("token", &if self.token.is_empty() { "" } else { "…" })
            .field("ca", &self.ca)
            .field("nats", &self.nats)
            .field("nats_credentials", &self.nats_credentials)
            .field("nats_inbox", &self.nats_inbox)
            .field("theme", &self.theme)
            .finish()
    }
}

impl Settings {
    /// The same without blanks around what was typed.
    #[must_use]
    pub fn trimmed(&self) -> Self {
        let trim = |text: &str| text.trim().to_owned();
        Settings {
            gateway: trim(&self.gateway),
            token: trim(&self.token),
            ca: trim(&self.ca),
            nats: trim(&self.nats),
            nats_credentials: trim(&self.nats_credentials),
            nats_inbox: trim(&self.nats_inbox),
            theme: self.theme,
        }
    }

    /// What to keep in the file after a person was shown `shown` and made `edited` of it: what was not touched stays as
    /// the file (`self`) has it, so that a token from the environment is not written down.
    #[must_use]
    pub fn with_edits(&self, shown: &Settings, edited: &Settings) -> Settings {
        let pick = |mine: &String, shown: &String, edited: &String| {
            if shown == edited { mine.clone() } else { edited.clone() }
        };
        Settings {
            gateway: pick(&self.gateway, &shown.gateway, &edited.gateway),
            token: pick(&self.token, &shown.token, &edited.token),
            ca: pick(&self.ca, &shown.ca, &edited.ca),
            nats: pick(&self.nats, &shown.nats, &edited.nats),
            nats_credentials: pick(&self.nats_credentials, &shown.nats_credentials, &edited.nats_credentials),
            nats_inbox: pick(&self.nats_inbox, &shown.nats_inbox, &edited.nats_inbox),
            theme: if shown.theme == edited.theme { self.theme } else { edited.theme },
        }
    }

    /// A client of the gateway. Reads the certificates, so call it off the thread of the window.
    ///
    /// # Errors
    /// [`SettingsError`] when the settings cannot work; nothing is sent yet.
    pub fn connect(&self) -> Result<Gateway, SettingsError> {
        let token = Some(self.token.trim()).filter(|token| !token.is_empty()).map(Token::new).transpose()?;
        let extra_certificates = match self.ca.trim() {
            "" => None,
            path => Some(fs::read(path).map_err(named("file of certificates", path))?),
        };
        let address = match self.gateway.trim() {
            "" => DEFAULT_GATEWAY,
            address => address,
        };
        let settings =
            client::Settings { extra_certificates, ..client::Settings::new(address).with_token(token) };
        Ok(Gateway::new(&settings)?)
    }

    /// How to reach the broker, if that is set. Reads the credentials, so call it off the thread of the window.
    ///
    /// # Errors
    /// [`SettingsError::Named`] when the file of credentials cannot be read.
    pub fn broker(&self) -> Result<Option<NatsSettings>, SettingsError> {
        let url = self.nats.trim();
        if url.is_empty() {
            return Ok(None);
        }
        let credentials = match self.nats_credentials.trim() {
            "" => None,
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

/// Reads a file of NATS credentials: one line, `user:password`, or a token.
///
/// # Errors
/// [`SettingsError::Named`] when it cannot be read or is empty.
pub fn read_credentials(path: &Path) -> Result<NatsCredentials, SettingsError> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path).map_err(named("file of NATS credentials", &shown))?;
    match text.trim() {
        "" => Err(named("file of NATS credentials", &shown)(io::Error::other("it is empty"))),
        line => Ok(NatsCredentials::parse(line)),
    }
}

fn named(what: &'static str, path: &str) -> impl FnOnce(io::Error) -> SettingsError {
    let path = PathBuf::from(path);
    move |error| SettingsError::Named { what, path, reason: error.to_string() }
}

/// The file in which settings are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile(PathBuf);

impl SettingsFile {
    /// This file.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        SettingsFile(path.into())
    }

    /// The file of this app in the user's folder of configurations, or in the current one where there is none.
    #[must_use]
    pub fn of_app(app: &str) -> Self {
        let folder = dirs::config_dir().unwrap_or_default().join("bedside");
        SettingsFile(folder.join(format!("{app}.json")))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it holds; the defaults where there is no such file.
    ///
    /// # Errors
    /// [`SettingsError::Read`] when it is there and cannot be understood.
    pub fn load<T: Default + for<'a> Deserialize<'a>>(&self) -> Result<T, SettingsError> {
        let fail = |reason: String| SettingsError::Read { path: self.0.clone(), reason };
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| fail(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Replaces it in one step. Only its owner can read it: it may hold a token.
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
