//! Stores an upload.

use std::sync::Arc;

use bus::{Delivery, Outcome, StagingKey};
use futures::future;
use proto_json::{
    AnalyzeEcg, BlobHash, Change, ChangeKind, EcgStatus, FileKind, HeartRateSource, PatientUpdated, Receipt,
    RecordId, StagedFile, StoredFile, Timestamp, UploadReceipt, UploadReceived,
};
use runtime::trace;
use store::{BlobKey, NewEcg, NewHeartRate, NewImage, NewUpload, UploadOutcome};

use crate::blobs::{self, MoveError};
use crate::{Ports, clock, corrections, failed, publish};

/// Processes one delivery of the upload queue.
pub(crate) async fn take(ports: &Ports, delivery: &Arc<Delivery>) -> Outcome {
    let upload: UploadReceived = match delivery.message() {
        Ok(upload) => upload,
        Err(error) => return Outcome::Never(error.to_string()),
    };
    match store(ports, delivery, &upload).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn store(ports: &Ports, delivery: &Delivery, upload: &UploadReceived) -> Result<(), Outcome> {
    let id = upload.upload_id;
    trace::about_upload(id);
    // The first delivery of a generated id is rarely a duplicate (a cluster of brokers may store a message twice), so it is
    // not looked up. Storing it again is harmless.
    if (delivery.deliveries > 1 || id.is_from_key())
        && let Some(stored) = ports.store.upload(id).await.map_err(failed)?
    {
        let same = stored.fingerprint == upload.fingerprint && stored.addressed_to == upload.mrn;
        return if same {
            repeat(ports, delivery, upload, stored.receipt).await
        } else {
            refuse(ports, delivery, upload).await
        };
    }
    let files = match blobs::take(ports, delivery, id, hashes(upload, |_| true)).await {
        Ok(files) => files,
        Err(MoveError::Failed(outcome)) => return Err(outcome),
        Err(MoveError::NotStaged) => {
            // Another delivery of the same upload may have been completed meanwhile.
            let stored = ports.store.upload(id).await.map_err(failed)?;
            return match stored {
                Some(stored) if stored.fingerprint == upload.fingerprint => {
                    repeat(ports, delivery, upload, stored.receipt).await
                }
                // An erasure has removed its files.
                None if is_erased(ports, upload).await? => drop_erased(ports, delivery, upload).await,
                _ => Err(Outcome::Retry("a file of the upload is not staged".to_owned())),
            };
        }
    };
    match ports.store.store_upload(&new_upload(upload), files).await.map_err(failed)? {
        UploadOutcome::Conflict => refuse(ports, delivery, upload).await,
        UploadOutcome::Erased => drop_erased(ports, delivery, upload).await,
        UploadOutcome::Stored { receipt, replayed: true, .. } => {
            repeat(ports, delivery, upload, receipt).await
        }
        UploadOutcome::Stored { receipt, patient, replayed: false } => {
            // The client does not wait for the jobs: they are sent now or after a redelivery.
            let published = async {
                let changes = changes(upload, &receipt);
                if !changes.is_empty() {
                    let update =
                        PatientUpdated { upload_id: Some(id), changes, patient: *patient, sent_at: None };
                    publish(&*ports.bus.pubsub, update, delivery.trace_parent.as_deref()).await;
                }
                answer(ports, delivery, &Receipt::Stored(receipt)).await;
            };
            let jobs = signals(upload).map(|file| job(upload, file)).collect();
            let ((), sent) = tokio::join!(published, send_jobs(ports, delivery, jobs));
            sent?;
            metrics::counter!("bedside_uploads_stored_total").increment(1);
            let waited = Timestamp::now().millis_since(upload.received_at);
            metrics::histogram!("bedside_upload_stored_seconds").record(waited as f64 / 1000.0);
            tracing::info!(upload_id = %id, files = upload.files.len(), deliveries = delivery.deliveries, "upload stored");
            // The signals stay for the workers until their results are in.
            blobs::unstage(delivery, id, hashes(upload, |file| file.kind != FileKind::Ecg)).await;
            Ok(())
        }
    }
}

/// Handles an upload that was stored before. The steps after the transaction may not have been completed, so they are
/// repeated: jobs of ECGs that are still pending, published change, receipt, removal of staged files.
async fn repeat(
    ports: &Ports,
    delivery: &Delivery,
    upload: &UploadReceived,
    receipt: UploadReceipt,
) -> Result<(), Outcome> {
    let id = upload.upload_id;
    let mut pending = Vec::new();
    for job in signals(upload).map(|file| job(upload, file)).collect::<Vec<_>>() {
        let ecg = ports.store.ecg(job.ecg_id).await.map_err(failed)?;
        if ecg.is_some_and(|ecg| ecg.status == EcgStatus::Pending) {
            restage(ports, &job).await?;
            pending.push(job);
        }
    }
    let needed: Vec<_> = pending.iter().map(|job| job.signal.sha256).collect();
    send_jobs(ports, delivery, pending).await?;
    if let Some(patient) = ports.store.patient(receipt.mrn).await.map_err(failed)? {
        let changes = changes(upload, &receipt);
        let update = PatientUpdated { upload_id: Some(id), changes, patient, sent_at: None };
        publish(&*ports.bus.pubsub, update, delivery.trace_parent.as_deref()).await;
    }
    tracing::info!(upload_id = %id, deliveries = delivery.deliveries, "upload was stored before");
    answer(ports, delivery, &Receipt::Stored(receipt)).await;
    blobs::unstage(delivery, id, hashes(upload, |file| !needed.contains(&file.blob.sha256))).await;
    Ok(())
}

/// Handles an upload whose id belongs to another stored upload. The reconciler removes its staged files, and the sweep those
/// that were stored before it was refused.
async fn refuse(ports: &Ports, delivery: &Delivery, upload: &UploadReceived) -> Result<(), Outcome> {
    tracing::warn!(upload_id = %upload.upload_id, "another upload was stored under this id before");
    answer(ports, delivery, &Receipt::Conflict { upload_id: upload.upload_id }).await;
    Ok(())
}

/// Drops an upload whose patient was erased, with all of its files.
async fn drop_erased(ports: &Ports, delivery: &Delivery, upload: &UploadReceived) -> Result<(), Outcome> {
    let id = upload.upload_id;
    ports.corrections.discard_files(id).await.map_err(failed)?;
    tracing::info!(upload_id = %id, "an upload of an erased patient was dropped");
    answer(ports, delivery, &Receipt::Erased { upload_id: id }).await;
    blobs::unstage(delivery, id, hashes(upload, |_| true)).await;
    corrections::clean_up_later(ports, upload.mrn);
    Ok(())
}

async fn is_erased(ports: &Ports, upload: &UploadReceived) -> Result<bool, Outcome> {
    let erased = corrections::is_erased(ports, Some(upload.mrn), upload.upload_id).await;
    erased.map_err(Outcome::Defer)
}

/// Stages the signal of a job again from the store, if it is no longer staged.
pub(crate) async fn restage(ports: &Ports, job: &AnalyzeEcg) -> Result<(), Outcome> {
    let key = StagingKey { upload: job.upload_id, sha256: job.signal.sha256 };
    let staged = ports.bus.staging.get(key).await.map_err(failed)?;
    if staged.is_some() {
        return Ok(());
    }
    let stored = BlobKey { upload: key.upload, sha256: key.sha256 };
    let blob = ports.files.blob(stored).await.map_err(failed)?;
    let blob = blob.ok_or_else(|| Outcome::Retry("the signal of an ECG is not in the store".to_owned()))?;
    ports.bus.staging.put(key, blob.bytes, blob.body).await.map_err(failed)
}

async fn send_jobs(ports: &Ports, delivery: &Delivery, jobs: Vec<AnalyzeEcg>) -> Result<(), Outcome> {
    let parent = delivery.trace_parent.as_deref();
    let sends = jobs.iter().map(|job| trace::send(&*ports.bus.queue, job, None, parent));
    future::try_join_all(sends).await.map_err(failed)?;
    Ok(())
}

async fn answer(ports: &Ports, delivery: &Delivery, receipt: &Receipt) {
    if let Some(reply_to) = &delivery.reply_to
        && let Err(error) = ports.bus.replies.send_receipt(reply_to, receipt).await
    {
        // The gateway answers 202 then, which is correct.
        tracing::warn!(error = %error, "a receipt was not sent");
    }
}

/// The first of each set of equal files in an upload, with its index. Equal files are one record.
fn distinct(upload: &UploadReceived) -> impl Iterator<Item = (usize, &StagedFile)> {
    upload.files.iter().enumerate().filter(|(index, file)| first_equal(upload, file) == *index)
}

fn first_equal(upload: &UploadReceived, file: &StagedFile) -> usize {
    let equal = |other: &StagedFile| other.kind == file.kind && other.blob.sha256 == file.blob.sha256;
    upload.files.iter().position(equal).unwrap_or_default()
}

/// The raw ECGs of an upload.
fn signals(upload: &UploadReceived) -> impl Iterator<Item = &StagedFile> {
    distinct(upload).map(|(_, file)| file).filter(|file| file.kind == FileKind::Ecg)
}

/// Hashes of the files that `select` selects.
fn hashes(upload: &UploadReceived, select: impl Fn(&StagedFile) -> bool) -> Vec<BlobHash> {
    upload.files.iter().filter(|file| select(file)).map(|file| file.blob.sha256).collect()
}

/// The id of the record of a file.
fn record_id(upload: &UploadReceived, file: &StagedFile) -> RecordId {
    let kind = match file.kind {
        FileKind::MedicalImage => "image",
        FileKind::EcgImage | FileKind::Ecg => "ecg",
    };
    upload.upload_id.record(kind, first_equal(upload, file))
}

fn job(upload: &UploadReceived, file: &StagedFile) -> AnalyzeEcg {
    AnalyzeEcg {
        ecg_id: record_id(upload, file),
        upload_id: upload.upload_id,
        mrn: upload.mrn,
        received_at: upload.received_at,
        recorded_at: upload.recorded_at,
        signal: file.blob.clone(),
        options: upload.signal_options.clone(),
    }
}

fn new_upload(upload: &UploadReceived) -> NewUpload {
    let id = upload.upload_id;
    let recorded_at = upload.recorded_at;
    let mut images = Vec::new();
    let mut ecgs: Vec<NewEcg> = Vec::new();
    // A reported rate belongs to the first picture of the upload.
    let mut pictured = None;
    let files = upload.files.iter().map(|file| StoredFile {
        id: record_id(upload, file),
        kind: file.kind,
        sha256: file.blob.sha256,
        file_name: file.blob.file_name.clone(),
    });
    for (_, file) in distinct(upload) {
        let record = record_id(upload, file);
        let blob = file.blob.clone();
        let ecg = NewEcg {
            id: record,
            recorded_at,
            signal: None,
            options: upload.signal_options.clone(),
            picture: None,
            reported: None,
        };
        match file.kind {
            FileKind::MedicalImage => images.push(NewImage { id: record, file: blob }),
            FileKind::Ecg => ecgs.push(NewEcg { signal: Some(blob), ..ecg }),
            FileKind::EcgImage => {
                let first = pictured.is_none();
                pictured = pictured.or(Some(record));
                let reported = upload.heart_rate.filter(|_| first);
                ecgs.push(NewEcg { picture: Some(blob), reported, ..ecg });
            }
        }
    }
    NewUpload {
        id,
        fingerprint: upload.fingerprint,
        mrn: upload.mrn,
        uploaded_by: upload.uploaded_by.clone(),
        received_at: upload.received_at,
        stored_at: clock::stored_now(),
        name: upload.name.clone(),
        rename: upload.rename,
        heart_rate: upload.heart_rate.map(|bpm| NewHeartRate {
            id: id.record("heart_rate", 0),
            bpm,
            recorded_at,
            source: HeartRateSource::Reported,
            ecg_id: pictured,
        }),
        images,
        ecgs,
        files: files.collect(),
    }
}

fn changes(upload: &UploadReceived, receipt: &UploadReceipt) -> Vec<Change> {
    let mut changes = Vec::new();
    if receipt.patient_created {
        changes.push(Change { kind: ChangeKind::PatientCreated, id: None });
    }
    if receipt.name_kept {
        changes.push(Change { kind: ChangeKind::NameKept, id: None });
    } else if upload.name.is_some() && receipt.changed {
        changes.push(Change { kind: ChangeKind::Name, id: None });
    }
    if let Some(id) = receipt.heart_rate {
        changes.push(Change { kind: ChangeKind::HeartRate, id: Some(id) });
    }
    changes.extend(distinct(upload).map(|(_, file)| Change {
        kind: if file.kind == FileKind::MedicalImage { ChangeKind::Image } else { ChangeKind::Ecg },
        id: Some(record_id(upload, file)),
    }));
    changes
}
