//! Damaged records: none is shown as if it were the one that was stored, and the scrub finds each.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use proto_json::{Page, RecordKind, UploadId};
use rusqlite::Connection;
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::{SqliteStore, Verifier};
use store::{
    BlobReader, Maintenance, NewUpload, PageRequest, PatientReader, PatientWriter, ScrubState, StoreError,
};
use uuid::Uuid;

use crate::harness::{
    Fixture, Store, With, analysed, at, first, get, key, mrn, on_every_adapter, put, put_result,
    shared_server, upload,
};

on_every_adapter!(
    scrub_of_an_intact_store_counts_every_record_once,
    one_process_scrubs_at_a_time_and_the_next_continues,
);

/// Some patients with everything there is.
async fn fill(store: &dyn Store) -> Vec<NewUpload> {
    let mut uploads = Vec::new();
    for number in [3, 7, 8, 4_000] {
        for n in 0..8 {
            let key = format!("{number} {n}");
            let new = upload(number, &key, n * 1000).name(&format!("Patient {number}")).rate(92, n * 1000);
            let new = if n % 2 == 0 { new.image().signal(None) } else { new.signal(Some(n * 1000 - 7)) };
            put(store, &new).await;
            if n > 1 {
                put_result(store, &analysed(&new, 60.0 + n as f64)).await;
            }
            uploads.push(new);
        }
    }
    uploads
}

/// The answer to every query about the uploads.
async fn answers(store: &dyn Store, uploads: &[NewUpload]) -> Vec<(String, Result<Answer, StoreError>)> {
    let mut all = Vec::new();
    let one = |answer: String| Answer { items: vec![answer], damaged: 0, is_list: false };
    let numbers = store.mrns().await;
    all.push(("numbers".to_owned(), numbers.map(|numbers| one(format!("{numbers:?}")))));
    for search in [None, Some("patient"), Some("7")] {
        let mut page = first(3);
        loop {
            let found = store.patients(search, page).await;
            let next = found.as_ref().ok().and_then(|found| found.next);
            all.push((format!("patients {search:?} {page:?}"), found.map(Answer::of)));
            page.after = next;
            if next.is_none() {
                break;
            }
        }
    }
    let mut numbers: Vec<_> = uploads.iter().map(|new| new.mrn).collect();
    numbers.dedup();
    numbers.push(mrn(6));
    for number in numbers {
        let patient = store.patient(number).await;
        all.push((format!("patient {number}"), patient.map(|patient| one(format!("{patient:?}")))));
        for limit in [3, 100] {
            for list in 0..3 {
                let mut page = first(limit);
                loop {
                    let name = format!("list {list} of {number} {page:?}");
                    let (answer, next) = match list {
                        0 => split(store.heart_rates(number, page).await),
                        1 => split(store.ecgs(number, page).await),
                        _ => split(store.images(number, page).await),
                    };
                    all.push((name, answer));
                    page.after = next;
                    if next.is_none() {
                        break;
                    }
                }
            }
        }
    }
    for new in uploads {
        let stored = store.upload(new.id).await;
        all.push((format!("upload {}", new.id), stored.map(|stored| one(format!("{stored:?}")))));
        for ecg in &new.ecgs {
            let stored = store.ecg(ecg.id).await;
            all.push((format!("ecg {}", ecg.id), stored.map(|stored| one(format!("{stored:?}")))));
        }
        for image in &new.images {
            let stored = store.image(image.id).await;
            all.push((format!("image {}", image.id), stored.map(|stored| one(format!("{stored:?}")))));
        }
        for file in &new.files {
            let stored = match store.blob(key(new, file.sha256)).await {
                // A record refers to it, so a missing file is an error for whoever reads.
                Ok(None) => Err(StoreError::Corrupt("a record names a file that is not stored".to_owned())),
                Ok(Some(blob)) => futures::TryStreamExt::try_collect::<Vec<bytes::Bytes>>(blob.body)
                    .await
                    .map_err(StoreError::unavailable)
                    .map(|pieces| one(format!("{:?}", pieces.concat()))),
                Err(error) => Err(error),
            };
            all.push((format!("file {}", file.sha256), stored));
        }
    }
    let unknown_id = UploadId::from_idempotency_key("test", "never sent");
    let unknown = store.upload(unknown_id).await;
    all.push(("an unknown upload".to_owned(), unknown.map(|unknown| one(format!("{unknown:?}")))));
    let pending = store.pending_ecgs(at(99_999), at(99_999), 99).await;
    all.push(("pending".to_owned(), pending.map(|pending| one(format!("{pending:?}")))));
    all
}

#[derive(Debug, PartialEq)]
struct Answer {
    items: Vec<String>,
    damaged: usize,
    is_list: bool,
}

impl Answer {
    fn of<T: std::fmt::Debug>(page: Page<T>) -> Self {
        let items = page.items.iter().map(|item| format!("{item:?}")).collect();
        Answer { items, damaged: page.damaged.len(), is_list: true }
    }
}

type Split = (Result<Answer, StoreError>, Option<proto_json::Cursor>);

fn split<T: std::fmt::Debug>(page: Result<Page<T>, StoreError>) -> Split {
    let next = page.as_ref().ok().and_then(|page| page.next);
    (page.map(Answer::of), next)
}

/// Answers that differ from those before the damage and do not say that anything is damaged.
fn silent(
    before: &[(String, Result<Answer, StoreError>)],
    after: &[(String, Result<Answer, StoreError>)],
) -> Vec<String> {
    let mut silent = Vec::new();
    let expected = |name: &str| before.iter().find(|(question, _)| question == name);
    let mut list_of_lists_is_marked = String::new();
    for (question, answer) in after {
        let Ok(answer) = answer else { continue };
        // The pages behind a marked one begin elsewhere.
        let list = question.split(" PageRequest").next().unwrap_or_default().to_owned();
        if answer.damaged > 0 {
            list_of_lists_is_marked = list;
            continue;
        }
        if answer.is_list && list == list_of_lists_is_marked {
            continue;
        }
        match expected(question) {
            Some((_, Ok(expected))) if expected == answer => {}
            expected => silent.push(format!("{question}: {answer:?} instead of {expected:?}")),
        }
    }
    silent
}

async fn scrub_all(verifier: &Verifier) -> (u64, Vec<String>) {
    let (mut checked, mut damaged, mut position) = (0, Vec::new(), None);
    loop {
        let step = verifier.scrub(position, 7).await.unwrap();
        checked += step.checked;
        damaged.extend(step.damaged);
        position = step.next;
        if position.is_none() {
            return (checked, damaged);
        }
    }
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// Each of 200 single bits, anywhere in the pages of records and of their indexes, is reported or changes no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_flipped_bit_is_reported_or_harmless() {
    const PAGE: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let uploads = fill(&*store).await;
    let before = answers(&*store, &uploads).await;
    assert!(before.iter().all(|(_, answer)| answer.is_ok()));
    drop(store);
    let schema: Vec<usize> = {
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let pages = "SELECT pageno - 1 FROM dbstat WHERE name = 'sqlite_schema'";
        let mut pages = connection.prepare(pages).unwrap();
        pages.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let whole = fs::read(&path).unwrap();

    let mut numbers = Numbers(7);
    let (mut refused, mut read, mut scrubbed, mut harmless) = (0, 0, 0, 0);
    for _ in 0..200 {
        // Not in the pages of the schema.
        let bit = std::iter::repeat_with(|| numbers.below((whole.len() * 8) as u64) as usize)
            .find(|bit| !schema.contains(&(bit / 8 / PAGE)))
            .unwrap();
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = fs::remove_file(folder.path().join("store.db-wal"));
        fs::write(&path, &flipped).unwrap();
        // Whoever looks for damage beforehand.
        let (_, damaged) = scrub_all(&Verifier::open(&path).unwrap()).await;
        let store = match SqliteStore::open(&path) {
            Ok(store) => store,
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt(_)), "bit {bit}: {error}");
                assert!(!damaged.is_empty(), "bit {bit}: refused, but the scrub finds nothing: {error}");
                refused += 1;
                continue;
            }
        };
        let after = answers(&*store, &uploads).await;
        let mut silent = silent(&before, &after);
        // What waits for its analysis is no answer to anyone: a damaged ECG is left out, and the scrub names it.
        silent.retain(|answer| damaged.is_empty() || !answer.starts_with("pending: "));
        let says = |(_, answer): &(String, Result<Answer, StoreError>)| {
            answer.as_ref().map_or(true, |answer| answer.damaged > 0)
        };
        if after.iter().any(says) {
            assert!(!damaged.is_empty(), "bit {bit}: an answer says damage, and the scrub finds nothing");
            assert!(silent.is_empty(), "bit {bit} (page {}): {silent:#?}", bit / 8 / PAGE + 1);
            read += 1;
        } else if !damaged.is_empty() {
            assert!(silent.is_empty(), "bit {bit} (page {}): {silent:#?} {damaged:?}", bit / 8 / PAGE + 1);
            scrubbed += 1;
        } else {
            assert!(silent.is_empty(), "bit {bit}: {silent:#?}");
            harmless += 1;
        }
    }
    println!(
        "refused at the start {refused}, on reading {read}, by the scrub {scrubbed}, harmless {harmless}"
    );
    assert!(read > 20, "most flips hit records: {read}");
}

fn tamper(path: &Path, sql: &str) {
    let changed = Connection::open(path).unwrap().execute(sql, []).unwrap();
    assert_eq!(changed, 1, "{sql}");
}

#[tokio::test]
async fn damaged_record_is_named_and_the_others_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    let uploads = fill(&*store).await;
    let newest = "(SELECT id FROM heart_rates WHERE mrn = 7 ORDER BY at DESC LIMIT 1)";
    tamper(&path, &format!("UPDATE heart_rates SET bpm = 32 WHERE mrn = 7 AND id = {newest}"));
    tamper(&path, "UPDATE patients SET version = 9 WHERE mrn = 8");
    let rates = store.heart_rates(mrn(7), first(100)).await.unwrap();
    let intact = store.heart_rates(mrn(3), first(100)).await.unwrap();
    assert_eq!(rates.items.len() + 1, intact.items.len());
    assert_eq!(rates.damaged.len(), 1);
    assert_eq!(rates.damaged[0].kind, RecordKind::HeartRate);
    assert!(rates.damaged[0].key.starts_with("mrn 7, at "), "{:?}", rates.damaged);
    // Entry by entry, a client comes to the end.
    let (mut page, mut seen) = (first(1), 0);
    loop {
        let found = store.heart_rates(mrn(7), page).await.unwrap();
        seen += found.items.len();
        page.after = found.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(seen, rates.items.len());

    let patients = store.patients(None, first(100)).await.unwrap();
    assert_eq!(patients.items.iter().map(|patient| patient.mrn.get()).collect::<Vec<_>>(), [3, 7, 4_000]);
    assert_eq!(patients.damaged[0].key, "mrn 8");
    let error = store.patient(mrn(8)).await.unwrap_err();
    assert_eq!(error.to_string(), "a stored patient is damaged: its checksum does not match");
    assert!(matches!(error, StoreError::Damaged(record) if record.key == "mrn 8"));
    // Its number is not damaged: a list that holds nothing else is complete, and its neighbours can be made.
    assert_eq!(store.mrns().await.unwrap().len(), 4);
    put(&*store, &upload(9, "another", 1).name("Bob")).await;
    // Nothing is written over what is damaged.
    let error = store.store_upload(&upload(8, "more", 1).name("Bob"), Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(get(&*store, key(&uploads[0], uploads[0].files[0].sha256)).await.unwrap().len(), 36);
}

#[tokio::test]
async fn damaged_key_does_not_hide_other_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = SqliteStore::open(&path).unwrap();
    fill(&*store).await;
    drop(store);
    tamper(&path, "UPDATE patients SET mrn = 15 WHERE mrn = 7");
    let store = SqliteStore::open(&path).unwrap();
    assert!(matches!(store.mrns().await, Err(StoreError::Damaged(_))));
    assert_eq!(store.patients(None, first(9)).await.unwrap().damaged.len(), 1);
    // 7 is not known any more, and 15 is no patient: neither is said.
    assert!(matches!(store.patient(mrn(15)).await, Err(StoreError::Damaged(_))));
    let error = store.store_upload(&upload(16, "beside", 1).name("Bob"), Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
}

async fn scrub_of_an_intact_store_counts_every_record_once(Fixture { store, .. }: Fixture) {
    let uploads = fill(&*store).await;
    let total = store.scrub_total().await.unwrap();
    // Patients, reported and analysed rates, ECGs, images, uploads, their files, and the files of the results.
    let images: usize = uploads.iter().map(|new| new.images.len()).sum();
    let (count, results) = (uploads.len(), uploads.len() * 6 / 8);
    let expected = 4 + (count + results) + count + images + count + (count + images) + 2 * results;
    assert_eq!(total, expected as u64);
    for records in [1, 7, 1000] {
        let (mut checked, mut position) = (0, None);
        loop {
            let step = store.scrub(position, records).await.unwrap();
            assert_eq!(step.damaged, Vec::<String>::new());
            checked += step.checked;
            position = step.next;
            if position.is_none() {
                break;
            }
        }
        assert_eq!(checked, total, "{records} at a time");
    }
}

async fn one_process_scrubs_at_a_time_and_the_next_continues(Fixture { store, .. }: Fixture) {
    fill(&*store).await;
    let (one, minute) = (Uuid::from_u128(1), Duration::from_secs(60));
    let begun = store.lease_scrub(one, minute).await.unwrap().unwrap();
    assert_eq!(begun, ScrubState::default());
    let step = store.scrub(None, 3).await.unwrap();
    let state = ScrubState { position: step.next, checked: step.checked, ..begun };
    store.save_scrub(one, &state).await.unwrap();
    assert_eq!(store.lease_scrub(one, Duration::ZERO).await.unwrap(), Some(state.clone()));
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The lease has ended.
    let other = Uuid::from_u128(2);
    assert_eq!(store.lease_scrub(other, minute).await.unwrap(), Some(state));
}

struct Tampered {
    store: Arc<MongoStore>,
    database: mongodb::Database,
    _server: Arc<testkit::MongoServer>,
}

impl Tampered {
    async fn start() -> Self {
        let server = shared_server();
        let name = server.fresh_database();
        let store = MongoStore::connect(MongoConfig::new(server.uri(), name.clone())).await.unwrap();
        store.ensure_indexes().await.unwrap();
        let client = mongodb::Client::with_uri_str(server.uri()).await.unwrap();
        Tampered { store, database: client.database(&name), _server: server }
    }

    async fn set(&self, collection: &str, which: Document, change: Document) {
        let collection = self.database.collection::<Document>(collection);
        let result = collection.update_one(which, doc! { "$set": change }).await.unwrap();
        assert_eq!(result.modified_count, 1);
    }

    async fn damaged(&self) -> Vec<String> {
        let (mut damaged, mut position) = (Vec::new(), None);
        loop {
            let step = self.store.scrub(position, 5).await.unwrap();
            damaged.extend(step.damaged);
            position = step.next;
            if position.is_none() {
                return damaged;
            }
        }
    }
}

#[tokio::test]
async fn damaged_document_is_named() {
    let tampered = Tampered::start().await;
    let store = &*tampered.store;
    let uploads = fill(store).await;
    assert_eq!(tampered.damaged().await, Vec::<String>::new());
    tampered.set("heart_rates", doc! { "mrn": 7_i64 }, doc! { "bpm": 32 }).await;
    tampered.set("patients", doc! { "_id": 8_i64 }, doc! { "name": "Pbtient 8" }).await;
    tampered.set("ecgs", doc! { "mrn": 4_000_i64 }, doc! { "plot.bytes": 5_i64 }).await;
    let file = uploads[0].files[0].sha256;
    let chunk = tampered.database.collection::<Document>("blobs.chunks");
    let name = format!("{}/{file}", uploads[0].id);
    let found = chunk.find_one(doc! { "files_id": name }).await.unwrap().unwrap();
    let changed = mongodb::bson::Binary {
        subtype: mongodb::bson::spec::BinarySubtype::Generic,
        bytes: vec![1; found.get_binary_generic("data").unwrap().len()],
    };
    let id = found.get("_id").cloned().unwrap();
    tampered.set("blobs.chunks", doc! { "_id": id }, doc! { "data": changed }).await;

    let rates = store.heart_rates(mrn(7), first(100)).await.unwrap();
    let intact = store.heart_rates(mrn(3), first(100)).await.unwrap();
    assert_eq!((rates.items.len() + 1, rates.damaged.len()), (intact.items.len(), 1));
    let patients =
        store.patients(None, PageRequest { after: None, limit: 9, include_errors: false }).await.unwrap();
    assert_eq!(patients.items.iter().map(|patient| patient.mrn.get()).collect::<Vec<_>>(), [3, 7, 4_000]);
    assert_eq!(patients.damaged[0].key, "_id 8");
    let error = store.patient(mrn(8)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(record) if record.key == "_id 8"), "{error}");
    let error = store.store_upload(&upload(8, "more", 1).name("Bob"), Vec::new()).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    assert_eq!(store.ecgs(mrn(4_000), first(100)).await.unwrap().damaged.len(), 1);
    let blob = store.blob(key(&uploads[0], file)).await.unwrap().unwrap();
    let read: Result<Vec<bytes::Bytes>, _> = futures::TryStreamExt::try_collect(blob.body).await;
    assert!(read.is_err());

    let damaged = tampered.damaged().await;
    assert_eq!(damaged.len(), 4, "{damaged:#?}");
}
