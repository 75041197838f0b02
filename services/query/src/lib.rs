//! Query: the only reader of the patient store. Answers every GET route but the event streams, under the paths that the
//! gateway shows to clients.

mod clock;
mod files;
mod legacy;
mod lists;
mod params;
mod records;
mod service;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use runtime::problem::{ApiError, Kind};
use store::{PatientStore, StoreError};

pub use service::{Config, checks, run, run_on};

/// What every handler reads from.
type Store = Arc<dyn PatientStore>;

/// Every read. Paths are exactly the public ones.
pub fn router(store: Arc<dyn PatientStore>) -> Router {
    Router::new()
        .route("/api/v1/patients", get(lists::patients))
        .route("/api/v1/patients/{mrn}", get(records::patient))
        .route("/api/v1/patients/{mrn}/heart-rates", get(lists::heart_rates))
        .route("/api/v1/patients/{mrn}/ecgs", get(lists::ecgs))
        .route("/api/v1/patients/{mrn}/images", get(lists::images))
        .route("/api/v1/ecgs/{id}", get(records::ecg))
        .route("/api/v1/ecgs/{id}/plot", get(records::ecg_plot))
        .route("/api/v1/ecgs/{id}/signal", get(records::ecg_signal))
        .route("/api/v1/ecgs/{id}/detail", get(records::ecg_detail))
        .route("/api/v1/images/{id}", get(records::image))
        .route("/api/v1/uploads/{id}", get(records::upload))
        .route("/api/v1/clock", get(clock::clock))
        .route("/api/get_patient", get(legacy::patient_ids))
        .route("/api/get_patient/{id}", get(legacy::patient))
        .fallback(async || ApiError::not_found("There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            ApiError::new(Kind::METHOD_NOT_ALLOWED, "This path can only be read.")
        })
        .with_state(store)
}

/// What a failure of the store becomes.
fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store cannot be reached");
            ApiError::unavailable("The patient store cannot be reached for now; try again in a moment.", 2)
        }
        StoreError::Refused(cause) => ApiError::internal(cause),
        StoreError::Corrupt(cause) => ApiError::internal(cause),
        StoreError::WrongCursor => ApiError::invalid(proto_json::CursorError.to_string()),
    }
}
