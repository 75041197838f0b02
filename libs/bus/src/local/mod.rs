//! In process, durable in one SQLite file.
//!
//! Messages, dead letters, claims and staged files are rows; one thread writes them, many writes to a commit
//! ([`writer`]). Which message is delivered when is an index in memory ([`schedule`]). Announcements and receipts do not
//! leave the process. What was confirmed survives `kill -9`; what was with a consumer then is delivered again at once.

mod blobs;
mod chores;
mod core;
mod dead;
mod error;
mod file;
mod fresh;
mod queue;
mod schedule;
mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::{BlobHash, Mrn, PatientUpdated, Queue, Receipt, UploadId};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

pub use self::error::LocalError;
pub use self::verify::{QueueCheck, verify};

use self::core::Core;
use crate::{
    BusError, Claim, DeadLetter, Delivery, EnqueueError, EventBus, Outgoing, PendingReceipt, QueueLimits,
    QueueStatus, RetryPolicy, SmallFile, UpdateEvent,
};

/// Prefix of the addresses of receipts.
const RECEIPTS: &str = "local.receipts.";

/// Bus and blob stage in one file of this process.
#[derive(Debug)]
pub struct LocalBus {
    core: Arc<Core>,
}

impl LocalBus {
    /// Opens the file, and makes it when there is none. Its folder must be there.
    ///
    /// # Errors
    /// [`LocalError`] as the cause of a [`BusError`]: the file is in use by another process, damaged, from a later
    /// version, or cannot be written.
    pub fn open(path: &Path, policy: RetryPolicy, limits: QueueLimits) -> Result<Arc<Self>, BusError> {
        let core = Core::open(path, policy, limits)?;
        Ok(Arc::new(LocalBus { core: Arc::new(core) }))
    }
}

/// Ends the streams of consumers. The file is closed with the last delivery.
impl Drop for LocalBus {
    fn drop(&mut self) {
        self.core.close();
    }
}

#[async_trait]
impl EventBus for LocalBus {
    async fn enqueue_with(&self, files: Vec<SmallFile>, message: Outgoing) -> Result<(), EnqueueError> {
        queue::enqueue(&self.core, files, message).await
    }

    async fn consume(
        &self,
        queue: Queue,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, Delivery>, BusError> {
        let permits = Arc::new(Semaphore::new(max_in_flight.clamp(1, Semaphore::MAX_PERMITS)));
        let core = Arc::clone(&self.core);
        let deliveries = futures::stream::unfold((core, permits), move |(core, permits)| async move {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            let delivery = queue::next(&core, queue, permit).await?;
            Some((delivery, (core, permits)))
        });
        Ok(deliveries.boxed())
    }

    async fn announce(&self, update: &PatientUpdated, _trace_parent: Option<String>) -> Result<(), BusError> {
        // Fails only when nobody listens.
        let _ = self.core.announcements.send(Arc::new(update.clone()));
        Ok(())
    }

    async fn updates(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
        let heard = BroadcastStream::new(self.core.announcements.subscribe());
        let events = heard.filter_map(move |heard| async move {
            match heard {
                Ok(update) if of.is_none_or(|mrn| update.patient.mrn == mrn) => {
                    Some(UpdateEvent::Updated(Box::new(PatientUpdated::clone(&update))))
                }
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(_)) => Some(UpdateEvent::Lagged),
            }
        });
        Ok(events.boxed())
    }

    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError> {
        Ok(PendingReceipt {
            reply_to: format!("{RECEIPTS}{upload}"),
            receipt: self.core.inboxes.open(upload),
        })
    }

    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError> {
        // An address of another process, or of another adapter, is one that is gone.
        if let Some(upload) = reply_to.strip_prefix(RECEIPTS).and_then(|upload| upload.parse().ok()) {
            self.core.inboxes.deliver(upload, receipt);
        }
        Ok(())
    }

    async fn claim(&self, upload: UploadId, fingerprint: BlobHash) -> Result<Claim, BusError> {
        Ok(dead::claim(&self.core, upload, fingerprint).await?)
    }

    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError> {
        Ok(self.core.schedule(queue).status())
    }

    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        Ok(dead::list(&self.core, after, limit).await?)
    }

    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError> {
        dead::retry(&self.core, id).await
    }

    async fn drop_dead_letter(&self, id: u64) -> Result<bool, BusError> {
        Ok(dead::forget(&self.core, id).await?)
    }

    async fn check(&self) -> Result<(), BusError> {
        Ok(self.core.writer.write(0, |_| Ok(())).await?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::StagingStore;

    fn job() -> Outgoing {
        Outgoing {
            queue: Queue::Uploads,
            mrn: Mrn::new(7).unwrap(),
            payload: Bytes::from(vec![b' '; 10_000]),
            reply_to: None,
            trace_parent: None,
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_what_was_confirmed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sqlite");
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let limit = |pages: u32| {
            bus.core.writer.write(0, move |db| {
                db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            })
        };
        limit(60).await.unwrap();
        let mut confirmed = 0;
        let refused = loop {
            // Several at once share a transaction: none of them may be confirmed in vain.
            let sent = futures::future::join_all((0..4).map(|_| bus.enqueue(job()))).await;
            confirmed += sent.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            if let Some(refused) = sent.into_iter().find_map(Result::err) {
                break refused;
            }
        };
        assert!(refused.to_string().contains("is full"), "{refused}");
        assert!(confirmed > 0);
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, confirmed);
        // Working off goes on, and then there is room again.
        let mut deliveries = bus.consume(Queue::Uploads, 4).await.unwrap();
        for _ in 0..4 {
            deliveries.next().await.unwrap().ack().await.unwrap();
        }
        bus.enqueue(job()).await.unwrap();
        drop(deliveries);
        drop(bus);
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, confirmed - 3);
    }

    #[tokio::test]
    async fn a_write_that_fails_takes_no_other_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sqlite");
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let broken = || bus.core.writer.write(0, |db| db.execute("INSERT INTO nowhere VALUES (1)", []));
        let (before, failed, after) = tokio::join!(bus.enqueue(job()), broken(), bus.enqueue(job()));
        before.unwrap();
        after.unwrap();
        assert!(matches!(failed, Err(LocalError::Failed { .. })), "{failed:?}");
        drop(bus);
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 2);
    }

    #[tokio::test]
    async fn a_message_is_worked_on_while_it_is_written_and_what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sqlite");
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let bytes = Bytes::from_static(b"a small file");
        let small = |bytes: &Bytes| SmallFile {
            upload: UploadId::generate(),
            content: proto_json::HashedBytes::of(bytes.clone()),
            may_enclose: false,
        };
        let file = small(&bytes);
        let key = file.key();
        let send = || bus.enqueue_with(vec![file.clone()], job());
        // The writer is kept busy, so that nothing is durable meanwhile.
        let busy = || {
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            bus.core.writer.submit(0, move |_| Ok(wait.recv().is_ok()), |_| {});
            go_on
        };
        let mut deliveries = bus.consume(Queue::Uploads, 2).await.unwrap();
        let go_on = busy();
        let mut sending = std::pin::pin!(send());
        assert!(futures::poll!(&mut sending).is_pending());
        let delivery = deliveries.next().await.unwrap();
        let staged = bus.get(key).await.unwrap().unwrap();
        assert_eq!(crate::collect(staged.body, staged.bytes).await.unwrap(), bytes);
        assert!(futures::poll!(&mut sending).is_pending(), "it is not durable yet");
        go_on.send(()).unwrap();
        sending.await.unwrap();
        delivery.ack().await.unwrap();
        bus.delete(key).await.unwrap();
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);

        // The same, and the write fails.
        let pages = |pages: u32| {
            bus.core.writer.write(0, move |db| {
                db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            })
        };
        let most = pages(1).await.unwrap();
        let large = Bytes::from(vec![7; 40_000 + most as usize * 4_096]);
        let file = small(&large);
        let key = file.key();
        let go_on = busy();
        let mut sending = std::pin::pin!(bus.enqueue_with(vec![file], job()));
        assert!(futures::poll!(&mut sending).is_pending());
        let delivery = deliveries.next().await.unwrap();
        go_on.send(()).unwrap();
        let refused = sending.await.unwrap_err();
        assert!(refused.to_string().contains("is full"), "{refused}");
        drop(delivery);
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);
        assert!(bus.get(key).await.unwrap().is_none());
        assert_eq!(bus.core.staged.load(std::sync::atomic::Ordering::Relaxed), 0);
        assert!(bus.core.schedule(Queue::Uploads).reserve(1), "its place is free");
    }
}
