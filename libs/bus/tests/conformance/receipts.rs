//! Receipts: every waiter receives its receipt.

use proto_json::{Receipt, UploadId};

use crate::fixture::Adapter;

pub(crate) async fn all_waiters_receive_the_receipt(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (gateway, ingest) = (fixture.join().await, fixture.join().await);
    let (upload, other) = (UploadId::generate(), UploadId::generate());
    let first = gateway.replies.expect_receipt(upload).await.unwrap();
    let second = gateway.replies.expect_receipt(upload).await.unwrap();
    let of_other = gateway.replies.expect_receipt(other).await.unwrap();
    assert_eq!(first.reply_to, second.reply_to);
    assert_ne!(first.reply_to, of_other.reply_to);
    // A closed inbox does not affect the others.
    drop(gateway.replies.expect_receipt(upload).await.unwrap());
    let receipt = Receipt::Conflict { upload_id: upload };
    ingest.replies.send_receipt(&first.reply_to, &receipt).await.unwrap();
    assert_eq!(first.receipt.await, Some(receipt.clone()));
    assert_eq!(second.receipt.await, Some(receipt));
    let receipt = Receipt::Conflict { upload_id: other };
    ingest.replies.send_receipt(&of_other.reply_to, &receipt).await.unwrap();
    assert_eq!(of_other.receipt.await, Some(receipt));
}

pub(crate) async fn receipt_for_a_closed_inbox_is_no_error(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (gateway, ingest) = (fixture.join().await, fixture.join().await);
    let upload = UploadId::generate();
    let closed = gateway.replies.expect_receipt(upload).await.unwrap().reply_to;
    let receipt = Receipt::Conflict { upload_id: upload };
    ingest.replies.send_receipt(&closed, &receipt).await.unwrap();
    // A duplicate is no error either.
    let again = gateway.replies.expect_receipt(upload).await.unwrap();
    ingest.replies.send_receipt(&again.reply_to, &receipt).await.unwrap();
    ingest.replies.send_receipt(&again.reply_to, &receipt).await.unwrap();
    assert_eq!(again.receipt.await, Some(receipt));
}
