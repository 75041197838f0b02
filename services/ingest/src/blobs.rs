//! Moves files from messages and the staging store to the patient store.
//!
//! Small files are read into memory and stored in the transaction of their record. Longer ones are streamed from the staging
//! store to the patient store before it.

use std::sync::atomic::{AtomicU64, Ordering};

use bus::{Delivery, Outcome, StagingKey};
use futures::{StreamExt, TryStreamExt, future, stream};
use proto_json::{BlobHash, HashedBytes, UploadId};
use store::BlobKey;

use crate::{Failure, Ports, failed};

/// Number of files of one upload that are moved at the same time.
const AT_ONCE: usize = 4;

/// Total size of the files of one upload that are read into memory and stored in its transaction.
const IN_TRANSACTION: u64 = 4 << 20;

/// Why a file could not be moved.
#[derive(Debug)]
pub(crate) enum MoveError {
    /// It is not staged: it was moved and removed before, or never staged.
    NotStaged,
    /// A port failed; this is the outcome of the work.
    Failed(Outcome),
}

impl MoveError {
    fn failed(cause: impl Failure) -> Self {
        MoveError::Failed(failed(cause))
    }

    /// The body of a staged file failed.
    fn broken_off(error: &std::io::Error) -> Self {
        let reason = format!("a staged file could not be read: {error}");
        MoveError::Failed(if bus::is_outage_of_body(error) {
            Outcome::Defer(reason)
        } else {
            Outcome::Retry(reason)
        })
    }
}

/// Reads files from the delivery or the staging store. Returns the small ones, for the transaction of their record, and
/// stores the others. The staged copies are kept.
pub(crate) async fn take(
    ports: &Ports,
    delivery: &Delivery,
    upload: UploadId,
    mut files: Vec<BlobHash>,
) -> Result<Vec<HashedBytes>, MoveError> {
    files.sort_unstable();
    files.dedup();
    let capacity = AtomicU64::new(IN_TRANSACTION);
    let capacity = &capacity;
    let taken: Vec<Option<HashedBytes>> = stream::iter(files)
        .map(|sha256| async move {
            let key = StagingKey { upload, sha256 };
            let staged = delivery.open(key).await.map_err(MoveError::failed)?;
            let staged = staged.ok_or(MoveError::NotStaged)?;
            if let Some(content) = staged.in_memory {
                return Ok(Some(content));
            }
            if take_capacity(capacity, staged.bytes) {
                let bytes = bus::collect(staged.body, staged.bytes)
                    .await
                    .map_err(|error| MoveError::broken_off(&error))?;
                let content = HashedBytes::of(bytes);
                if content.sha256() != sha256 {
                    let reason = "a staged file is damaged".to_owned();
                    return Err(MoveError::Failed(Outcome::Retry(reason)));
                }
                return Ok(Some(content));
            }
            let put = ports.files.put_blob(BlobKey { upload, sha256 }, staged.bytes, staged.body).await;
            put.map(|()| None).map_err(MoveError::failed)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(taken.into_iter().flatten().collect())
}

/// Takes capacity for so many bytes; false if less is left.
fn take_capacity(capacity: &AtomicU64, bytes: u64) -> bool {
    let order = Ordering::Relaxed;
    capacity.fetch_update(order, order, |left| left.checked_sub(bytes)).is_ok()
}

/// Removes staged files concurrently. If that fails, the reconciler removes them later.
pub(crate) async fn unstage(delivery: &Delivery, upload: UploadId, files: Vec<BlobHash>) {
    let keys = files.into_iter().map(|sha256| StagingKey { upload, sha256 });
    let removals = keys.map(|key| async move {
        if let Err(error) = delivery.remove(key).await {
            tracing::warn!(upload_id = %upload, error = %error, "a staged file was not removed");
        }
    });
    future::join_all(removals).await;
}
