//! Storing an upload or the result of an analysis: one transaction with its small files.

use proto_json::{
    BlobHash, EcgRecord, EcgStatus, FormerName, HashedBytes, HeartRateRecord, Mrn, PatientSummary,
    SignalOptions, Timestamp, UploadId, name_key,
};
use rusqlite::{Connection, params};

use crate::records;
use crate::{AnalysisResult, BlobKey, NewUpload, StoreError, UploadOutcome};

use super::blobs::{self, BlobNumber};
use super::failure::broken;
use super::{corrections, lists, rows};

/// Stores an upload with its files, unless it is stored already.
pub(super) fn store(
    connection: &Connection,
    upload: &NewUpload,
    files: &[(BlobNumber, HashedBytes)],
) -> Result<UploadOutcome, StoreError> {
    if let Some(known) = lists::upload(connection, upload.id)? {
        if known.fingerprint != upload.fingerprint || known.addressed_to != upload.mrn {
            return Ok(UploadOutcome::Conflict);
        }
        let patient = lists::patient(connection, known.receipt.mrn)?
            .ok_or_else(|| StoreError::Corrupt(format!("upload {} has no patient", upload.id)))?;
        let receipt = known.receipt;
        return Ok(UploadOutcome::Stored { receipt, patient: Box::new(patient), replayed: true });
    }
    let addressed_to = upload.mrn;
    let Some(mrn) = corrections::receiver(connection, upload.id, addressed_to)? else {
        return Ok(UploadOutcome::Erased);
    };
    let upload = &NewUpload { mrn, ..upload.clone() };
    insert_files(connection, upload.id, files, upload.files.iter().map(|file| file.sha256))?;
    insert_records(connection, upload)?;
    let applied = upload.apply(lists::patient(connection, upload.mrn)?);
    if let Some(former) = &applied.former_name {
        insert_former_name(connection, upload.mrn, former)?;
    }
    if applied.is_changed {
        write_patient(connection, &applied.patient)?;
    }
    rows::UPLOADS.insert(
        connection,
        params![
            upload.id.as_uuid().as_bytes(),
            rows::number(upload.mrn),
            upload.fingerprint.as_bytes(),
            upload.stored_at.as_millis(),
            rows::json(&applied.receipt)?,
            upload.uploaded_by,
            (addressed_to != mrn).then(|| rows::number(addressed_to)),
        ],
    )?;
    let patient = Box::new(applied.patient);
    Ok(UploadOutcome::Stored { receipt: applied.receipt, patient, replayed: false })
}

/// Newest heart rates that are read to find another latest one.
const NEWEST_RATES: usize = 20;

/// Stores the result of an analysis; `None` if the ECG is unknown or has a result of the same or a later version.
pub(super) fn store_analysis(
    connection: &Connection,
    result: &AnalysisResult,
    files: &[(BlobNumber, HashedBytes)],
) -> Result<Option<PatientSummary>, StoreError> {
    let Some(ecg) = lists::ecg(connection, result.ecg_id)? else { return Ok(None) };
    // The ECG may have been moved to another patient meanwhile.
    if ecg.upload_id != result.upload_id || !result.replaces_result_of(&ecg) {
        return Ok(None);
    }
    // While a merge is running, the ECG may still have the number that was given up.
    let Some(owner) = corrections::receiver(connection, ecg.upload_id, ecg.mrn)? else { return Ok(None) };
    let former = (ecg.status != EcgStatus::Pending).then(|| ecg.clone());
    let referred = result.outcome.iter().flat_map(|(_, plot, detail)| [plot.sha256, detail.sha256]);
    insert_files(connection, result.upload_id, files, referred)?;
    let ecg = result.apply(ecg);
    put_ecg(connection, &ecg, None)?;
    if former.is_some() {
        let rate = ecg.id.derived("heart_rate");
        let delete = "DELETE FROM heart_rates WHERE mrn = ?1 AND at = ?2 AND id = ?3";
        connection.prepare_cached(delete)?.execute(params![
            rows::number(ecg.mrn),
            ecg.at.as_millis(),
            rate.as_uuid().as_bytes(),
        ])?;
    }
    let others = match former {
        Some(_) => lists::heart_rates(connection, (owner, None, NEWEST_RATES, false))?.items,
        None => Vec::new(),
    };
    let rate = records::heart_rate_of(&ecg);
    if let Some(rate) = &rate {
        insert_heart_rate(connection, rate)?;
    }
    let mut patient = lists::patient(connection, owner)?
        .ok_or_else(|| StoreError::Corrupt(format!("ECG {} has no patient", ecg.id)))?;
    let upload = lists::upload(connection, ecg.upload_id)?;
    let upload_version = upload.as_ref().map_or(0, |upload| upload.receipt.version);
    match &former {
        None => result.apply_to_patient(&ecg, upload_version, &mut patient),
        Some(former) => {
            let files = upload.map(|upload| upload.receipt.files).unwrap_or_default();
            let mut siblings = Vec::new();
            for file in files.iter().filter(|file| file.id != ecg.id) {
                siblings.extend(lists::ecg(connection, file.id)?);
            }
            for sha256 in
                records::released_files(former, &ecg, &siblings, files.iter().map(|file| file.sha256))
            {
                blobs::release(connection, BlobKey { upload: ecg.upload_id, sha256 })?;
            }
            result.replace_in_patient(&ecg, upload_version, &others, &mut patient);
        }
    }
    write_patient(connection, &patient)?;
    Ok(Some(patient))
}

/// Inserts the files of a record, and marks those that exist as referenced. Refuses a record that refers to a file that is
/// not stored.
fn insert_files(
    connection: &Connection,
    upload: UploadId,
    files: &[(BlobNumber, HashedBytes)],
    mut referenced: impl Iterator<Item = BlobHash>,
) -> Result<(), StoreError> {
    for (number, file) in files {
        let key = BlobKey { upload, sha256: file.sha256() };
        if !blobs::mark_referenced(connection, key)? {
            blobs::insert_whole(connection, *number, key, true, file.bytes())?;
        }
    }
    referenced.try_for_each(|sha256| {
        if blobs::mark_referenced(connection, BlobKey { upload, sha256 })? {
            Ok(())
        } else {
            Err(StoreError::refused("a file that a record refers to is not stored; store it again"))
        }
    })
}

fn insert_records(connection: &Connection, upload: &NewUpload) -> Result<(), StoreError> {
    if let Some(rate) = upload.heart_rate_record() {
        insert_heart_rate(connection, &rate)?;
    }
    for ecg in upload.ecg_records() {
        let pending = ecg.record.status == EcgStatus::Pending;
        put_ecg(connection, &ecg.record, pending.then_some(&ecg.options))?;
    }
    for image in upload.image_records() {
        rows::IMAGES.insert(
            connection,
            params![
                rows::number(image.mrn),
                image.at.as_millis(),
                image.id.as_uuid().as_bytes(),
                image.upload_id.as_uuid().as_bytes(),
                rows::json(&image.file)?,
                rows::optional_json(image.entered_in_error.as_ref())?,
            ],
        )?;
    }
    Ok(())
}

/// Writes an ECG. It has `options` only while it is pending.
pub(super) fn put_ecg(
    connection: &Connection,
    ecg: &EcgRecord,
    options: Option<&SignalOptions>,
) -> Result<(), StoreError> {
    let values = params![
        rows::number(ecg.mrn),
        ecg.at.as_millis(),
        ecg.id.as_uuid().as_bytes(),
        ecg.received_at.as_millis(),
        options.is_some(),
        rows::json(ecg)?,
        rows::optional_json(options)?,
    ];
    Ok(rows::ECGS.put(connection, values)?)
}

pub(super) fn insert_heart_rate(connection: &Connection, rate: &HeartRateRecord) -> Result<(), StoreError> {
    let values = params![
        rows::number(rate.mrn),
        rate.at.as_millis(),
        rate.id.as_uuid().as_bytes(),
        rate.bpm.get(),
        rows::json(&rate.source)?,
        rate.ecg_id.as_ref().map(|id| id.as_uuid().as_bytes()),
        rate.received_at.map(Timestamp::as_millis),
        rate.recorded_at.map(Timestamp::as_millis),
        rows::optional_json(rate.entered_in_error.as_ref())?,
    ];
    Ok(rows::HEART_RATES.insert(connection, values)?)
}

pub(super) fn insert_former_name(
    connection: &Connection,
    mrn: Mrn,
    former: &FormerName,
) -> Result<(), StoreError> {
    let values = params![
        rows::number(mrn),
        former.replaced_at.as_millis(),
        former.upload_id.as_uuid().as_bytes(),
        former.name,
        former.confirmed,
    ];
    Ok(rows::FORMER_NAMES.insert(connection, values)?)
}

pub(super) fn write_patient(connection: &Connection, patient: &PatientSummary) -> Result<(), StoreError> {
    let values = params![
        rows::number(patient.mrn),
        patient.name,
        patient.name.as_deref().map(name_key),
        i64::try_from(patient.version).map_err(|error| broken("version", error))?,
        patient.created_at.as_millis(),
        patient.updated_at.as_millis(),
        rows::optional_json(patient.latest_heart_rate.as_ref())?,
        rows::optional_json(patient.latest_ecg.as_ref())?,
        rows::optional_json(patient.latest_image.as_ref())?,
        rows::optional_json(patient.renamed.as_ref())?,
        rows::optional_json(patient.admission.as_ref())?,
        rows::optional_json(patient.details.as_ref())?,
    ];
    Ok(rows::PATIENTS.put(connection, values)?)
}
