//! Receipts reach whoever waits; claims tell retries from other uploads.

use bus::Claim;
use proto_json::{BlobHash, Receipt, UploadId};

use crate::rig::Adapter;

pub(crate) async fn all_who_wait_for_a_receipt_get_it(adapter: Adapter) {
    let rig = adapter.rig();
    let (gateway, ingest) = (rig.join().await, rig.join().await);
    let (upload, other) = (UploadId::generate(), UploadId::generate());
    let first = gateway.bus.expect_receipt(upload).await.unwrap();
    let second = gateway.bus.expect_receipt(upload).await.unwrap();
    let of_other = gateway.bus.expect_receipt(other).await.unwrap();
    assert_eq!(first.reply_to, second.reply_to);
    assert_ne!(first.reply_to, of_other.reply_to);
    // One that gave up takes nothing from the others.
    drop(gateway.bus.expect_receipt(upload).await.unwrap());
    let receipt = Receipt::Conflict { upload_id: upload };
    ingest.bus.send_receipt(&first.reply_to, &receipt).await.unwrap();
    assert_eq!(first.receipt.await, Some(receipt.clone()));
    assert_eq!(second.receipt.await, Some(receipt));
    let receipt = Receipt::Conflict { upload_id: other };
    ingest.bus.send_receipt(&of_other.reply_to, &receipt).await.unwrap();
    assert_eq!(of_other.receipt.await, Some(receipt));
}

pub(crate) async fn a_receipt_nobody_waits_for_is_no_error(adapter: Adapter) {
    let rig = adapter.rig();
    let (gateway, ingest) = (rig.join().await, rig.join().await);
    let upload = UploadId::generate();
    let gone = gateway.bus.expect_receipt(upload).await.unwrap().reply_to;
    let receipt = Receipt::Conflict { upload_id: upload };
    ingest.bus.send_receipt(&gone, &receipt).await.unwrap();
    // One that comes twice is none either.
    let again = gateway.bus.expect_receipt(upload).await.unwrap();
    ingest.bus.send_receipt(&again.reply_to, &receipt).await.unwrap();
    ingest.bus.send_receipt(&again.reply_to, &receipt).await.unwrap();
    assert_eq!(again.receipt.await, Some(receipt));
}

pub(crate) async fn a_claim_tells_a_retry_from_another_upload(adapter: Adapter) {
    let rig = adapter.rig();
    let (gateway, other) = (rig.join().await, rig.join().await);
    let upload = UploadId::generate();
    let (content, changed) = (BlobHash::of(b"content"), BlobHash::of(b"changed"));
    assert_eq!(gateway.bus.claim(upload, content).await.unwrap(), Claim::New);
    assert_eq!(other.bus.claim(upload, content).await.unwrap(), Claim::Same);
    assert_eq!(other.bus.claim(upload, changed).await.unwrap(), Claim::Other);
    assert_eq!(gateway.bus.claim(UploadId::generate(), changed).await.unwrap(), Claim::New);
    rig.crash().await;
    let gateway = rig.join().await;
    assert_eq!(gateway.bus.claim(upload, content).await.unwrap(), Claim::Same);
    assert_eq!(gateway.bus.claim(upload, changed).await.unwrap(), Claim::Other);
}

pub(crate) async fn of_concurrent_claims_one_is_new(adapter: Adapter) {
    let rig = adapter.rig();
    let peers = [rig.join().await, rig.join().await];
    let upload = UploadId::generate();
    let claims = (0..40_u8).map(|number| {
        let bus = &peers[usize::from(number) % 2].bus;
        async move { bus.claim(upload, BlobHash::of(&[number % 4])).await.unwrap() }
    });
    let claims = futures::future::join_all(claims).await;
    let count = |wanted: Claim| claims.iter().filter(|claim| **claim == wanted).count();
    assert_eq!(count(Claim::New), 1);
    assert_eq!(count(Claim::Same), 9, "those with the content of the first");
    assert_eq!(count(Claim::Other), 30);
}
