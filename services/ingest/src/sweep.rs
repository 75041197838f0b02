//! The sweep of orphaned files in the store.
//!
//! A file that does not fit in the transaction of its record is stored before it. If the record never follows (the message
//! is lost, dead-lettered or refused), or if the process ends while it writes the file, the file is orphaned. The sweep
//! removes orphaned files that are older than `--orphan-age`. A redelivery that needs such a file stores it again from the
//! staging store.
//!
//! [`reconcile`] runs it in the process that holds the lease in the store.

use std::time::Duration;

use store::StoreError;
use uuid::Uuid;

use crate::{Config, Ports, reconcile};

/// Files that are removed in one call.
const BATCH: usize = 100;

/// Duration of the lease: this many periods, but not less than [`LEASE_MIN`].
const LEASE_PERIODS: u32 = 4;
const LEASE_MIN: Duration = Duration::from_secs(10);

pub(crate) fn lease(config: &Config) -> Duration {
    config.reconcile_every.saturating_mul(LEASE_PERIODS).max(LEASE_MIN)
}

/// Removes all orphaned files, for the process `holder` that holds the lease. Renews the lease after each batch.
pub(crate) async fn sweep(config: &Config, ports: &Ports, holder: Uuid) -> Result<(), StoreError> {
    loop {
        let before = reconcile::ago(proto_json::Timestamp::now(), config.orphan_age);
        let removed = ports.maintenance.sweep_orphans(before, BATCH).await?;
        metrics::counter!("bedside_abandoned_files_removed_total").increment(removed);
        if removed > 0 {
            tracing::info!(removed, "orphaned files removed");
        }
        if removed < BATCH as u64 || !ports.maintenance.lease_sweep(holder, lease(config)).await? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use proto_json::{BlobHash, UploadId};
    use store::BlobKey;

    use super::*;

    #[tokio::test]
    async fn file_without_a_record_is_removed_when_it_is_older_than_the_orphan_age() {
        let (_folder, ports) = crate::local_ports();
        let bytes: &'static [u8] = b"an image";
        let key = BlobKey { upload: UploadId::generate(), sha256: BlobHash::of(bytes) };
        let body = futures::stream::iter([Ok(bytes.into())]).boxed();
        ports.files.put_blob(key, bytes.len() as u64, body).await.unwrap();
        let holder = Uuid::from_u128(1);
        sweep(&Config::default(), &ports, holder).await.unwrap();
        assert!(ports.files.blob(key).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let config = Config { orphan_age: Duration::ZERO, ..Config::default() };
        sweep(&config, &ports, holder).await.unwrap();
        assert!(ports.files.blob(key).await.unwrap().is_none());
    }
}
