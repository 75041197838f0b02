//! Results of analyses: each ECG gets one.

use proto_json::{BlobHash, EcgQuality, EcgStatus, HeartRateSource, MediaType};
use store::PendingEcg;

use crate::harness::{
    Fixture, With, analysed, at, blob, failed, first, mrn, on_every_adapter, put, put_result, upload,
};

on_every_adapter!(
    result_changes_ecg_history_and_patient,
    second_result_changes_nothing,
    failed_analysis_is_stored_with_its_reason,
    result_without_a_rate_adds_no_rate,
    result_of_an_earlier_ecg_does_not_become_latest,
    result_of_an_unknown_ecg_or_a_picture_is_none,
    pending_ecgs_are_listed_oldest_first_until_they_have_a_result,
    one_of_many_concurrent_results_is_stored,
);

async fn result_changes_ecg_history_and_patient(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(Some(500));
    put(&*store, &new).await;
    let result = analysed(&new, 71.6);
    let patient = put_result(&*store, &result).await.unwrap();
    assert_eq!((patient.version, patient.updated_at), (2, at(50_000)));
    assert_eq!(store.patient(mrn(7)).await.unwrap().as_ref(), Some(&patient));

    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    assert_eq!((ecg.status, ecg.heart_rate.unwrap().get(), ecg.at), (EcgStatus::Analyzed, 72, at(500)));
    assert_eq!(ecg.signal, new.ecgs[0].signal);
    assert_eq!(ecg.plot, Some(blob("plot", MediaType::Png)));
    assert_eq!(ecg.detail, Some(blob("detail", MediaType::Json)));
    assert_eq!(ecg.analysis.as_ref(), result.outcome.as_ref().ok().map(|(analysis, ..)| analysis));

    let rate = store.heart_rates(mrn(7), first(9)).await.unwrap().items.remove(0);
    assert_eq!((rate.bpm.get(), rate.at, rate.source), (72, at(500), HeartRateSource::Ecg));
    assert_eq!((rate.id, rate.ecg_id), (ecg.id.derived("heart_rate"), Some(ecg.id)));
    assert_eq!(patient.latest_heart_rate.unwrap().id, rate.id);
    let latest = patient.latest_ecg.unwrap();
    assert_eq!(
        (latest.status, latest.heart_rate, latest.quality),
        (EcgStatus::Analyzed, ecg.heart_rate, Some(EcgQuality::Good))
    );
}

async fn second_result_changes_nothing(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    let patient = put_result(&*store, &analysed(&new, 70.0)).await.unwrap();
    assert_eq!(put_result(&*store, &analysed(&new, 70.0)).await, None);
    assert_eq!(put_result(&*store, &analysed(&new, 90.0)).await, None);
    assert_eq!(put_result(&*store, &failed(&new, "no")).await, None);
    assert_eq!(store.patient(mrn(7)).await.unwrap(), Some(patient));
    assert_eq!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.len(), 1);
    // Nor does the upload, delivered again, take it back.
    put(&*store, &new).await;
    assert_eq!(store.ecg(new.ecgs[0].id).await.unwrap().unwrap().status, EcgStatus::Analyzed);
}

async fn failed_analysis_is_stored_with_its_reason(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    let patient = put_result(&*store, &failed(&new, "$The file is empty.")).await.unwrap();
    assert_eq!(patient.latest_ecg.unwrap().status, EcgStatus::Failed);
    assert_eq!((patient.latest_heart_rate, patient.version), (None, 2));
    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    assert_eq!((ecg.status, ecg.failure.as_deref()), (EcgStatus::Failed, Some("$The file is empty.")));
    assert!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.is_empty());
    assert_eq!(put_result(&*store, &analysed(&new, 70.0)).await, None);
}

async fn result_without_a_rate_adds_no_rate(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    let mut result = analysed(&new, 70.0);
    if let Ok((analysis, ..)) = &mut result.outcome {
        analysis.heart_rate = None;
        analysis.quality = EcgQuality::Unusable;
    }
    let patient = put_result(&*store, &result).await.unwrap();
    assert_eq!(patient.latest_heart_rate, None);
    assert_eq!(patient.latest_ecg.unwrap().quality, Some(EcgQuality::Unusable));
    assert!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.is_empty());
}

async fn result_of_an_earlier_ecg_does_not_become_latest(Fixture { store, .. }: Fixture) {
    let (earlier, later) =
        (upload(7, "a", 1000).signal(None), upload(7, "b", 2000).signal(None).rate(90, 2000));
    put(&*store, &earlier).await;
    put(&*store, &later).await;
    let patient = put_result(&*store, &analysed(&earlier, 60.0)).await.unwrap();
    assert_eq!(patient.version, 3);
    assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 90);
    let latest = patient.latest_ecg.unwrap();
    assert_eq!((latest.id, latest.status), (later.ecgs[0].id, EcgStatus::Pending));
    assert_eq!(store.heart_rates(mrn(7), first(9)).await.unwrap().items.len(), 2);
}

async fn result_of_an_unknown_ecg_or_a_picture_is_none(Fixture { store, .. }: Fixture) {
    let unknown = upload(7, "a", 0).signal(None);
    assert_eq!(put_result(&*store, &analysed(&unknown, 70.0)).await, None);
    let picture = upload(7, "b", 0).picture(None);
    put(&*store, &picture).await;
    assert_eq!(put_result(&*store, &analysed(&picture, 70.0)).await, None);
    let other = upload(7, "c", 0).signal(None);
    put(&*store, &other).await;
    let mut result = analysed(&other, 70.0);
    result.mrn = mrn(8);
    assert_eq!(put_result(&*store, &result).await, None, "the ECG of another patient");
    assert_eq!(store.ecg(other.ecgs[0].id).await.unwrap().unwrap().status, EcgStatus::Pending);
}

async fn pending_ecgs_are_listed_oldest_first_until_they_have_a_result(Fixture { store, .. }: Fixture) {
    let uploads: Vec<_> = [3000, 1000, 2000, 4000]
        .iter()
        .map(|&millis| upload(millis as u64, &millis.to_string(), millis).signal(Some(-millis)).picture(None))
        .collect();
    for upload in &uploads {
        put(&*store, upload).await;
    }
    let pending = store.pending_ecgs(at(4000), at(4000), 10).await.unwrap();
    assert_eq!(pending.iter().map(|ecg| ecg.mrn.get()).collect::<Vec<_>>(), [1000, 2000, 3000]);
    let oldest = &uploads[1];
    let expected = PendingEcg {
        id: oldest.ecgs[0].id,
        upload_id: oldest.id,
        mrn: oldest.mrn,
        received_at: oldest.received_at,
        signal: oldest.ecgs[0].signal.clone().unwrap(),
        options: oldest.ecgs[0].options.clone(),
    };
    assert_eq!(pending[0], expected);
    assert_eq!(store.pending_ecgs(at(4000), at(4000), 1).await.unwrap(), [expected]);
    assert_eq!(store.pending_ecgs(at(4000), at(4000), 0).await.unwrap(), []);
    put_result(&*store, &analysed(&uploads[1], 70.0)).await.unwrap();
    put_result(&*store, &failed(&uploads[2], "no")).await.unwrap();
    let pending = store.pending_ecgs(at(9000), at(9000), 10).await.unwrap();
    assert_eq!(pending.iter().map(|ecg| ecg.mrn.get()).collect::<Vec<_>>(), [3000, 4000]);
}

async fn one_of_many_concurrent_results_is_stored(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    let results = (0..12).map(|n| {
        let (store, result) = (store.clone(), analysed(&new, 60.0 + f64::from(n)));
        tokio::spawn(async move { put_result(&*store, &result).await })
    });
    let mut announced = Vec::new();
    for result in results.collect::<Vec<_>>() {
        announced.extend(result.await.unwrap());
    }
    assert_eq!(announced.len(), 1, "one of them announces");
    let patient = store.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!((&announced[0], patient.version), (&patient, 2));
    let rates = store.heart_rates(mrn(7), first(9)).await.unwrap().items;
    assert_eq!(rates.len(), 1);
    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    // All of it is of one and the same result.
    assert_eq!(ecg.heart_rate, Some(rates[0].bpm));
    assert_eq!(patient.latest_ecg.unwrap().heart_rate, ecg.heart_rate);
    assert_eq!(patient.latest_heart_rate.unwrap().bpm, rates[0].bpm);
    assert_ne!(ecg.signal.unwrap().sha256, BlobHash::of(b""));
}
