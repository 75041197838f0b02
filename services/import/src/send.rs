//! Sends the uploads of a patient, one after the other.

use std::time::Duration;

use client::{ClientError, Gateway, RetryPolicy};

use crate::plan::{Step, steps};
use crate::record::Record;
use crate::{Counts, ImportError};

/// A gateway that is replaced, or asks for patience, does not stop the move: some five minutes.
const PATIENCE: RetryPolicy = RetryPolicy {
    attempts: 40,
    first_wait: Duration::from_millis(250),
    longest_wait: Duration::from_secs(10),
};

/// Sends everything of a patient that the gateway takes; `find` hears of what it does not.
pub(crate) async fn all(
    gateway: &Gateway,
    record: Record,
    find: &mut impl FnMut(&str, String),
) -> Result<Counts, ImportError> {
    let mrn = record.mrn;
    let mut counts = Counts::default();
    for step in steps(record) {
        let mut next = Some(step);
        while let Some(Step { place, upload, counts: of_step, instead }) = next.take() {
            match gateway.upload_with_retries(mrn, &upload, PATIENCE, |_| {}).await {
                Ok(_) => counts.add(of_step),
                Err(error @ (ClientError::Refused(_) | ClientError::BadAnswer { .. })) => {
                    find(&place, error.to_string());
                    next = instead.map(|step| *step);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(counts)
}
