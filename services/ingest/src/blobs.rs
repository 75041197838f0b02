//! Moves files from the staging store to the patient store.
//!
//! Small files are read into memory and stored together with the record that refers to them: on one machine that saves a
//! sync of the disk for each. Longer ones go from the stage to the store piece by piece, before the record.

use std::sync::atomic::{AtomicU64, Ordering};

use bus::{Delivery, Outcome, StagingKey};
use futures::{StreamExt, TryStreamExt, future, stream};
use proto_json::{BlobHash, HashedBytes, UploadId};
use store::Origin;

use crate::{Failure, Ports, failed};

/// Files that are moved at the same time, for one upload.
const AT_ONCE: usize = 4;

/// A file up to this size is small.
const SMALL: u64 = 1 << 20;

/// Small files of one upload that are in memory together; what is beyond goes as longer files do.
const SMALL_TOGETHER: u64 = 4 << 20;

/// Why a file could not be moved.
#[derive(Debug)]
pub(crate) enum MoveError {
    /// It is not on the stage: it was moved and cleaned up before, or never staged.
    NotStaged,
    /// A port failed; this is what becomes of the work.
    Failed(Outcome),
}

impl MoveError {
    fn failed(cause: impl Failure) -> Self {
        MoveError::Failed(failed(cause))
    }

    /// The body of a staged file broke off.
    fn broken_off(error: &std::io::Error) -> Self {
        let reason = format!("a staged file could not be read: {error}");
        MoveError::Failed(if bus::is_outage_of_body(error) {
            Outcome::Defer(reason)
        } else {
            Outcome::Retry(reason)
        })
    }
}

/// Reads each of these files: returns the small ones, to be stored with their record, and stores the others. The staged copies
/// stay.
pub(crate) async fn take(
    ports: &Ports,
    delivery: &Delivery,
    from: Origin,
    mut files: Vec<BlobHash>,
) -> Result<Vec<HashedBytes>, MoveError> {
    files.sort_unstable();
    files.dedup();
    let room = AtomicU64::new(SMALL_TOGETHER);
    let room = &room;
    let taken: Vec<Option<HashedBytes>> = stream::iter(files)
        .map(|sha256| async move {
            let key = StagingKey { upload: from.upload, sha256 };
            let staged = delivery.open(key).await.map_err(MoveError::failed)?;
            let staged = staged.ok_or(MoveError::NotStaged)?;
            if let Some(content) = staged.in_memory {
                return Ok(Some(content));
            }
            if staged.bytes <= SMALL && take_room(room, staged.bytes) {
                let bytes = bus::collect(staged.body, staged.bytes)
                    .await
                    .map_err(|error| MoveError::broken_off(&error))?;
                let content = HashedBytes::of(bytes);
                if content.sha256() != sha256 {
                    let reason = "a file on the stage is damaged".to_owned();
                    return Err(MoveError::Failed(Outcome::Retry(reason)));
                }
                return Ok(Some(content));
            }
            let put = ports.store.put_blob(from, sha256, staged.bytes, staged.body).await;
            put.map(|()| None).map_err(MoveError::failed)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(taken.into_iter().flatten().collect())
}

/// Whether there was room for so many bytes; it is taken then.
fn take_room(room: &AtomicU64, bytes: u64) -> bool {
    let order = Ordering::Relaxed;
    room.fetch_update(order, order, |left| left.checked_sub(bytes)).is_ok()
}

/// Removes staged files concurrently. The reconciler removes files for which this fails.
pub(crate) async fn unstage(delivery: &Delivery, upload: UploadId, files: Vec<BlobHash>) {
    let keys = files.into_iter().map(|sha256| StagingKey { upload, sha256 });
    let removals = keys.map(|key| async move {
        if let Err(error) = delivery.remove(key).await {
            tracing::warn!(upload_id = %upload, error = %error, "a staged file was not removed");
        }
    });
    future::join_all(removals).await;
}
