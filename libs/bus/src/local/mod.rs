//! Adapter in this process, durable in one SQLite file.
//!
//! Messages, dead letters, staged files and live waveforms are rows. The engine in [`sqlite`] writes them on one thread, many
//! writes per transaction. An index in memory decides which message is delivered when ([`schedule`]). Updates,
//! vitals and receipts stay inside the process. What was confirmed survives `kill -9`; deliveries that were unsettled
//! then are redelivered at once.

mod core;
mod dead_letters;
mod error;
mod file;
mod hub;
mod queue;
mod schedule;
mod staging;
mod verify;
mod waves;
mod write_behind;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::{Mrn, PatientUpdated, Queue, Receipt, SystemEvent, UploadId};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

pub use self::error::LocalError;
pub use self::verify::{QueueCheck, verify};

use self::core::Core;
use crate::{
    BusError, DeadLetter, DeadLetters, Delivery, EnqueueError, Outgoing, PendingReceipt, PubSub, QueueLimits,
    QueueStatus, ReplyInbox, RetryPolicy, SystemSignal, UpdateEvent, WorkQueue,
};

/// Prefix of the addresses of reply inboxes.
const RECEIPTS: &str = "local.receipts.";

/// All ports in one file of this process.
#[derive(Debug)]
pub struct LocalBus {
    core: Arc<Core>,
}

impl LocalBus {
    /// Opens the file, and creates it if it does not exist. Its folder must exist.
    ///
    /// # Errors
    /// A [`BusError`] with a [`LocalError`] as its cause: the file is in use by another process, damaged,
    /// written by another version, or not writable.
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
impl WorkQueue for LocalBus {
    async fn enqueue(&self, message: Outgoing) -> Result<(), EnqueueError> {
        queue::enqueue(&self.core, message).await
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

    async fn queue_status(&self, queue: Queue) -> Result<QueueStatus, BusError> {
        Ok(self.core.schedule(queue).status())
    }

    async fn erase(&self, mrn: Mrn) -> Result<(), BusError> {
        waves::erase(&self.core, mrn).await?;
        Ok(self.core.clean_up().await?)
    }

    async fn check(&self) -> Result<(), BusError> {
        Ok(self.core.write(|_| Ok(())).await?)
    }
}

#[async_trait]
impl PubSub for LocalBus {
    async fn publish(&self, update: &PatientUpdated, _trace_parent: Option<String>) -> Result<(), BusError> {
        // The send fails only if there are no subscribers.
        let _ = self.core.updates.send(Arc::new(update.clone()));
        Ok(())
    }

    async fn subscribe(&self, of: Option<Mrn>) -> Result<BoxStream<'static, UpdateEvent>, BusError> {
        let updates = BroadcastStream::new(self.core.updates.subscribe());
        let events = updates.filter_map(move |received| async move {
            match received {
                Ok(update) if of.is_none_or(|mrn| update.patient.mrn == mrn) => {
                    Some(UpdateEvent::Updated(Box::new(PatientUpdated::clone(&update))))
                }
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(_)) => Some(UpdateEvent::Lagged),
            }
        });
        Ok(events.boxed())
    }

    async fn publish_event(&self, event: &SystemEvent) -> Result<(), BusError> {
        // The send fails only if there are no subscribers.
        let _ = self.core.events.send(Arc::new(event.clone()));
        Ok(())
    }

    async fn subscribe_events(&self) -> Result<BoxStream<'static, SystemSignal>, BusError> {
        let events = BroadcastStream::new(self.core.events.subscribe()).map(|received| match received {
            Ok(event) => SystemSignal::Event(Box::new(SystemEvent::clone(&event))),
            Err(BroadcastStreamRecvError::Lagged(_)) => SystemSignal::Lagged,
        });
        Ok(events.boxed())
    }
}

#[async_trait]
impl ReplyInbox for LocalBus {
    async fn expect_receipt(&self, upload: UploadId) -> Result<PendingReceipt, BusError> {
        Ok(PendingReceipt {
            reply_to: format!("{RECEIPTS}{upload}"),
            receipt: self.core.inboxes.open(upload),
        })
    }

    async fn send_receipt(&self, reply_to: &str, receipt: &Receipt) -> Result<(), BusError> {
        // The address of another process or adapter counts as a closed inbox.
        if let Some(upload) = reply_to.strip_prefix(RECEIPTS).and_then(|upload| upload.parse().ok()) {
            self.core.inboxes.deliver(upload, receipt);
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for LocalBus {
    async fn dead_letters(&self, after: Option<u64>, limit: usize) -> Result<Vec<DeadLetter>, BusError> {
        Ok(dead_letters::list(&self.core, after, limit).await?)
    }

    async fn retry_dead_letter(&self, id: u64) -> Result<bool, EnqueueError> {
        dead_letters::retry(&self.core, id).await
    }

    async fn delete_dead_letter(&self, id: u64) -> Result<bool, BusError> {
        Ok(dead_letters::delete(&self.core, id).await?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sqlite::Priority;

    use super::*;
    use crate::{Attachment, StagingStore};

    fn job() -> Outgoing {
        Outgoing {
            queue: Queue::Uploads,
            mrn: Mrn::new(7).unwrap(),
            payload: Bytes::from(vec![b' '; 10_000]),
            reply_to: None,
            trace_parent: None,
            attachments: Vec::new(),
        }
    }

    #[tokio::test]
    async fn full_disk_is_an_error_and_confirmed_messages_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sqlite");
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let limit = |pages: u32| {
            bus.core.write(move |db| {
                db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            })
        };
        limit(60).await.unwrap();
        let mut confirmed = 0;
        let refused = loop {
            // Concurrent writes share a transaction, and none may be confirmed without being durable.
            let sent = futures::future::join_all((0..4).map(|_| bus.enqueue(job()))).await;
            confirmed += sent.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            if let Some(refused) = sent.into_iter().find_map(Result::err) {
                break refused;
            }
        };
        assert!(refused.to_string().contains("is full"), "{refused}");
        assert!(confirmed > 0);
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, confirmed);
        // Consuming still works and frees space.
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
    async fn message_is_delivered_while_it_is_written_and_a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sqlite");
        let bus = LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let bytes = Bytes::from_static(b"a small file");
        let file = |bytes: &Bytes| Attachment {
            upload: UploadId::generate(),
            content: proto_json::HashedBytes::of(bytes.clone()),
            consumer_only: false,
        };
        let small = file(&bytes);
        let key = small.key();
        // Blocks the writer, so that nothing becomes durable in the meantime.
        let block_writer = || {
            let (unblock, wait) = std::sync::mpsc::channel::<()>();
            drop(bus.core.submit(Priority::Normal, 0, move |_| Ok(wait.recv().is_ok()), |_| {}));
            unblock
        };
        let mut deliveries = bus.consume(Queue::Uploads, 2).await.unwrap();
        let unblock = block_writer();
        let mut sending = std::pin::pin!(bus.enqueue(Outgoing { attachments: vec![small], ..job() }));
        assert!(futures::poll!(&mut sending).is_pending());
        let delivery = deliveries.next().await.unwrap();
        let staged = delivery.open(key).await.unwrap().unwrap();
        assert_eq!(crate::collect(staged.body, staged.bytes).await.unwrap(), bytes);
        assert!(futures::poll!(&mut sending).is_pending(), "it is not durable yet");
        unblock.send(()).unwrap();
        sending.await.unwrap();
        delivery.ack().await.unwrap();
        bus.delete(key).await.unwrap();
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);

        // The same with a write that fails.
        let pages = |pages: u32| {
            bus.core.write(move |db| {
                db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, u32>(0))
            })
        };
        let most = pages(1).await.unwrap();
        let large = Bytes::from(vec![7; 40_000 + most as usize * 4_096]);
        let large = file(&large);
        let key = large.key();
        let unblock = block_writer();
        let mut sending = std::pin::pin!(bus.enqueue(Outgoing { attachments: vec![large], ..job() }));
        assert!(futures::poll!(&mut sending).is_pending());
        let delivery = deliveries.next().await.unwrap();
        unblock.send(()).unwrap();
        let refused = sending.await.unwrap_err();
        assert!(refused.to_string().contains("is full"), "{refused}");
        drop(delivery);
        assert_eq!(bus.queue_status(Queue::Uploads).await.unwrap().messages, 0);
        assert!(bus.get(key).await.unwrap().is_none());
        assert_eq!(bus.core.staged_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
        assert!(bus.core.schedule(Queue::Uploads).reserve(1), "its reservation is released");
    }
}
