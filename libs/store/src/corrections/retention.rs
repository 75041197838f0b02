//! Retention: removes old data of one kind, patient by patient.

use std::collections::HashSet;

use proto_json::{
    BlobHash, EcgRecord, Mrn, PatientSummary, RetentionBody, RetentionKind, RetentionReport, Timestamp,
    UploadId,
};

use crate::BlobKey;
use crate::waveforms::micros;

use super::latest::refresh;
use super::records_of;
use super::transaction::Transaction;

/// Records of one transaction.
const BATCH: usize = 50;
/// Parts of waveforms of one transaction.
const PARTS: usize = 64;
/// Most records that a dry run counts for one patient.
const COUNT: usize = 100_000;
/// Streams of a patient that one call examines; more than a patient has in years.
const STREAMS: usize = 1_000;
/// Patients of one call of the port.
pub(crate) const PATIENTS: usize = 20;
/// Transactions of one call of the port.
pub(crate) const TRANSACTIONS: usize = 200;

/// Result of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// Number of records that were removed, or that would be.
    pub(crate) records: u64,
    /// Nothing was removed because of a legal hold.
    pub(crate) is_held: bool,
    /// More may be left.
    pub(crate) more: bool,
    /// The patient, if it changed.
    pub(crate) patient: Option<PatientSummary>,
}

/// Removes or counts old data of a patient.
pub(crate) async fn retain<T: Transaction>(
    tx: &mut T,
    kind: RetentionKind,
    mrn: Mrn,
    before: Timestamp,
    now: Option<Timestamp>,
) -> Result<Retained, T::Error> {
    let limit = if now.is_some() { BATCH } else { COUNT };
    let is_held = tx.is_held(mrn).await?;
    let delete = now.is_some() && !is_held;
    let mut found = 0;
    match kind {
        RetentionKind::HeartRates => {
            for rate in tx.old_rates(mrn, before, limit).await? {
                found += 1;
                if delete {
                    tx.delete_rate(&rate).await?;
                }
            }
        }
        RetentionKind::Ecgs => {
            for ecg in tx.old_ecgs(mrn, before, limit).await? {
                found += 1;
                if delete {
                    tx.delete_ecg(ecg.id).await?;
                    release_unused(tx, ecg.upload_id, files_of(&ecg)).await?;
                }
            }
        }
        RetentionKind::Images => {
            for image in tx.old_images(mrn, before, limit).await? {
                found += 1;
                if delete {
                    tx.delete_image(image.id).await?;
                    release_unused(tx, image.upload_id, vec![image.file.sha256]).await?;
                }
            }
        }
        RetentionKind::Waveforms => {
            let limit = if now.is_some() { PARTS } else { COUNT };
            for stream in tx.streams_of(mrn, STREAMS).await? {
                if found >= limit {
                    break;
                }
                let parts = tx.old_parts(&stream, micros(before), limit - found, delete).await?;
                found += usize::try_from(parts).unwrap_or(usize::MAX);
            }
            let more = delete && found >= limit;
            return Ok(Retained { records: found as u64, is_held, more, patient: None });
        }
        // These are not part of the summary of the patient.
        RetentionKind::Alarms | RetentionKind::Admissions => {
            let found = match kind {
                RetentionKind::Alarms => tx.old_alarms(mrn, before, limit, delete).await?,
                _ => tx.old_stays(mrn, before, limit, delete).await?,
            };
            let more = delete && found == limit;
            return Ok(Retained { records: found as u64, is_held, more, patient: None });
        }
    }
    let mut patient = None;
    if let Some(now) = now.filter(|_| delete && found > 0)
        && let Some(known) = tx.patient(mrn).await?
    {
        patient = Some(refresh(tx, known, now).await?);
    }
    Ok(Retained { records: found as u64, is_held, more: delete && found == limit, patient })
}

fn files_of(ecg: &EcgRecord) -> Vec<BlobHash> {
    [&ecg.signal, &ecg.plot, &ecg.detail].into_iter().flatten().map(|file| file.sha256).collect()
}

/// Releases those of the files that no record of the upload refers to any more.
async fn release_unused<T: Transaction>(
    tx: &mut T,
    upload: UploadId,
    files: Vec<BlobHash>,
) -> Result<(), T::Error> {
    let mut used: HashSet<BlobHash> = HashSet::new();
    if let Some(stored) = tx.upload(upload).await? {
        for (id, _) in records_of(&stored.receipt) {
            if let Some(ecg) = tx.ecg(id).await? {
                used.extend(files_of(&ecg));
            }
            used.extend(tx.image(id).await?.map(|image| image.file.sha256));
        }
    }
    for sha256 in files {
        if !used.contains(&sha256) {
            tx.release_file(BlobKey { upload, sha256 }).await?;
        }
    }
    Ok(())
}

/// Progress of one call of the port.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The time of the change; `None` for a dry run.
    pub(crate) apply: Option<Timestamp>,
    /// The last patient that is complete.
    pub(crate) last: Option<Mrn>,
    pub(crate) transactions: usize,
    report: RetentionReport,
    changed: Vec<PatientSummary>,
    /// Records of the present patient.
    records: u64,
    latest: Option<PatientSummary>,
}

impl Progress {
    pub(crate) fn new(rule: RetentionBody, now: Timestamp) -> Self {
        Progress {
            apply: (!rule.dry_run).then_some(now),
            last: rule.after,
            transactions: 0,
            report: RetentionReport { records: 0, patients: 0, held: 0, next: None },
            changed: Vec::new(),
            records: 0,
            latest: None,
        }
    }

    /// Adds the result of a transaction on a patient. Returns whether the patient needs another one.
    pub(crate) fn add(&mut self, mrn: Mrn, done: Retained) -> bool {
        self.transactions += 1;
        self.latest = done.patient.or(self.latest.take());
        if done.is_held {
            self.report.held += u64::from(done.records > 0);
        } else {
            self.records += done.records;
        }
        if done.more {
            return true;
        }
        self.report.records += self.records;
        self.report.patients += u64::from(self.records > 0);
        self.records = 0;
        self.changed.extend(self.latest.take());
        self.last = Some(mrn);
        false
    }

    /// Whether the call ends. `more`: further patients follow those that were read.
    pub(crate) fn is_complete(&mut self, more: bool) -> bool {
        if self.transactions >= TRANSACTIONS {
            self.report.next = self.last;
            return true;
        }
        !more
    }

    pub(crate) fn finish(self) -> (RetentionReport, Vec<PatientSummary>) {
        (self.report, self.changed)
    }
}
