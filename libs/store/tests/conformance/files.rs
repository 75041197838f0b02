//! Small files, stored in the transaction of their record.

use bytes::Bytes;
use proto_json::{BlobHash, HashedBytes};
use store::sqlite::SqliteStore;
use store::{NewUpload, PatientWriter, StoreError, UploadOutcome};

use crate::harness::{
    Fixture, Store, With, analysed, at, drawn, files, first, get, key, mrn, on_every_adapter, put,
    put_result, try_put, upload,
};

on_every_adapter!(
    files_are_stored_with_their_record,
    redelivered_upload_leaves_its_files_unchanged,
    two_uploads_of_the_same_bytes_have_a_copy_each,
    file_that_occurs_twice_in_an_upload_is_stored_once,
    record_can_refer_to_a_file_that_was_stored_before,
    files_of_all_lengths_are_read_back,
    files_of_a_result_are_stored_with_it,
);

/// Asserts that the files of an upload are stored.
async fn assert_stored(store: &dyn Store, upload: &NewUpload, files: &[HashedBytes]) {
    for file in files {
        let stored = get(store, key(upload, file.sha256())).await;
        assert_eq!(stored.as_deref(), Some(&file.bytes()[..]));
    }
}

async fn files_are_stored_with_their_record(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).image().image().signal(None).picture(None);
    put(&*store, &new).await;
    assert_eq!(files(&new).len(), 4);
    assert_stored(&*store, &new, &files(&new)).await;
}

async fn redelivered_upload_leaves_its_files_unchanged(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).image().signal(None);
    let (receipt, ..) = put(&*store, &new).await;
    let (again, _, replayed) = put(&*store, &new).await;
    assert!(replayed);
    assert_eq!(again, receipt);
    assert_stored(&*store, &new, &files(&new)).await;
    let mut other = new.clone();
    other.fingerprint = BlobHash::of(b"other");
    assert_eq!(try_put(&*store, &other).await.unwrap(), UploadOutcome::Conflict);
    assert_stored(&*store, &new, &files(&new)).await;
}

async fn two_uploads_of_the_same_bytes_have_a_copy_each(Fixture { store, .. }: Fixture) {
    for round in 0..6 {
        let one = upload(7, &format!("one {round}"), 0).image();
        let mut other = upload(8, &format!("other {round}"), 0).image();
        other.images[0].file = one.images[0].file.clone();
        other.files[0].sha256 = one.files[0].sha256;
        // At once, or one after the other.
        if round % 2 == 0 {
            tokio::join!(put(&*store, &one), put(&*store, &other));
        } else {
            put(&*store, &one).await;
            put(&*store, &other).await;
        }
        assert_stored(&*store, &one, &files(&one)).await;
        assert_stored(&*store, &other, &files(&one)).await;
    }
    let images = store.images(mrn(8), first(9)).await.unwrap().items;
    assert_eq!(images.len(), 6);
}

async fn file_that_occurs_twice_in_an_upload_is_stored_once(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).image();
    let twice = [files(&new), files(&new)].concat();
    store.store_upload(&new, twice).await.unwrap();
    assert_stored(&*store, &new, &files(&new)).await;
}

async fn record_can_refer_to_a_file_that_was_stored_before(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).image().signal(None);
    let mut files = files(&new);
    let long = files.remove(0);
    let body = futures::stream::iter([Ok(long.bytes().clone())]);
    store.put_blob(key(&new, long.sha256()), long.len() as u64, Box::pin(body)).await.unwrap();
    store.store_upload(&new, files.clone()).await.unwrap();
    files.push(long);
    assert_stored(&*store, &new, &files).await;
}

async fn files_of_all_lengths_are_read_back(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0);
    let lengths = [0, 1, 255 * 1024, 256 * 1024, 256 * 1024 + 1, 1 << 20, 5 << 20];
    let files = lengths.map(|length| {
        let bytes = Bytes::from((0..length).map(|n: usize| (n % 251) as u8).collect::<Vec<_>>());
        HashedBytes::of(bytes)
    });
    store.store_upload(&new, files.to_vec()).await.unwrap();
    assert_stored(&*store, &new, &files).await;
}

async fn files_of_a_result_are_stored_with_it(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 0).signal(None);
    put(&*store, &new).await;
    let result = analysed(&new, 70.0);
    put_result(&*store, &result).await.unwrap();
    assert_stored(&*store, &new, &drawn(&result)).await;
    assert_eq!(put_result(&*store, &result).await, None);
    assert_stored(&*store, &new, &drawn(&result)).await;
}

/// Nothing a reader of another connection, or a later start, can see is a file whose record did not come with it.
#[tokio::test]
async fn sqlite_keeps_no_file_of_a_record_that_was_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    // One of its files never came: the record is refused after the other file was written.
    let new = upload(7, "a", 0).image().image();
    let mut some = files(&new);
    some.pop();
    let error = store.store_upload(&new, some).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
    assert!(get(&*store, key(&new, files(&new)[0].sha256())).await.is_none());
    // Another content under the id of one that is stored, and a result that comes too late.
    let stored = upload(7, "b", 0).signal(None);
    put(&*store, &stored).await;
    let mut refused = stored.clone().image();
    refused.fingerprint = BlobHash::of(b"other");
    assert_eq!(try_put(&*store, &refused).await.unwrap(), UploadOutcome::Conflict);
    assert!(get(&*store, key(&refused, refused.images[0].file.sha256)).await.is_none());
    let failed = store.store_analysis(&crate::harness::failed(&stored, "no"), Vec::new()).await.unwrap();
    assert_eq!(failed.unwrap().updated_at, at(50_000));
    let late = analysed(&stored, 70.0);
    assert_eq!(put_result(&*store, &late).await, None);
    assert!(get(&*store, key(&stored, drawn(&late)[0].sha256())).await.is_none());
}
