//! Backups of a store that is being written, damaged backups, and interrupted restores.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use testkit::MongoServer;

use super::archive::{self, ArchiveError};
use super::tests::{Content, Sample, sample};
use super::*;

async fn store_on(server: &MongoServer) -> Arc<MongoStore> {
    let mut config = MongoConfig::new(server.uri(), server.fresh_database());
    // The tests are not about time limits, and the disk of a busy machine is slow.
    config.operation_timeout = std::time::Duration::from_secs(300);
    let store = MongoStore::connect(config).await.unwrap();
    store.ensure_indexes().await.unwrap();
    store
}

/// Stores an upload with a heart rate, an image and an ECG, and the analysis of the ECG.
async fn store_one(store: &MongoStore, mrn: u64, number: u64) {
    let Sample { upload, files, result, result_files } =
        sample(mrn, &number.to_string(), Content::ImageAndEcg);
    store.store_upload(&upload, files).await.unwrap();
    store.store_analysis(&result, result_files).await.unwrap();
}

/// Everything in the database, by collection and id.
async fn content(store: &MongoStore) -> BTreeMap<String, BTreeMap<String, Document>> {
    let mut content = BTreeMap::new();
    for name in store.db.database.list_collection_names().await.unwrap() {
        let documents = store.db.database.collection::<Document>(&name).find(doc! {}).await.unwrap();
        let documents: Vec<Document> = documents.try_collect().await.unwrap();
        let by_id =
            documents.into_iter().map(|document| (document.get("_id").unwrap().to_string(), document));
        content.insert(name, by_id.collect());
    }
    content
}

async fn restore(store: &MongoStore, backup: &[u8]) -> Manifest {
    let manifest = store.load_archive(backup).await.unwrap();
    store.exchange(&manifest).await.unwrap();
    manifest
}

/// The upload id in a field of a document.
fn upload_of(document: &Document, field: &str) -> UploadId {
    let Some(Bson::Binary(binary)) = document.get(field) else { panic!("no {field}") };
    UploadId::from_uuid(uuid::Uuid::from_slice(&binary.bytes).unwrap())
}

/// Asserts that all references of the documents lead to documents, and that every file can be read. Returns the number of
/// uploads.
async fn assert_references_are_complete(store: &MongoStore) -> usize {
    let content = content(store).await;
    let none = BTreeMap::new();
    let of = |name: &str| content.get(name).unwrap_or(&none);
    let there = |collection: &str, id: &Bson| {
        assert!(of(collection).contains_key(&id.to_string()), "{collection} has no {id}");
    };
    let mut files = Vec::new();
    for patient in of("patients").values() {
        for (field, collection) in
            [("latest_heart_rate", "heart_rates"), ("latest_ecg", "ecgs"), ("latest_image", "images")]
        {
            if let Ok(latest) = patient.get_document(field) {
                there(collection, latest.get("id").unwrap());
            }
        }
    }
    for rate in of("heart_rates").values() {
        if let Some(ecg) = rate.get("ecg_id") {
            there("ecgs", ecg);
        }
    }
    for (records, fields) in [("ecgs", &["signal", "plot", "detail"][..]), ("images", &["file"])] {
        for record in of(records).values() {
            let upload = upload_of(record, "upload_id");
            let named = fields.iter().filter_map(|field| record.get_document(*field).ok());
            files.extend(named.map(|file| (upload, file.get_str("sha256").unwrap().to_owned())));
        }
    }
    for upload in of("uploads").values() {
        let receipt = upload.get_document("receipt").unwrap();
        there("patients", upload.get("mrn").unwrap());
        there("heart_rates", receipt.get("heart_rate").unwrap());
        for file in receipt.get_array("files").unwrap() {
            let file = file.as_document().unwrap();
            let records = if file.get_str("kind").unwrap() == "ecg" { "ecgs" } else { "images" };
            there(records, file.get("id").unwrap());
            files.push((upload_of(upload, "_id"), file.get_str("sha256").unwrap().to_owned()));
        }
    }
    for (upload, sha256) in files {
        let key = BlobKey { upload, sha256: sha256.parse().unwrap() };
        let blob = store.blob(key).await.unwrap().unwrap_or_else(|| panic!("no file {key:?}"));
        blob.body.try_for_each(|_| async { Ok(()) }).await.unwrap();
    }
    of("uploads").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_write_load_has_no_dangling_references() {
    let server = MongoServer::start();
    let (store, other) = (store_on(&server).await, store_on(&server).await);
    let (ended, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (1..=3)
        .map(|mrn| {
            let (store, ended, stored) = (Arc::clone(&store), Arc::clone(&ended), Arc::clone(&stored));
            tokio::spawn(async move {
                let mut number = 0;
                while !ended.load(Ordering::Relaxed) {
                    store_one(&store, mrn, number).await;
                    stored.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                }
            })
        })
        .collect();
    let at_least = async |count| {
        while stored.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
            assert!(!writers.iter().any(tokio::task::JoinHandle::is_finished), "a writer failed");
        }
    };
    at_least(20).await;
    let mut meanwhile = 0;
    for _ in 0..3 {
        let before = stored.load(Ordering::Relaxed);
        let mut backup = Vec::new();
        let manifest = store.write_archive(&mut backup, 1).await.unwrap();
        meanwhile += stored.load(Ordering::Relaxed) - before;
        assert_eq!(verify_archive(&backup[..]).unwrap(), manifest);
        assert_eq!(restore(&other, &backup).await, manifest);
        let uploads = assert_references_are_complete(&other).await;
        assert!(uploads as u64 >= before, "{uploads} uploads of {before}");
    }
    ended.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(meanwhile > 0, "nothing was written during any backup");
}

#[tokio::test]
async fn restored_store_has_the_same_documents_and_indexes_and_nothing_else() {
    let server = MongoServer::start();
    let (store, other) = (store_on(&server).await, store_on(&server).await);
    for number in 0..3 {
        store_one(&store, 1, number).await;
        store_one(&other, 2, number).await;
    }
    other.db.database.collection("unknown").insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut backup = Vec::new();
    store.write_archive(&mut backup, 1).await.unwrap();
    restore(&other, &backup).await;
    assert_eq!(content(&other).await, content(&store).await);
    for name in ["ecgs", "heart_rates", "images", "blobs.files", "blobs.chunks"] {
        let indexes = async |store: &MongoStore| {
            let mut names = store.db.database.collection::<Document>(name).list_index_names().await.unwrap();
            names.sort();
            names
        };
        assert_eq!(indexes(&other).await, indexes(&store).await, "{name}");
    }
    other.ensure_indexes().await.unwrap();
}

#[tokio::test]
async fn damaged_backup_is_refused_and_changes_nothing() {
    let server = MongoServer::start();
    let (store, other) = (store_on(&server).await, store_on(&server).await);
    store_one(&store, 1, 0).await;
    store_one(&other, 2, 0).await;
    let mut backup = Vec::new();
    let manifest = store.write_archive(&mut backup, 1).await.unwrap();
    let before = content(&other).await;
    let mut damages = vec![Vec::new(), b"not a backup".to_vec(), [&backup[..], b"more"].concat()];
    damages.extend((1..8).map(|part| backup[..backup.len() * part / 8].to_vec()));
    let certain = damages.len();
    damages.extend((1..16).map(|part| {
        let mut flipped = backup.clone();
        flipped[backup.len() * part / 16] ^= 1;
        flipped
    }));
    let mut found = 0;
    for (number, damage) in damages.iter().enumerate() {
        match verify_archive(&damage[..]) {
            // Decompression ignores some bits.
            Ok(same) => assert!(number >= certain && same == manifest, "damage {number} is not found"),
            Err(error) => {
                found += 1;
                assert!(matches!(error, ArchiveError::Damaged(_) | ArchiveError::Io(_)), "{error}");
                other.load_archive(&damage[..]).await.unwrap_err();
            }
        }
    }
    assert!(found > damages.len() / 2, "{found} of {} damages are found", damages.len());
    let mut after = content(&other).await;
    after.retain(|name, _| !name.starts_with("restoring."));
    assert_eq!(after, before);
}

#[tokio::test]
async fn restore_that_is_interrupted_at_any_step_is_reported_and_completed_by_the_next() {
    let server = MongoServer::start();
    let (store, other) = (store_on(&server).await, store_on(&server).await);
    store_one(&store, 1, 0).await;
    let mut backup = Vec::new();
    store.write_archive(&mut backup, 1).await.unwrap();
    let expected = content(&store).await;
    for number in 0.. {
        store_one(&other, 2, number).await;
        let manifest = other.load_archive(&backup[..]).await.unwrap();
        archive::begin_exchange(&other.db, &manifest).await.unwrap();
        let steps = archive::steps(&other.db, &manifest).await.unwrap();
        let interrupted_at = usize::try_from(number).unwrap();
        for step in steps.iter().take(interrupted_at) {
            archive::take_step(&other.db, step).await.unwrap();
        }
        let check = other.check().await.unwrap_err().to_string();
        assert!(check.contains("restore"), "{check}");
        restore(&other, &backup).await;
        other.check().await.unwrap();
        assert_eq!(content(&other).await, expected);
        if interrupted_at > steps.len() {
            break;
        }
    }
}
