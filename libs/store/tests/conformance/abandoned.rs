//! Files of uploads that never came to be go; all others stay, whatever happens at the same time.

use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::{BlobHash, HashedBytes, Timestamp};
use store::{NewUpload, Origin, PatientStore, Removal, StoreError, UploadOutcome};

use crate::harness::{Fixture, With, analysed, drawn, files, get, on_every_adapter, put, put_result, upload};

on_every_adapter!(
    a_file_that_nothing_came_to_refer_to_is_removed,
    a_file_that_was_brought_lately_stays_for_now,
    a_file_that_two_uploads_brought_stays,
    a_file_that_a_record_refers_to_stays,
    picture_and_details_stay_and_those_of_a_late_result_go,
    what_a_refused_upload_brought_goes_and_what_the_stored_one_brought_stays,
    after_the_removal_only_the_upload_sent_again_is_stored,
    an_upload_sent_again_at_this_moment_keeps_its_file,
);

async fn bring(store: &dyn PatientStore, from: Origin, file: &HashedBytes) {
    let body = stream::iter([Ok(file.bytes().clone())]).boxed();
    store.put_blob(from, file.sha256(), file.len() as u64, body).await.unwrap();
}

fn file(length: usize, fill: u8) -> HashedBytes {
    let bytes = Bytes::from(vec![fill; length]);
    HashedBytes::of(bytes)
}

/// A time after everything that was brought until now.
fn later() -> Timestamp {
    Timestamp::from_millis(Timestamp::now().as_millis() + 60_000).unwrap()
}

async fn remove(store: &dyn PatientStore, new: &NewUpload, sha256: BlobHash) -> Removal {
    store.remove_abandoned(new.id, sha256, later()).await.unwrap()
}

async fn a_file_that_nothing_came_to_refer_to_is_removed(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    for length in [0, 1_000, 300_000, 9_000_000] {
        let file = file(length, 1);
        assert_eq!(remove(&*store, &new, file.sha256()).await, Removal::Kept);
        for _ in 0..2 {
            bring(&*store, new.origin(), &file).await;
            assert_eq!(get(&*store, file.sha256()).await.as_deref(), Some(&file.bytes()[..]));
            let other = upload(7, "b", 0);
            assert_eq!(remove(&*store, &other, file.sha256()).await, Removal::Kept, "it is not its own");
            assert_eq!(remove(&*store, &new, file.sha256()).await, Removal::Removed);
            assert!(store.blob(file.sha256()).await.unwrap().is_none());
            assert_eq!(remove(&*store, &new, file.sha256()).await, Removal::Kept);
        }
    }
}

async fn a_file_that_was_brought_lately_stays_for_now(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    let file = file(1_000, 1);
    bring(&*store, new.origin(), &file).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let between = Timestamp::now();
    bring(&*store, upload(7, "a", 1_000).origin(), &file).await;
    let removal = store.remove_abandoned(new.id, file.sha256(), between).await.unwrap();
    assert_eq!(removal, Removal::NotYet);
    assert!(get(&*store, file.sha256()).await.is_some());
    assert_eq!(remove(&*store, &new, file.sha256()).await, Removal::Removed);
}

async fn a_file_that_two_uploads_brought_stays(Fixture { store, .. }: Fixture) {
    for length in [1_000, 9_000_000] {
        let file = file(length, 1);
        let (one, other) = (upload(7, "a", 0), upload(8, "b", 0));
        bring(&*store, one.origin(), &file).await;
        bring(&*store, other.origin(), &file).await;
        bring(&*store, one.origin(), &file).await;
        for new in [&one, &other] {
            assert_eq!(remove(&*store, new, file.sha256()).await, Removal::Kept);
        }
        assert!(get(&*store, file.sha256()).await.is_some());
    }
}

async fn a_file_that_a_record_refers_to_stays(Fixture { store, .. }: Fixture) {
    // With its record, before its record, and under the record of another.
    let (with, before, other) =
        (upload(7, "a", 0).image(), upload(7, "b", 0).image(), upload(7, "c", 0).image());
    put(&*store, &with).await;
    bring(&*store, before.origin(), &files(&before)[0]).await;
    store.store_upload(&before, Vec::new()).await.unwrap();
    let never = upload(7, "d", 0);
    bring(&*store, never.origin(), &files(&other)[0]).await;
    put(&*store, &other).await;
    for (brought_by, referred_by) in [(&with, &with), (&before, &before), (&never, &other)] {
        let file = &files(referred_by)[0];
        assert_eq!(remove(&*store, brought_by, file.sha256()).await, Removal::Kept);
        assert_eq!(remove(&*store, referred_by, file.sha256()).await, Removal::Kept);
        assert_eq!(get(&*store, file.sha256()).await.as_deref(), Some(&file.bytes()[..]));
    }
}

async fn picture_and_details_stay_and_those_of_a_late_result_go(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).signal(None);
    put(&*store, &new).await;
    let result = analysed(&new, 70.0);
    put_result(&*store, &result).await.unwrap();
    let late = file(500, 3);
    bring(&*store, result.from, &late).await;
    for file in drawn(&result) {
        assert_eq!(remove(&*store, &new, file.sha256()).await, Removal::Kept);
        assert!(get(&*store, file.sha256()).await.is_some());
    }
    assert_eq!(remove(&*store, &new, late.sha256()).await, Removal::Removed);
}

async fn what_a_refused_upload_brought_goes_and_what_the_stored_one_brought_stays(
    Fixture { store, .. }: Fixture,
) {
    let stored = upload(7, "a", 0).image();
    put(&*store, &stored).await;
    let mut refused = upload(7, "a", 1_000);
    refused.fingerprint = BlobHash::of(b"other");
    let brought = file(500, 2);
    bring(&*store, refused.origin(), &brought).await;
    bring(&*store, refused.origin(), &files(&stored)[0]).await;
    assert_eq!(store.store_upload(&refused, Vec::new()).await.unwrap(), UploadOutcome::Conflict);
    assert_eq!(remove(&*store, &refused, brought.sha256()).await, Removal::Removed);
    assert_eq!(remove(&*store, &refused, stored.images[0].file.sha256).await, Removal::Kept);
    assert!(put(&*store, &stored).await.2, "it is stored as before");
    assert!(get(&*store, stored.images[0].file.sha256).await.is_some());
}

async fn after_the_removal_only_the_upload_sent_again_is_stored(Fixture { store, .. }: Fixture) {
    let first = upload(7, "a", 0).image();
    let image = &files(&first)[0];
    bring(&*store, first.origin(), image).await;
    assert_eq!(remove(&*store, &first, image.sha256()).await, Removal::Removed);
    // A delivery that slept since it brought the file.
    let error = store.store_upload(&first, Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert_eq!(store.upload(first.id).await.unwrap(), None);
    assert_eq!(store.patient(first.mrn).await.unwrap(), None);
    let mut again = upload(7, "a", 1_000);
    (again.images, again.files) = (first.images.clone(), first.files.clone());
    let (receipt, _, replayed) = put(&*store, &again).await;
    assert!(!replayed);
    assert_eq!(receipt.received_at, again.received_at);
    assert_eq!(get(&*store, image.sha256()).await.as_deref(), Some(&image.bytes()[..]));
    assert_eq!(remove(&*store, &first, image.sha256()).await, Removal::Kept);
    assert_eq!(store.upload(first.id).await.unwrap().unwrap().receipt, receipt);
}

async fn an_upload_sent_again_at_this_moment_keeps_its_file(Fixture { store, .. }: Fixture) {
    for round in 0..16 {
        let key = format!("round {round}");
        let first = upload(7, &key, 0).image();
        let image = &files(&first)[0];
        bring(&*store, first.origin(), image).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let before = Timestamp::now();
        let mut again = upload(7, &key, 1_000);
        (again.images, again.files) = (first.images.clone(), first.files.clone());
        let sent = async {
            if round % 2 == 0 {
                bring(&*store, again.origin(), image).await;
            }
            put(&*store, &again).await
        };
        let (removal, _) = tokio::join!(store.remove_abandoned(first.id, image.sha256(), before), sent);
        removal.unwrap();
        assert_eq!(get(&*store, image.sha256()).await.as_deref(), Some(&image.bytes()[..]), "{round}");
    }
}
