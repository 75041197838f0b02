//! Settings of the connections to the gateway and to NATS. The apps have the same settings.

use std::fs;
use std::path::{Path, PathBuf};

use client::{DEFAULT_GATEWAY, DEFAULT_NATS_INBOX, Gateway, NatsCredentials, NatsSettings, Settings};

use super::error::{CliError, cannot_read};

/// Maximum number of items per page that the commands request.
pub(super) const PAGE_SIZE: u32 = 200;

/// How to connect to the gateway.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub(super) struct GatewayArgs {
    /// Address of the gateway
    #[arg(long, env = "BEDSIDE_GATEWAY", value_name = "URL", default_value = DEFAULT_GATEWAY)]
    gateway: String,
    /// Access token. Other users of this machine can see command lines, so prefer --token-file
    #[arg(long, env = "BEDSIDE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File that contains only the access token; --token takes precedence
    #[arg(long, env = "BEDSIDE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of certificates to trust in addition to those of the operating system
    #[arg(long, env = "BEDSIDE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl GatewayArgs {
    /// Creates a client of the gateway. Nothing is sent.
    pub(super) fn connect(&self) -> Result<Gateway, CliError> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) if !token.trim().is_empty() => Some(token.parse()?),
            (_, Some(file)) => Some(read_secret(file, "access token")?.parse()?),
            _ => None,
        };
        let extra_certificates = match &self.ca {
            Some(file) => Some(fs::read(file).map_err(cannot_read(file))?),
            None => None,
        };
        Ok(Gateway::new(&Settings { extra_certificates, ..Settings::new(&self.gateway).with_token(token) })?)
    }
}

/// How to connect to NATS.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "NATS")]
pub(super) struct NatsArgs {
    /// NATS servers that publish updates, separated by commas; without this setting, the gateway pushes
    /// updates
    #[arg(long, env = "BEDSIDE_NATS", value_name = "URL")]
    nats: Option<String>,
    /// NATS user; requires a password
    #[arg(long, env = "BEDSIDE_NATS_USER", value_name = "USER")]
    nats_user: Option<String>,
    /// Password of the NATS user. Other users of this machine can see command lines, so prefer
    /// --nats-password-file
    #[arg(long, env = "BEDSIDE_NATS_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    nats_password: Option<String>,
    /// File that contains only the password of the NATS user; --nats-password takes precedence
    #[arg(long, env = "BEDSIDE_NATS_PASSWORD_FILE", value_name = "FILE")]
    nats_password_file: Option<PathBuf>,
    /// File that contains `user:password` or a NATS token; --nats-user takes precedence
    #[arg(long, env = "BEDSIDE_NATS_CREDS", value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// Prefix of the reply subjects of the NATS user
    #[arg(long, env = "BEDSIDE_NATS_INBOX", value_name = "PREFIX", default_value = DEFAULT_NATS_INBOX)]
    nats_inbox: String,
    /// PEM file of certificates to trust for NATS in addition to those of the operating system; default: --ca
    #[arg(long, env = "BEDSIDE_NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,
}

/// Earlier name of `BEDSIDE_NATS`.
const OLD_NATS: &str = "BEDSIDE_NATS_URL";

impl NatsArgs {
    /// Returns the settings for NATS, or `None` if no server is set.
    pub(super) fn settings(&self, gateway: &GatewayArgs) -> Result<Option<NatsSettings>, CliError> {
        let url = self.nats.clone().or_else(|| std::env::var(OLD_NATS).ok());
        let Some(url) = url.filter(|url| !url.trim().is_empty()) else { return Ok(None) };
        Ok(Some(NatsSettings {
            credentials: self.credentials()?,
            inbox_prefix: self.nats_inbox.clone(),
            extra_certificates: self.nats_ca.clone().or_else(|| gateway.ca.clone()),
            ..NatsSettings::new(url)
        }))
    }

    fn credentials(&self) -> Result<Option<NatsCredentials>, CliError> {
        if let Some(user) = self.nats_user.clone().filter(|user| !user.is_empty()) {
            let password = match (&self.nats_password, &self.nats_password_file) {
                (Some(password), _) if !password.is_empty() => password.clone(),
                (_, Some(file)) => read_secret(file, "password")?,
                _ => {
                    return Err(CliError::usage(
                        "--nats-user requires --nats-password-file or BEDSIDE_NATS_PASSWORD",
                    ));
                }
            };
            return Ok(Some(NatsCredentials::Password { user, password }));
        }
        let file = self.nats_creds.as_deref();
        Ok(file
            .map(|file| read_secret(file, "credentials"))
            .transpose()?
            .map(|line| NatsCredentials::parse(&line)))
    }
}

fn read_secret(file: &Path, what: &str) -> Result<String, CliError> {
    let text = fs::read_to_string(file)
        .map_err(|error| CliError::usage(format!("{} cannot be read: {error}", file.display())))?;
    match text.trim() {
        "" => Err(CliError::usage(format!("{} is empty; it must contain the {what}", file.display()))),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Both {
        #[command(flatten)]
        gateway: GatewayArgs,
        #[command(flatten)]
        nats: NatsArgs,
    }

    fn nats(args: &[&str]) -> Result<Option<NatsSettings>, CliError> {
        let both = Both::try_parse_from(["test"].iter().chain(args)).unwrap();
        both.nats.settings(&both.gateway)
    }

    #[test]
    fn nats_credentials_come_from_user_and_password_or_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (password, creds) = (file("password", "secret\n"), file("creds", "monitor:secret\n"));
        let (token, empty) = (file("token", "abc\n"), file("empty", "\n"));
        let expected =
            Some(NatsCredentials::Password { user: "monitor".to_owned(), password: "secret".to_owned() });
        let url = ["--nats", "nats://127.0.0.1:4222"];
        for login in [
            &["--nats-user", "monitor", "--nats-password", "secret"][..],
            &["--nats-user", "monitor", "--nats-password-file", &password],
            &["--nats-creds", &creds],
        ] {
            let settings = nats(&[&url[..], login].concat()).unwrap().unwrap();
            assert_eq!(settings.credentials, expected, "{login:?}");
        }
        let settings =
            nats(&[&url[..], &["--nats-creds", &token, "--ca", "ca.pem"]].concat()).unwrap().unwrap();
        assert_eq!(settings.credentials, Some(NatsCredentials::Token("abc".to_owned())));
        assert_eq!(settings.extra_certificates, Some(PathBuf::from("ca.pem")));
        assert!(nats(&[]).unwrap().is_none());
        for wrong in [&["--nats-user", "monitor"][..], &["--nats-creds", &empty], &["--nats-creds", "/none"]]
        {
            let error = nats(&[&url[..], wrong].concat()).unwrap_err();
            assert!(matches!(error, CliError::Usage(_)), "{wrong:?}: {error}");
        }
    }
}
