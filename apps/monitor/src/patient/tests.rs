//! The view of a patient under answers that come late, twice, or out of order.

use std::sync::Arc;

use super::*;
use crate::pages::Wanted;
use proto_json::{BlobInfo, Bpm, Change, HeartRateSource, LatestEcg, LatestHeartRate, MediaType, UploadId};
use ui::trace::EcgScene;

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
    }
}

fn shown(mrn: u64, number: i64) -> EcgShown {
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
        analysis: None,
        failure: None,
    };
    let strip = Arc::new(ecg::Strip::from_samples(250.0, vec![0.0; 500]));
    let scene = Arc::new(EcgScene::new(strip.clone(), Vec::new(), Vec::new()));
    EcgShown { record, content: Content::Trace(strip, scene) }
}

fn image(number: i64) -> ImageRecord {
    ImageRecord {
        id: UploadId::from_idempotency_key("", &number.to_string()).record("image", 0),
        mrn: Mrn::new(1).unwrap(),
        upload_id: UploadId::generate(),
        at: at(number),
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

fn open(generation: u64, mrn: u64, number: i64) -> (PatientView, Vec<(Ticket, Ask)>) {
    let summary = Some(patient(mrn, number, EcgStatus::Analyzed));
    PatientView::open(generation, Mrn::new(mrn).unwrap(), summary, at(0))
}

fn ecg_ticket(asks: &[(Ticket, Ask)], side: Side) -> Ticket {
    asks.iter().find(|(_, ask)| matches!(ask, Ask::Ecg(of, ..) if *of == side)).expect("asked for").0
}

fn shown_id(view: &PatientView, side: Side) -> Option<RecordId> {
    view.ecg(side).get().map(|shown| shown.record.id)
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
fn answers_of_the_patient_before_are_dropped() {
    let (mut first, asks) = open(1, 1, 10);
    let late = ecg_ticket(&asks, Side::Latest);
    first.take(late, Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 10)))));
    assert_eq!(shown_id(&first, Side::Latest), Some(ecg_id(10)));

    let (mut second, _) = open(2, 2, 20);
    let (changed, asks) = second.take(late, Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 10)))));
    assert_eq!((changed, asks.len()), (Changed::default(), 0));
    assert_eq!(shown_id(&second, Side::Latest), None);
    second.take(
        late,
        Answer::Ecgs(
            Wanted::Newest,
            Ok(Page { items: vec![shown(1, 10).record], next: None, damaged: Vec::new() }),
        ),
    );
    second.take(
        late,
        Answer::Images(Wanted::Newest, Ok(Page { items: vec![image(1)], next: None, damaged: Vec::new() })),
    );
    assert!(second.ecgs().entries().is_empty() && second.images().entries().is_empty());
}

#[test]
fn the_same_patient_opened_again_takes_no_answers_of_the_first_time() {
    let (_, asks) = open(1, 1, 10);
    let late = ecg_ticket(&asks, Side::Latest);
    let (mut again, _) = open(2, 1, 11);
    again.take(late, Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 10)))));
    assert_eq!(shown_id(&again, Side::Latest), None);
}

#[test]
fn of_two_choices_the_later_one_is_shown_whichever_answer_comes_last() {
    let (mut view, _) = open(1, 1, 10);
    let first = ecg_ticket(&view.choose_ecg(Some(ecg_id(3))), Side::Chosen);
    let second = ecg_ticket(&view.choose_ecg(Some(ecg_id(4))), Side::Chosen);
    view.take(second, Answer::Ecg(Side::Chosen, Ok(Box::new(shown(1, 4)))));
    view.take(first, Answer::Ecg(Side::Chosen, Ok(Box::new(shown(1, 3)))));
    assert_eq!(shown_id(&view, Side::Chosen), Some(ecg_id(4)));
    view.choose_ecg(None);
    view.take(second, Answer::Ecg(Side::Chosen, Ok(Box::new(shown(1, 4)))));
    assert_eq!(shown_id(&view, Side::Chosen), None);
}

#[test]
fn a_new_ecg_takes_the_place_of_the_latest_and_leaves_the_chosen_one() {
    let (mut view, asks) = open(1, 1, 10);
    view.take(ecg_ticket(&asks, Side::Latest), Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 10)))));
    let chosen = ecg_ticket(&view.choose_ecg(Some(ecg_id(4))), Side::Chosen);
    view.take(chosen, Answer::Ecg(Side::Chosen, Ok(Box::new(shown(1, 4)))));
    let (changed, asks) = view.update(&update(1, 11, ChangeKind::Ecg));
    assert!(changed.vitals && changed.latest && changed.ecgs);
    assert_eq!(shown_id(&view, Side::Latest), None, "the old one is not shown under the new time");
    view.take(ecg_ticket(&asks, Side::Latest), Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 11)))));
    assert_eq!(shown_id(&view, Side::Latest), Some(ecg_id(11)));
    assert_eq!(shown_id(&view, Side::Chosen), Some(ecg_id(4)));
}

#[test]
fn the_analysis_of_an_ecg_that_is_here_does_not_fetch_its_signal_again() {
    let (mut view, asks) = open(1, 1, 10);
    view.take(ecg_ticket(&asks, Side::Latest), Answer::Ecg(Side::Latest, Ok(Box::new(shown(1, 10)))));
    let (_, asks) = view.update(&update(1, 10, ChangeKind::EcgAnalyzed));
    let strip = asks.iter().find_map(|(_, ask)| match ask {
        Ask::Ecg(Side::Latest, _, strip) => Some(strip.is_some()),
        _ => None,
    });
    assert_eq!(strip, Some(true));
    assert!(shown_id(&view, Side::Latest).is_some(), "it stays on the screen meanwhile");
}

#[test]
fn updates_of_other_patients_change_nothing() {
    let (mut view, _) = open(1, 1, 10);
    let (changed, asks) = view.update(&update(2, 99, ChangeKind::Ecg));
    assert_eq!((changed, asks.len()), (Changed::default(), 0));
}

#[test]
fn the_latest_image_is_shown_until_another_one_is_chosen() {
    let (mut view, asks) = open(1, 1, 10);
    let any = asks[0].0;
    let list = |numbers: &[i64]| Page {
        items: numbers.iter().map(|one| image(*one)).collect(),
        next: None,
        damaged: Vec::new(),
    };
    let (_, asks) = view.take(any, Answer::Images(Wanted::Newest, Ok(list(&[5, 4]))));
    assert!(matches!(&asks[..], [(_, Ask::Image(record))] if record.id == image(5).id));
    let (_, asks) = view.take(any, Answer::Images(Wanted::Newest, Ok(list(&[6, 5, 4]))));
    assert!(matches!(&asks[..], [(_, Ask::Image(record))] if record.id == image(6).id));
    assert_eq!(view.choose_image(image(4).id).len(), 1);
    let (_, asks) = view.take(any, Answer::Images(Wanted::Newest, Ok(list(&[7, 6, 5, 4]))));
    assert!(asks.is_empty());
    assert_eq!(view.image_record().map(|record| record.id), Some(image(4).id));
}

#[test]
fn the_trend_is_fetched_back_to_where_it_is_wanted_from_and_no_further() {
    let summary = Some(patient(1, 1000, EcgStatus::Analyzed));
    let (mut view, asks) = PatientView::open(1, Mrn::new(1).unwrap(), summary, at(700));
    let any = asks[0].0;
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
            })
            .collect();
        let next = items.last().map(|last| Cursor::Record(last.at, last.id));
        Page { items, next, damaged: Vec::new() }
    };
    let mut newest = 1000;
    let mut pages = 1;
    let (_, mut asks) = view.take(any, Answer::Rates(Ok(page(newest))));
    while let Some((ticket, Ask::Rates(Some(_)))) = asks.first() {
        newest -= 100;
        pages += 1;
        asks = view.take(*ticket, Answer::Rates(Ok(page(newest)))).1;
    }
    assert_eq!(pages, 4, "1000 down to 601");
    assert_eq!(view.want_trend(at(500)).len(), 1, "an earlier start fetches on");
    assert_eq!(view.want_trend(at(400)).len(), 0, "it is on its way");
}
