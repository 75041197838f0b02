//! The patient view under responses that arrive late, twice or out of order.

use std::sync::Arc;

use proto_json::{
    BlobInfo, Bpm, Change, ChangeKind, Cursor, EcgRecord, EcgStatus, HeartRateRecord, HeartRateSource,
    ImageRecord, LatestEcg, LatestHeartRate, MediaType, Mrn, Page, PatientSummary, PatientUpdated, RecordId,
    Timestamp, UploadId,
};
use ui::trace::EcgScene;

use super::*;
use crate::paged_list::PageRequest;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

fn ecg_id(number: i64) -> RecordId {
    UploadId::from_idempotency_key("", &number.to_string()).record("ecg", 0)
}

fn patient(mrn: u64, number: i64, status: EcgStatus) -> PatientSummary {
    PatientSummary {
        mrn: Mrn::new(mrn).unwrap(),
        name: Some(format!("P{mrn}")),
        renamed: None,
        version: number as u64,
        created_at: at(0),
        updated_at: at(number),
        latest_heart_rate: Some(LatestHeartRate {
            id: ecg_id(number),
            bpm: Bpm::new(70).unwrap(),
            at: at(number),
            received_at: None,
            recorded_at: None,
            source: HeartRateSource::Ecg,
            ecg_id: Some(ecg_id(number)),
            upload_version: 0,
            clock_wrong: false,
        }),
        latest_ecg: Some(LatestEcg {
            id: ecg_id(number),
            at: at(number),
            received_at: None,
            recorded_at: None,
            status,
            heart_rate: None,
            quality: None,
            upload_version: 0,
            clock_wrong: false,
        }),
        latest_image: None,
        admission: None,
        details: None,
    }
}

fn loaded(mrn: u64, number: i64) -> LoadedEcg {
    let record = EcgRecord {
        id: ecg_id(number),
        mrn: Mrn::new(mrn).unwrap(),
        upload_id: UploadId::generate(),
        at: at(number),
        received_at: at(number),
        recorded_at: None,
        status: EcgStatus::Analyzed,
        heart_rate: None,
        signal: None,
        plot: None,
        detail: None,
        signal_options: None,
        analysis: None,
        failure: None,
        entered_in_error: None,
    };
    let strip = Arc::new(ecg::Strip::from_samples(250.0, vec![0.0; 500]));
    let scene = Arc::new(EcgScene::new(strip.clone(), Vec::new(), Vec::new()));
    LoadedEcg { record, content: EcgContent::Signal(strip, scene) }
}

fn image(number: i64) -> ImageRecord {
    ImageRecord {
        id: UploadId::from_idempotency_key("", &number.to_string()).record("image", 0),
        mrn: Mrn::new(1).unwrap(),
        upload_id: UploadId::generate(),
        at: at(number),
        entered_in_error: None,
        file: BlobInfo {
            sha256: proto_json::BlobHash::of(b"x"),
            bytes: 1,
            media_type: MediaType::Png,
            file_name: None,
            width: None,
            height: None,
        },
    }
}

fn open(generation: u64, mrn: u64, number: i64) -> (PatientView, Vec<(RequestId, Request)>) {
    let summary = Some(patient(mrn, number, EcgStatus::Analyzed));
    PatientView::open(generation, Mrn::new(mrn).unwrap(), summary, at(0))
}

fn ecg_request(requests: &[(RequestId, Request)], side: Side) -> RequestId {
    let is_ecg = |request: &Request| matches!(request, Request::Ecg(of, ..) if *of == side);
    requests.iter().find(|(_, request)| is_ecg(request)).expect("the ECG is requested").0
}

fn loaded_id(view: &PatientView, side: Side) -> Option<RecordId> {
    view.ecg(side).get().map(|ecg| ecg.record.id)
}

fn update(mrn: u64, number: i64, kind: ChangeKind) -> PatientUpdated {
    PatientUpdated {
        upload_id: Some(UploadId::generate()),
        changes: vec![Change { kind, id: Some(ecg_id(number)) }],
        patient: patient(mrn, number, EcgStatus::Analyzed),
        sent_at: None,
    }
}

#[test]
fn responses_for_the_previous_patient_are_dropped() {
    let (mut first, requests) = open(1, 1, 10);
    let late = ecg_request(&requests, Side::Latest);
    first.apply(late, Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))));
    assert_eq!(loaded_id(&first, Side::Latest), Some(ecg_id(10)));

    let (mut second, _) = open(2, 2, 20);
    let (changes, requests) = second.apply(late, Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))));
    assert_eq!((changes, requests.len()), (Changes::default(), 0));
    assert_eq!(loaded_id(&second, Side::Latest), None);
    second.apply(
        late,
        Response::Ecgs(
            PageRequest::Newest,
            Ok(Page { items: vec![loaded(1, 10).record], next: None, damaged: Vec::new() }),
        ),
    );
    second.apply(
        late,
        Response::Images(
            PageRequest::Newest,
            Ok(Page { items: vec![image(1)], next: None, damaged: Vec::new() }),
        ),
    );
    assert!(second.ecgs().entries().is_empty() && second.images().entries().is_empty());
}

#[test]
fn responses_for_an_earlier_view_of_the_same_patient_are_dropped() {
    let (_, requests) = open(1, 1, 10);
    let late = ecg_request(&requests, Side::Latest);
    let (mut again, _) = open(2, 1, 11);
    again.apply(late, Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))));
    assert_eq!(loaded_id(&again, Side::Latest), None);
}

#[test]
fn later_selection_is_shown_whichever_response_arrives_last() {
    let (mut view, _) = open(1, 1, 10);
    let first = ecg_request(&view.select_ecg(Some(ecg_id(3))), Side::Selected);
    let second = ecg_request(&view.select_ecg(Some(ecg_id(4))), Side::Selected);
    view.apply(second, Response::Ecg(Side::Selected, Ok(Box::new(loaded(1, 4)))));
    view.apply(first, Response::Ecg(Side::Selected, Ok(Box::new(loaded(1, 3)))));
    assert_eq!(loaded_id(&view, Side::Selected), Some(ecg_id(4)));
    view.select_ecg(None);
    view.apply(second, Response::Ecg(Side::Selected, Ok(Box::new(loaded(1, 4)))));
    assert_eq!(loaded_id(&view, Side::Selected), None);
}

#[test]
fn new_ecg_replaces_the_latest_and_not_the_selected_one() {
    let (mut view, requests) = open(1, 1, 10);
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))),
    );
    let selected = ecg_request(&view.select_ecg(Some(ecg_id(4))), Side::Selected);
    view.apply(selected, Response::Ecg(Side::Selected, Ok(Box::new(loaded(1, 4)))));
    let (changes, requests) = view.update(&update(1, 11, ChangeKind::Ecg));
    assert!(changes.vitals && changes.latest && changes.ecgs);
    assert_eq!(loaded_id(&view, Side::Latest), None, "the old ECG is not shown with the time of the new one");
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 11)))),
    );
    assert_eq!(loaded_id(&view, Side::Latest), Some(ecg_id(11)));
    assert_eq!(loaded_id(&view, Side::Selected), Some(ecg_id(4)));
}

#[test]
fn analysis_of_a_loaded_ecg_does_not_load_its_signal_again() {
    let (mut view, requests) = open(1, 1, 10);
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))),
    );
    let (_, requests) = view.update(&update(1, 10, ChangeKind::EcgAnalyzed));
    let strip = requests.iter().find_map(|(_, request)| match request {
        Request::Ecg(Side::Latest, _, strip) => Some(strip.is_some()),
        _ => None,
    });
    assert_eq!(strip, Some(true));
    assert!(loaded_id(&view, Side::Latest).is_some(), "it stays visible meanwhile");
}

#[test]
fn updates_of_other_patients_are_ignored() {
    let (mut view, _) = open(1, 1, 10);
    let (changes, requests) = view.update(&update(2, 99, ChangeKind::Ecg));
    assert_eq!((changes, requests.len()), (Changes::default(), 0));
}

#[test]
fn latest_image_is_shown_until_another_one_is_selected() {
    let (mut view, requests) = open(1, 1, 10);
    let any = requests[0].0;
    let list = |numbers: &[i64]| Page {
        items: numbers.iter().map(|one| image(*one)).collect(),
        next: None,
        damaged: Vec::new(),
    };
    let (_, requests) = view.apply(any, Response::Images(PageRequest::Newest, Ok(list(&[5, 4]))));
    assert!(matches!(&requests[..], [(_, Request::Image(record))] if record.id == image(5).id));
    let (_, requests) = view.apply(any, Response::Images(PageRequest::Newest, Ok(list(&[6, 5, 4]))));
    assert!(matches!(&requests[..], [(_, Request::Image(record))] if record.id == image(6).id));
    assert_eq!(view.select_image(image(4).id).len(), 1);
    let (_, requests) = view.apply(any, Response::Images(PageRequest::Newest, Ok(list(&[7, 6, 5, 4]))));
    assert!(requests.is_empty());
    assert_eq!(view.image_record().map(|record| record.id), Some(image(4).id));
}

#[test]
fn trend_is_loaded_back_to_the_start_of_its_range() {
    let summary = Some(patient(1, 1000, EcgStatus::Analyzed));
    let (mut view, requests) = PatientView::open(1, Mrn::new(1).unwrap(), summary, at(700));
    let any = requests[0].0;
    let page = |newest: i64| {
        let items: Vec<HeartRateRecord> = (0..100)
            .map(|back| HeartRateRecord {
                id: ecg_id(newest - back),
                mrn: Mrn::new(1).unwrap(),
                bpm: Bpm::new(70).unwrap(),
                at: at(newest - back),
                received_at: None,
                recorded_at: None,
                source: HeartRateSource::Reported,
                ecg_id: None,
                entered_in_error: None,
            })
            .collect();
        let next = items.last().map(|last| Cursor::Record(last.at, last.id));
        Page { items, next, damaged: Vec::new() }
    };
    let mut newest = 1000;
    let mut pages = 1;
    let (_, mut requests) = view.apply(any, Response::Rates(Ok(page(newest))));
    while let Some((id, Request::Rates(Some(_)))) = requests.first() {
        newest -= 100;
        pages += 1;
        requests = view.apply(*id, Response::Rates(Ok(page(newest)))).1;
    }
    assert_eq!(pages, 4, "1000 down to 601");
    assert_eq!(view.set_trend_from(at(500)).len(), 1, "an earlier start loads more");
    assert_eq!(view.set_trend_from(at(400)).len(), 0, "it is being loaded");
}

#[test]
fn frozen_ecg_stays_while_newer_ones_are_counted() {
    let (mut view, requests) = open(1, 1, 10);
    view.freeze(at(11));
    assert!(view.frozen().is_none(), "there is no ECG to freeze yet");
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))),
    );
    view.freeze(at(11));
    for number in [12, 13] {
        let (changes, requests) = view.update(&update(1, number, ChangeKind::Ecg));
        assert!(changes.vitals && changes.latest, "the count has changed");
        assert!(!requests.iter().any(|(_, request)| matches!(request, Request::Ecg(..))));
        view.update(&update(1, number, ChangeKind::EcgAnalyzed));
    }
    assert_eq!(view.frozen().map(|frozen| (frozen.at, frozen.newer_count())), Some((at(11), 2)));
    assert_eq!(loaded_id(&view, Side::Latest), Some(ecg_id(10)));
    assert_eq!(view.summary().map(|summary| summary.version), Some(13), "the numbers are not frozen");

    view.reload(Some(patient(1, 14, EcgStatus::Analyzed)));
    assert_eq!(loaded_id(&view, Side::Latest), Some(ecg_id(10)), "a reconnect does not end the freeze");
    let (_, requests) = view.unfreeze();
    assert!(view.frozen().is_none());
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 14)))),
    );
    assert_eq!(loaded_id(&view, Side::Latest), Some(ecg_id(14)));
}

#[test]
fn frozen_ecg_takes_its_own_analysis() {
    let (mut view, requests) = open(1, 1, 10);
    view.apply(
        ecg_request(&requests, Side::Latest),
        Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))),
    );
    view.freeze(at(11));
    let mut analyzed = update(1, 12, ChangeKind::Ecg);
    analyzed.changes.push(Change { kind: ChangeKind::EcgAnalyzed, id: Some(ecg_id(10)) });
    let (_, requests) = view.update(&analyzed);
    let requested = requests.iter().find_map(|(_, request)| match request {
        Request::Ecg(Side::Latest, id, _) => Some(*id),
        _ => None,
    });
    assert_eq!(requested, Some(ecg_id(10)));
}

#[test]
fn correction_loads_everything_again_and_earlier_responses_are_ignored() {
    let (mut view, requests) = open(1, 1, 10);
    let late = ecg_request(&requests, Side::Latest);
    let old = update(1, 10, ChangeKind::Corrected);
    assert_eq!(view.update(&old).1.len(), 0, "a known version changes nothing");
    let (changes, requests) = view.update(&update(1, 12, ChangeKind::Corrected));
    assert_eq!(changes, Changes::ALL);
    let lists =
        requests.iter().filter(|(_, request)| matches!(request, Request::Ecgs(_) | Request::Images(_)));
    assert_eq!(lists.count(), 2);
    view.apply(late, Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 10)))));
    assert_eq!(loaded_id(&view, Side::Latest), None);
    let request = ecg_request(&requests, Side::Latest);
    view.apply(request, Response::Ecg(Side::Latest, Ok(Box::new(loaded(1, 12)))));
    assert_eq!(loaded_id(&view, Side::Latest), Some(ecg_id(12)));
}
