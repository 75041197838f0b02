//! The sweep of orphaned files: it removes files that no record refers to, and no others.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use proto_json::{HashedBytes, Timestamp};
use store::{BlobKey, StoreError, UploadOutcome};
use uuid::Uuid;

use crate::harness::{
    Fixture, Store, With, analysed, drawn, files, get, key, on_every_adapter, put, put_result, try_put,
    upload,
};

on_every_adapter!(
    file_without_a_record_is_removed,
    file_younger_than_the_age_is_kept,
    file_that_a_record_refers_to_is_kept,
    file_of_another_upload_with_the_same_bytes_is_kept,
    files_of_a_result_are_kept_and_those_of_a_late_result_are_removed,
    file_of_a_refused_upload_is_removed,
    upload_after_the_sweep_is_refused_until_its_file_is_stored_again,
    concurrent_upload_is_stored_with_its_file_or_refused,
    limit_of_a_sweep_leaves_the_rest_to_the_next,
    sweep_can_be_leased,
);

async fn put_before(store: &dyn Store, key: BlobKey, file: &HashedBytes) {
    let body = stream::iter([Ok(file.bytes().clone())]).boxed();
    store.put_blob(key, file.len() as u64, body).await.unwrap();
}

fn file(length: usize, fill: u8) -> HashedBytes {
    HashedBytes::of(Bytes::from(vec![fill; length]))
}

/// Sweeps everything that was written until now.
async fn sweep(store: &dyn Store) -> u64 {
    let later = Timestamp::now().plus_millis(60_000);
    store.sweep_orphans(later, 100).await.unwrap()
}

async fn file_without_a_record_is_removed(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    for length in [0, 1_000, 300_000, 9_000_000] {
        let file = file(length, 1);
        let key = key(&new, file.sha256());
        for _ in 0..2 {
            put_before(&*store, key, &file).await;
            assert_eq!(get(&*store, key).await.as_deref(), Some(&file.bytes()[..]));
            assert_eq!(sweep(&*store).await, 1);
            assert!(store.blob(key).await.unwrap().is_none());
            assert_eq!(sweep(&*store).await, 0);
        }
    }
}

async fn file_younger_than_the_age_is_kept(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    let (old, young) = (file(1_000, 1), file(9_000_000, 2));
    put_before(&*store, key(&new, old.sha256()), &old).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let between = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(5)).await;
    put_before(&*store, key(&new, young.sha256()), &young).await;
    assert_eq!(store.sweep_orphans(between, 100).await.unwrap(), 1);
    assert!(get(&*store, key(&new, old.sha256())).await.is_none());
    assert!(get(&*store, key(&new, young.sha256())).await.is_some());
}

async fn file_that_a_record_refers_to_is_kept(Fixture { store, .. }: Fixture) {
    let (with, before) = (upload(7, "a", 0).image(), upload(7, "b", 0).image());
    put(&*store, &with).await;
    put_before(&*store, key(&before, files(&before)[0].sha256()), &files(&before)[0]).await;
    store.store_upload(&before, Vec::new()).await.unwrap();
    assert_eq!(sweep(&*store).await, 0);
    for new in [&with, &before] {
        let file = &files(new)[0];
        assert_eq!(get(&*store, key(new, file.sha256())).await.as_deref(), Some(&file.bytes()[..]));
    }
}

async fn file_of_another_upload_with_the_same_bytes_is_kept(Fixture { store, .. }: Fixture) {
    let (stored, never) = (upload(7, "a", 0).image(), upload(8, "b", 0));
    let image = &files(&stored)[0];
    put_before(&*store, key(&never, image.sha256()), image).await;
    put(&*store, &stored).await;
    assert_eq!(sweep(&*store).await, 1);
    assert!(get(&*store, key(&never, image.sha256())).await.is_none());
    assert!(get(&*store, key(&stored, image.sha256())).await.is_some());
}

async fn files_of_a_result_are_kept_and_those_of_a_late_result_are_removed(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).signal(None);
    put(&*store, &new).await;
    let result = analysed(&new, 70.0);
    put_result(&*store, &result).await.unwrap();
    let late = file(500, 3);
    put_before(&*store, key(&new, late.sha256()), &late).await;
    assert_eq!(sweep(&*store).await, 1);
    assert!(get(&*store, key(&new, late.sha256())).await.is_none());
    for file in drawn(&result) {
        assert!(get(&*store, key(&new, file.sha256())).await.is_some());
    }
}

async fn file_of_a_refused_upload_is_removed(Fixture { store, .. }: Fixture) {
    let stored = upload(7, "a", 0).image();
    put(&*store, &stored).await;
    let mut refused = upload(7, "a", 1_000);
    refused.fingerprint = proto_json::BlobHash::of(b"other");
    let other = file(500, 2);
    put_before(&*store, key(&refused, other.sha256()), &other).await;
    assert_eq!(store.store_upload(&refused, Vec::new()).await.unwrap(), UploadOutcome::Conflict);
    assert_eq!(sweep(&*store).await, 1);
    assert!(get(&*store, key(&refused, other.sha256())).await.is_none());
    assert!(put(&*store, &stored).await.2, "the stored upload is unchanged");
    assert!(get(&*store, key(&stored, stored.images[0].file.sha256)).await.is_some());
}

async fn upload_after_the_sweep_is_refused_until_its_file_is_stored_again(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).image();
    let image = &files(&new)[0];
    put_before(&*store, key(&new, image.sha256()), image).await;
    assert_eq!(sweep(&*store).await, 1);
    let error = store.store_upload(&new, Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert_eq!(store.upload(new.id).await.unwrap(), None);
    assert_eq!(store.patient(new.mrn).await.unwrap(), None);
    put_before(&*store, key(&new, image.sha256()), image).await;
    store.store_upload(&new, Vec::new()).await.unwrap();
    assert_eq!(sweep(&*store).await, 0);
    assert!(get(&*store, key(&new, image.sha256())).await.is_some());
}

async fn concurrent_upload_is_stored_with_its_file_or_refused(Fixture { store, .. }: Fixture) {
    for round in 0..16 {
        let new = upload(7, &format!("round {round}"), 0).image();
        let image = &files(&new)[0];
        put_before(&*store, key(&new, image.sha256()), image).await;
        let (stored, swept) = tokio::join!(store.store_upload(&new, Vec::new()), sweep(&*store));
        match stored {
            Ok(_) => assert_eq!(swept, 0, "{round}"),
            Err(StoreError::Refused(_)) => {
                assert_eq!(swept, 1, "{round}");
                try_put(&*store, &new).await.unwrap();
            }
            Err(error) => panic!("{round}: {error}"),
        }
        let stored = get(&*store, key(&new, image.sha256())).await;
        assert_eq!(stored.as_deref(), Some(&image.bytes()[..]), "{round}");
    }
}

async fn limit_of_a_sweep_leaves_the_rest_to_the_next(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    for fill in 0..5 {
        let file = file(100, fill);
        put_before(&*store, key(&new, file.sha256()), &file).await;
    }
    let later = Timestamp::now().plus_millis(60_000);
    for expected in [2, 2, 1, 0] {
        assert_eq!(store.sweep_orphans(later, 2).await.unwrap(), expected);
    }
}

async fn sweep_can_be_leased(Fixture { store, .. }: Fixture) {
    let one = Uuid::from_u128(1);
    for _ in 0..2 {
        assert!(store.lease_sweep(one, Duration::from_secs(60)).await.unwrap());
    }
    assert!(store.lease_scrub(one, Duration::from_secs(60)).await.unwrap().is_some());
}
