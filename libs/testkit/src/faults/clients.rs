//! Clients that upload through all faults and remember what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{ClientError, Gateway, Upload, UploadAnswer, UploadFile};
use ecg::synth::Random;
use proto_json::{BlobHash, FileKind, Mrn, Timestamp, UploadId};

use crate::material;

/// What a client was told of an upload in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It is stored.
    Stored(Option<UploadId>),
    /// It will be stored.
    Accepted(Option<UploadId>),
    /// It was refused, and nobody ever said or let believe anything else.
    Refused(String),
    /// No word, or no last word: stored once, or not at all.
    Nothing,
}

/// One upload, and what became of it as far as its sender knows.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// Whose.
    pub(super) mrn: Mrn,
    /// What is in it, each file unlike all others of the run.
    pub(super) files: Vec<(FileKind, BlobHash)>,
    /// What its sender was told.
    pub(super) told: Told,
    /// How often it was sent.
    pub(super) attempts: usize,
}

/// What all clients share.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    /// The gateway, as clients reach it.
    pub(super) gateway: Gateway,
    /// Its address, for what is sent without the client library.
    pub(super) url: String,
    /// How many uploads to begin in all.
    pub(super) uploads: usize,
    /// How many were begun.
    pub(super) begun: Arc<AtomicUsize>,
    /// Begin no more.
    pub(super) stop: Arc<AtomicBool>,
    /// Patients that uploads are dealt to.
    pub(super) patients: u64,
    /// Seed of the run.
    pub(super) seed: u64,
}

/// How often an upload is tried at most.
const PATIENCE: usize = 40;

/// Uploads one thing after the other until there are enough.
pub(super) async fn upload_all(orders: Orders, client: u64) -> Vec<Record> {
    let mut random = Random::new(orders.seed ^ (client << 32) ^ 0x5eed);
    let http = crate::http_client();
    let mut records = Vec::new();
    while !orders.stop.load(Ordering::Relaxed) {
        let number = orders.begun.fetch_add(1, Ordering::Relaxed);
        if number >= orders.uploads {
            break;
        }
        let unique = orders.seed.wrapping_mul(1_000_003) ^ ((client << 40) | number as u64);
        let mrn =
            Mrn::new(1_000 + (random.uniform() * orders.patients as f64) as u64).expect("a small number");
        let record = match (random.uniform() * 10.0) as u32 {
            0 => documented(&http, &orders.url, mrn, unique).await,
            // One in ten gives up early: then nobody knows, and it must be there once or not at all.
            1 => through_the_api(&orders.gateway, mrn, unique, 1, &mut random).await,
            _ => through_the_api(&orders.gateway, mrn, unique, PATIENCE, &mut random).await,
        };
        records.push(record);
    }
    records
}

/// Begins `count` uploads at once that do not wait until they are stored.
pub(super) async fn flood(orders: &Orders, count: u64, salt: u64) -> Vec<Record> {
    let all = (0..count).map(|number| {
        let gateway = orders.gateway.clone();
        let unique = orders.seed.wrapping_mul(999_983) ^ (salt << 24) ^ (number << 1) ^ (1 << 63);
        let mrn = Mrn::new(1_000 + number % orders.patients).expect("a small number");
        async move {
            let (kind, bytes) = (FileKind::MedicalImage, material::jpeg(16, unique));
            let files = vec![(kind, BlobHash::of(&bytes))];
            let mut upload = Upload::of(vec![UploadFile::from_bytes(kind, "flood.jpg", bytes)]);
            upload.respond_async = true;
            send(&gateway, mrn, &upload, files, 1, Duration::ZERO).await
        }
    });
    futures::future::join_all(all).await
}

async fn through_the_api(
    gateway: &Gateway,
    mrn: Mrn,
    unique: u64,
    patience: usize,
    random: &mut Random,
) -> Record {
    let mut files = vec![(FileKind::MedicalImage, "image.jpg", material::jpeg(40, unique))];
    if random.uniform() < 0.6 {
        files.push((
            FileKind::Ecg,
            "strip.csv",
            material::strip_csv(60.0 + (unique % 60) as f64, 5.0, unique),
        ));
    }
    if random.uniform() < 0.2 {
        files.push((FileKind::MedicalImage, "second.png", material::png(20, unique)));
    }
    let hashes = files.iter().map(|(kind, _, bytes)| (*kind, BlobHash::of(bytes))).collect();
    let files =
        files.into_iter().map(|(kind, name, bytes)| UploadFile::from_bytes(kind, name, bytes)).collect();
    let mut upload = Upload::of(files);
    if random.uniform() < 0.3 {
        upload.name = Some(format!("Name {}", unique % 7));
        upload.rename = true;
    }
    // Clocks go wrong: by up to a year, either way.
    if random.uniform() < 0.3 {
        let off = ((random.uniform() * 2.0 - 1.0) * 365.0 * 86_400e3) as i64;
        upload.recorded_at = Timestamp::from_millis(Timestamp::now().as_millis() + off).ok();
    }
    upload.respond_async = random.uniform() < 0.2;
    send(gateway, mrn, &upload, hashes, patience, Duration::from_millis(50)).await
}

async fn send(
    gateway: &Gateway,
    mrn: Mrn,
    upload: &Upload,
    files: Vec<(FileKind, BlobHash)>,
    patience: usize,
    first_wait: Duration,
) -> Record {
    let mut wait = first_wait;
    let mut doubtful = false;
    let mut attempts = 0;
    let told = loop {
        attempts += 1;
        match gateway.upload(mrn, upload, |_| {}).await {
            Ok(UploadAnswer::Stored(receipt)) => break Told::Stored(Some(receipt.upload_id)),
            Ok(UploadAnswer::Accepted(received)) => break Told::Accepted(Some(received.upload_id)),
            Err(error) => {
                // Also after "not now": the word that it is queued may have been lost on its way to the gateway.
                doubtful |= !matches!(error, ClientError::Refused(_));
                if !error.is_transient() || attempts >= patience {
                    break if doubtful { Told::Nothing } else { Told::Refused(error.to_string()) };
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(800));
            }
        }
    };
    Record { mrn, files, told, attempts }
}

/// As existing clients do it: JSON with base64, no key, no second attempt.
async fn documented(http: &reqwest::Client, url: &str, mrn: Mrn, unique: u64) -> Record {
    let (image, picture) = (material::jpeg(24, unique), material::png(24, unique ^ 0xabcd));
    let files =
        vec![(FileKind::MedicalImage, BlobHash::of(&image)), (FileKind::EcgImage, BlobHash::of(&picture))];
    let body = serde_json::json!({
        "medical_record_number": mrn.get(),
        "medical_image": STANDARD.encode(image),
        "ecg_image": STANDARD.encode(picture),
        "hr": 50 + unique % 100,
    });
    let sent =
        http.post(format!("{url}/api/new_patient")).json(&body).timeout(Duration::from_secs(30)).send().await;
    let told = match sent.map(|answer| answer.status().as_u16()) {
        Ok(200) => Told::Stored(None),
        Ok(202) => Told::Accepted(None),
        Ok(status @ 400..500) => Told::Refused(status.to_string()),
        Ok(_) | Err(_) => Told::Nothing,
    };
    Record { mrn, files, told, attempts: 1 }
}
