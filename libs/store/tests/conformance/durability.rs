//! Durability across restarts, and errors of stores that cannot be used.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use proto_json::BlobHash;
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::{BlobStore, PatientReader, StoreError};
use testkit::MongoServer;

use crate::harness::{Store, With, analysed, first, mrn, orphan, put, put_result, try_put, upload};

/// Stores records of all kinds for [`verify`].
async fn fill(store: &dyn Store) {
    let new = upload(7, "a", 0).name("Ann").rate(60, 0).image().signal(None);
    put(store, &new).await;
    put_result(store, &analysed(&new, 70.0)).await.unwrap();
    for length in [1000, 9_000_000] {
        let content = Bytes::from(vec![7; length]);
        let body = stream::iter([Ok(content.clone())]).boxed();
        store.put_blob(orphan(BlobHash::of(&content)), length as u64, body).await.unwrap();
    }
}

async fn verify(store: &dyn Store) {
    let new = upload(7, "a", 0).name("Ann").rate(60, 0).image().signal(None);
    let patient = store.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!((patient.version, patient.name.as_deref()), (2, Some("Ann")));
    assert_eq!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.len(), 2);
    assert_eq!(store.images(mrn(7), first(9)).await.unwrap().items.len(), 1);
    assert!(store.ecg(new.ecgs[0].id).await.unwrap().unwrap().analysis.is_some());
    assert!(put(store, &new).await.2, "it is known");
    for length in [1000, 9_000_000] {
        let blob = store.blob(orphan(BlobHash::of(&vec![7; length]))).await.unwrap().unwrap();
        let pieces: Vec<Bytes> = blob.body.try_collect().await.unwrap();
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), length);
    }
}

#[tokio::test]
async fn sqlite_has_everything_after_it_is_reopened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fill(&*SqliteStore::open(&path).unwrap()).await;
    verify(&*SqliteStore::open(&path).unwrap()).await;
}

#[tokio::test]
async fn sqlite_refuses_a_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let second = SqliteStore::open(&path).unwrap_err();
    assert!(second.to_string().contains("in use by another process"), "{second}");
    drop(store);
    SqliteStore::open(&path).unwrap();
}

#[tokio::test]
async fn sqlite_reports_why_a_file_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    fs::write(&path, "This is not a database, but it is long enough to be looked at as one.".repeat(99))
        .unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("not a SQLite database"), "{error}");

    // A folder that cannot be written: also for the superuser.
    let error = SqliteStore::open("/proc/store.db".as_ref()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("cannot be written"), "{error}");
    let error = SqliteStore::open(&folder.path().join("missing/store.db")).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn sqlite_refuses_a_damaged_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    for n in 0..500 {
        put(&*store, &upload(n, &n.to_string(), 0).name("Ann").rate(60, 0).image()).await;
    }
    drop(store);
    // Everything but the header and the schema.
    let mut content = fs::read(&path).unwrap();
    assert!(content.len() > 100_000);
    content[16_384..].fill(0x5a);
    fs::write(&path, content).unwrap();
    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("damaged; restore it from a backup"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mongo_works_again_after_the_server_is_restarted() {
    let mut server = MongoServer::start_own();
    let mut config = MongoConfig::new(server.uri(), server.fresh_database());
    config.server_selection_timeout = Duration::from_secs(2);
    let store = MongoStore::connect(config).await.unwrap();
    store.ensure_indexes().await.unwrap();
    fill(&*store).await;
    server.kill();
    let new = upload(7, "b", 0).rate(60, 0);
    let started = Instant::now();
    let results = [
        store.check().await,
        try_put(&*store, &new).await.map(drop),
        store.patient(mrn(7)).await.map(drop),
        store
            .put_blob(orphan(BlobHash::of(b"x")), 1, stream::iter([Ok(Bytes::from_static(b"x"))]).boxed())
            .await,
    ];
    for result in results {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{result:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(30), "each within its timeout");
    server.restart();
    let back = Instant::now();
    while let Err(error) = store.check().await {
        assert!(back.elapsed() < Duration::from_secs(30), "{error}");
    }
    verify(&*store).await;
    put(&*store, &new).await;
}

#[tokio::test]
async fn mongo_refuses_a_wrong_connection_string_without_showing_it() {
    let config = MongoConfig::new("mongodb://user:secret@", "x");
    assert!(!format!("{config:?}").contains("secret"));
    let error = MongoStore::connect(config).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}
