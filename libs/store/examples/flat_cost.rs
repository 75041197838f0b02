//! Does the 5,000th upload of a patient cost what the first one did? Measures both adapters and prints a table.
//!
//! `cargo run --release -p bedside-store --example flat_cost [uploads]`

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing else to do than to say so")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto_json::{
    BlobHash, BlobInfo, Bpm, HashedBytes, HeartRateSource, MediaType, Mrn, SignalOptions, Timestamp, UploadId,
};
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::{AnalysisResult, NewEcg, NewHeartRate, NewImage, NewUpload, PageRequest, PatientWriter};
use testkit::MongoServer;

/// Measured calls of each operation.
const CALLS: u64 = 100;

fn upload(mrn: u64, n: u64) -> NewUpload {
    let id = UploadId::generate();
    let at = Timestamp::from_millis(1_800_000_000_000 + n as i64 * 1000).unwrap();
    let file = |media_type| BlobInfo {
        sha256: BlobHash::of(&n.to_le_bytes()),
        bytes: 25_000,
        media_type,
        file_name: Some("file".to_owned()),
        width: None,
        height: None,
    };
    NewUpload {
        id,
        fingerprint: BlobHash::of(b"x"),
        mrn: Mrn::new(mrn).unwrap(),
        uploaded_by: None,
        received_at: at,
        stored_at: at,
        name: Some("Ann".to_owned()),
        rename: proto_json::Rename::Confirmed,
        heart_rate: Some(NewHeartRate {
            id: id.record("heart_rate", 0),
            bpm: Bpm::new(70).unwrap(),
            recorded_at: Some(at),
            source: HeartRateSource::Reported,
            ecg_id: None,
        }),
        images: vec![NewImage { id: id.record("image", 0), file: file(MediaType::Jpeg) }],
        ecgs: vec![NewEcg {
            id: id.record("ecg", 0),
            recorded_at: None,
            signal: Some(file(MediaType::Csv)),
            options: SignalOptions::default(),
            picture: None,
            reported: None,
        }],
        files: Vec::new(),
    }
}

async fn store_one(store: &dyn PatientWriter, mrn: u64, n: u64) -> (Duration, Duration) {
    let new = upload(mrn, n);
    let bytes = Bytes::copy_from_slice(&n.to_le_bytes());
    let start = Instant::now();
    store.store_upload(&new, vec![HashedBytes::of(bytes)]).await.unwrap();
    let stored = start.elapsed();
    let outcome = Err("measured".to_owned());
    let result = AnalysisResult {
        ecg_id: new.ecgs[0].id,
        upload_id: new.id,
        mrn: new.mrn,
        stored_at: new.stored_at,
        outcome,
    };
    let start = Instant::now();
    store.store_analysis(&result, Vec::new()).await.unwrap();
    (stored, start.elapsed())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

async fn measure(store: &dyn PatientWriter, mrn: u64, earlier: u64) {
    let patient = Mrn::new(mrn).unwrap();
    let page = PageRequest { after: None, limit: 50, include_errors: false };
    let mut times: [Vec<Duration>; 6] = Default::default();
    for n in 0..CALLS {
        let start = Instant::now();
        store.patient(patient).await.unwrap();
        times[2].push(start.elapsed());
        for (time, read) in (3..).zip(["ecgs", "heart_rates", "images"]) {
            let start = Instant::now();
            match read {
                "ecgs" => drop(store.ecgs(patient, page).await.unwrap()),
                "heart_rates" => drop(store.heart_rates(patient, page).await.unwrap()),
                _ => drop(store.images(patient, page).await.unwrap()),
            }
            times[time].push(start.elapsed());
        }
        let (stored, analysed) = store_one(store, mrn, earlier + n).await;
        times[0].push(stored);
        times[1].push(analysed);
    }
    let figures: Vec<_> = times.into_iter().map(|times| format!("{:11.2}", median(times))).collect();
    println!("{earlier:8} {}", figures.join(" "));
}

async fn run(name: &str, store: Arc<dyn PatientWriter>, uploads: u64) {
    println!("{name}: median of {CALLS} calls in ms, by earlier uploads of that patient; pages of 50");
    println!(" earlier      upload    analysis     summary        ecgs heart rates      images");
    let start = Instant::now();
    // Pages are full in both measurements.
    for (mrn, earlier) in [(1, 50), (2, uploads)] {
        for n in 0..earlier {
            store_one(&*store, mrn, n).await;
        }
    }
    println!(
        "   (filled at {:.0} uploads/s, one after the other)",
        (50 + uploads) as f64 / start.elapsed().as_secs_f64()
    );
    for (mrn, earlier) in [(1, 50), (2, uploads), (1, 150), (2, uploads + CALLS)] {
        measure(&*store, mrn, earlier).await;
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS unknown").to_owned()
}

#[tokio::main]
async fn main() {
    let uploads = std::env::args().nth(1).map_or(5000, |number| number.parse().unwrap());
    println!("{} at the start", resident());
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    run("SQLite", store, uploads).await;
    println!("{} after SQLite", resident());
    let server = MongoServer::start();
    let config = MongoConfig::new(server.uri(), server.fresh_database());
    let store = MongoStore::connect(config).await.unwrap();
    store.ensure_indexes().await.unwrap();
    run("MongoDB", store, uploads).await;
    println!("{} after MongoDB", resident());
}
