//! The latest values of a patient after records have come, gone or were marked.

use proto_json::{
    EcgRecord, HeartRateRecord, ImageRecord, LatestEcg, LatestHeartRate, LatestImage, PatientSummary,
    Timestamp,
};

use crate::records::{Latest, latest_ecg, latest_heart_rate, order};

use super::transaction::Transaction;

/// Newest records that are read to find the latest one.
pub(crate) const NEWEST: usize = 20;

/// Computes the latest values of a patient from its history, increases the version and stores the patient.
pub(crate) async fn refresh<T: Transaction>(
    tx: &mut T,
    mut patient: PatientSummary,
    now: Timestamp,
) -> Result<PatientSummary, T::Error> {
    let rates = tx.newest_rates(patient.mrn).await?;
    let ecgs = tx.newest_ecgs(patient.mrn).await?;
    let images = tx.newest_images(patient.mrn).await?;
    apply(&mut patient, &rates, &ecgs, &images, now);
    patient.version += 1;
    patient.updated_at = patient.updated_at.max(now);
    tx.put_patient(&patient).await?;
    Ok(patient)
}

fn apply(
    patient: &mut PatientSummary,
    rates: &[HeartRateRecord],
    ecgs: &[EcgRecord],
    images: &[ImageRecord],
    now: Timestamp,
) {
    let rate = |rate: &HeartRateRecord| latest_heart_rate(rate);
    let found = rates.iter().map(rate).collect::<Vec<LatestHeartRate>>();
    patient.latest_heart_rate = select(patient.latest_heart_rate.take(), found, now);
    let found = ecgs.iter().map(latest_ecg).collect::<Vec<LatestEcg>>();
    patient.latest_ecg = select(patient.latest_ecg.take(), found, now);
    let found = images.iter().map(latest_image).collect::<Vec<LatestImage>>();
    patient.latest_image = select(patient.latest_image.take(), found, now);
}

fn latest_image(image: &ImageRecord) -> LatestImage {
    LatestImage {
        id: image.id,
        at: image.at,
        media_type: image.file.media_type,
        file_name: image.file.file_name.clone(),
        upload_version: 0,
        clock_wrong: false,
    }
}

/// The latest of the records, which are sorted newest first. The present one stays if it is among them and none is newer. The
/// version of the upload of another one is not known; any later upload comes after it.
fn select<L: Latest>(present: Option<L>, mut found: Vec<L>, now: Timestamp) -> Option<L> {
    let is_trusted = |latest: &L| !latest.rank().at.is_in_future_of(now);
    let best = found.iter().position(is_trusted).unwrap_or(0);
    let present = present.filter(|present| found.iter().any(|one| one.rank().id == present.rank().id));
    if found.is_empty() {
        return None;
    }
    let mut best = found.swap_remove(best);
    if !is_trusted(&best) {
        best.set_clock_wrong();
    }
    match present {
        Some(present) if order(best.rank(), present.rank(), now).is_le() => Some(present),
        _ => Some(best),
    }
}
