//! The first transaction of a correction: it checks everything before it writes anything.

use proto_json::{
    Correction, CorrectionAction, CorrectionId, CorrectionState, ErrorMark, Fate, FileKind, FormerName, Mrn,
    NameChange, PatientSummary, RecordId, UploadId, UploadReceipt,
};

use crate::StoredUpload;

use super::latest::refresh;
use super::transaction::Transaction;
use super::{
    CorrectionOutcome, MAX_CHAIN, NewCorrection, Record, Refusal, StoredCorrection, records_of, stays,
};

/// Result of a check within a transaction: go on, or refuse.
type Checked<T, E> = Result<Result<T, Refusal>, E>;

macro_rules! check {
    ($checked:expr) => {
        match $checked {
            Ok(value) => value,
            Err(refusal) => return Ok(Err(refusal)),
        }
    };
}

/// Makes a correction, or begins one.
pub(crate) async fn begin<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
) -> Result<CorrectionOutcome, T::Error> {
    if let Some(stored) = tx.correction(new.id).await? {
        let known = stored.correction;
        if !is_same(&known, new) {
            return Ok(CorrectionOutcome::Refused(Refusal::IdReused));
        }
        let mut patients = Vec::new();
        for mrn in &known.patients {
            patients.extend(tx.patient(*mrn).await?);
        }
        return Ok(CorrectionOutcome::Accepted { correction: known, patients, replayed: true });
    }
    Ok(match apply(tx, new).await? {
        Err(refusal) => CorrectionOutcome::Refused(refusal),
        Ok((stored, patients)) => {
            tx.put_correction(&stored).await?;
            CorrectionOutcome::Accepted { correction: stored.correction, patients, replayed: false }
        }
    })
}

/// Whether a stored correction is this one. A reason that was removed with an erased patient is not compared.
fn is_same(known: &Correction, new: &NewCorrection) -> bool {
    let without_source = |action: &CorrectionAction| match action.clone() {
        CorrectionAction::UploadMoved { upload_id, to, create, .. } => {
            CorrectionAction::UploadMoved { upload_id, from: None, to, create }
        }
        action => action,
    };
    without_source(&known.action) == without_source(&new.action)
        && known.by == new.by
        && known.reason.as_ref().is_none_or(|reason| *reason == new.reason)
}

type Applied = (StoredCorrection, Vec<PatientSummary>);

async fn apply<T: Transaction>(tx: &mut T, new: &NewCorrection) -> Checked<Applied, T::Error> {
    match new.action.clone() {
        CorrectionAction::EnteredInError { record } => mark(tx, new, record).await,
        CorrectionAction::ErrorUndone { record } => unmark(tx, new, record).await,
        CorrectionAction::UploadMoved { upload_id, to, create, .. } => {
            move_one(tx, new, upload_id, to, create).await
        }
        CorrectionAction::NameCorrected { mrn, name } => rename(tx, new, mrn, name).await,
        CorrectionAction::Merged { from, into } => merge(tx, new, from, into).await,
        CorrectionAction::MergeUndone { merge } => undo_merge(tx, new, merge).await,
        CorrectionAction::Erased { mrn } => erase(tx, new, mrn).await,
        CorrectionAction::HoldPlaced { mrn } => hold(tx, new, mrn, true).await,
        CorrectionAction::HoldReleased { mrn } => hold(tx, new, mrn, false).await,
    }
}

fn stored(new: &NewCorrection, patients: Vec<Mrn>, state: CorrectionState) -> StoredCorrection {
    StoredCorrection {
        correction: Correction {
            id: new.id,
            action: new.action.clone(),
            patients,
            by: new.by.clone(),
            at: new.at,
            reason: Some(new.reason.clone()),
            state,
            undone_by: None,
        },
        former: None,
        took_name: false,
    }
}

/// What has become of a number, at the end of all merges.
pub(crate) async fn fate_of<T: Transaction>(tx: &mut T, mrn: Mrn) -> Result<Option<Fate>, T::Error> {
    let (mut last, mut number) = (None, mrn);
    for _ in 0..MAX_CHAIN {
        match tx.fate(number).await? {
            None => return Ok(last),
            Some(Fate::Merged { into, merge }) => {
                number = into;
                last = Some(Fate::Merged { into, merge });
            }
            Some(erased) => return Ok(Some(erased)),
        }
    }
    Ok(last)
}

/// The refusal for a number that no patient has.
async fn missing<T: Transaction>(tx: &mut T, mrn: Mrn) -> Result<Refusal, T::Error> {
    Ok(match fate_of(tx, mrn).await? {
        None => Refusal::UnknownPatient(mrn),
        Some(Fate::Merged { into, .. }) => Refusal::Merged { mrn, into },
        Some(Fate::Erased { .. }) => Refusal::Erased(mrn),
    })
}

/// A patient that exists and that no running correction changes. `hidden` is the refusal if the user may not access it: that of
/// something that does not exist.
async fn free_patient<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    mrn: Mrn,
    hidden: Refusal,
) -> Checked<PatientSummary, T::Error> {
    let Some(patient) = tx.patient(mrn).await? else { return Ok(Err(missing(tx, mrn).await?)) };
    if !new.may_access(&patient) {
        return Ok(Err(hidden));
    }
    if is_busy(tx, mrn).await? {
        return Ok(Err(Refusal::Busy(mrn)));
    }
    Ok(Ok(patient))
}

async fn is_busy<T: Transaction>(tx: &mut T, mrn: Mrn) -> Result<bool, T::Error> {
    Ok(tx.running().await?.iter().any(|running| running.correction.patients.contains(&mrn)))
}

async fn find_record<T: Transaction>(tx: &mut T, id: RecordId) -> Result<Option<Record>, T::Error> {
    if let Some(ecg) = tx.ecg(id).await? {
        return Ok(Some(Record::Ecg(Box::new(ecg))));
    }
    if let Some(image) = tx.image(id).await? {
        return Ok(Some(Record::Image(image)));
    }
    Ok(tx.rate(id).await?.map(Record::HeartRate))
}

/// Replaces the mark of a record.
async fn set_mark<T: Transaction>(
    tx: &mut T,
    mut record: Record,
    mark: Option<ErrorMark>,
) -> Result<(), T::Error> {
    *record.mark() = mark;
    match &record {
        Record::Ecg(ecg) => tx.put_ecg(ecg).await,
        Record::Image(image) => tx.put_image(image).await,
        Record::HeartRate(rate) => tx.put_rate(rate, rate).await,
    }
}

/// The heart rates that belong to an ECG: computed from it, or reported with it.
async fn rates_of<T: Transaction>(
    tx: &mut T,
    record: &Record,
) -> Result<Vec<proto_json::HeartRateRecord>, T::Error> {
    let Record::Ecg(ecg) = record else { return Ok(Vec::new()) };
    let mut rates = Vec::new();
    rates.extend(tx.rate(ecg.id.derived("heart_rate")).await?);
    let upload = tx.upload(ecg.upload_id).await?;
    if let Some(reported) = upload.and_then(|upload| upload.receipt.heart_rate) {
        rates.extend(tx.rate(reported).await?.filter(|rate| rate.ecg_id == Some(ecg.id)));
    }
    Ok(rates)
}

async fn mark<T: Transaction>(tx: &mut T, new: &NewCorrection, id: RecordId) -> Checked<Applied, T::Error> {
    let Some(mut record) = find_record(tx, id).await? else { return Ok(Err(Refusal::UnknownRecord)) };
    let patient = check!(free_patient(tx, new, record.mrn(), Refusal::UnknownRecord).await?);
    if record.mark().is_some() {
        return Ok(Err(Refusal::AlreadyMarked));
    }
    let mark = ErrorMark { correction: new.id, by: new.by.clone(), at: new.at, reason: new.reason.clone() };
    for rate in rates_of(tx, &record).await? {
        if rate.entered_in_error.is_none() {
            set_mark(tx, Record::HeartRate(rate), Some(mark.clone())).await?;
        }
    }
    set_mark(tx, record, Some(mark)).await?;
    let patient = refresh(tx, patient, new.at).await?;
    Ok(Ok((stored(new, vec![patient.mrn], CorrectionState::Done), vec![patient])))
}

async fn unmark<T: Transaction>(tx: &mut T, new: &NewCorrection, id: RecordId) -> Checked<Applied, T::Error> {
    let Some(mut record) = find_record(tx, id).await? else { return Ok(Err(Refusal::UnknownRecord)) };
    let patient = check!(free_patient(tx, new, record.mrn(), Refusal::UnknownRecord).await?);
    let Some(mark) = record.mark().clone() else { return Ok(Err(Refusal::NotMarked)) };
    for rate in rates_of(tx, &record).await? {
        if rate.entered_in_error.as_ref().is_some_and(|other| other.correction == mark.correction) {
            set_mark(tx, Record::HeartRate(rate), None).await?;
        }
    }
    set_mark(tx, record, None).await?;
    set_undone(tx, mark.correction, new.id).await?;
    let patient = refresh(tx, patient, new.at).await?;
    Ok(Ok((stored(new, vec![patient.mrn], CorrectionState::Done), vec![patient])))
}

async fn set_undone<T: Transaction>(
    tx: &mut T,
    undone: CorrectionId,
    by: CorrectionId,
) -> Result<(), T::Error> {
    if let Some(mut former) = tx.correction(undone).await? {
        former.correction.undone_by = Some(by);
        tx.put_correction(&former).await?;
    }
    Ok(())
}

async fn move_one<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    id: UploadId,
    to: Mrn,
    create: bool,
) -> Checked<Applied, T::Error> {
    let Some(upload) = tx.upload(id).await? else { return Ok(Err(Refusal::UnknownUpload)) };
    let from = upload.receipt.mrn;
    let mut source = check!(free_patient(tx, new, from, Refusal::UnknownUpload).await?);
    if from == to {
        return Ok(Err(Refusal::AlreadyThere(to)));
    }
    let target = match tx.patient(to).await? {
        Some(_) => check!(free_patient(tx, new, to, Refusal::UnknownPatient(to)).await?),
        None => match missing(tx, to).await? {
            Refusal::UnknownPatient(_) if create => PatientSummary {
                mrn: to,
                name: None,
                version: 0,
                created_at: new.at,
                updated_at: new.at,
                latest_heart_rate: None,
                latest_ecg: None,
                latest_image: None,
                renamed: None,
                admission: None,
                details: None,
            },
            refusal => return Ok(Err(refusal)),
        },
    };
    take_back_name(tx, &mut source, id).await?;
    move_upload(tx, upload, to, target.version + 1).await?;
    let source = refresh(tx, source, new.at).await?;
    let target = refresh(tx, target, new.at).await?;
    let mut stored = stored(new, vec![from, to], CorrectionState::Done);
    stored.correction.action = CorrectionAction::UploadMoved { upload_id: id, from: Some(from), to, create };
    Ok(Ok((stored, vec![source, target])))
}

/// If the upload has given the patient its present name in place of another one, the former name applies again.
async fn take_back_name<T: Transaction>(
    tx: &mut T,
    patient: &mut PatientSummary,
    upload: UploadId,
) -> Result<(), T::Error> {
    let former = tx.former_names(patient.mrn).await?;
    if let Some(newest) = former.first().filter(|newest| newest.upload_id == upload) {
        patient.name = Some(newest.name.clone());
        patient.renamed = former.get(1).map(|before| NameChange {
            from: before.name.clone(),
            at: before.replaced_at,
            confirmed: before.confirmed,
        });
        tx.delete_former_name(patient.mrn, newest).await?;
    }
    Ok(())
}

/// Moves an upload with its records. `version` is that of the patient after the change.
pub(crate) async fn move_upload<T: Transaction>(
    tx: &mut T,
    mut upload: StoredUpload,
    to: Mrn,
    version: u64,
) -> Result<(), T::Error> {
    for (id, kind) in records_of(&upload.receipt) {
        match kind {
            FileKind::MedicalImage => {
                if let Some(mut image) = tx.image(id).await? {
                    image.mrn = to;
                    tx.put_image(&image).await?;
                }
            }
            FileKind::EcgImage | FileKind::Ecg => {
                if let Some(mut ecg) = tx.ecg(id).await? {
                    ecg.mrn = to;
                    tx.put_ecg(&ecg).await?;
                }
                move_rate(tx, id.derived("heart_rate"), to).await?;
            }
        }
    }
    if let Some(rate) = upload.receipt.heart_rate {
        move_rate(tx, rate, to).await?;
    }
    upload.receipt = UploadReceipt { mrn: to, version, ..upload.receipt };
    tx.put_upload(&upload).await
}

async fn move_rate<T: Transaction>(tx: &mut T, id: RecordId, to: Mrn) -> Result<(), T::Error> {
    if let Some(rate) = tx.rate(id).await? {
        let moved = proto_json::HeartRateRecord { mrn: to, ..rate.clone() };
        tx.put_rate(&rate, &moved).await?;
    }
    Ok(())
}

async fn rename<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    mrn: Mrn,
    name: String,
) -> Checked<Applied, T::Error> {
    let mut patient = check!(free_patient(tx, new, mrn, Refusal::UnknownPatient(mrn)).await?);
    if patient.name.as_ref() == Some(&name) {
        return Ok(Err(Refusal::SameName));
    }
    if let Some(former) = patient.name.replace(name) {
        let entry = FormerName {
            name: former.clone(),
            replaced_at: new.at,
            upload_id: UploadId::from_uuid(*new.id.as_uuid()),
            confirmed: true,
        };
        tx.put_former_name(mrn, &entry).await?;
        patient.renamed = Some(NameChange { from: former, at: new.at, confirmed: true });
    }
    patient.version += 1;
    patient.updated_at = patient.updated_at.max(new.at);
    tx.put_patient(&patient).await?;
    Ok(Ok((stored(new, vec![mrn], CorrectionState::Done), vec![patient])))
}

async fn merge<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    from: Mrn,
    into: Mrn,
) -> Checked<Applied, T::Error> {
    if from == into {
        return Ok(Err(Refusal::SamePatient));
    }
    let former = check!(free_patient(tx, new, from, Refusal::UnknownPatient(from)).await?);
    let mut survivor = check!(free_patient(tx, new, into, Refusal::UnknownPatient(into)).await?);
    if tx.is_held(from).await? {
        return Ok(Err(Refusal::OnHold(from)));
    }
    let mut stored = stored(new, vec![from, into], CorrectionState::Running);
    if survivor.name.is_none() && former.name.is_some() {
        survivor.name = former.name.clone();
        stored.took_name = true;
    }
    stays::merge(tx, new, &former, &mut survivor).await?;
    survivor.version += 1;
    survivor.updated_at = survivor.updated_at.max(new.at);
    tx.put_patient(&survivor).await?;
    tx.delete_patient(from).await?;
    tx.put_fate(from, &Fate::Merged { into, merge: new.id }).await?;
    stored.former = Some(Box::new(former));
    Ok(Ok((stored, vec![survivor])))
}

async fn undo_merge<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    merge: CorrectionId,
) -> Checked<Applied, T::Error> {
    let Some(mut undone) = tx.correction(merge).await? else { return Ok(Err(Refusal::UnknownMerge)) };
    let CorrectionAction::Merged { from, into } = undone.correction.action else {
        return Ok(Err(Refusal::UnknownMerge));
    };
    let mut patients = undone.former.as_deref().into_iter().cloned().collect::<Vec<_>>();
    patients.extend(tx.patient(into).await?);
    if !patients.iter().all(|patient| new.may_access(patient)) {
        return Ok(Err(Refusal::UnknownMerge));
    }
    if undone.correction.undone_by.is_some() {
        return Ok(Err(Refusal::AlreadyUndone));
    }
    if is_busy(tx, from).await? {
        return Ok(Err(Refusal::Busy(from)));
    }
    let Some(mut survivor) = tx.patient(into).await? else { return Ok(Err(Refusal::NotUndoable(into))) };
    let Some(mut former) = undone.former.as_deref().cloned() else {
        return Ok(Err(Refusal::NotUndoable(into)));
    };
    if is_busy(tx, into).await? {
        return Ok(Err(Refusal::Busy(into)));
    }
    stays::undo(tx, &undone.correction, &mut former, &mut survivor).await?;
    former.version += 1;
    former.updated_at = former.updated_at.max(new.at);
    if undone.took_name && survivor.name == former.name {
        survivor.name = None;
    }
    survivor.version += 1;
    survivor.updated_at = survivor.updated_at.max(new.at);
    tx.delete_fate(from).await?;
    tx.put_patient(&former).await?;
    tx.put_patient(&survivor).await?;
    undone.correction.undone_by = Some(new.id);
    undone.former = None;
    tx.put_correction(&undone).await?;
    Ok(Ok((stored(new, vec![from, into], CorrectionState::Running), vec![former, survivor])))
}

async fn erase<T: Transaction>(tx: &mut T, new: &NewCorrection, mrn: Mrn) -> Checked<Applied, T::Error> {
    let patient = tx.patient(mrn).await?;
    if patient.as_ref().is_some_and(|patient| !new.may_access(patient)) {
        return Ok(Err(Refusal::UnknownPatient(mrn)));
    }
    if patient.is_none() {
        let missing = missing(tx, mrn).await?;
        // Waveforms can be stored for a number that has no other records.
        let is_unknown = matches!(missing, Refusal::UnknownPatient(_));
        if !is_unknown || tx.streams_of(mrn, 1).await?.is_empty() {
            return Ok(Err(missing));
        }
    }
    if is_busy(tx, mrn).await? {
        return Ok(Err(Refusal::Busy(mrn)));
    }
    if tx.is_held(mrn).await? {
        return Ok(Err(Refusal::OnHold(mrn)));
    }
    if let Some(patient) = patient {
        stays::end(tx, &patient, &new.by, new.at).await?;
    }
    tx.delete_patient(mrn).await?;
    tx.put_fate(mrn, &Fate::Erased { at: new.at, erasure: new.id }).await?;
    Ok(Ok((stored(new, vec![mrn], CorrectionState::Running), Vec::new())))
}

async fn hold<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    mrn: Mrn,
    held: bool,
) -> Checked<Applied, T::Error> {
    let mut patient = check!(free_patient(tx, new, mrn, Refusal::UnknownPatient(mrn)).await?);
    match (tx.is_held(mrn).await?, held) {
        (true, true) => return Ok(Err(Refusal::AlreadyHeld(mrn))),
        (false, false) => return Ok(Err(Refusal::NotHeld(mrn))),
        _ => {}
    }
    tx.set_held(mrn, held).await?;
    // In MongoDB, an erasure at the same time meets a conflict on the patient.
    patient.version += 1;
    tx.put_patient(&patient).await?;
    Ok(Ok((stored(new, vec![mrn], CorrectionState::Done), vec![patient])))
}
