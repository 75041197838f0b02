//! The further transactions of merges, their undoing and erasures. Each does a bounded part, and nothing that a former one has
//! done: so a correction can be continued at any point, by anyone.

use proto_json::{CorrectionAction, CorrectionId, CorrectionState, FileKind, Mrn, Timestamp};

use crate::{StoreError, StoredUpload};

use super::begin::move_upload;
use super::latest::refresh;
use super::transaction::Transaction;
use super::{CorrectionStep, MAX_CHAIN, MergedItem, StoredCorrection, records_of, stays};

/// Uploads, streams or corrections of one transaction.
const BATCH: usize = 50;

/// Corrections of a patient that are searched for merges.
const CORRECTIONS: usize = 1_000;

/// Chunks of files or parts of waveforms that one transaction deletes.
const DELETIONS: usize = 64;

/// Does a part of a running correction.
pub(crate) async fn step<T: Transaction>(
    tx: &mut T,
    id: CorrectionId,
    now: Timestamp,
) -> Result<CorrectionStep, T::Error> {
    let Some(stored) = tx.correction(id).await? else { return Ok(CorrectionStep::Done(Vec::new())) };
    if !stored.is_running() {
        return Ok(CorrectionStep::Done(Vec::new()));
    }
    match stored.correction.action {
        CorrectionAction::Merged { from, into } => merge(tx, stored, from, into, now).await,
        CorrectionAction::MergeUndone { merge } => undo_merge(tx, stored, merge, now).await,
        CorrectionAction::Erased { mrn } => erase(tx, id, mrn).await,
        _ => complete(tx, stored).await.map(|()| CorrectionStep::Done(Vec::new())),
    }
}

async fn complete<T: Transaction>(tx: &mut T, mut stored: StoredCorrection) -> Result<(), T::Error> {
    stored.correction.state = CorrectionState::Done;
    tx.put_correction(&stored).await
}

/// Completes an erasure.
pub(crate) async fn finish_erasure<T: Transaction>(tx: &mut T, id: CorrectionId) -> Result<(), T::Error> {
    match tx.correction(id).await? {
        Some(stored) if stored.is_running() => complete(tx, stored).await,
        _ => Ok(()),
    }
}

async fn existing<T: Transaction>(tx: &mut T, mrn: Mrn) -> Result<proto_json::PatientSummary, T::Error> {
    let patient = tx.patient(mrn).await?;
    patient
        .ok_or_else(|| StoreError::Corrupt("a patient of a running correction is missing".to_owned()).into())
}

async fn merge<T: Transaction>(
    tx: &mut T,
    stored: StoredCorrection,
    from: Mrn,
    into: Mrn,
    now: Timestamp,
) -> Result<CorrectionStep, T::Error> {
    let merge = stored.correction.id;
    let survivor = existing(tx, into).await?;
    let uploads = tx.uploads_of(from, BATCH).await?;
    if !uploads.is_empty() {
        for upload in uploads {
            tx.put_item(merge, MergedItem::Upload(upload.receipt.upload_id)).await?;
            move_upload(tx, upload, into, survivor.version).await?;
        }
        return Ok(CorrectionStep::More);
    }
    let streams = tx.streams_of(from, BATCH).await?;
    if !streams.is_empty() {
        for stream in streams {
            tx.put_item(merge, MergedItem::Stream(stream.description.stream)).await?;
            tx.move_stream(&stream, into).await?;
        }
        return Ok(CorrectionStep::More);
    }
    let stays = tx.stays_of(from, BATCH).await?;
    if !stays.is_empty() {
        for mut stay in stays {
            tx.put_item(merge, MergedItem::Stay(stay.id)).await?;
            stay.mrn = into;
            tx.put_stay(&stay).await?;
        }
        return Ok(CorrectionStep::More);
    }
    let survivor = refresh(tx, survivor, now).await?;
    complete(tx, stored).await?;
    Ok(CorrectionStep::Done(vec![survivor]))
}

async fn undo_merge<T: Transaction>(
    tx: &mut T,
    stored: StoredCorrection,
    merge: CorrectionId,
    now: Timestamp,
) -> Result<CorrectionStep, T::Error> {
    let [from, into] = stored.correction.patients[..] else {
        return Err(StoreError::Corrupt("an undone merge does not name its patients".to_owned()).into());
    };
    let former = existing(tx, from).await?;
    let items = tx.items(merge, BATCH).await?;
    if !items.is_empty() {
        for item in items {
            // What was moved again meanwhile stays where it is.
            match item {
                MergedItem::Upload(id) => {
                    if let Some(upload) = tx.upload(id).await?.filter(|upload| upload.receipt.mrn == into) {
                        move_upload(tx, upload, from, former.version).await?;
                    }
                }
                MergedItem::Stream(id) => {
                    let found = tx.stream(id).await?;
                    if let Some(stream) = found.filter(|stream| stream.description.mrn == into) {
                        tx.move_stream(&stream, from).await?;
                    }
                }
                MergedItem::Stay(id) => {
                    if let Some(mut stay) = tx.stay(id).await?.filter(|stay| stay.mrn == into) {
                        stay.mrn = from;
                        tx.put_stay(&stay).await?;
                    }
                }
            }
            tx.delete_item(merge, item).await?;
        }
        return Ok(CorrectionStep::More);
    }
    let former = refresh(tx, former, now).await?;
    let survivor = existing(tx, into).await?;
    let survivor = refresh(tx, survivor, now).await?;
    complete(tx, stored).await?;
    Ok(CorrectionStep::Done(vec![former, survivor]))
}

async fn erase<T: Transaction>(
    tx: &mut T,
    erasure: CorrectionId,
    mrn: Mrn,
) -> Result<CorrectionStep, T::Error> {
    let mut budget = DELETIONS;
    let uploads = tx.uploads_of(mrn, BATCH).await?;
    if !uploads.is_empty() {
        for upload in uploads {
            let id = upload.receipt.upload_id;
            tx.put_erased(*id.as_uuid()).await?;
            if budget == 0 || !tx.delete_files(id, &mut budget).await? {
                break;
            }
            delete_records(tx, &upload).await?;
            tx.delete_upload(id).await?;
        }
        return Ok(CorrectionStep::More);
    }
    if let Some(stream) = tx.streams_of(mrn, 1).await?.pop() {
        let id = stream.description.stream;
        tx.put_erased(*id.as_uuid()).await?;
        if tx.delete_parts(id, &mut budget).await? {
            tx.delete_stream(id).await?;
        }
        return Ok(CorrectionStep::More);
    }
    let former = tx.former_names(mrn).await?;
    if !former.is_empty() {
        for name in former {
            tx.delete_former_name(mrn, &name).await?;
        }
        return Ok(CorrectionStep::More);
    }
    // Numbers that were merged into this one are erased before it, beginning with the last one of a chain.
    let (mut number, mut link) = (mrn, erasure);
    for _ in 0..MAX_CHAIN {
        let Some((merged, merge)) = merged_into(tx, number).await? else { break };
        (number, link) = (merged, merge);
    }
    let mut is_redacted = false;
    for stored in tx.corrections_of(number, BATCH).await? {
        is_redacted |= stored.correction.id != link && redact(tx, stored, number, &mut budget).await?;
    }
    if is_redacted {
        return Ok(CorrectionStep::More);
    }
    tx.set_held(number, false).await?;
    stays::free(tx, number).await?;
    tx.delete_other_data(number).await?;
    if number == mrn {
        return Ok(CorrectionStep::Erased(mrn));
    }
    if let Some(merge) = tx.correction(link).await? {
        redact(tx, merge, number, &mut budget).await?;
    }
    Ok(CorrectionStep::More)
}

/// A number that was merged into another one and whose data are not erased yet, with the merge.
async fn merged_into<T: Transaction>(
    tx: &mut T,
    number: Mrn,
) -> Result<Option<(Mrn, CorrectionId)>, T::Error> {
    let corrections = tx.corrections_of(number, CORRECTIONS).await?;
    Ok(corrections.into_iter().map(|stored| stored.correction).find_map(|correction| {
        match correction.action {
            CorrectionAction::Merged { from, into }
                if into == number
                    && correction.undone_by.is_none()
                    && correction.patients.contains(&from) =>
            {
                Some((from, correction.id))
            }
            _ => None,
        }
    }))
}

async fn delete_records<T: Transaction>(tx: &mut T, upload: &StoredUpload) -> Result<(), T::Error> {
    let mut rates: Vec<_> = upload.receipt.heart_rate.into_iter().collect();
    for (id, kind) in records_of(&upload.receipt) {
        match kind {
            FileKind::MedicalImage => tx.delete_image(id).await?,
            FileKind::EcgImage | FileKind::Ecg => {
                rates.push(id.derived("heart_rate"));
                tx.delete_ecg(id).await?;
            }
        }
    }
    for id in rates {
        if let Some(rate) = tx.rate(id).await? {
            tx.delete_rate(&rate).await?;
        }
    }
    Ok(())
}

/// Removes everything about an erased patient from a correction. It stays only for other patients. Always true.
async fn redact<T: Transaction>(
    tx: &mut T,
    mut stored: StoredCorrection,
    mrn: Mrn,
    budget: &mut usize,
) -> Result<bool, T::Error> {
    let id = stored.correction.id;
    if matches!(stored.correction.action, CorrectionAction::Merged { .. }) {
        let items = tx.items(id, (*budget).max(1)).await?;
        *budget = budget.saturating_sub(items.len());
        if !items.is_empty() {
            for item in items {
                tx.delete_item(id, item).await?;
            }
            return Ok(true);
        }
    }
    stored.correction.patients.retain(|other| *other != mrn);
    if stored.correction.patients.is_empty() {
        tx.delete_correction(id).await?;
    } else {
        stored.correction.reason = None;
        stored.former = None;
        tx.put_correction(&stored).await?;
    }
    Ok(true)
}
