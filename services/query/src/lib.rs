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
use runtime::problem::{ApiError, ProblemType};
use store::{BlobReader, PatientReader, StoreError};

pub use service::{Config, checks, run, run_on};

/// The ports that query takes: it only reads.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Patients and their history.
    pub patients: Arc<dyn PatientReader>,
    /// Stored files.
    pub files: Arc<dyn BlobReader>,
}

impl Ports {
    /// The ports of one store.
    pub fn of(store: Arc<impl PatientReader + BlobReader>) -> Self {
        Ports { patients: store.clone(), files: store }
    }
}

/// Every read. Paths are exactly the public ones.
pub fn router(store: Ports) -> Router {
    describe();
    Router::new()
        .route("/api/v1/patients", get(lists::patients))
        .route("/api/v1/patients/{mrn}", get(records::patient))
        .route("/api/v1/patients/{mrn}/heart-rates", get(lists::heart_rates))
        .route("/api/v1/patients/{mrn}/ecgs", get(lists::ecgs))
        .route("/api/v1/patients/{mrn}/images", get(lists::images))
        .route("/api/v1/patients/{mrn}/names", get(lists::former_names))
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
            ApiError::new(ProblemType::METHOD_NOT_ALLOWED, "This path can only be read.")
        })
        .with_state(store)
}

const DAMAGED_READS: &str = "bedside_damaged_reads_total";

/// Describes the metrics of reading, and shows them from the start.
fn describe() {
    // Without a recorder, nothing would be shown.
    let _ = runtime::Metrics::install();
    metrics::describe_counter!(
        DAMAGED_READS,
        "Answers that could not be given, or not in full, because records are damaged"
    );
    metrics::counter!(DAMAGED_READS).increment(0);
}

/// The error for something that is stored and damaged. The client is told which record it is, the log is not.
fn damaged(what: &impl std::fmt::Display) -> ApiError {
    metrics::counter!(DAMAGED_READS).increment(1);
    tracing::error!("a stored record is damaged; `bedside verify` names it");
    let text = what.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with('.') { "" } else { "." };
    ApiError::damaged(format!("{first}{}{stop}", letters.as_str()))
}

/// Reports the damaged records of a page, which the others are shown without.
fn report_damaged<T>(page: &proto_json::Page<T>) {
    if !page.damaged.is_empty() {
        metrics::counter!(DAMAGED_READS).increment(1);
    }
    for record in &page.damaged {
        tracing::error!(kind = record.kind.name(), "a stored record is damaged and is left out of a list");
    }
}

/// What a failure to read a stored file becomes.
fn file_error(error: &std::io::Error) -> ApiError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<StoreError>()) {
        Some(StoreError::Damaged(record)) => damaged(record),
        Some(StoreError::Corrupt(cause)) => damaged(cause),
        _ => ApiError::internal(error),
    }
}

/// What a failure of the store becomes.
fn store_error(error: StoreError) -> ApiError {
    match &error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store cannot be reached");
            ApiError::unavailable("The patient store cannot be reached for now; try again in a moment.", 2)
        }
        StoreError::Refused(cause) => ApiError::internal(cause),
        StoreError::Damaged(record) => damaged(record),
        StoreError::Corrupt(cause) => {
            tracing::error!(cause, "what is stored cannot be read");
            damaged(
                &"What is stored is damaged and cannot be read; the log of the server says more. Restore it from a backup.",
            )
        }
        StoreError::WrongCursor => ApiError::invalid(proto_json::CursorError.to_string()),
    }
}
