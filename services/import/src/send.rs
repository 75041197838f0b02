//! Sends the uploads of one patient sequentially.

use std::time::Duration;

use client::{ClientError, Gateway, RetryPolicy};

use crate::counts::Counts;
use crate::error::ImportError;
use crate::plan::{Step, steps};
use crate::record::Record;

/// Retries for about five minutes, so that an upgrade or an overload of the gateway does not end the import.
const RETRIES: RetryPolicy = RetryPolicy {
    attempts: 40,
    first_wait: Duration::from_millis(250),
    longest_wait: Duration::from_secs(10),
};

/// Sends all uploads of a patient. Calls `find` for each upload that the gateway rejects.
pub(crate) async fn all(
    gateway: &Gateway,
    record: Record,
    find: &mut impl FnMut(&str, String),
) -> Result<Counts, ImportError> {
    let mrn = record.mrn;
    let mut counts = Counts::default();
    for step in steps(record) {
        let mut next = Some(step);
        while let Some(Step { place, upload, counts: of_step, fallback }) = next.take() {
            match gateway.upload_with_retries(mrn, &upload, RETRIES, |_| {}).await {
                Ok(_) => counts.add(of_step),
                Err(error @ (ClientError::Refused(_) | ClientError::BadAnswer { .. })) => {
                    find(&place, error.to_string());
                    next = fallback.map(|step| *step);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(counts)
}
