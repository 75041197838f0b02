//! Passwords: Argon2id with the parameters of the OWASP Password Storage Cheat Sheet (19 MiB, 2 iterations, 1 lane), which are
//! the defaults of the crate `argon2`.
//!
//! A verification uses 19 MiB and tens of milliseconds of a processor. At most [`AT_ONCE`] run at the same time, on threads for
//! blocking work.

use std::sync::LazyLock;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use proto_json::users::Sensitive;
use tokio::sync::Semaphore;

/// Verifications that run at the same time.
const AT_ONCE: usize = 2;

static RUNNING: Semaphore = Semaphore::const_new(AT_ONCE);

/// The hash of a password that nobody has, for names without an account. Its verification takes as long as any other.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| {
    let password = Sensitive(proto_json::UploadId::generate().to_string());
    hash_now(&password).ok().map(|hash| hash.0)
});

/// The password cannot be hashed: the system provides no random numbers or no memory.
#[derive(Debug, thiserror::Error)]
#[error("the password cannot be hashed: {0}")]
pub struct HashError(String);

/// Returns the hash of a password as a PHC string.
///
/// # Errors
/// If the system provides no random numbers.
pub async fn hash_password(password: Sensitive) -> Result<Sensitive, HashError> {
    run(move || hash_now(&password)).await?
}

fn hash_now(password: &Sensitive) -> Result<Sensitive, HashError> {
    let hash = Argon2::default().hash_password(password.0.as_bytes());
    hash.map(|hash| Sensitive(hash.to_string())).map_err(|error| HashError(error.to_string()))
}

/// Returns whether a password has this hash. Without a hash it takes as long and returns false.
pub(crate) async fn verify(password: Sensitive, hash: Option<Sensitive>) -> Result<bool, HashError> {
    run(move || {
        let known = hash.as_ref().map(|hash| hash.0.as_str());
        let compared = known.or(NOBODY.as_deref()).unwrap_or_default();
        let parsed = PasswordHash::new(compared);
        let matches =
            parsed.is_ok_and(|hash| Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok());
        known.is_some() && matches
    })
    .await
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
    let permit = RUNNING.acquire().await.map_err(|error| HashError(error.to_string()))?;
    let work = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    });
    work.await.map_err(|error| HashError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn password_is_verified_against_its_own_hash_alone() {
        let password = |text: &str| Sensitive(text.to_owned());
        let hash = hash_password(password("correct horse")).await.unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        assert_ne!(hash, hash_password(password("correct horse")).await.unwrap(), "the salt is random");
        assert!(verify(password("correct horse"), Some(hash.clone())).await.unwrap());
        for wrong in ["correct hors", "Correct horse", ""] {
            assert!(!verify(password(wrong), Some(hash.clone())).await.unwrap(), "{wrong}");
        }
        assert!(!verify(password("x"), Some(password("$argon2id$damaged"))).await.unwrap());
        let nobody = NOBODY.clone().unwrap();
        assert!(nobody.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(!verify(password("correct horse"), None).await.unwrap());
    }
}
