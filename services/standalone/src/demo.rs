//! Simulated patients for demonstrations. They upload through the gateway like every other client. Their
//! names and record numbers mark them as simulated.

mod phantom;
mod scenarios;

use std::time::Duration;

use client::{ClientError, Gateway, Upload, UploadFile};
use proto_json::{FileKind, Mrn, Timestamp};
use runtime::{Backoff, Shutdown};

use scenarios::Patient;

/// Interval between the first strips of a patient.
const FIRST_INTERVAL: Duration = Duration::from_secs(6);
/// Interval between later strips. All patients together then produce about 2 GB per day. The interval is
/// shorter than the age at which a monitor marks a value as stale.
const LATER_INTERVAL: Duration = Duration::from_secs(25);
/// Number of strips with the first interval.
const FIRST_STRIPS: u64 = 150;

/// Returns the number of simulated patients.
pub(crate) fn patient_count() -> usize {
    scenarios::all().len()
}

/// Simulates all patients until the shutdown begins.
pub(crate) async fn run(gateway: Gateway, shutdown: Shutdown) {
    let all = scenarios::all();
    tracing::info!(patients = all.len(), "simulated patients start to send");
    let count = u32::try_from(all.len().max(1)).unwrap_or(u32::MAX);
    let mut patients = tokio::task::JoinSet::new();
    for (index, patient) in (0..).zip(all) {
        // Distributes the patients over the interval.
        let delay = FIRST_INTERVAL * index / count;
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        patients.spawn(async move { shutdown.unless_begun(simulate(gateway, patient, delay)).await });
    }
    patients.join_all().await;
}

/// Sends one strip after the other. A strip that cannot be uploaded is replaced by a new one.
async fn simulate(gateway: Gateway, patient: Patient, delay: Duration) {
    tokio::time::sleep(delay).await;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let started = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
    let mut is_first = true;
    let mut strips = 0;
    loop {
        match send(&gateway, &patient, strips, started, is_first).await {
            Ok(()) => {
                is_first = false;
                strips += 1;
                backoff.reset();
                let interval = if strips < FIRST_STRIPS { FIRST_INTERVAL } else { LATER_INTERVAL };
                tokio::time::sleep(interval).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a simulated upload failed");
                let wait = match &error {
                    ClientError::Busy { retry_after, .. } => retry_after.unwrap_or_default(),
                    _ => Duration::ZERO,
                };
                tokio::time::sleep(wait.max(backoff.next_wait())).await;
            }
        }
    }
}

/// Sends one strip. The first upload of a patient also has the name and, for some patients, an image.
async fn send(
    gateway: &Gateway,
    patient: &Patient,
    strip: u64,
    started: u64,
    is_first: bool,
) -> Result<(), ClientError> {
    let mut settings = (patient.strip)(strip);
    // Each run of the program sends different strips.
    settings.seed = started.wrapping_mul(31).wrapping_add(patient.mrn.wrapping_mul(1009)).wrapping_add(strip);
    let image_seed = (is_first && patient.has_image).then_some(patient.mrn);
    let generated = tokio::task::spawn_blocking(move || {
        let csv = ecg::synth::csv(&ecg::synth::generate(&settings).strip);
        (csv, image_seed.and_then(phantom::png))
    });
    let Ok((csv, image)) = generated.await else { return Ok(()) };
    let mut files =
        vec![UploadFile::from_bytes(FileKind::Ecg, format!("simulated-{}-{strip}.csv", patient.mrn), csv)];
    files.extend(
        image.map(|png| UploadFile::from_bytes(FileKind::MedicalImage, "simulated-phantom.png", png)),
    );
    let upload = Upload {
        name: is_first.then(|| patient.name.to_owned()),
        recorded_at: Some(Timestamp::now()),
        ..Upload::of(files)
    };
    let mrn = Mrn::new(patient.mrn).map_err(|error| ClientError::Settings(error.to_string()))?;
    gateway.upload(mrn, &upload, |_| {}).await.map(drop)
}
