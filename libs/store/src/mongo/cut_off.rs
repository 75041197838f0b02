//! Deliveries that are cut off between two steps, and taken up again.

use futures::StreamExt;
use mongodb::bson::Document;
use proto_json::{
    BlobInfo, Bpm, EcgAnalysis, EcgQuality, EcgRate, EcgStatus, HashedBytes, HeartRateSource, MediaType,
    SignalOptions, UploadReceipt,
};
use testkit::MongoServer;

use crate::{NewEcg, NewHeartRate, NewImage};

use super::*;

struct Fixture {
    store: Arc<MongoStore>,
    _server: MongoServer,
}

impl Fixture {
    async fn start() -> Self {
        let server = MongoServer::start();
        let config = MongoConfig::new(server.uri(), server.fresh_database());
        let store = MongoStore::connect(config).await.unwrap();
        store.ensure_indexes().await.unwrap();
        Fixture { store, _server: server }
    }

    async fn put(&self, upload: &NewUpload) -> (UploadReceipt, PatientSummary) {
        match self.store.store_upload(upload, Vec::new()).await.unwrap() {
            UploadOutcome::Stored { receipt, patient, .. } => (receipt, *patient),
            UploadOutcome::Conflict => panic!("conflict"),
        }
    }

    async fn count<T: Send + Sync>(&self, collection: &Collection<T>) -> u64 {
        collection.count_documents(Document::new()).await.unwrap()
    }
}

fn blob(media_type: MediaType) -> BlobInfo {
    BlobInfo { sha256: BlobHash::of(b"x"), bytes: 1, media_type, file_name: None, width: None, height: None }
}

fn upload(mrn: u64, key: &str, name: &str) -> NewUpload {
    let id = UploadId::from_idempotency_key("", key);
    let at = Timestamp::from_millis(1_800_000_000_000).unwrap();
    NewUpload {
        id,
        fingerprint: BlobHash::of(key.as_bytes()),
        mrn: Mrn::new(mrn).unwrap(),
        uploaded_by: None,
        received_at: at,
        stored_at: at,
        name: Some(name.to_owned()),
        rename: proto_json::Rename::Confirmed,
        heart_rate: None,
        images: Vec::new(),
        ecgs: Vec::new(),
        files: Vec::new(),
    }
}

fn full_upload(mrn: u64, key: &str) -> NewUpload {
    let mut new = upload(mrn, key, "Ann");
    new.heart_rate = Some(NewHeartRate {
        id: new.id.record("heart_rate", 0),
        bpm: Bpm::new(60).unwrap(),
        recorded_at: Some(new.received_at.plus_millis(-1)),
        source: HeartRateSource::Reported,
        ecg_id: None,
    });
    for n in 0..2 {
        new.images.push(NewImage { id: new.id.record("image", n), file: blob(MediaType::Png) });
        new.ecgs.push(NewEcg {
            id: new.id.record("ecg", n),
            recorded_at: None,
            signal: Some(blob(MediaType::Csv)),
            options: SignalOptions::default(),
            picture: None,
            reported: None,
        });
    }
    new
}

fn analysed(new: &NewUpload) -> AnalysisResult {
    let analysis = EcgAnalysis {
        duration_s: 10.0,
        sample_rate_hz: 250.0,
        lead: None,
        heart_rate: Some(EcgRate { mean_bpm: 70.0, min_bpm: 70.0, max_bpm: 70.0 }),
        no_heart_rate_reason: None,
        rr: None,
        quality: EcgQuality::Good,
        beat_count: 12,
        notes: Vec::new(),
        warnings: Vec::new(),
        rows_used: 2500,
        rows_skipped: 0,
        first_skipped_lines: Vec::new(),
    };
    AnalysisResult {
        // The latest of the two.
        ecg_id: new.ecgs.iter().map(|ecg| ecg.id).max().unwrap(),
        from: new.origin(),
        mrn: new.mrn,
        stored_at: new.stored_at,
        outcome: Ok((analysis, blob(MediaType::Png), blob(MediaType::Json))),
    }
}

/// The first `steps` steps of storing an upload.
async fn cut_off(db: &Db, new: &NewUpload, steps: usize) {
    if steps == 0 {
        return;
    }
    let uploads::Claim::Ours(claim) = uploads::claim(db, new).await.unwrap() else {
        panic!("the id was taken");
    };
    if steps >= 2 {
        uploads::insert_history(db, new).await.unwrap();
    }
    if steps >= 3 {
        let applied = patients::apply_upload(db, new).await.unwrap();
        if steps >= 4 {
            uploads::complete(db, new, claim, &applied).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_upload_that_was_cut_off_anywhere_ends_as_if_it_was_not() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let whole = full_upload(100, "whole");
    let (expected, patient) = fixture.put(&whole).await;
    for steps in 0..=4 {
        let new = full_upload(steps as u64, &format!("cut {steps}"));
        cut_off(db, &new, steps).await;
        assert_eq!(fixture.store.upload(new.id).await.unwrap().is_some(), steps == 4);
        let (receipt, summary) = fixture.put(&new).await;
        assert_eq!(
            (receipt.patient_created, receipt.changed, receipt.version, summary.version, &summary.name),
            (expected.patient_created, expected.changed, expected.version, patient.version, &patient.name),
            "cut off after {steps} steps"
        );
        let page = PageRequest { after: None, limit: 9 };
        assert_eq!(fixture.store.images(new.mrn, page).await.unwrap().items.len(), 2);
        assert_eq!(fixture.store.ecgs(new.mrn, page).await.unwrap().items.len(), 2);
        assert_eq!(fixture.store.heart_rates(new.mrn, page).await.unwrap().items.len(), 1);
    }
}

#[tokio::test]
async fn an_upload_that_was_cut_off_has_its_receipt_also_after_others_came_between() {
    let fixture = Fixture::start().await;
    for steps in 1..=3 {
        let new = upload(steps as u64, &format!("cut {steps}"), "Ann");
        cut_off(&fixture.store.db, &new, steps).await;
        let (other, _) = fixture.put(&upload(steps as u64, &format!("between {steps}"), "Bob")).await;
        let (receipt, patient) = fixture.put(&new).await;
        let applied = steps == 3;
        assert_eq!(other.patient_created, !applied);
        assert_eq!((receipt.patient_created, receipt.changed), (applied, true));
        assert_eq!((receipt.version, patient.version), (if applied { 1 } else { 2 }, 2));
        // What came after the first try stays after it.
        assert_eq!(patient.name.as_deref(), Some(if applied { "Bob" } else { "Ann" }));
    }
}

#[tokio::test]
async fn a_result_that_was_cut_off_anywhere_is_completed_and_announced_once() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    for steps in 0..=3 {
        let new = full_upload(steps as u64, &format!("analysed {steps}"));
        fixture.put(&new).await;
        let result = analysed(&new);
        if steps >= 1 {
            let ecg = analyses::set_result(db, &result).await.unwrap().unwrap();
            if steps >= 2 {
                analyses::insert_history(db, &ecg).await.unwrap();
            }
            if steps >= 3 {
                analyses::update_patient(db, &ecg, result.stored_at).await.unwrap();
            }
            let later = Timestamp::from_millis(new.received_at.as_millis() + 1).unwrap();
            let pending = fixture.store.pending_ecgs(later, later, 99).await.unwrap();
            assert!(pending.iter().any(|ecg| ecg.id == result.ecg_id), "the reconciler sees it");
        }
        // The next delivery has another result: the first one counts.
        let other = AnalysisResult { outcome: Err("no".to_owned()), ..result.clone() };
        let again = if steps == 0 { &result } else { &other };
        let patient = fixture.store.store_analysis(again, Vec::new()).await.unwrap().unwrap();
        assert_eq!(patient.version, 2, "cut off after {steps} steps");
        assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 70);
        assert_eq!(patient.latest_ecg.unwrap().status, EcgStatus::Analyzed);
        let page = PageRequest { after: None, limit: 9 };
        assert_eq!(fixture.store.heart_rates(new.mrn, page).await.unwrap().items.len(), 2);
        assert_eq!(fixture.store.store_analysis(&result, Vec::new()).await.unwrap(), None);
        assert_eq!(fixture.store.patient(new.mrn).await.unwrap().unwrap().version, 2);
    }
}

/// The reconciler may issue a job for an ECG whose upload was cut off.
#[tokio::test]
async fn a_result_that_comes_before_its_upload_is_complete_is_not_lost() {
    let fixture = Fixture::start().await;
    // No patient yet: try again.
    let new = full_upload(1, "unknown patient");
    cut_off(&fixture.store.db, &new, 2).await;
    let result = analysed(&new);
    assert!(matches!(fixture.store.store_analysis(&result, Vec::new()).await, Err(StoreError::Refused(_))));
    fixture.put(&new).await;
    let patient = fixture.store.store_analysis(&result, Vec::new()).await.unwrap().unwrap();
    assert_eq!(patient.latest_ecg.unwrap().status, EcgStatus::Analyzed);
    // A patient of earlier uploads: the upload comes after the result and leaves it.
    let new = full_upload(1, "known patient");
    cut_off(&fixture.store.db, &new, 2).await;
    fixture.store.store_analysis(&analysed(&new), Vec::new()).await.unwrap().unwrap();
    let (receipt, patient) = fixture.put(&new).await;
    assert!(receipt.changed);
    let latest = patient.latest_ecg.unwrap();
    if latest.id == analysed(&new).ecg_id {
        assert_eq!(latest.status, EcgStatus::Analyzed);
    }
}

#[tokio::test]
async fn a_short_file_that_was_cut_off_is_completed_by_the_next_writer() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let content = bytes::Bytes::from(vec![1; 600_000]);
    let hash = BlobHash::of(&content);
    let from = upload(1, "files", "Ann").origin();
    blobs::insert_chunks(db, &blobs::id_of(from, hash).into(), 0, &content[..300_000]).await.unwrap();
    assert!(fixture.store.blob(hash).await.unwrap().is_none());
    let body = futures::stream::iter([Ok(content)]).boxed();
    fixture.store.put_blob(from, hash, 600_000, body).await.unwrap();
    assert_eq!((fixture.count(&db.chunks).await, fixture.count(&db.files).await), (3, 1));
}

#[tokio::test]
async fn what_is_left_of_a_long_file_is_swept_and_its_writer_cannot_go_on() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let mut writing = blobs::Writing::begin(db).await.unwrap();
    writing.add(&[1; 600_000]).await.unwrap();
    assert_eq!(blobs::sweep(db, Duration::from_secs(60)).await.unwrap(), 0, "it shows signs of life");
    assert_eq!(fixture.count(&db.chunks).await, 3);
    assert_eq!(fixture.store.sweep_cut_off_files(Duration::ZERO).await.unwrap(), 1);
    assert_eq!((fixture.count(&db.chunks).await, fixture.count(&db.writing).await), (0, 0));
    let error =
        writing.finish(upload(1, "files", "Ann").origin(), BlobHash::of(b"x"), 600_000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_eq!(fixture.count(&db.files).await, 0);
}

#[tokio::test]
async fn what_was_written_of_a_wrong_file_is_removed() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let from = upload(1, "files", "Ann").origin();
    let body = futures::stream::iter([Ok(bytes::Bytes::from(vec![1; 5_000_000]))]).boxed();
    fixture.store.put_blob(from, BlobHash::of(b"other"), 5_000_000, body).await.unwrap_err();
    // It is removed behind the caller's back.
    while fixture.count(&db.writing).await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((fixture.count(&db.chunks).await, fixture.count(&db.files).await), (0, 0));
}

/// A time after everything that was brought until now.
fn later() -> Timestamp {
    Timestamp::from_millis(Timestamp::now().as_millis() + 60_000).unwrap()
}

/// `upload`, received `hours` ago.
fn received(mut upload: NewUpload, hours: i64) -> NewUpload {
    upload.received_at = Timestamp::from_millis(Timestamp::now().as_millis() - hours * 3_600_000).unwrap();
    upload
}

#[tokio::test]
async fn chunks_of_an_upload_that_never_came_to_be_are_removed_and_those_of_its_retry_stay() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let content = vec![1; 600_000];
    let hash = BlobHash::of(&content);
    let first = received(upload(1, "a", "Ann"), 30);
    let retry = received(upload(1, "a", "Ann"), 1);
    for new in [&first, &retry] {
        let id = blobs::id_of(new.origin(), hash).into();
        blobs::insert_chunks(db, &id, 0, &content[..300_000]).await.unwrap();
    }
    let before = received(upload(1, "a", "Ann"), 24).received_at;
    let removed = fixture.store.remove_abandoned(first.id, hash, before).await.unwrap();
    assert_eq!((removed, fixture.count(&db.chunks).await), (Removal::Removed, 2));
    let again = fixture.store.remove_abandoned(first.id, hash, before).await.unwrap();
    assert_eq!((again, fixture.count(&db.chunks).await), (Removal::Kept, 2));
    // The delivery that began it comes too late, the retry does not.
    assert!(fixture.store.store_upload(&first, Vec::new()).await.is_err());
    assert!(fixture.store.upload(first.id).await.unwrap().is_none());
    let file = HashedBytes::of(content.into());
    fixture.store.store_upload(&retry, vec![file]).await.unwrap();
    assert_eq!(fixture.store.upload(first.id).await.unwrap().unwrap().receipt.received_at, retry.received_at);
    assert_eq!((fixture.count(&db.chunks).await, fixture.count(&db.files).await), (3, 1));
}

#[tokio::test]
async fn an_upload_that_is_stored_in_part_keeps_its_files() {
    let fixture = Fixture::start().await;
    let new = upload(1, "a", "Ann");
    let hash = BlobHash::of(b"x");
    let file = HashedBytes::of(bytes::Bytes::from_static(b"x"));
    blobs::put_files(&fixture.store.db, new.origin(), vec![file]).await.unwrap();
    cut_off(&fixture.store.db, &new, 1).await;
    assert_eq!(fixture.store.remove_abandoned(new.id, hash, later()).await.unwrap(), Removal::Kept);
    assert!(fixture.store.blob(hash).await.unwrap().is_some());
}

#[tokio::test]
async fn the_removal_of_a_file_that_was_cut_off_is_completed() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    let new = received(upload(1, "a", "Ann"), 30);
    for length in [300_000, 5_000_000] {
        let content = bytes::Bytes::from(vec![1; length]);
        let hash = BlobHash::of(&content);
        let body = futures::stream::iter([Ok(content)]).boxed();
        fixture.store.put_blob(new.origin(), hash, length as u64, body).await.unwrap();
        // Up to the removal of the files document.
        let file = db.files.find_one(doc! { "filename": hash.to_string() }).await.unwrap().unwrap();
        if let Some(id) = file.id.as_object_id() {
            blobs::bury(db, id).await.unwrap();
        }
        db.files.delete_one(doc! { "_id": file.id }).await.unwrap();
        assert!(fixture.count(&db.chunks).await > 0);
        fixture.store.remove_abandoned(new.id, hash, later()).await.unwrap();
        fixture.store.sweep_cut_off_files(Duration::ZERO).await.unwrap();
        assert_eq!((fixture.count(&db.chunks).await, fixture.count(&db.writing).await), (0, 0));
    }
}

#[tokio::test]
async fn of_two_uploads_that_bring_a_file_at_once_one_set_of_chunks_remains() {
    let fixture = Fixture::start().await;
    let db = &fixture.store.db;
    for round in 0..8 {
        let file = HashedBytes::of(vec![round; 300_000].into());
        let (one, other) = (upload(1, "a", "Ann"), upload(1, "b", "Ann"));
        let (first, second) = tokio::join!(
            blobs::put_files(db, one.origin(), vec![file.clone()]),
            blobs::put_files(db, other.origin(), vec![file.clone()]),
        );
        first.and(second).unwrap();
        for new in [one, other] {
            let removal = fixture.store.remove_abandoned(new.id, file.sha256(), later()).await.unwrap();
            assert_eq!(removal, Removal::Kept, "it is nobody's");
        }
        let expected = u64::from(round) + 1;
        assert_eq!(
            (fixture.count(&db.files).await, fixture.count(&db.chunks).await),
            (expected, 2 * expected)
        );
    }
}
