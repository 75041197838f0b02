//! Secrets that the system generates: keys and shared tokens, each in its own file.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::exit::StartError;

/// Minimum length in characters.
const MIN_LENGTH: usize = 32;

/// A secret of printable ASCII characters, such as the output of `openssl rand -hex 32`. `Debug` does not
/// show it.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Generates a secret with 256 random bits.
    ///
    /// # Errors
    /// If the system provides no random numbers.
    pub fn generate() -> Result<Self, StartError> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| StartError::failed("the system provides no random numbers"))?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Secret(hex.into()))
    }

    /// Reads a secret from a file. Surrounding white space is ignored.
    ///
    /// # Errors
    /// If the file cannot be read or contains no valid secret. The message does not contain its content.
    pub fn read(path: &Path) -> Result<Self, StartError> {
        let text = fs::read_to_string(path).map_err(|error| {
            StartError::config(format!("the secret file {} cannot be read: {error}", path.display()))
        })?;
        Secret::from_text(&text).ok_or_else(|| {
            StartError::config(format!(
                "the secret file {} must contain one secret of {MIN_LENGTH} or more printable ASCII \
                 characters, such as the output of `openssl rand -hex 32`",
                path.display()
            ))
        })
    }

    fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = text.len() >= MIN_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Secret(text.into()))
    }

    /// Reads a secret from a file. If the file does not exist, creates it with a new secret that only the
    /// owner can read. The file is renamed into place after its content has been synced. Only one process at
    /// a time may call this for a path.
    ///
    /// # Errors
    /// Like [`Secret::read`], and if the file cannot be created. A file with invalid content is never
    /// replaced.
    pub fn read_or_create(path: &Path) -> Result<Self, StartError> {
        if path.try_exists().is_ok_and(|exists| !exists) {
            let secret = Secret::generate()?;
            secret.write(path).map_err(|error| {
                StartError::failed(format!("the secret file {} cannot be created: {error}", path.display()))
            })?;
        }
        Secret::read(path)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.create(true).write(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&unfinished)?;
        writeln!(file, "{}", self.0)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        if let Some(folder) = path.parent().filter(|_| cfg!(unix)) {
            File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?.sync_all()?;
        }
        Ok(())
    }

    /// HMAC-SHA-256 of a message with the text of this secret as the key (RFC 2104), for a receiver that has the same secret.
    #[must_use]
    pub fn hmac(&self, message: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(hmac::sign(&key, message).as_ref());
        hash
    }

    /// HMAC-SHA-256 with this secret as the key. `purpose` separates independent uses of the secret. Each
    /// part is prefixed with its length, so different parts never produce the same input.
    #[must_use]
    pub fn keyed_hash(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let mut context = hmac::Context::with_key(&key);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.sign().as_ref());
        hash
    }

    /// Returns the value `Bearer <secret>` for an `Authorization` header.
    ///
    /// # Errors
    /// None in practice: a secret is printable ASCII.
    pub fn bearer(&self) -> Result<HeaderValue, StartError> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))
            .map_err(|error| StartError::config(error.to_string()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns whether an `Authorization` header contains this secret. Compares keyed hashes, so the time
    /// does not depend on the value.
    #[must_use]
    pub fn is_carried_by(&self, authorization: Option<&HeaderValue>) -> bool {
        let token = authorization
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or("", |(_, token)| token.trim());
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        let expected = hmac::sign(&key, self.0.as_bytes());
        hmac::verify(&key, token.as_bytes(), expected.as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_secret_is_read_again_and_private_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let first = Secret::read_or_create(&path).unwrap();
        let second = Secret::read_or_create(&path).unwrap();
        assert_eq!(first.0, second.0);
        assert_ne!(first.0, Secret::generate().unwrap().0);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn file_with_invalid_secret_is_rejected_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        for content in ["", "short", &"a b".repeat(20), &"é".repeat(40)] {
            fs::write(&path, content).unwrap();
            let error = Secret::read_or_create(&path).unwrap_err();
            assert_eq!(error.exit_code(), 64);
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(Secret::read(&folder.path().join("none")).unwrap_err().exit_code(), 64);
    }

    #[test]
    fn keyed_hash_depends_on_key_purpose_and_part_boundaries() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let hash = one.keyed_hash("test", &[b"ab", b"c"]);
        assert_eq!(hash, one.keyed_hash("test", &[b"ab", b"c"]));
        for different in [
            one.keyed_hash("test", &[b"a", b"bc"]),
            one.keyed_hash("test", &[b"abc"]),
            one.keyed_hash("other", &[b"ab", b"c"]),
            other.keyed_hash("test", &[b"ab", b"c"]),
        ] {
            assert_ne!(hash, different);
        }
    }

    #[test]
    fn only_the_exact_secret_is_accepted() {
        let (secret, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert!(secret.is_carried_by(Some(&secret.bearer().unwrap())));
        assert!(!secret.is_carried_by(Some(&other.bearer().unwrap())));
        let cut = format!("Bearer {}", &secret.0[..63]);
        for value in ["", "Bearer", "Bearer ", &*secret.0, &cut, &format!("Basic {}", secret.0)] {
            assert!(!secret.is_carried_by(Some(&HeaderValue::try_from(value).unwrap())), "{value:?}");
        }
        assert!(!secret.is_carried_by(None));
        assert!(!format!("{secret:?}").contains(&*secret.0));
    }
}
