//! Moves files from the stage to the store.

use bus::StageKey;
use futures::{StreamExt, TryStreamExt, stream};
use proto_json::{BlobHash, UploadId};

use crate::Ports;

/// Files that are moved at the same time, for one upload.
const AT_ONCE: usize = 4;

/// Why a file could not be moved.
#[derive(Debug)]
pub(crate) enum MoveError {
    /// It is not on the stage: it was moved and cleaned up before, or never staged.
    NotStaged,
    /// Trying again may help.
    Failed(String),
}

/// Stores each of these files under its hash. The staged copies stay.
pub(crate) async fn store_staged(
    ports: &Ports,
    upload: UploadId,
    files: Vec<BlobHash>,
) -> Result<(), MoveError> {
    stream::iter(files)
        .map(|sha256| async move {
            let key = StageKey { upload, sha256 };
            let staged = ports.stage.get(key).await.map_err(|error| MoveError::Failed(error.to_string()))?;
            let staged = staged.ok_or(MoveError::NotStaged)?;
            ports
                .store
                .put_blob(sha256, staged.bytes, staged.body)
                .await
                .map_err(|error| MoveError::Failed(error.to_string()))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Removes staged files. One that stays is removed by the reconciler later.
pub(crate) async fn unstage(ports: &Ports, upload: UploadId, files: Vec<BlobHash>) {
    for sha256 in files {
        if let Err(error) = ports.stage.delete(StageKey { upload, sha256 }).await {
            tracing::warn!(upload_id = %upload, error = %error, "a staged file was not removed");
        }
    }
}
