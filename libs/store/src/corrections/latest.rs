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

/// The latest of the records, which are sorted newest first. The present one stays if it is among them and none is newer; its
/// content is that of the record, which may have been analysed meanwhile. The version of the upload of another one is not known;
/// any later upload comes after it.
fn select<L: Latest>(present: Option<L>, mut found: Vec<L>, now: Timestamp) -> Option<L> {
    if let Some(rank) = present.map(|present| present.rank())
        && let Some(same) = found.iter_mut().find(|one| one.rank().id == rank.id)
    {
        same.set_upload_version(rank.upload_version);
        if rank.clock_wrong {
            same.set_clock_wrong();
        }
        let rank = same.rank();
        let newest = best(&found, now)?;
        let newest_rank = found.get(newest)?.rank();
        let is_newer = order(newest_rank, rank, now).is_gt();
        let index = if is_newer { newest } else { found.iter().position(|one| one.rank().id == rank.id)? };
        return marked(found.swap_remove(index), now);
    }
    let newest = best(&found, now)?;
    marked(found.swap_remove(newest), now)
}

/// The first record whose time is not in the future, or the first one.
fn best<L: Latest>(found: &[L], now: Timestamp) -> Option<usize> {
    let trusted = found.iter().position(|latest| !latest.rank().at.is_in_future_of(now));
    trusted.or((!found.is_empty()).then_some(0))
}

/// Marks a record whose time is in the future.
fn marked<L: Latest>(mut latest: L, now: Timestamp) -> Option<L> {
    if latest.rank().at.is_in_future_of(now) {
        latest.set_clock_wrong();
    }
    Some(latest)
}
