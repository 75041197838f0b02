//! The routing table.

use axum::Router;
use axum::routing::get;
use http_server::problem::{ApiError, ProblemType};

use crate::state::Ports;
use crate::{audit, clock, corrections, errors, legacy, lists, records, wards, waveforms};

/// The routes of the service.
pub fn router(store: Ports) -> Router {
    errors::describe();
    Router::new()
        .route("/api/v1/patients", get(lists::patients))
        .route("/api/v1/patients/{mrn}", get(records::patient))
        .route("/api/v1/patients/{mrn}/heart-rates", get(lists::heart_rates))
        .route("/api/v1/patients/{mrn}/ecgs", get(lists::ecgs))
        .route("/api/v1/patients/{mrn}/images", get(lists::images))
        .route("/api/v1/patients/{mrn}/names", get(lists::former_names))
        .route("/api/v1/patients/{mrn}/admissions", get(wards::admissions))
        .route("/api/v1/patients/{mrn}/corrections", get(corrections::list))
        .route("/api/v1/patients/{mrn}/waveforms", get(waveforms::read))
        .route("/api/v1/patients/{mrn}/waveforms/channels", get(waveforms::channels))
        .route("/api/v1/patients/{mrn}/waveforms/export", get(waveforms::export))
        .route("/api/v1/ecgs/{id}", get(records::ecg))
        .route("/api/v1/ecgs/{id}/plot", get(records::ecg_plot))
        .route("/api/v1/ecgs/{id}/page", get(records::ecg_page))
        .route("/api/v1/ecgs/{id}/samples", get(records::ecg_samples))
        .route("/api/v1/ecgs/{id}/signal", get(records::ecg_signal))
        .route("/api/v1/ecgs/{id}/detail", get(records::ecg_detail))
        .route("/api/v1/images/{id}", get(records::image))
        .route("/api/v1/uploads/{id}", get(records::upload))
        .route("/api/v1/wards", get(wards::wards))
        .route("/api/v1/clock", get(clock::clock))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/verification", get(audit::verify))
        .route("/api/get_patient", get(legacy::patient_ids))
        .route("/api/get_patient/{id}", get(legacy::patient))
        .fallback(async || ApiError::not_found("There is nothing at this path."))
        .method_not_allowed_fallback(async || {
            ApiError::new(ProblemType::METHOD_NOT_ALLOWED, "This path can only be read.")
        })
        .with_state(store)
}
