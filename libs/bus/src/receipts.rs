//! Who in this process waits for which receipt.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use proto_json::{Receipt, UploadId};
use tokio::sync::oneshot;

/// The inboxes of this process, one per waiter. Several may wait for the receipt of one upload: all get it.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    waiters: Mutex<HashMap<UploadId, Vec<Waiter>>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    to: oneshot::Sender<Receipt>,
}

impl Inboxes {
    /// Opens an inbox. The future resolves with the receipt; dropping it closes the inbox.
    pub(crate) fn open(self: &Arc<Self>, upload: UploadId) -> BoxFuture<'static, Option<Receipt>> {
        let (to, receipt) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.with(|waiters| waiters.entry(upload).or_default().push(Waiter { number, to }));
        let open = Open { inboxes: Arc::clone(self), upload, number };
        async move {
            let receipt = receipt.await.ok();
            drop(open);
            receipt
        }
        .boxed()
    }

    /// Hands a receipt to everyone who waits for it here.
    pub(crate) fn deliver(&self, upload: UploadId, receipt: &Receipt) {
        let waiters = self.with(|waiters| waiters.remove(&upload)).unwrap_or_default();
        for waiter in waiters {
            // A waiter that has just given up is no error.
            let _ = waiter.to.send(receipt.clone());
        }
    }

    /// How many uploads somebody waits for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.with(|waiters| waiters.len())
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashMap<UploadId, Vec<Waiter>>) -> T) -> T {
        change(&mut self.waiters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Closes its inbox when dropped.
struct Open {
    inboxes: Arc<Inboxes>,
    upload: UploadId,
    number: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inboxes.with(|waiters| {
            if let Some(of_upload) = waiters.get_mut(&self.upload) {
                of_upload.retain(|waiter| waiter.number != self.number);
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
    async fn all_waiters_get_the_receipt_and_none_stays_registered() {
        let inboxes = Arc::new(Inboxes::default());
        let upload = UploadId::generate();
        let (first, second, gone) = (inboxes.open(upload), inboxes.open(upload), inboxes.open(upload));
        drop(gone);
        let receipt = Receipt::Conflict { upload_id: upload };
        inboxes.deliver(upload, &receipt);
        assert_eq!(first.await, Some(receipt.clone()));
        assert_eq!(second.await, Some(receipt));
        assert_eq!(inboxes.len(), 0);
        drop(inboxes.open(upload));
        assert_eq!(inboxes.len(), 0);
    }
}
