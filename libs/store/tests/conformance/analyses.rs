//! Results of analyses: each ECG has one, and a result of a later version of the analysis replaces it.

use proto_json::Timestamp;
use proto_json::{BlobHash, EcgQuality, EcgStatus, HeartRateSource, MediaType};
use store::{AnalysisResult, NewUpload, PendingEcg};

use crate::harness::{
    Fixture, With, analysed, at, blob, failed, first, get, key, mrn, on_every_adapter, put, put_result,
    upload,
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
    result_of_a_later_version_replaces_the_stored_one,
    files_of_a_replaced_result_become_orphaned,
    later_result_without_a_rate_uncovers_another_rate,
    later_result_of_an_earlier_ecg_keeps_the_latest,
    result_replaces_a_failure_and_not_the_other_way_round,
    one_of_many_concurrent_later_results_is_stored,
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
    result.upload_id = picture.id;
    assert_eq!(put_result(&*store, &result).await, None, "the ECG of another upload");
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

/// A result of this version of the analysis, with files of its own.
fn of_version(new: &NewUpload, version: u32, mean_bpm: f64) -> AnalysisResult {
    let mut result = analysed(new, mean_bpm);
    if let Ok((analysis, plot, detail)) = &mut result.outcome {
        analysis.algorithm = version;
        *plot = blob(&format!("plot {version}"), MediaType::Png);
        *detail = blob(&format!("detail {version}"), MediaType::Json);
    }
    result
}

async fn result_of_a_later_version_replaces_the_stored_one(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(Some(500));
    put(&*store, &new).await;
    put_result(&*store, &analysed(&new, 90.0)).await.unwrap();
    let result = of_version(&new, 2, 45.0);
    let patient = put_result(&*store, &result).await.unwrap();
    assert_eq!((patient.version, store.patient(mrn(7)).await.unwrap().as_ref()), (3, Some(&patient)));
    let rates = store.heart_rates(mrn(7), first(9)).await.unwrap().items;
    assert_eq!((rates.len(), rates[0].bpm.get(), rates[0].at), (1, 45, at(500)));
    let latest = patient.latest_heart_rate.clone().unwrap();
    assert_eq!((latest.bpm.get(), latest.id, latest.clock_wrong), (45, rates[0].id, false));
    assert_eq!(patient.latest_ecg.as_ref().unwrap().heart_rate, Some(rates[0].bpm));
    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    assert_eq!(ecg.analysis.as_ref(), result.outcome.as_ref().ok().map(|(analysis, ..)| analysis));
    assert_eq!(ecg.plot, Some(blob("plot 2", MediaType::Png)));
    // How to read the signal is kept, so that it can be analysed again.
    assert_eq!(ecg.signal_options, Some(new.ecgs[0].options.clone()));
    // Neither a redelivery nor an earlier version changes anything.
    for late in [result, of_version(&new, 2, 60.0), of_version(&new, 1, 60.0), failed(&new, "no")] {
        assert_eq!(put_result(&*store, &late).await, None);
    }
    assert_eq!(store.ecg(new.ecgs[0].id).await.unwrap(), Some(ecg));
    assert_eq!(store.patient(mrn(7)).await.unwrap(), Some(patient));
    assert!(put_result(&*store, &of_version(&new, 3, 46.0)).await.is_some());
    assert!(store.pending_ecgs(at(90_000), at(90_000), 9).await.unwrap().is_empty());
}

async fn files_of_a_replaced_result_become_orphaned(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None).signal(None);
    put(&*store, &new).await;
    // Both ECGs have the same plot and details.
    let second = |mut result: AnalysisResult| {
        result.ecg_id = new.ecgs[1].id;
        result
    };
    put_result(&*store, &of_version(&new, 1, 70.0)).await.unwrap();
    put_result(&*store, &second(of_version(&new, 1, 70.0))).await.unwrap();
    let before_replacing = Timestamp::now();
    put_result(&*store, &of_version(&new, 2, 71.0)).await.unwrap();
    let later = || Timestamp::now().plus_millis(60_000);
    assert_eq!(store.sweep_orphans(later(), 100).await.unwrap(), 0, "the other ECG refers to them");
    put_result(&*store, &second(of_version(&new, 3, 71.0))).await.unwrap();
    // Readers of the replaced files have as much time as those of a file that was just written.
    assert_eq!(store.sweep_orphans(before_replacing, 100).await.unwrap(), 0);
    assert_eq!(store.sweep_orphans(later(), 100).await.unwrap(), 2);
    let is_stored = async |name: &str| get(&*store, key(&new, BlobHash::of(name.as_bytes()))).await.is_some();
    for (name, stays) in [("plot 1", false), ("detail 1", false), ("plot 2", true), ("detail 3", true)] {
        assert_eq!(is_stored(name).await, stays, "{name}");
    }
    for ecg in &new.ecgs {
        let signal = ecg.signal.as_ref().unwrap().sha256;
        assert!(get(&*store, key(&new, signal)).await.is_some(), "the signals stay");
    }
}

async fn later_result_without_a_rate_uncovers_another_rate(Fixture { store, .. }: Fixture) {
    let (earlier, new) = (upload(7, "a", 1000).rate(80, 1000), upload(7, "b", 2000).signal(None));
    put(&*store, &earlier).await;
    put(&*store, &new).await;
    put_result(&*store, &analysed(&new, 150.0)).await.unwrap();
    let mut result = of_version(&new, 1, 1.0);
    if let Ok((analysis, ..)) = &mut result.outcome {
        analysis.heart_rate = None;
        analysis.quality = EcgQuality::Unusable;
    }
    let patient = put_result(&*store, &result).await.unwrap();
    assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 80);
    assert_eq!(patient.latest_ecg.unwrap().heart_rate, None);
    let rates = store.heart_rates(mrn(7), first(9)).await.unwrap().items;
    assert_eq!(rates.iter().map(|rate| rate.bpm.get()).collect::<Vec<_>>(), [80]);
    // A later value replaces it, and the next version of the analysis can find a rate again.
    let patient = put_result(&*store, &of_version(&new, 2, 75.0)).await.unwrap();
    assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 75);
}

async fn later_result_of_an_earlier_ecg_keeps_the_latest(Fixture { store, .. }: Fixture) {
    let (earlier, later) = (upload(7, "a", 1000).signal(None), upload(7, "b", 2000).signal(None));
    for (new, rate) in [(&earlier, 60.0), (&later, 70.0)] {
        put(&*store, new).await;
        put_result(&*store, &analysed(new, rate)).await.unwrap();
    }
    let patient = put_result(&*store, &of_version(&earlier, 1, 65.0)).await.unwrap();
    assert_eq!(patient.latest_heart_rate.unwrap().bpm.get(), 70);
    assert_eq!(patient.latest_ecg.unwrap().id, later.ecgs[0].id);
    let rates = store.heart_rates(mrn(7), first(9)).await.unwrap().items;
    assert_eq!(rates.iter().map(|rate| rate.bpm.get()).collect::<Vec<_>>(), [70, 65]);
}

async fn result_replaces_a_failure_and_not_the_other_way_round(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    put_result(&*store, &failed(&new, "unreadable")).await.unwrap();
    let patient = put_result(&*store, &of_version(&new, 1, 70.0)).await.unwrap();
    assert_eq!(patient.latest_ecg.unwrap().status, EcgStatus::Analyzed);
    let ecg = store.ecg(new.ecgs[0].id).await.unwrap().unwrap();
    assert_eq!((ecg.status, ecg.failure), (EcgStatus::Analyzed, None));
    assert_eq!(put_result(&*store, &failed(&new, "no")).await, None);
}

async fn one_of_many_concurrent_later_results_is_stored(Fixture { store, .. }: Fixture) {
    let new = upload(7, "a", 1000).signal(None);
    put(&*store, &new).await;
    put_result(&*store, &analysed(&new, 90.0)).await.unwrap();
    let results = (0..8).map(|n| {
        let (store, result) = (store.clone(), of_version(&new, 1, 60.0 + f64::from(n)));
        tokio::spawn(async move { put_result(&*store, &result).await })
    });
    let mut announced = Vec::new();
    for result in results.collect::<Vec<_>>() {
        announced.extend(result.await.unwrap());
    }
    assert_eq!(announced.len(), 1, "one of them announces");
    let patient = store.patient(mrn(7)).await.unwrap().unwrap();
    assert_eq!((&announced[0], patient.version), (&patient, 3));
    let rates = store.heart_rates(mrn(7), first(9)).await.unwrap().items;
    assert_eq!((rates.len(), patient.latest_heart_rate.unwrap().bpm), (1, rates[0].bpm));
}
