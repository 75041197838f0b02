//! `bedside cert`: creates a certificate authority (CA) and a server certificate.
//!
//! The server certificate is issued by the CA and is not a CA itself: TLS clients reject a server that
//! presents a CA certificate, as `openssl req -x509` creates it. Existing files are never overwritten.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::error::{CliError, cannot_use, cannot_write};
use super::output::OutputArgs;
use crate::data_dir;

/// Create a certificate authority and a server certificate.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Writes ca.pem, ca-key.pem, server.pem and server-key.pem, readable only by their owner. Nothing is overwritten.
Give ca.pem to the clients. Keep ca-key.pem offline: its holder can impersonate the server.

Example:
  bedside cert --to certs ward.example 192.0.2.7
  bedside --listen 0.0.0.0:5011 --tokens tokens --tls-cert certs/server.pem --tls-key certs/server-key.pem
  bedside patients --gateway https://ward.example:5011 --ca certs/ca.pem --token-file token"
)]
pub(crate) struct CertArgs {
    /// Host names and IP addresses under which clients reach the server
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Directory to write to; created if it does not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Days until the server certificate expires
    #[arg(long, value_name = "NUMBER", default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    #[command(flatten)]
    output: OutputArgs,
}

/// Lifetime of the CA. It must outlive its server certificates.
const CA_DAYS: u32 = 3650 + 825;
/// Clocks of clients may be behind by this time.
const CLOCK_MARGIN: Duration = Duration::from_secs(86_400);

impl CertArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        for name in &self.names {
            if !is_host(name) {
                return Err(CliError::usage(format!("{name:?} is not a host name or IP address")));
            }
        }
        data_dir::create(&self.to).map_err(cannot_use(&self.to))?;
        let files = issue(&self.names, self.days)
            .map_err(|error| CliError::failed(format!("the certificates cannot be created: {error}")))?;
        let files = files.map(|(name, pem)| (self.to.join(name), pem));
        if let Some((path, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
            return Err(CliError::failed(format!(
                "{} exists; choose another directory, or remove the file",
                path.display()
            )));
        }
        for (path, pem) in &files {
            write_new(path, pem).map_err(cannot_write(path))?;
        }
        let [ca, _, server, key] = files.map(|(path, _)| path);
        self.output.print(
            format!(
                "Clients trust {} (--ca); the server uses {} (--tls-cert) and {} (--tls-key).",
                ca.display(),
                server.display(),
                key.display()
            ),
            &json!({ "ca": ca, "certificate": server, "key": key }),
        )
    }
}

/// Returns whether the text can be a host name (optionally with a leading wildcard label) or an IP address.
fn is_host(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok()
        || text.len() <= 253 && text.strip_prefix("*.").unwrap_or(text).split('.').all(is_label)
}

/// Returns file names and contents: certificate and key of the CA, then of the server.
fn issue(names: &[String], days: u32) -> Result<[(&'static str, String); 4], rcgen::Error> {
    let name = |text: String| {
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, text);
        name
    };
    let mut ca = CertificateParams::default();
    ca.distinguished_name = name("Bedside CA".to_owned());
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut ca, CA_DAYS);
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let ca_key_pem = ca_key.serialize_pem();
    let issuer = Issuer::new(ca, ca_key);

    let mut server = CertificateParams::new(names.to_vec())?;
    server.distinguished_name = name(names.first().cloned().unwrap_or_default());
    server.is_ca = IsCa::ExplicitNoCa;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    set_validity(&mut server, days);
    let server_key = KeyPair::generate()?;
    let certificate = server.signed_by(&server_key, &issuer)?;
    Ok([
        ("ca.pem", ca_certificate.pem()),
        ("ca-key.pem", ca_key_pem),
        ("server.pem", certificate.pem()),
        ("server-key.pem", server_key.serialize_pem()),
    ])
}

fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_MARGIN);
    params.not_after = epoch + now + Duration::from_secs(u64::from(days) * 86_400);
}

/// Creates a file with mode 0600. Fails if it exists.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_and_addresses_are_accepted() {
        for host in ["localhost", "ward-3.example", "*.example", "192.0.2.7", "::1"] {
            assert!(is_host(host), "{host}");
        }
        for other in ["", "https://ward", "a b", "ward:5011", "-a", "a..b", "é"] {
            assert!(!is_host(other), "{other}");
        }
    }
}
