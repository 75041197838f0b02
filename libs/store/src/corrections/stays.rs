//! Stays in beds when patients are merged, separated again or erased. A bed never has an occupant that does not exist.

use proto_json::wards::{Admission, PlaceName, StayEvent, StayEventKind};
use proto_json::{BedId, Correction, Mrn, PatientSummary, Timestamp, WardId};

use super::transaction::Transaction;
use super::{MergedItem, NewCorrection};

/// Replaces the occupant of a bed. Returns the names of ward and bed; `None`, without a change, if the bed does not exist or has
/// another occupant.
async fn replace_occupant<T: Transaction>(
    tx: &mut T,
    (ward, bed): (WardId, BedId),
    before: Option<Mrn>,
    after: Option<Mrn>,
) -> Result<Option<(PlaceName, PlaceName)>, T::Error> {
    let Some(mut ward) = tx.ward(ward).await? else { return Ok(None) };
    let place = ward.beds.iter_mut().find(|place| place.id == bed && place.occupant == before);
    let Some(place) = place else { return Ok(None) };
    place.occupant = after;
    let names = (ward.name.clone(), place.name.clone());
    ward.version += 1;
    tx.put_ward(&ward).await?;
    Ok(Some(names))
}

/// Frees the bed of a patient who will not exist any more, and ends the stay.
pub(crate) async fn end<T: Transaction>(
    tx: &mut T,
    patient: &PatientSummary,
    by: &str,
    at: Timestamp,
) -> Result<(), T::Error> {
    let Some(admission) = &patient.admission else { return Ok(()) };
    replace_occupant(tx, (admission.ward, admission.bed), Some(patient.mrn), None).await?;
    if let Some(mut stay) = tx.stay(admission.id).await?.filter(|stay| stay.ended.is_none()) {
        let at = at.max(stay.began.at);
        stay.ended = Some(StayEvent { kind: StayEventKind::Discharged, at, by: by.to_owned() });
        tx.put_stay(&stay).await?;
    }
    Ok(())
}

/// Frees the bed of a number that has no patient any more. A restored backup may have an occupant that was erased after it.
pub(crate) async fn free<T: Transaction>(tx: &mut T, mrn: Mrn) -> Result<(), T::Error> {
    let open = tx.stays_of(mrn, usize::MAX).await?.into_iter().filter(|stay| stay.ended.is_none());
    for stay in open {
        replace_occupant(tx, (stay.ward, stay.bed), Some(mrn), None).await?;
    }
    Ok(())
}

/// The surviving patient of a merge takes over the bed of the merged patient. If it has one, that of the merged patient becomes
/// free.
pub(crate) async fn merge<T: Transaction>(
    tx: &mut T,
    new: &NewCorrection,
    former: &PatientSummary,
    survivor: &mut PatientSummary,
) -> Result<(), T::Error> {
    let Some(admission) = &former.admission else { return Ok(()) };
    tx.put_item(new.id, MergedItem::Stay(admission.id)).await?;
    if survivor.admission.is_some() {
        return end(tx, former, &new.by, new.at).await;
    }
    let place = (admission.ward, admission.bed);
    replace_occupant(tx, place, Some(former.mrn), Some(survivor.mrn)).await?;
    if let Some(mut stay) = tx.stay(admission.id).await? {
        stay.mrn = survivor.mrn;
        tx.put_stay(&stay).await?;
    }
    survivor.admission = Some(admission.clone());
    Ok(())
}

/// The merged patient gets its bed back: from the surviving patient, if that is still in it by the same stay, or if the merge
/// has freed it and it is still empty. Otherwise the patient is not admitted.
pub(crate) async fn undo<T: Transaction>(
    tx: &mut T,
    merge: &Correction,
    former: &mut PatientSummary,
    survivor: &mut PatientSummary,
) -> Result<(), T::Error> {
    let Some(admission) = former.admission.take() else { return Ok(()) };
    let Some(mut stay) = tx.stay(admission.id).await? else { return Ok(()) };
    let place = (admission.ward, admission.bed);
    if survivor.admission.as_ref().is_some_and(|present| present.id == admission.id) {
        replace_occupant(tx, place, Some(survivor.mrn), Some(former.mrn)).await?;
        former.admission = survivor.admission.take();
    } else {
        let at = merge.at.max(stay.began.at);
        if !stay.ended.as_ref().is_some_and(|ended| ended.at == at && ended.by == merge.by) {
            return Ok(());
        }
        let names = replace_occupant(tx, place, None, Some(former.mrn)).await?;
        let Some((ward_name, bed_name)) = names else { return Ok(()) };
        stay.ended = None;
        former.admission = Some(Admission { ward_name, bed_name, ..admission });
    }
    stay.mrn = former.mrn;
    tx.put_stay(&stay).await
}
