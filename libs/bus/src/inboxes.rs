//! Registry of the reply inboxes of this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use proto_json::{Receipt, UploadId};
use tokio::sync::oneshot;

/// The open inboxes. Several tasks can wait for the receipt of one upload; all of them receive it.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    waiters: Mutex<HashMap<UploadId, Vec<Waiter>>>,
    next_id: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    sender: oneshot::Sender<Receipt>,
}

impl Inboxes {
    /// Opens an inbox. The future resolves with the receipt; dropping it closes the inbox.
    pub(crate) fn open(self: &Arc<Self>, upload: UploadId) -> BoxFuture<'static, Option<Receipt>> {
        let (sender, receipt) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.with(|waiters| waiters.entry(upload).or_default().push(Waiter { id, sender }));
        let guard = CloseOnDrop { inboxes: Arc::clone(self), upload, id };
        async move {
            let receipt = receipt.await.ok();
            drop(guard);
            receipt
        }
        .boxed()
    }

    /// Delivers a receipt to all tasks that wait for it.
    pub(crate) fn deliver(&self, upload: UploadId, receipt: &Receipt) {
        let waiters = self.with(|waiters| waiters.remove(&upload)).unwrap_or_default();
        for waiter in waiters {
            // The send fails only if the waiter was dropped.
            let _ = waiter.sender.send(receipt.clone());
        }
    }

    /// Number of uploads with an open inbox.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.with(|waiters| waiters.len())
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<UploadId, Vec<Waiter>>) -> T) -> T {
        change(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct CloseOnDrop {
    inboxes: Arc<Inboxes>,
    upload: UploadId,
    id: u64,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.inboxes.with(|waiters| {
            if let Some(of_upload) = waiters.get_mut(&self.upload) {
                of_upload.retain(|waiter| waiter.id != self.id);
                if of_upload.is_empty() {
                    waiters.remove(&self.upload);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_waiters_receive_the_receipt_and_none_stays_registered() {
        let inboxes = Arc::new(Inboxes::default());
        let upload = UploadId::generate();
        let (first, second, dropped) = (inboxes.open(upload), inboxes.open(upload), inboxes.open(upload));
        drop(dropped);
        let receipt = Receipt::Conflict { upload_id: upload };
        inboxes.deliver(upload, &receipt);
        assert_eq!(first.await, Some(receipt.clone()));
        assert_eq!(second.await, Some(receipt));
        assert_eq!(inboxes.len(), 0);
        drop(inboxes.open(upload));
        assert_eq!(inboxes.len(), 0);
    }
}
