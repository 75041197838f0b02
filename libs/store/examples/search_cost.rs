//! What does a search for patients cost? Measures both adapters and prints a table.
//!
//! `cargo run --release -p bedside-store --example search_cost [patients]`

#![allow(clippy::unwrap_used, reason = "a measurement that fails has nothing else to do than to say so")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use proto_json::{BlobHash, Mrn, Rename, Timestamp, UploadId};
use store::mongo::{MongoConfig, MongoStore};
use store::sqlite::SqliteStore;
use store::{NewUpload, PageRequest, PatientWriter};
use testkit::MongoServer;

/// Measured calls of each search.
const CALLS: usize = 20;

fn patient(number: u64) -> NewUpload {
    let at = Timestamp::from_millis(1_800_000_000_000).unwrap();
    NewUpload {
        id: UploadId::generate(),
        fingerprint: BlobHash::of(&number.to_le_bytes()),
        mrn: Mrn::new(number).unwrap(),
        uploaded_by: None,
        received_at: at,
        stored_at: at,
        name: Some(format!("Patient Number {number:07}")),
        rename: Rename::Confirmed,
        heart_rate: None,
        images: Vec::new(),
        ecgs: Vec::new(),
        files: Vec::new(),
    }
}

async fn run(name: &str, store: Arc<dyn PatientWriter>, patients: u64) {
    let filling = stream::iter(1..=patients).map(|number| {
        let store = Arc::clone(&store);
        async move { store.store_upload(&patient(number), Vec::new()).await.unwrap() }
    });
    filling.buffer_unordered(32).for_each(|_| async {}).await;
    println!("{name}: median of {CALLS} searches among {patients} patients, pages of 50");
    let last = format!("{patients:07}");
    for (what, query) in [
        ("no search", None),
        ("a name that all have", Some("number")),
        ("the name of the last patient", Some(last.as_str())),
        ("a name that no patient has", Some("zzz")),
    ] {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let start = Instant::now();
            store
                .patients(query, PageRequest { after: None, limit: 50, include_errors: false })
                .await
                .unwrap();
            times.push(start.elapsed());
        }
        times.sort_unstable();
        println!("{:8.2} ms  {what}", median(&times).as_secs_f64() * 1e3);
    }
}

fn median(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() / 2]
}

#[tokio::main]
async fn main() {
    let patients = std::env::args().nth(1).map_or(10_000, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    run("SQLite", SqliteStore::open(&folder.path().join("store.db")).unwrap(), patients).await;
    let server = MongoServer::start();
    let config = MongoConfig::new(server.uri(), server.fresh_database());
    let store = MongoStore::connect(config).await.unwrap();
    store.ensure_indexes().await.unwrap();
    run("MongoDB", store, patients).await;
}
