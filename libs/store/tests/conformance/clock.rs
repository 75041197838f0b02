//! Clocks that are wrong: which record is the latest, what is marked, and the highest time seen.

use proto_json::{PatientSummary, RecordId, Timestamp};
use store::NewUpload;

use crate::harness::{Fixture, With, analysed, at, mrn, on_every_adapter, put, put_result, upload};

const HOUR: i64 = 3_600_000;
const YEAR: i64 = 365 * 24 * HOUR;
/// By how much a clock is wrong.
const OFFSETS: [i64; 4] = [-HOUR, HOUR, -YEAR, YEAR];

on_every_adapter!(
    newest_upload_is_latest_after_the_clock_was_wrong_and_while_it_is,
    value_received_in_the_future_is_marked_and_yields_to_the_next_upload,
    late_upload_of_an_older_recording_does_not_become_latest,
    late_analysis_of_an_older_upload_does_not_become_latest,
    redelivery_of_an_older_upload_does_not_restore_its_value,
    record_is_marked_once_and_stays_marked,
    highest_time_is_kept_until_it_is_accepted,
    pending_ecg_received_in_the_future_is_listed,
);

/// An upload of everything, received at this time.
fn full(key: &str, millis: i64, rate: i64) -> NewUpload {
    let mut new = upload(7, key, millis).image().signal(None).rate(rate, 0);
    new.heart_rate.as_mut().unwrap().recorded_at = None;
    new
}

/// Ids of the latest heart rate, ECG and image.
fn latest(patient: &PatientSummary) -> [Option<RecordId>; 3] {
    [
        patient.latest_heart_rate.as_ref().map(|rate| rate.id),
        patient.latest_ecg.as_ref().map(|ecg| ecg.id),
        patient.latest_image.as_ref().map(|image| image.id),
    ]
}

fn of(upload: &NewUpload) -> [Option<RecordId>; 3] {
    [
        upload.heart_rate.as_ref().map(|rate| rate.id),
        upload.ecgs.first().map(|ecg| ecg.id),
        upload.images.first().map(|image| image.id),
    ]
}

fn marks(patient: &PatientSummary) -> [bool; 3] {
    [
        patient.latest_heart_rate.as_ref().unwrap().clock_wrong,
        patient.latest_ecg.as_ref().unwrap().clock_wrong,
        patient.latest_image.as_ref().unwrap().clock_wrong,
    ]
}

async fn newest_upload_is_latest_after_the_clock_was_wrong_and_while_it_is(Fixture { store, .. }: Fixture) {
    let mut minute = 0;
    for offset in OFFSETS {
        for (when, millis) in [("right", 0), ("wrong", offset), ("right again", 0), ("wrong again", offset)] {
            minute += 1;
            let new = full(&format!("{offset} {when}"), millis + minute * 60_000, 60);
            let (_, patient, _) = put(&*store, &new).await;
            assert_eq!(latest(&patient), of(&new), "{when}, {offset} ms off");
            let rate = patient.latest_heart_rate.unwrap();
            assert_eq!((rate.at, rate.received_at, rate.recorded_at), (new.received_at, Some(rate.at), None));
            assert_eq!(rate.upload_version, patient.version);
        }
    }
}

async fn value_received_in_the_future_is_marked_and_yields_to_the_next_upload(
    Fixture { store, .. }: Fixture,
) {
    put(&*store, &full("before", 0, 60)).await;
    // The gateway's clock is ahead of the store's.
    let mut ahead = full("ahead", HOUR, 180);
    ahead.stored_at = at(1_000);
    let (_, patient, _) = put(&*store, &ahead).await;
    assert_eq!((latest(&patient), marks(&patient)), (of(&ahead), [true; 3]));
    // As much as clocks may differ is no future.
    let mut near = full("near", 7_000, 61);
    near.stored_at = at(2_000);
    let (_, patient, _) = put(&*store, &near).await;
    assert_eq!((latest(&patient), marks(&patient)), (of(&near), [false; 3]));
}

async fn late_upload_of_an_older_recording_does_not_become_latest(Fixture { store, .. }: Fixture) {
    let now = upload(7, "now", 100_000).rate(60, 99_000);
    put(&*store, &now).await;
    let (_, patient, _) = put(&*store, &upload(7, "late", 200_000).rate(150, 50_000)).await;
    let rate = patient.latest_heart_rate.unwrap();
    assert_eq!((rate.id, rate.recorded_at), (now.heart_rate.unwrap().id, Some(at(99_000))));
    assert_eq!(rate.upload_version, 1);
}

async fn late_analysis_of_an_older_upload_does_not_become_latest(Fixture { store, .. }: Fixture) {
    let older = upload(7, "older", 0).signal(None);
    let newer = upload(7, "newer", YEAR).signal(None);
    put(&*store, &older).await;
    put(&*store, &newer).await;
    // The clock is right again when the results come; the newer one first.
    let mut result = analysed(&newer, 180.0);
    result.stored_at = at(10_000);
    let patient = put_result(&*store, &result).await.unwrap();
    assert!(patient.latest_heart_rate.unwrap().clock_wrong);
    let mut result = analysed(&older, 60.0);
    result.stored_at = at(11_000);
    let patient = put_result(&*store, &result).await.unwrap();
    assert_eq!(patient.latest_ecg.unwrap().id, newer.ecgs[0].id);
    let rate = patient.latest_heart_rate.unwrap();
    assert_eq!((rate.ecg_id, rate.upload_version), (Some(newer.ecgs[0].id), 2));
    // What comes after both is the latest, once it has a rate.
    let third = upload(7, "third", 20_000).signal(None);
    let (_, patient, _) = put(&*store, &third).await;
    assert_eq!(patient.latest_ecg.as_ref().unwrap().id, third.ecgs[0].id);
    assert!(patient.latest_ecg.unwrap().is_after(&patient.latest_heart_rate.unwrap()));
    let patient = put_result(&*store, &analysed(&third, 70.0)).await.unwrap();
    assert_eq!(patient.latest_heart_rate.unwrap().ecg_id, Some(third.ecgs[0].id));
}

async fn redelivery_of_an_older_upload_does_not_restore_its_value(Fixture { store, .. }: Fixture) {
    let older = full("older", 0, 60);
    let newer = full("newer", HOUR, 61);
    put(&*store, &older).await;
    put(&*store, &newer).await;
    let (_, patient, replayed) = put(&*store, &older).await;
    assert!(replayed);
    assert_eq!(latest(&patient), of(&newer));
}

async fn record_is_marked_once_and_stays_marked(Fixture { store, .. }: Fixture) {
    let (_, kept, _) = put(&*store, &upload(8, "other", 0).rate(70, 0)).await;
    let ahead = full("ahead", HOUR, 180);
    put(&*store, &ahead).await;
    assert!(store.mark_clock_wrong(at(HOUR)).await.unwrap().is_empty(), "the clock is as it was");
    let marked = store.mark_clock_wrong(at(60_000)).await.unwrap();
    assert_eq!(marked.len(), 1);
    assert_eq!((marked[0].mrn, marked[0].version, marks(&marked[0])), (mrn(7), 2, [true; 3]));
    assert_eq!(store.patient(mrn(7)).await.unwrap().as_ref(), Some(&marked[0]));
    assert_eq!(store.patient(mrn(8)).await.unwrap(), Some(kept));
    assert!(store.mark_clock_wrong(at(60_000)).await.unwrap().is_empty(), "once");
    // Past the time that was in the future, the mark is still there, and an upload of before that time wins.
    let next = full("next", HOUR - 60_000, 62);
    let mut next = next;
    next.stored_at = at(2 * HOUR);
    let (_, patient, _) = put(&*store, &next).await;
    assert_eq!((latest(&patient), marks(&patient)), (of(&next), [false; 3]));
}

async fn highest_time_is_kept_until_it_is_accepted(Fixture { store, .. }: Fixture) {
    assert_eq!(store.highest_time().await.unwrap(), None);
    assert_eq!(store.observe_time(at(10)).await.unwrap(), at(10));
    assert_eq!(store.observe_time(at(YEAR)).await.unwrap(), at(YEAR));
    assert_eq!(store.observe_time(at(20)).await.unwrap(), at(YEAR), "the clock is behind");
    assert_eq!(store.highest_time().await.unwrap(), Some(at(YEAR)));
    store.accept_time(at(30)).await.unwrap();
    assert_eq!(store.observe_time(at(20)).await.unwrap(), at(30));
}

async fn pending_ecg_received_in_the_future_is_listed(Fixture { store, .. }: Fixture) {
    let ids = |found: Vec<store::PendingEcg>| found.into_iter().map(|ecg| ecg.id).collect::<Vec<_>>();
    let list = |store: std::sync::Arc<dyn crate::harness::Store>,
                before: Timestamp,
                now: Timestamp,
                limit| async move { ids(store.pending_ecgs(before, now, limit).await.unwrap()) };
    let [old, fresh, ahead] = [("old", 0), ("fresh", 100_000), ("ahead", YEAR)]
        .map(|(key, millis)| upload(7, key, millis).signal(None));
    for new in [&old, &fresh, &ahead] {
        put(&*store, new).await;
    }
    let (before, now) = (at(60_000), at(120_000));
    assert_eq!(list(store.clone(), before, now, 9).await, [old.ecgs[0].id, ahead.ecgs[0].id]);
    assert_eq!(list(store.clone(), before, now, 1).await, [old.ecgs[0].id]);
    put_result(&*store, &analysed(&ahead, 60.0)).await.unwrap();
    assert_eq!(list(store, before, now, 9).await, [old.ecgs[0].id]);
}
