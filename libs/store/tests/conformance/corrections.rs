//! Corrections: marks, moved uploads, names, merges and their undoing, erasures and retention.

use std::sync::Arc;

use proto_json::alarms::{AlarmAction, AlarmLimits, AlarmRule, LimitScope};
use proto_json::users::Grant;
use proto_json::waveform::{PARTITIONS, StreamDescription};
use proto_json::{
    Correction, CorrectionAction, CorrectionId, CorrectionState, EcgStatus, Fate, PatientSummary, Rename,
    RetentionBody, RetentionKind,
};
use store::alarms::{AlarmQuery, AlarmWrite, RuleState};
use store::wards::CareChange;
use store::waveforms::NewPiece;
use store::{
    CorrectionOutcome, CorrectionStep, NewCorrection, NewUpload, PageRequest, Refusal, UploadOutcome,
};

use crate::alarms::{alarm, ended};
use crate::harness::{
    Fixture, Store, With, analysed, at, drawn, first, get, key, mrn, on_every_adapter, put, put_result,
    try_put, upload,
};
use crate::users::session;
use crate::wards::{add_ward, admit, bed_id, care, occupants, stay, ward_id};
use crate::waveforms::{seconds, stream};

on_every_adapter!(
    marked_record_is_hidden_and_shown_again,
    marked_ecg_hides_its_heart_rate_also_when_the_result_arrives_later,
    moved_upload_changes_both_patients,
    result_that_arrives_after_the_move_goes_to_the_new_patient,
    moved_upload_takes_its_name_back,
    corrected_name_keeps_the_former_one,
    merge_moves_everything_and_its_undoing_loses_nothing,
    erased_patient_leaves_nothing_and_late_data_are_not_stored,
    refused_correction_changes_nothing,
    retention_removes_only_old_data_without_a_hold,
    bed_of_a_merged_patient_goes_to_the_survivor_and_back,
    merge_of_two_admitted_patients_frees_a_bed_and_its_undoing_takes_it_again,
    erasure_removes_alarms_limits_stays_and_emergency_access_also_of_merged_numbers,
    other_wards_do_not_exist_for_a_user,
    granted_patient_opens_no_other_one,
    retention_removes_ended_alarms_and_stays,
);

fn id(name: &str) -> CorrectionId {
    CorrectionId::from_idempotency_key("nurse", name)
}

fn new(name: &str, action: CorrectionAction) -> NewCorrection {
    NewCorrection {
        id: id(name),
        action,
        by: "nurse".to_owned(),
        reason: format!("because of {name}"),
        at: at(90_000),
        wards: None,
        granted: Vec::new(),
    }
}

/// Makes a correction, and completes it.
async fn correct(
    store: &dyn Store,
    name: &str,
    action: CorrectionAction,
) -> (Correction, Vec<PatientSummary>) {
    let outcome = store.correct(&new(name, action)).await.unwrap();
    let CorrectionOutcome::Accepted { correction, patients, replayed: false } = outcome else {
        panic!("{outcome:?}")
    };
    complete(store, &correction).await;
    (correction, patients)
}

async fn complete(store: &dyn Store, correction: &Correction) {
    if correction.state == CorrectionState::Done {
        return;
    }
    assert!(store.running_corrections().await.unwrap().contains(&correction.id));
    loop {
        match store.continue_correction(correction.id, at(95_000)).await.unwrap() {
            CorrectionStep::More => {}
            CorrectionStep::Erased(_) => {
                store.finish_erasure(correction.id).await.unwrap();
                break;
            }
            CorrectionStep::Done(_) => break,
        }
    }
    assert!(!store.running_corrections().await.unwrap().contains(&correction.id));
}

async fn refusal(store: &dyn Store, name: &str, action: CorrectionAction) -> Refusal {
    match store.correct(&new(name, action)).await.unwrap() {
        CorrectionOutcome::Refused(refusal) => refusal,
        accepted => panic!("{accepted:?}"),
    }
}

async fn patient(store: &dyn Store, number: u64) -> PatientSummary {
    store.patient(mrn(number)).await.unwrap().unwrap()
}

fn all() -> PageRequest {
    PageRequest { include_errors: true, ..first(50) }
}

/// Number of visible heart rates, ECGs and images of a patient.
async fn counts(store: &dyn Store, number: u64, page: PageRequest) -> (usize, usize, usize) {
    (
        store.heart_rates(mrn(number), page).await.unwrap().items.len(),
        store.ecgs(mrn(number), page).await.unwrap().items.len(),
        store.images(mrn(number), page).await.unwrap().items.len(),
    )
}

async fn marked_record_is_hidden_and_shown_again(Fixture { store, .. }: Fixture) {
    let (old, wrong) =
        (upload(7, "old", 1000).rate(70, 1000), upload(7, "wrong", 2000).rate(200, 2000).image());
    put(&*store, &old).await;
    let (_, before, _) = put(&*store, &wrong).await;
    let rate = wrong.heart_rate.as_ref().unwrap().id;
    let mark = CorrectionAction::EnteredInError { record: rate };
    let (_, patients) = correct(&*store, "mark", mark.clone()).await;
    let after = patient(&*store, 7).await;
    assert_eq!(patients, std::slice::from_ref(&after));
    assert_eq!(after.version, before.version + 1);
    assert_eq!(after.latest_heart_rate.unwrap().bpm.get(), 70);
    assert_eq!(counts(&*store, 7, first(50)).await, (1, 0, 1));
    assert_eq!(counts(&*store, 7, all()).await, (2, 0, 1));
    let marked = store.heart_rates(mrn(7), all()).await.unwrap().items.remove(0);
    let found = marked.entered_in_error.unwrap();
    assert_eq!((found.by.as_str(), found.at, found.correction), ("nurse", at(90_000), id("mark")));
    // The same request again changes nothing, and another one is refused.
    let again = store.correct(&new("mark", mark.clone())).await.unwrap();
    assert!(matches!(again, CorrectionOutcome::Accepted { replayed: true, .. }), "{again:?}");
    assert_eq!(patient(&*store, 7).await.version, before.version + 1);
    assert_eq!(refusal(&*store, "mark again", mark).await, Refusal::AlreadyMarked);
    // A page that is full of marked records continues with the others.
    let image = CorrectionAction::EnteredInError { record: wrong.images[0].id };
    correct(&*store, "image", image).await;
    assert_eq!(patient(&*store, 7).await.latest_image, None);

    let (undone, _) = correct(&*store, "unmark", CorrectionAction::ErrorUndone { record: rate }).await;
    let shown = patient(&*store, 7).await;
    assert_eq!(shown.latest_heart_rate.unwrap().bpm.get(), 200);
    assert_eq!(counts(&*store, 7, first(50)).await, (2, 0, 0));
    let list = store.corrections(mrn(7), 9).await.unwrap();
    assert_eq!(list.len(), 3);
    let first_mark = list.iter().find(|correction| correction.id == id("mark")).unwrap();
    assert_eq!(first_mark.undone_by, Some(undone.id));
    let not_marked = CorrectionAction::ErrorUndone { record: rate };
    assert_eq!(refusal(&*store, "unmark again", not_marked).await, Refusal::NotMarked);
}

async fn marked_ecg_hides_its_heart_rate_also_when_the_result_arrives_later(Fixture { store, .. }: Fixture) {
    let (done, pending) = (upload(7, "a", 1000).signal(None), upload(7, "b", 2000).signal(None));
    put(&*store, &done).await;
    put(&*store, &pending).await;
    put_result(&*store, &analysed(&done, 60.0)).await.unwrap();
    for (name, upload) in [("a", &done), ("b", &pending)] {
        correct(&*store, name, CorrectionAction::EnteredInError { record: upload.ecgs[0].id }).await;
    }
    let hidden = patient(&*store, 7).await;
    assert_eq!((hidden.latest_heart_rate, hidden.latest_ecg), (None, None));
    // The pending one is analysed all the same, and stays hidden.
    let after = put_result(&*store, &analysed(&pending, 90.0)).await.unwrap();
    assert_eq!((after.latest_heart_rate, after.latest_ecg), (None, None));
    assert_eq!(counts(&*store, 7, first(50)).await, (0, 0, 0));
    assert_eq!(counts(&*store, 7, all()).await, (2, 2, 0));
    let pictured = upload(7, "c", 3000).picture(Some(77));
    put(&*store, &pictured).await;
    correct(&*store, "c", CorrectionAction::EnteredInError { record: pictured.ecgs[0].id }).await;
    assert_eq!(counts(&*store, 7, first(50)).await, (0, 0, 0));
    correct(&*store, "undo", CorrectionAction::ErrorUndone { record: pending.ecgs[0].id }).await;
    let shown = patient(&*store, 7).await;
    assert_eq!(shown.latest_heart_rate.unwrap().bpm.get(), 90);
    assert_eq!(shown.latest_ecg.unwrap().status, EcgStatus::Analyzed);
}

fn moved(upload: &NewUpload, to: u64) -> CorrectionAction {
    CorrectionAction::UploadMoved { upload_id: upload.id, from: None, to: mrn(to), create: false }
}

async fn moved_upload_changes_both_patients(Fixture { store, .. }: Fixture) {
    let own = upload(7, "own", 1000).rate(70, 1000).name("Anna");
    let wrong = upload(7, "wrong", 2000).rate(120, 2000).image().picture(None);
    let other = upload(8, "other", 1500).rate(80, 1500).name("Ben");
    for upload in [&own, &wrong, &other] {
        put(&*store, upload).await;
    }
    let (seven, eight) = (patient(&*store, 7).await, patient(&*store, 8).await);
    let (correction, patients) = correct(&*store, "move", moved(&wrong, 8)).await;
    assert_eq!(correction.patients, [mrn(7), mrn(8)]);
    let (left, right) = (patient(&*store, 7).await, patient(&*store, 8).await);
    assert_eq!(patients, [left.clone(), right.clone()]);
    assert_eq!((left.version, right.version), (seven.version + 1, eight.version + 1));
    assert_eq!(left.latest_heart_rate.unwrap().bpm.get(), 70);
    assert_eq!((left.latest_image, left.latest_ecg), (None, None));
    assert_eq!(right.latest_heart_rate.unwrap().bpm.get(), 120);
    assert_eq!(right.latest_image.unwrap().id, wrong.images[0].id);
    assert_eq!((left.name.as_deref(), right.name.as_deref()), (Some("Anna"), Some("Ben")));
    assert_eq!(counts(&*store, 7, all()).await, (1, 0, 0));
    assert_eq!(counts(&*store, 8, all()).await, (2, 1, 1));
    assert_eq!(store.image(wrong.images[0].id).await.unwrap().unwrap().mrn, mrn(8));
    let receipt = store.upload(wrong.id).await.unwrap().unwrap();
    assert_eq!((receipt.receipt.mrn, receipt.addressed_to), (mrn(8), mrn(7)));
    // A redelivery of the upload finds it, and does not store it again for the wrong patient.
    let (receipt, redelivered, replayed) = put(&*store, &wrong).await;
    assert!(replayed && receipt.mrn == mrn(8) && redelivered.mrn == mrn(8));
    assert_eq!(refusal(&*store, "twice", moved(&wrong, 8)).await, Refusal::AlreadyThere(mrn(8)));
    assert!(get(&*store, key(&wrong, wrong.images[0].file.sha256)).await.is_some());
    // Back again.
    correct(&*store, "back", moved(&wrong, 7)).await;
    assert_eq!(patient(&*store, 7).await.latest_heart_rate.unwrap().bpm.get(), 120);
    assert_eq!(patient(&*store, 8).await.latest_heart_rate.unwrap().bpm.get(), 80);
    let create = CorrectionAction::UploadMoved { upload_id: wrong.id, from: None, to: mrn(9), create: true };
    correct(&*store, "create", create).await;
    assert_eq!(patient(&*store, 9).await.latest_heart_rate.unwrap().bpm.get(), 120);
}

async fn result_that_arrives_after_the_move_goes_to_the_new_patient(Fixture { store, .. }: Fixture) {
    let wrong = upload(7, "wrong", 1000).signal(None);
    put(&*store, &wrong).await;
    put(&*store, &upload(8, "other", 500).rate(80, 500)).await;
    correct(&*store, "move", moved(&wrong, 8)).await;
    // The result names the patient at the time of the job.
    let patient_after = put_result(&*store, &analysed(&wrong, 66.0)).await.unwrap();
    assert_eq!((patient_after.mrn, patient_after.latest_heart_rate.unwrap().bpm.get()), (mrn(8), 66));
    let left = patient(&*store, 7).await;
    assert_eq!((left.latest_heart_rate, left.latest_ecg), (None, None));
    assert_eq!(counts(&*store, 7, all()).await, (0, 0, 0));
    assert_eq!(counts(&*store, 8, all()).await, (2, 1, 0));
}

async fn moved_upload_takes_its_name_back(Fixture { store, .. }: Fixture) {
    put(&*store, &upload(7, "own", 1000).name("Anna")).await;
    put(&*store, &upload(8, "other", 1000).name("Ben")).await;
    let wrong =
        NewUpload { rename: Rename::Unconfirmed, ..upload(7, "wrong", 2000).name("Ben").rate(90, 2000) };
    put(&*store, &wrong).await;
    assert_eq!(patient(&*store, 7).await.name.as_deref(), Some("Ben"));
    correct(&*store, "move", moved(&wrong, 8)).await;
    let left = patient(&*store, 7).await;
    assert_eq!((left.name.as_deref(), left.renamed), (Some("Anna"), None));
    assert!(store.former_names(mrn(7), 9).await.unwrap().is_empty());
}

async fn corrected_name_keeps_the_former_one(Fixture { store, .. }: Fixture) {
    put(&*store, &upload(7, "own", 1000).name("Ana Smit")).await;
    let rename = |name: &str| CorrectionAction::NameCorrected { mrn: mrn(7), name: name.to_owned() };
    correct(&*store, "name", rename("Anna Smith")).await;
    let renamed = patient(&*store, 7).await;
    assert_eq!(renamed.name.as_deref(), Some("Anna Smith"));
    assert!(renamed.renamed.unwrap().confirmed);
    let former = store.former_names(mrn(7), 9).await.unwrap();
    assert_eq!(former.iter().map(|former| former.name.as_str()).collect::<Vec<_>>(), ["Ana Smit"]);
    assert_eq!(refusal(&*store, "again", rename("Anna Smith")).await, Refusal::SameName);
    let found = store.patients(Some("anna smi"), first(9)).await.unwrap();
    assert_eq!(found.items.len(), 1, "the search finds the new name");
}

/// A stream of a patient, and ten seconds of it.
fn recording(number: u64) -> (Arc<StreamDescription>, NewPiece) {
    let stream = stream(number, 0);
    let piece = seconds(&stream, 0..10);
    (stream, piece)
}

async fn merge_moves_everything_and_its_undoing_loses_nothing(Fixture { store, .. }: Fixture) {
    let survivor = upload(7, "survivor", 1000).rate(70, 1000);
    put(&*store, &survivor).await;
    // More uploads than one transaction moves.
    let uploads: Vec<NewUpload> = (0..120)
        .map(|index| upload(71, &format!("merged {index}"), 2000 + index).rate(80 + index % 9, 2000 + index))
        .collect();
    for upload in &uploads {
        put(&*store, upload).await;
    }
    let named = upload(71, "name", 3000).name("Anna").signal(None);
    put(&*store, &named).await;
    let (stream, piece) = recording(71);
    store.open_waveform(&stream).await.unwrap();
    store.append_waveforms(vec![piece], at(0)).await.unwrap();
    let before = patient(&*store, 71).await;

    let merge = CorrectionAction::Merged { from: mrn(71), into: mrn(7) };
    let CorrectionOutcome::Accepted { correction, .. } = store.correct(&new("merge", merge)).await.unwrap()
    else {
        panic!("the merge is refused")
    };
    // While it is running, an upload and a result arrive, and other corrections wait.
    let late = upload(71, "late", 4000).rate(99, 4000);
    let (receipt, merged, _) = put(&*store, &late).await;
    assert_eq!((receipt.mrn, merged.mrn), (mrn(7), mrn(7)));
    put_result(&*store, &analysed(&named, 61.0)).await.unwrap();
    let rename = CorrectionAction::NameCorrected { mrn: mrn(7), name: "X".to_owned() };
    assert_eq!(refusal(&*store, "busy", rename).await, Refusal::Busy(mrn(7)));
    assert_eq!(store.continue_correction(correction.id, at(95_000)).await.unwrap(), CorrectionStep::More);
    complete(&*store, &correction).await;

    assert_eq!(store.patient(mrn(71)).await.unwrap(), None);
    let fate = store.fate(mrn(71)).await.unwrap();
    assert_eq!(fate, Some(Fate::Merged { into: mrn(7), merge: id("merge") }));
    let merged = patient(&*store, 7).await;
    assert_eq!(merged.name.as_deref(), Some("Anna"));
    assert_eq!(merged.latest_heart_rate.unwrap().bpm.get(), 99);
    assert_eq!(merged.latest_ecg.unwrap().id, named.ecgs[0].id);
    let page = PageRequest { limit: 500, ..all() };
    assert_eq!(counts(&*store, 7, page).await, (123, 1, 0));
    assert_eq!(counts(&*store, 71, page).await, (0, 0, 0));
    assert_eq!(store.waveform_streams(mrn(7), at(99_999)).await.unwrap().len(), 1);
    let of = store.waveform_stream(stream.stream).await.unwrap().unwrap();
    assert_eq!(of.description.mrn, mrn(7));
    assert_eq!(store.waveform_chunks(&of, 0, i64::MIN..i64::MAX).await.unwrap().len(), 1);

    // Frames that the device still sends for the old number belong to the surviving patient.
    let (later, _) = recording(71);
    store.open_waveform(&later).await.unwrap();
    assert_eq!(store.waveform_stream(later.stream).await.unwrap().unwrap().description.mrn, mrn(7));

    let undo = CorrectionAction::MergeUndone { merge: id("merge") };
    correct(&*store, "undo", undo.clone()).await;
    let (left, right) = (patient(&*store, 7).await, patient(&*store, 71).await);
    assert_eq!((left.name.as_deref(), right.name.as_deref()), (None, Some("Anna")));
    // What came after the merge stays.
    assert_eq!(counts(&*store, 7, page).await, (2, 0, 0));
    assert_eq!(left.latest_heart_rate.unwrap().bpm.get(), 99);
    assert_eq!(counts(&*store, 71, page).await, (121, 1, 0));
    assert!(right.version > before.version);
    assert_eq!(right.latest_ecg.as_ref().unwrap().status, EcgStatus::Analyzed);
    assert_eq!(store.waveform_streams(mrn(71), at(99_999)).await.unwrap().len(), 1);
    assert_eq!(store.waveform_streams(mrn(7), at(99_999)).await.unwrap().len(), 1);
    assert_eq!(store.fate(mrn(71)).await.unwrap(), None);
    assert_eq!(refusal(&*store, "undo again", undo).await, Refusal::AlreadyUndone);
    let (receipt, ..) = put(&*store, &upload(71, "own again", 5000)).await;
    assert_eq!(receipt.mrn, mrn(71));
}

async fn erased_patient_leaves_nothing_and_late_data_are_not_stored(Fixture { store, .. }: Fixture) {
    let own = upload(7, "own", 1000).name("Anna").rate(70, 1000).image().signal(None);
    let second = upload(7, "second", 2000).name("Anna B.").picture(Some(70));
    let foreign = upload(8, "foreign", 2000).rate(55, 2000).name("Ben");
    let merged = upload(71, "merged", 100).rate(71, 100);
    for upload in [&own, &second, &foreign, &merged] {
        put(&*store, upload).await;
    }
    let result = analysed(&own, 66.0);
    put_result(&*store, &result).await.unwrap();
    correct(&*store, "merge", CorrectionAction::Merged { from: mrn(71), into: mrn(7) }).await;
    correct(&*store, "move", moved(&foreign, 7)).await;
    correct(&*store, "mark", CorrectionAction::EnteredInError { record: own.images[0].id }).await;
    let (stream, piece) = recording(7);
    store.open_waveform(&stream).await.unwrap();
    store.append_waveforms(vec![piece.clone()], at(0)).await.unwrap();
    let raised = alarm(7, AlarmRule::Asystole, 5);
    store.put_alarm(&raised).await.unwrap();
    store.put_rule_states(vec![RuleState { mrn: mrn(7), state: "{}".to_owned() }]).await.unwrap();
    let by = || AlarmAction { by: "Zoë".to_owned(), at: at(99) };
    for scope in [LimitScope::Patient { mrn: mrn(7) }, LimitScope::Patient { mrn: mrn(77) }] {
        store.put_limits(scope, AlarmLimits::default(), 0, by()).await.unwrap();
    }
    let erase = CorrectionAction::Erased { mrn: mrn(7) };
    let (erasure, _) = correct(&*store, "erase", erase.clone()).await;

    assert_eq!(store.patient(mrn(7)).await.unwrap(), None);
    assert_eq!(counts(&*store, 7, all()).await, (0, 0, 0));
    for upload in [&own, &second, &foreign, &merged] {
        assert_eq!(store.upload(upload.id).await.unwrap(), None);
        assert!(store.is_erased(*upload.id.as_uuid()).await.unwrap());
        for file in &upload.files {
            assert_eq!(get(&*store, key(upload, file.sha256)).await, None);
        }
    }
    for file in drawn(&result) {
        assert_eq!(get(&*store, key(&own, file.sha256())).await, None);
    }
    assert_eq!(store.ecg(own.ecgs[0].id).await.unwrap(), None);
    assert!(store.former_names(mrn(7), 9).await.unwrap().is_empty());
    assert_eq!(store.waveform_stream(stream.stream).await.unwrap(), None);
    assert_eq!(store.alarm(raised.id).await.unwrap(), None);
    assert!(store.rule_states().await.unwrap().is_empty());
    let limits = store.limits().await.unwrap();
    let scopes: Vec<_> = limits.iter().map(|limits| limits.scope).collect();
    assert_eq!(scopes, [LimitScope::Patient { mrn: mrn(77) }], "those of the other patient stay");
    for number in [7, 71] {
        let fate = store.fate(mrn(number)).await.unwrap();
        assert!(matches!(fate, Some(Fate::Erased { .. })), "{number}: {fate:?}");
    }
    // Of its corrections, only the erasure is left, and what concerns others, without reasons.
    let left = store.corrections(mrn(7), 9).await.unwrap();
    assert_eq!(left.iter().map(|correction| correction.id).collect::<Vec<_>>(), [erasure.id]);
    let of_other = store.corrections(mrn(8), 9).await.unwrap();
    assert_eq!((of_other.len(), of_other[0].reason.as_ref()), (1, None));

    // Late messages: redelivered uploads, results, new uploads, frames.
    for upload in [&own, &foreign, &merged, &upload(7, "new", 9000).rate(1, 1), &upload(71, "n", 9000)] {
        assert_eq!(try_put(&*store, upload).await.unwrap(), UploadOutcome::Erased);
    }
    assert_eq!(put_result(&*store, &analysed(&own, 70.0)).await, None);
    store.open_waveform(&stream).await.unwrap();
    store.append_waveforms(vec![piece], at(1)).await.unwrap();
    assert_eq!(store.waveform_stream(stream.stream).await.unwrap(), None);
    for number in [7, 71] {
        let late = alarm(number, AlarmRule::Asystole, 6);
        assert_eq!(store.put_alarm(&late).await.unwrap(), AlarmWrite::Erased);
        assert_eq!(store.alarm(late.id).await.unwrap(), None);
    }
    for partition in 0..PARTITIONS {
        assert_eq!(store.seal_waveforms(partition, at(9_000_000), 9).await.unwrap().streams, 0);
    }
    assert_eq!(counts(&*store, 7, all()).await, (0, 0, 0));
    assert_eq!(refusal(&*store, "again", erase).await, Refusal::Erased(mrn(7)));
    // The other patient goes on.
    assert_eq!(patient(&*store, 8).await.name.as_deref(), Some("Ben"));
}

async fn refused_correction_changes_nothing(Fixture { store, .. }: Fixture) {
    let own = upload(7, "own", 1000).rate(70, 1000).name("Anna");
    put(&*store, &own).await;
    put(&*store, &upload(8, "other", 1000).rate(70, 1000)).await;
    put(&*store, &upload(9, "gone", 1000).rate(70, 1000)).await;
    correct(&*store, "hold", CorrectionAction::HoldPlaced { mrn: mrn(8) }).await;
    correct(&*store, "erase", CorrectionAction::Erased { mrn: mrn(9) }).await;
    let before = (patient(&*store, 7).await, patient(&*store, 8).await);
    let unknown = upload(7, "unknown", 0).image();
    let merged = |from, into| CorrectionAction::Merged { from: mrn(from), into: mrn(into) };
    let named = |number| CorrectionAction::NameCorrected { mrn: mrn(number), name: "B".to_owned() };
    let cases = [
        (CorrectionAction::EnteredInError { record: unknown.images[0].id }, Refusal::UnknownRecord),
        (CorrectionAction::ErrorUndone { record: own.heart_rate.as_ref().unwrap().id }, Refusal::NotMarked),
        (moved(&unknown, 8), Refusal::UnknownUpload),
        (moved(&own, 7), Refusal::AlreadyThere(mrn(7))),
        (moved(&own, 99), Refusal::UnknownPatient(mrn(99))),
        (moved(&own, 9), Refusal::Erased(mrn(9))),
        (named(99), Refusal::UnknownPatient(mrn(99))),
        (named(9), Refusal::Erased(mrn(9))),
        (merged(7, 7), Refusal::SamePatient),
        (merged(7, 99), Refusal::UnknownPatient(mrn(99))),
        (merged(9, 7), Refusal::Erased(mrn(9))),
        (merged(8, 7), Refusal::OnHold(mrn(8))),
        (CorrectionAction::MergeUndone { merge: id("hold") }, Refusal::UnknownMerge),
        (CorrectionAction::Erased { mrn: mrn(99) }, Refusal::UnknownPatient(mrn(99))),
        (CorrectionAction::Erased { mrn: mrn(8) }, Refusal::OnHold(mrn(8))),
        (CorrectionAction::HoldPlaced { mrn: mrn(8) }, Refusal::AlreadyHeld(mrn(8))),
        (CorrectionAction::HoldReleased { mrn: mrn(7) }, Refusal::NotHeld(mrn(7))),
    ];
    for (index, (action, expected)) in cases.into_iter().enumerate() {
        let name = format!("case {index}");
        assert_eq!(refusal(&*store, &name, action).await, expected, "{name}");
    }
    assert_eq!(refusal(&*store, "hold", named(7)).await, Refusal::IdReused);
    assert_eq!((patient(&*store, 7).await, patient(&*store, 8).await), before);
    assert_eq!(store.corrections(mrn(7), 9).await.unwrap(), []);
    // A number that was merged names the survivor.
    correct(&*store, "release", CorrectionAction::HoldReleased { mrn: mrn(8) }).await;
    correct(&*store, "merge", merged(8, 7)).await;
    let expected = Refusal::Merged { mrn: mrn(8), into: mrn(7) };
    assert_eq!(refusal(&*store, "merged", named(8)).await, expected);
    assert_eq!(refusal(&*store, "to merged", moved(&own, 8)).await, expected);
}

async fn retention_removes_only_old_data_without_a_hold(Fixture { store, .. }: Fixture) {
    for number in [7, 8] {
        for (name, millis) in [("old", 1000), ("new", 50_000)] {
            let upload =
                upload(number, &format!("{number} {name}"), millis).rate(60, millis).image().signal(None);
            put(&*store, &upload).await;
            put_result(&*store, &analysed(&upload, 61.0)).await.unwrap();
        }
    }
    correct(&*store, "hold", CorrectionAction::HoldPlaced { mrn: mrn(8) }).await;
    let rule = |kind, dry_run| RetentionBody { kind, before: at(20_000), dry_run, after: None };
    let kinds = [RetentionKind::HeartRates, RetentionKind::Ecgs, RetentionKind::Images];
    for kind in kinds {
        let (report, changed) = store.retain(rule(kind, true), at(99_000)).await.unwrap();
        let records = if kind == RetentionKind::HeartRates { 2 } else { 1 };
        assert_eq!(
            (report.records, report.patients, report.held, report.next),
            (records, 1, 1, None),
            "{kind:?}"
        );
        assert!(changed.is_empty());
    }
    assert_eq!(counts(&*store, 7, all()).await, (4, 2, 2));
    for kind in kinds {
        let (report, changed) = store.retain(rule(kind, false), at(99_000)).await.unwrap();
        assert_eq!((report.patients, report.held), (1, 1));
        assert_eq!(changed.iter().map(|patient| patient.mrn).collect::<Vec<_>>(), [mrn(7)]);
    }
    assert_eq!(counts(&*store, 7, all()).await, (2, 1, 1));
    assert_eq!(counts(&*store, 8, all()).await, (4, 2, 2));
    let old = upload(7, "7 old", 1000).image().signal(None);
    // The files are orphaned, and the sweep removes them.
    store.sweep_orphans(proto_json::Timestamp::now().plus_millis(60_000), 99).await.unwrap();
    for file in &old.files {
        assert_eq!(get(&*store, key(&old, file.sha256)).await, None);
    }
    let (stream, piece) = recording(7);
    store.open_waveform(&stream).await.unwrap();
    store.append_waveforms(vec![piece.clone()], at(0)).await.unwrap();
    for partition in 0..PARTITIONS {
        store.seal_waveforms(partition, at(10_000_000), 9).await.unwrap();
    }
    let waves = |dry_run| RetentionBody { before: at(9_000_000), ..rule(RetentionKind::Waveforms, dry_run) };
    let (report, _) = store.retain(waves(true), at(99_000)).await.unwrap();
    assert!(report.records > 0 && report.patients == 1, "{report:?}");
    let (removed, _) = store.retain(waves(false), at(99_000)).await.unwrap();
    assert_eq!(removed.records, report.records);
    assert_eq!(store.retain(waves(true), at(99_000)).await.unwrap().0.records, 0);
}

/// Patients 7 and 71, and a ward with the beds 1 and 2.
async fn ward_with_patients(store: &dyn Store) {
    add_ward(store, "North", &["1", "2"]).await;
    put(store, &upload(7, "own", 1000).rate(70, 1000).name("Anna")).await;
    put(store, &upload(71, "merged", 100).rate(71, 100)).await;
}

async fn beds(store: &dyn Store) -> Vec<Option<u64>> {
    let wards = store.wards().await.unwrap().items;
    wards.iter().flat_map(occupants).map(|mrn| mrn.map(proto_json::Mrn::get)).collect()
}

async fn bed_of(store: &dyn Store, number: u64) -> Option<proto_json::BedId> {
    patient(store, number).await.admission.map(|admission| admission.bed)
}

/// Ids of the stays of a patient, newest first.
async fn stays(store: &dyn Store, number: u64) -> Vec<proto_json::RecordId> {
    let page = store.admissions(mrn(number), first(50)).await.unwrap();
    assert!(page.items.iter().all(|stay| stay.mrn == mrn(number)));
    page.items.into_iter().map(|stay| stay.id).collect()
}

fn merge() -> CorrectionAction {
    CorrectionAction::Merged { from: mrn(71), into: mrn(7) }
}

async fn bed_of_a_merged_patient_goes_to_the_survivor_and_back(Fixture { store, .. }: Fixture) {
    let store = &*store;
    ward_with_patients(store).await;
    care(store, 71, admit("2")).await;
    care(store, 71, CareChange::Transfer { bed: bed_id("1"), from: None, stay: stay("second") }).await;
    correct(store, "merge", merge()).await;
    assert_eq!(beds(store).await, [Some(7), None]);
    assert_eq!(bed_of(store, 7).await, Some(bed_id("1")));
    assert_eq!(stays(store, 7).await, [stay("second"), stay("2")]);
    assert!(stays(store, 71).await.is_empty());
    correct(store, "undo", CorrectionAction::MergeUndone { merge: id("merge") }).await;
    assert_eq!(beds(store).await, [Some(71), None]);
    assert_eq!((bed_of(store, 7).await, bed_of(store, 71).await), (None, Some(bed_id("1"))));
    assert_eq!(stays(store, 71).await, [stay("second"), stay("2")]);
    assert!(stays(store, 7).await.is_empty());
    // The survivor was moved meanwhile: it stays there.
    correct(store, "again", merge()).await;
    care(store, 7, CareChange::Transfer { bed: bed_id("2"), from: None, stay: stay("third") }).await;
    correct(store, "undo again", CorrectionAction::MergeUndone { merge: id("again") }).await;
    assert_eq!(beds(store).await, [None, Some(7)]);
    assert_eq!((bed_of(store, 7).await, bed_of(store, 71).await), (Some(bed_id("2")), None));
    // Both can be discharged and admitted.
    care(store, 7, CareChange::Discharge { from: None }).await;
    care(store, 71, CareChange::Admit { bed: bed_id("2"), stay: stay("fourth") }).await;
    assert_eq!(beds(store).await, [None, Some(71)]);
}

async fn merge_of_two_admitted_patients_frees_a_bed_and_its_undoing_takes_it_again(
    Fixture { store, .. }: Fixture,
) {
    let store = &*store;
    ward_with_patients(store).await;
    care(store, 7, admit("1")).await;
    care(store, 71, admit("2")).await;
    correct(store, "merge", merge()).await;
    assert_eq!(beds(store).await, [Some(7), None]);
    assert_eq!(stays(store, 7).await.len(), 2);
    correct(store, "undo", CorrectionAction::MergeUndone { merge: id("merge") }).await;
    assert_eq!(beds(store).await, [Some(7), Some(71)]);
    assert_eq!(bed_of(store, 71).await, Some(bed_id("2")));
    // The bed is taken meanwhile.
    correct(store, "again", merge()).await;
    put(store, &upload(8, "other", 1000).rate(70, 1000)).await;
    care(store, 8, CareChange::Admit { bed: bed_id("2"), stay: stay("other") }).await;
    correct(store, "undo again", CorrectionAction::MergeUndone { merge: id("again") }).await;
    assert_eq!(beds(store).await, [Some(7), Some(8)]);
    assert_eq!(bed_of(store, 71).await, None);
    assert_eq!(stays(store, 71).await, [stay("2")]);
    // An erasure frees the bed at once.
    store.correct(&new("erase", CorrectionAction::Erased { mrn: mrn(8) })).await.unwrap();
    assert_eq!(beds(store).await, [Some(7), None]);
    care(store, 71, CareChange::Admit { bed: bed_id("2"), stay: stay("next") }).await;
}

async fn erasure_removes_alarms_limits_stays_and_emergency_access_also_of_merged_numbers(
    Fixture { store, .. }: Fixture,
) {
    let store = &*store;
    ward_with_patients(store).await;
    put(store, &upload(8, "other", 1000).rate(70, 1000)).await;
    put(store, &upload(72, "first of the chain", 1000).rate(70, 1000)).await;
    let named = CorrectionAction::NameCorrected { mrn: mrn(72), name: "Wrong Name".to_owned() };
    correct(store, "name", named).await;
    let by = || AlarmAction { by: "nurse".to_owned(), at: at(1) };
    for number in [7, 71, 72, 8] {
        let open = alarm(number, AlarmRule::Asystole, 0);
        store.put_alarm(&open).await.unwrap();
        let scope = LimitScope::Patient { mrn: mrn(number) };
        store.put_limits(scope, AlarmLimits::default(), 0, by()).await.unwrap();
        let state = RuleState { mrn: mrn(number), state: "{}".to_owned() };
        store.put_rule_states(vec![state]).await.unwrap();
    }
    care(store, 72, admit("1")).await;
    care(store, 72, CareChange::Discharge { from: None }).await;
    care(store, 71, admit("2")).await;
    let grant = |number| Grant { mrn: mrn(number), until: at(90_000) };
    let granted = session("secret", Some(("ann", 1)));
    store.add_session(&granted).await.unwrap();
    assert!(store.set_grants(granted.key, &[grant(71), grant(8), grant(7)]).await.unwrap());
    correct(store, "chain", CorrectionAction::Merged { from: mrn(72), into: mrn(71) }).await;
    correct(store, "merge", merge()).await;
    correct(store, "erase", CorrectionAction::Erased { mrn: mrn(7) }).await;

    assert_eq!(beds(store).await, [None, None]);
    for number in [7, 71, 72] {
        let of = AlarmQuery { mrn: Some(mrn(number)), is_open: None, priority: None };
        assert!(store.alarms(of, first(9)).await.unwrap().items.is_empty(), "{number}");
        assert!(stays(store, number).await.is_empty(), "{number}");
    }
    assert!(store.corrections(mrn(72), 9).await.unwrap().is_empty());
    assert!(store.corrections(mrn(71), 9).await.unwrap().is_empty());
    let left: Vec<_> = store.limits().await.unwrap().iter().map(|limits| limits.scope).collect();
    assert_eq!(left, [LimitScope::Patient { mrn: mrn(8) }]);
    let states: Vec<_> = store.rule_states().await.unwrap().iter().map(|state| state.mrn).collect();
    assert_eq!(states, [mrn(8)]);
    assert_eq!(store.open_alarms().await.unwrap().len(), 1);
    let found = store.sessions(&[granted.key]).await.unwrap();
    assert_eq!(found[0].grants, [grant(8)]);
}

async fn granted_patient_opens_no_other_one(Fixture { store, .. }: Fixture) {
    let store = &*store;
    add_ward(store, "North", &["1"]).await;
    add_ward(store, "South", &["S1", "S2"]).await;
    for (number, bed) in [(8, "S1"), (88, "S2")] {
        put(store, &upload(number, &number.to_string(), 1000).rate(70, 1000)).await;
        care(store, number, admit(bed)).await;
    }
    let granted = async |name: &str, action: CorrectionAction| {
        let wards = Some(vec![ward_id("North")]);
        store.correct(&NewCorrection { wards, granted: vec![mrn(8)], ..new(name, action) }).await.unwrap()
    };
    let renamed = |number| CorrectionAction::NameCorrected { mrn: mrn(number), name: "B".to_owned() };
    for (name, action) in [
        ("merge into another", CorrectionAction::Merged { from: mrn(8), into: mrn(88) }),
        ("merge another", CorrectionAction::Merged { from: mrn(88), into: mrn(8) }),
        ("name of another", renamed(88)),
    ] {
        let outcome = granted(name, action).await;
        assert_eq!(outcome, CorrectionOutcome::Refused(Refusal::UnknownPatient(mrn(88))), "{name}");
    }
    let outcome = granted("name", renamed(8)).await;
    assert!(matches!(outcome, CorrectionOutcome::Accepted { .. }), "{outcome:?}");
}

async fn other_wards_do_not_exist_for_a_user(Fixture { store, .. }: Fixture) {
    let store = &*store;
    ward_with_patients(store).await;
    add_ward(store, "South", &["S"]).await;
    let other = upload(8, "other", 1000).rate(70, 1000).image();
    put(store, &other).await;
    care(store, 7, admit("1")).await;
    care(store, 71, admit("2")).await;
    care(store, 8, admit("S")).await;
    let of_north = async |name: &str, action: CorrectionAction| {
        let new = NewCorrection { wards: Some(vec![ward_id("North")]), ..new(name, action) };
        match store.correct(&new).await.unwrap() {
            CorrectionOutcome::Refused(refusal) => Some(refusal),
            CorrectionOutcome::Accepted { correction, .. } => {
                complete(store, &correction).await;
                None
            }
        }
    };
    let merged = |from, into| CorrectionAction::Merged { from: mrn(from), into: mrn(into) };
    let own = upload(7, "own", 1000);
    let unknown = Some(Refusal::UnknownPatient(mrn(8)));
    let cases = [
        (CorrectionAction::EnteredInError { record: other.images[0].id }, Some(Refusal::UnknownRecord)),
        (CorrectionAction::ErrorUndone { record: other.images[0].id }, Some(Refusal::UnknownRecord)),
        (moved(&other, 7), Some(Refusal::UnknownUpload)),
        (moved(&other, 8), Some(Refusal::UnknownUpload)),
        (moved(&own, 8), unknown),
        (CorrectionAction::NameCorrected { mrn: mrn(8), name: "B".to_owned() }, unknown),
        (merged(7, 8), unknown),
        (merged(8, 7), unknown),
        (CorrectionAction::Erased { mrn: mrn(8) }, unknown),
        (CorrectionAction::HoldPlaced { mrn: mrn(8) }, unknown),
        (CorrectionAction::HoldReleased { mrn: mrn(8) }, unknown),
    ];
    for (index, (action, expected)) in cases.into_iter().enumerate() {
        assert_eq!(of_north(&format!("case {index}"), action).await, expected, "case {index}");
    }
    assert_eq!(of_north("merge", merged(71, 7)).await, None);
    care(store, 7, CareChange::Discharge { from: None }).await;
    care(store, 8, CareChange::Discharge { from: None }).await;
    care(store, 7, CareChange::Admit { bed: bed_id("S"), stay: stay("to the south") }).await;
    let undo = || CorrectionAction::MergeUndone { merge: id("merge") };
    assert_eq!(of_north("undo", undo()).await, Some(Refusal::UnknownMerge));
    correct(store, "undo by another", undo()).await;
}

async fn retention_removes_ended_alarms_and_stays(Fixture { store, .. }: Fixture) {
    let store = &*store;
    ward_with_patients(store).await;
    for (rule, millis, is_over) in [
        (AlarmRule::Asystole, 0, true),
        (AlarmRule::HeartRateHigh, 0, false),
        (AlarmRule::Asystole, 50_000, true),
    ] {
        let open = alarm(7, rule, millis);
        store.put_alarm(&open).await.unwrap();
        if is_over {
            store.put_alarm(&ended(&open)).await.unwrap();
        }
    }
    care(store, 7, admit("1")).await;
    care(store, 7, CareChange::Transfer { bed: bed_id("2"), from: None, stay: stay("second") }).await;
    for kind in [RetentionKind::Alarms, RetentionKind::Admissions] {
        let rule = |dry_run| RetentionBody { kind, before: at(20_000), dry_run, after: None };
        let counted = store.retain(rule(true), at(99_000)).await.unwrap().0;
        let (removed, changed) = store.retain(rule(false), at(99_000)).await.unwrap();
        assert_eq!((counted.records, removed.records, removed.patients), (1, 1, 1), "{kind:?}");
        assert!(changed.is_empty());
        assert_eq!(store.retain(rule(true), at(99_000)).await.unwrap().0.records, 0, "{kind:?}");
    }
    let of = AlarmQuery { mrn: Some(mrn(7)), is_open: None, priority: None };
    assert_eq!(store.alarms(of, first(9)).await.unwrap().items.len(), 2);
    assert_eq!(store.open_alarms().await.unwrap().len(), 1);
    assert_eq!(stays(store, 7).await, [stay("second")]);
}
