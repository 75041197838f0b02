//! Corrections of a patient, and what has become of numbers without a patient.

use axum::Json;
use axum::extract::State;
use http_server::problem::ApiError;
use proto_json::{Correction, Fate, Mrn};

use crate::errors::store_error;
use crate::params::PathMrn;
use crate::records;
use crate::state::Ports;

/// Largest number of corrections in a response.
const CORRECTIONS: usize = 200;

pub(crate) async fn list(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
) -> Result<Json<Vec<Correction>>, ApiError> {
    let corrections = store.corrections.corrections(mrn, CORRECTIONS).await.map_err(store_error)?;
    if corrections.is_empty() {
        records::known_patient(&store, mrn).await?;
    }
    Ok(Json(corrections))
}

/// The 404 error for a number without a patient. It names the surviving patient of a merge.
pub(crate) async fn missing(store: &Ports, mrn: Mrn) -> ApiError {
    match store.corrections.fate(mrn).await {
        Err(error) => store_error(error),
        Ok(None) => ApiError::not_found("There is no patient with this medical record number."),
        Ok(Some(Fate::Merged { into, .. })) => ApiError {
            merged_into: Some(into),
            ..ApiError::not_found(format!("This patient was merged into the patient {into}."))
        },
        Ok(Some(Fate::Erased { .. })) => ApiError::not_found("The patient with this number was erased."),
    }
}
