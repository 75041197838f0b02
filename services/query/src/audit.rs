//! The audit, for auditors.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use http_server::problem::ApiError;
use proto_json::Timestamp;
use proto_json::audit::{AuditHead, AuditPage, AuditVerdict};
use serde::Deserialize;
use store::AuditFilter;

use crate::errors::store_error;
use crate::params::sentence;
use crate::state::Ports;

/// Default and maximum number of entries of a page.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// The largest number that an entry can have.
const LAST_ENTRY: u64 = i64::MAX.cast_unsigned();
/// Maximum length of the name of a client in characters.
const MAX_CLIENT: usize = 200;

fn unreadable(rejection: &QueryRejection) -> ApiError {
    ApiError::invalid(format!("The query string cannot be read: {}.", rejection.body_text()))
}

/// `?mrn=&client=&before=&from=&to=&limit=`
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    mrn: Option<String>,
    client: Option<String>,
    before: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
}

impl ListParams {
    fn filter(self) -> Result<AuditFilter, ApiError> {
        let mrn = self.mrn.map(|text| text.parse()).transpose();
        let before = |text: String| {
            let number = text.parse().ok().filter(|number| *number <= LAST_ENTRY);
            number.ok_or_else(|| ApiError::invalid("`before` must be the number of an entry."))
        };
        let limit = match self.limit {
            None => DEFAULT_LIMIT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| ApiError::invalid(format!("`limit` must be from 1 to {MAX_LIMIT}.")))?,
        };
        if self.client.as_ref().is_some_and(|client| client.chars().count() > MAX_CLIENT) {
            return Err(ApiError::invalid(format!("`client` must be at most {MAX_CLIENT} characters.")));
        }
        let time = |name: &str, text: Option<String>| {
            let time = text.map(|text| text.parse::<Timestamp>()).transpose();
            time.map_err(|_| ApiError::invalid(format!("`{name}` must be a time as in RFC 3339.")))
        };
        Ok(AuditFilter {
            mrn: mrn.map_err(|error| ApiError::invalid(sentence(&error)))?,
            client: self.client.filter(|client| !client.is_empty()),
            before: self.before.map(before).transpose()?,
            from: time("from", self.from)?,
            to: time("to", self.to)?,
            limit,
        })
    }
}

/// Entries, newest first.
pub(crate) async fn list(
    State(store): State<Ports>,
    params: Result<Query<ListParams>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let Query(params) = params.map_err(|rejection| unreadable(&rejection))?;
    store.audit.audit(params.filter()?).await.map(Json).map_err(store_error)
}

/// `?anchor=NUMBER:HASH`
#[derive(Debug, Deserialize)]
pub(crate) struct VerifyParams {
    anchor: Option<String>,
}

/// Verifies the whole chain.
pub(crate) async fn verify(
    State(store): State<Ports>,
    params: Result<Query<VerifyParams>, QueryRejection>,
) -> Result<Json<AuditVerdict>, ApiError> {
    let Query(params) = params.map_err(|rejection| unreadable(&rejection))?;
    let anchor = params.anchor.map(|text| text.parse::<AuditHead>()).transpose();
    let anchor = anchor.map_err(|error| ApiError::invalid(sentence(&error)))?;
    store.audit.verify_audit(anchor).await.map(Json).map_err(store_error)
}
