//! Options of an upload in the headers of its request. Both upload routes use them.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName};
use http_server::problem::ApiError;
use proto_json::UploadId;
use runtime::{Secret, trace};

use crate::auth::audit_line::AuditNotes;
use crate::auth::tokens::Client;

/// Maximum length of an `Idempotency-Key` in bytes.
const MAX_KEY: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Options of an upload request.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestOptions {
    /// Notes for the audit line of the request.
    pub(crate) notes: AuditNotes,
    /// Name of the client.
    pub(crate) client: Arc<str>,
    /// Upload id derived from the client's `Idempotency-Key`.
    pub(crate) idempotent_id: Option<UploadId>,
    /// `Prefer: respond-async`: respond without waiting for the receipt.
    pub(crate) respond_async: bool,
    /// W3C `traceparent` of the request.
    pub(crate) trace_parent: Option<String>,
}

impl RequestOptions {
    /// Parses the headers of a request. `secret` derives the upload ids of idempotency keys.
    ///
    /// # Errors
    /// If the `Idempotency-Key` is invalid.
    pub(crate) fn parse(
        secret: Option<&Secret>,
        headers: &HeaderMap,
        client: &Client,
        notes: &AuditNotes,
    ) -> Result<Self, ApiError> {
        let idempotent_id = match headers.get(IDEMPOTENCY_KEY) {
            None => None,
            Some(key) => {
                let key = key.to_str().ok().filter(|key| !key.trim().is_empty() && key.len() <= MAX_KEY);
                let key = key.ok_or_else(|| {
                    ApiError::invalid(format!("The Idempotency-Key must be 1 to {MAX_KEY} ASCII characters."))
                })?;
                Some(upload_id(secret, &client.name, key))
            }
        };
        let trace_parent = headers.get(trace::TRACE_PARENT).and_then(|value| value.to_str().ok());
        Ok(RequestOptions {
            notes: notes.clone(),
            client: client.name.clone(),
            idempotent_id,
            respond_async: prefers_async(headers),
            trace_parent: trace::parent(trace_parent),
        })
    }
}

/// Returns the upload id of a client's idempotency key. All gateways with the same secret return the same id.
fn upload_id(secret: Option<&Secret>, client: &str, key: &str) -> UploadId {
    match secret {
        Some(secret) => {
            let hash = secret.keyed_hash("upload id", &[client.as_bytes(), key.as_bytes()]);
            UploadId::from_keyed_hash(&hash, key)
        }
        None => UploadId::from_idempotency_key(client, key),
    }
}

/// Returns whether a `Prefer` header contains `respond-async`, RFC 7240.
fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER);
    let mut preferences =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    preferences.any(|preference| {
        preference.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("respond-async")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn respond_async_is_found_among_other_preferences() {
        let headers = |value| HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]);
        assert!(prefers_async(&headers("wait=10, Respond-Async; x=1")));
        assert!(!prefers_async(&headers("respond-asynchronously")));
        assert!(!prefers_async(&HeaderMap::new()));
    }
}
