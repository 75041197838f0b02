//! Clients that upload during faults and record the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::{ClientError, Gateway, Upload, UploadAnswer, UploadFile};
use ecg::synth::Random;
use proto_json::{BlobHash, FileKind, Mrn, Timestamp, UploadId};

use crate::test_data;

/// The final answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is stored.
    Stored(Option<UploadId>),
    /// It will be stored.
    Accepted(Option<UploadId>),
    /// It was rejected by every attempt: it must not be stored.
    Refused(String),
    /// No definite answer: it may be stored once or not at all.
    Nothing,
}

/// An upload and its final answer.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The patient.
    pub(super) mrn: Mrn,
    /// Its files. No two files of a run have the same bytes.
    pub(super) files: Vec<(FileKind, BlobHash)>,
    /// The final answer.
    pub(super) answer: Answer,
    /// Number of attempts.
    pub(super) attempts: usize,
}

/// Settings that all clients share.
#[derive(Debug, Clone)]
pub(super) struct ClientSettings {
    /// The gateway, through the proxy.
    pub(super) gateway: Gateway,
    /// Its address, for requests without the client library.
    pub(super) url: String,
    /// Maximum number of uploads.
    pub(super) uploads: usize,
    /// Number of started uploads.
    pub(super) started: Arc<AtomicUsize>,
    /// Set when no more uploads are to be started.
    pub(super) stop: Arc<AtomicBool>,
    /// Number of patients.
    pub(super) patients: u64,
    /// Seed of the run.
    pub(super) seed: u64,
}

/// Maximum number of attempts.
const MAX_ATTEMPTS: usize = 40;

/// Uploads one after another until `stop` is set.
pub(super) async fn upload_all(settings: ClientSettings, client: u64) -> Vec<Record> {
    let mut random = Random::new(settings.seed ^ (client << 32) ^ 0x5eed);
    let http = crate::http_client();
    let mut records = Vec::new();
    while !settings.stop.load(Ordering::Relaxed) {
        let number = settings.started.fetch_add(1, Ordering::Relaxed);
        if number >= settings.uploads {
            break;
        }
        let unique = settings.seed.wrapping_mul(1_000_003) ^ ((client << 40) | number as u64);
        let mrn =
            Mrn::new(1_000 + (random.uniform() * settings.patients as f64) as u64).expect("a small number");
        let record = match (random.uniform() * 10.0) as u32 {
            0 => through_the_legacy_api(&http, &settings.url, mrn, unique).await,
            // One in ten does not retry: its upload may be stored once or not at all.
            1 => through_the_api(&settings.gateway, mrn, unique, 1, &mut random).await,
            _ => through_the_api(&settings.gateway, mrn, unique, MAX_ATTEMPTS, &mut random).await,
        };
        records.push(record);
    }
    records
}

/// Starts `count` uploads concurrently. They do not wait until they are stored.
pub(super) async fn flood(settings: &ClientSettings, count: u64, salt: u64) -> Vec<Record> {
    let all = (0..count).map(|number| {
        let gateway = settings.gateway.clone();
        let unique = settings.seed.wrapping_mul(999_983) ^ (salt << 24) ^ (number << 1) ^ (1 << 63);
        let mrn = Mrn::new(1_000 + number % settings.patients).expect("a small number");
        async move {
            let (kind, bytes) = (FileKind::MedicalImage, test_data::jpeg(16, unique));
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
    max_attempts: usize,
    random: &mut Random,
) -> Record {
    let mut files = vec![(FileKind::MedicalImage, "image.jpg", test_data::jpeg(40, unique))];
    if random.uniform() < 0.6 {
        files.push((
            FileKind::Ecg,
            "strip.csv",
            test_data::strip_csv(60.0 + (unique % 60) as f64, 5.0, unique),
        ));
    }
    if random.uniform() < 0.2 {
        files.push((FileKind::MedicalImage, "second.png", test_data::png(20, unique)));
    }
    let hashes = files.iter().map(|(kind, _, bytes)| (*kind, BlobHash::of(bytes))).collect();
    let files =
        files.into_iter().map(|(kind, name, bytes)| UploadFile::from_bytes(kind, name, bytes)).collect();
    let mut upload = Upload::of(files);
    if random.uniform() < 0.3 {
        upload.name = Some(format!("Name {}", unique % 7));
        upload.rename = true;
    }
    // Some clocks are wrong by up to a year in either direction.
    if random.uniform() < 0.3 {
        let off = ((random.uniform() * 2.0 - 1.0) * 365.0 * 86_400e3) as i64;
        upload.recorded_at = Timestamp::from_millis(Timestamp::now().as_millis() + off).ok();
    }
    upload.respond_async = random.uniform() < 0.2;
    send(gateway, mrn, &upload, hashes, max_attempts, Duration::from_millis(50)).await
}

async fn send(
    gateway: &Gateway,
    mrn: Mrn,
    upload: &Upload,
    files: Vec<(FileKind, BlobHash)>,
    max_attempts: usize,
    first_wait: Duration,
) -> Record {
    let mut wait = first_wait;
    let mut may_be_queued = false;
    let mut attempts = 0;
    let answer = loop {
        attempts += 1;
        match gateway.upload(mrn, upload, |_| {}).await {
            Ok(UploadAnswer::Stored(receipt)) => break Answer::Stored(Some(receipt.upload_id)),
            Ok(UploadAnswer::Accepted(received)) => break Answer::Accepted(Some(received.upload_id)),
            Err(error) => {
                // Also after a 503: the gateway may have lost the broker's acknowledgement.
                may_be_queued |= !matches!(error, ClientError::Refused(_));
                if !error.is_transient() || attempts >= max_attempts {
                    break if may_be_queued { Answer::Nothing } else { Answer::Refused(error.to_string()) };
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(800));
            }
        }
    };
    Record { mrn, files, answer, attempts }
}

/// Uploads through the legacy API: JSON with base64, without a key, without retries.
async fn through_the_legacy_api(http: &reqwest::Client, url: &str, mrn: Mrn, unique: u64) -> Record {
    let (image, picture) = (test_data::jpeg(24, unique), test_data::png(24, unique ^ 0xabcd));
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
    let answer = match sent.map(|answer| answer.status().as_u16()) {
        Ok(200) => Answer::Stored(None),
        Ok(202) => Answer::Accepted(None),
        Ok(status @ 400..500) => Answer::Refused(status.to_string()),
        Ok(_) | Err(_) => Answer::Nothing,
    };
    Record { mrn, files, answer, attempts: 1 }
}
