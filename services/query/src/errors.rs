//! Errors of the store as HTTP errors, and the metric of damaged data.

use http_server::problem::ApiError;
use store::StoreError;

const DAMAGED_READS: &str = "bedside_damaged_reads_total";

/// Describes the metrics and initialises them with 0.
pub(crate) fn describe() {
    // Without a recorder the initial value would be lost.
    let _ = runtime::Metrics::install();
    metrics::describe_counter!(
        DAMAGED_READS,
        "Responses that failed or were incomplete because stored records are damaged"
    );
    metrics::counter!(DAMAGED_READS).increment(0);
}

/// Returns the error for damaged data. The response identifies the record; the log does not, because it would
/// name a patient.
pub(crate) fn damaged(what: &impl std::fmt::Display) -> ApiError {
    metrics::counter!(DAMAGED_READS).increment(1);
    tracing::error!("a stored record is damaged; `bedside verify` names it");
    let text = what.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let stop = if text.ends_with('.') { "" } else { "." };
    ApiError::damaged(format!("{first}{}{stop}", letters.as_str()))
}

/// Reports damaged records that are omitted from a page.
pub(crate) fn report_damaged<T>(page: &proto_json::Page<T>) {
    if !page.damaged.is_empty() {
        metrics::counter!(DAMAGED_READS).increment(1);
    }
    for record in &page.damaged {
        tracing::error!(kind = record.kind.name(), "a damaged record is omitted from a list");
    }
}

/// Converts an error of reading a stored file.
pub(crate) fn file_error(error: &std::io::Error) -> ApiError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<StoreError>()) {
        Some(StoreError::Damaged(record)) => damaged(record),
        Some(StoreError::Corrupt(cause)) => damaged(cause),
        _ => ApiError::internal(error),
    }
}

/// Converts an error of the store.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match &error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store cannot be reached");
            ApiError::unavailable("The patient store cannot be reached for now; try again in a moment.", 2)
        }
        StoreError::Refused(cause) => ApiError::internal(cause),
        StoreError::Damaged(record) => damaged(record),
        StoreError::Corrupt(cause) => {
            tracing::error!(cause, "stored data cannot be decoded");
            damaged(
                &"What is stored is damaged and cannot be read; the log of the server says more. Restore \
                  it from a backup.",
            )
        }
        StoreError::WrongCursor => ApiError::invalid(proto_json::CursorError.to_string()),
    }
}
