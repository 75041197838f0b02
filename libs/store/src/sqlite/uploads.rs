//! Storing an upload, and the result of an analysis: each one transaction, with the small files that belong to it.

use proto_json::name_key;
use proto_json::{
    BlobHash, EcgRecord, EcgStatus, FormerName, HashedBytes, HeartRateRecord, Mrn, PatientSummary,
    SignalOptions, Timestamp, UploadReceipt,
};
use rusqlite::{Connection, params};

use crate::records::{self, Newest};
use crate::{AnalysisResult, NewUpload, StoreError, UploadOutcome};

use super::blobs::{self, BlobNumber};
use super::failure::broken;
use super::{lists, rows};

/// Everything of an upload; its files only if it is not stored yet.
pub(super) fn store(
    connection: &Connection,
    upload: &NewUpload,
    files: &[(BlobNumber, HashedBytes)],
) -> Result<UploadOutcome, StoreError> {
    if let Some(known) = lists::upload(connection, upload.id)? {
        if known.fingerprint != upload.fingerprint || known.receipt.mrn != upload.mrn {
            return Ok(UploadOutcome::Conflict);
        }
        let patient = lists::patient(connection, upload.mrn)?
            .ok_or_else(|| StoreError::Corrupt(format!("upload {} has no patient", upload.id)))?;
        let receipt = known.receipt;
        return Ok(UploadOutcome::Stored { receipt, patient: Box::new(patient), replayed: true });
    }
    insert_files(connection, files, upload.files.iter().map(|file| file.sha256))?;
    insert_records(connection, upload)?;
    let (receipt, patient) = update_patient(connection, upload)?;
    rows::UPLOADS.insert(
        connection,
        params![
            upload.id.as_uuid().as_bytes(),
            rows::number(upload.mrn),
            upload.fingerprint.as_bytes(),
            upload.stored_at.as_millis(),
            rows::json(&receipt)?,
            upload.uploaded_by,
        ],
    )?;
    Ok(UploadOutcome::Stored { receipt, patient: Box::new(patient), replayed: false })
}

/// The result of an analysis; `None` if the ECG is unknown or has one already.
pub(super) fn store_analysis(
    connection: &Connection,
    result: &AnalysisResult,
    files: &[(BlobNumber, HashedBytes)],
) -> Result<Option<PatientSummary>, StoreError> {
    let Some(ecg) = lists::ecg(connection, result.ecg_id)? else { return Ok(None) };
    if ecg.mrn != result.mrn || ecg.status != EcgStatus::Pending {
        return Ok(None);
    }
    let referred = result.outcome.iter().flat_map(|(_, plot, detail)| [plot.sha256, detail.sha256]);
    insert_files(connection, files, referred)?;
    let ecg = result.apply(ecg);
    put_ecg(connection, &ecg, None)?;
    let rate = records::heart_rate_of(&ecg);
    if let Some(rate) = &rate {
        insert_heart_rate(connection, rate)?;
    }
    let mut patient = lists::patient(connection, ecg.mrn)?
        .ok_or_else(|| StoreError::Corrupt(format!("ECG {} has no patient", ecg.id)))?;
    let upload_version = lists::upload(connection, ecg.upload_id)?.map_or(0, |upload| upload.receipt.version);
    Newest::of_analysis(&ecg, upload_version, result.stored_at).enter(&mut patient, result.stored_at);
    patient.version += 1;
    patient.updated_at = patient.updated_at.max(result.stored_at);
    write_patient(connection, &patient)?;
    Ok(Some(patient))
}

/// The files that come with a record. Refuses a record that refers to a file which is not there.
fn insert_files(
    connection: &Connection,
    files: &[(BlobNumber, HashedBytes)],
    mut referred: impl Iterator<Item = BlobHash>,
) -> Result<(), StoreError> {
    for (number, file) in files {
        blobs::insert_whole(connection, *number, None, file.sha256(), file.bytes())?;
    }
    referred.try_for_each(|sha256| {
        if blobs::refer(connection, sha256)? {
            Ok(())
        } else {
            Err(StoreError::refused("a file that a record refers to is not there; store it again"))
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
            ],
        )?;
    }
    Ok(())
}

/// Writes an ECG. It has `options` while it waits for its analysis.
fn put_ecg(
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

fn insert_heart_rate(connection: &Connection, rate: &HeartRateRecord) -> Result<(), StoreError> {
    let values = params![
        rows::number(rate.mrn),
        rate.at.as_millis(),
        rate.id.as_uuid().as_bytes(),
        rate.bpm.get(),
        rows::json(&rate.source)?,
        rate.ecg_id.as_ref().map(|id| id.as_uuid().as_bytes()),
        rate.received_at.map(Timestamp::as_millis),
        rate.recorded_at.map(Timestamp::as_millis),
    ];
    Ok(rows::HEART_RATES.insert(connection, values)?)
}

fn insert_former_name(connection: &Connection, mrn: Mrn, former: &FormerName) -> Result<(), StoreError> {
    let values = params![
        rows::number(mrn),
        former.replaced_at.as_millis(),
        former.upload_id.as_uuid().as_bytes(),
        former.name,
        former.confirmed,
    ];
    Ok(rows::FORMER_NAMES.insert(connection, values)?)
}

fn update_patient(
    connection: &Connection,
    upload: &NewUpload,
) -> Result<(UploadReceipt, PatientSummary), StoreError> {
    let known = lists::patient(connection, upload.mrn)?;
    let created = known.is_none();
    let mut patient = known.unwrap_or(PatientSummary {
        mrn: upload.mrn,
        name: None,
        version: 0,
        created_at: upload.stored_at,
        updated_at: upload.stored_at,
        latest_heart_rate: None,
        latest_ecg: None,
        latest_image: None,
        renamed: None,
    });
    let name = upload.apply_name(&mut patient);
    if let Some(former) = upload.former_name(&name) {
        insert_former_name(connection, upload.mrn, &former)?;
    }
    let changed = name.changed || upload.brings_records();
    // An upload that brings a record always counts as a change.
    upload.newest().of_upload(patient.version + 1).enter(&mut patient, upload.stored_at);
    if created || changed {
        patient.version += 1;
        patient.updated_at = patient.updated_at.max(upload.stored_at);
        write_patient(connection, &patient)?;
    }
    Ok((upload.receipt(created, changed, name.kept, patient.version), patient))
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
    ];
    Ok(rows::PATIENTS.put(connection, values)?)
}
