//! Simulated patients, so that a newcomer sees a living system at once. They upload through the gateway as every client
//! does; their names and numbers say that they are not real.

mod cast;
mod phantom;

use std::time::Duration;

use client::{ClientError, Gateway, Upload, UploadFile};
use proto_json::{FileKind, Mrn, Timestamp};
use runtime::{Backoff, Shutdown};

use cast::Patient;

/// Time between two strips of a patient at first, while somebody looks at it for the first time.
const LIVELY: Duration = Duration::from_secs(6);
/// And later on: about 2 GB of strips and pictures a day in all. Still below the age at which a monitor calls a value
/// stale.
const CALM: Duration = Duration::from_secs(25);
/// How long "at first" is, in strips.
const LIVELY_STRIPS: u64 = 150;

/// Plays all patients until the shutdown begins.
pub(crate) async fn run(gateway: Gateway, shutdown: Shutdown) {
    let cast = cast::all();
    tracing::info!(patients = cast.len(), "simulated patients begin to send");
    let count = u32::try_from(cast.len().max(1)).unwrap_or(u32::MAX);
    let mut patients = tokio::task::JoinSet::new();
    for (index, patient) in (0..).zip(cast) {
        // One after the other, not all in the same moment.
        let delay = LIVELY * index / count;
        let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
        patients.spawn(async move { shutdown.unless_begun(play(gateway, patient, delay)).await });
    }
    patients.join_all().await;
}

/// Sends strip after strip; a strip that the gateway does not take is given up for a fresh one.
async fn play(gateway: Gateway, patient: Patient, delay: Duration) {
    tokio::time::sleep(delay).await;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let started = u64::try_from(Timestamp::now().as_millis()).unwrap_or(0);
    let mut introduced = false;
    let mut strips = 0;
    loop {
        match send(&gateway, &patient, strips, started, !introduced).await {
            Ok(()) => {
                introduced = true;
                strips += 1;
                backoff.reset();
                tokio::time::sleep(if strips < LIVELY_STRIPS { LIVELY } else { CALM }).await;
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

async fn send(
    gateway: &Gateway,
    patient: &Patient,
    strip: u64,
    started: u64,
    first: bool,
) -> Result<(), ClientError> {
    let mut settings = (patient.strip)(strip);
    // Another run of the program sends other strips.
    settings.seed = started.wrapping_mul(31).wrapping_add(patient.mrn.wrapping_mul(1009)).wrapping_add(strip);
    let image_seed = (first && patient.has_image).then_some(patient.mrn);
    let made = tokio::task::spawn_blocking(move || {
        let csv = ecg::synth::csv(&ecg::synth::generate(&settings).strip);
        (csv, image_seed.and_then(phantom::png))
    });
    let Ok((csv, image)) = made.await else { return Ok(()) };
    let mut files =
        vec![UploadFile::from_bytes(FileKind::Ecg, format!("simulated-{}-{strip}.csv", patient.mrn), csv)];
    files.extend(
        image.map(|png| UploadFile::from_bytes(FileKind::MedicalImage, "simulated-phantom.png", png)),
    );
    let upload = Upload {
        name: first.then(|| patient.name.to_owned()),
        recorded_at: Some(Timestamp::now()),
        ..Upload::of(files)
    };
    let mrn = Mrn::new(patient.mrn).map_err(|error| ClientError::Settings(error.to_string()))?;
    gateway.upload(mrn, &upload, |_| {}).await.map(drop)
}
