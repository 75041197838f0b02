//! Tests of the request to analyse an ECG again.

use axum::http::Method;
use bus::{PubSub, UpdateEvent};
use bytes::Bytes;
use futures::StreamExt;
use proto_json::{
    BlobHash, BlobInfo, EcgAnalysis, FileKind, HashedBytes, MediaType, Mrn, SignalOptions, StoredFile,
    Timestamp, UploadId,
};
use store::{AnalysisResult, NewEcg, NewUpload, PatientReader, PatientWriter};

use crate::fixture::{Api, Form, Reply, Start, TIMEOUT, ecg_csv, png};

/// An upload with an ECG that an earlier version has analysed as 150 bpm.
async fn analysed_before(api: &Api, signal: Vec<u8>, options: SignalOptions) -> NewUpload {
    let id = UploadId::generate();
    let now = Timestamp::now();
    let ecg_id = id.record("ecg", 0);
    let signal = HashedBytes::of(Bytes::from(signal));
    let file = StoredFile { id: ecg_id, kind: FileKind::Ecg, sha256: signal.sha256(), file_name: None };
    let ecg = NewEcg {
        id: ecg_id,
        recorded_at: None,
        signal: Some(BlobInfo::of(&signal, MediaType::Csv)),
        options,
        picture: None,
        reported: None,
    };
    let upload = NewUpload {
        id,
        fingerprint: BlobHash::of(b"request"),
        mrn: Mrn::new(7).unwrap(),
        uploaded_by: None,
        received_at: now,
        stored_at: now,
        name: None,
        rename: proto_json::Rename::No,
        heart_rate: None,
        images: Vec::new(),
        ecgs: vec![ecg],
        files: vec![file],
    };
    api.store.store_upload(&upload, vec![signal]).await.unwrap();
    let analysis: EcgAnalysis = serde_json::from_str(
        r#"{"duration_s":30.0,"sample_rate_hz":360.0,"quality":"poor","beat_count":75,"notes":[],"warnings":[],
            "heart_rate":{"mean_bpm":150.0,"min_bpm":140.0,"max_bpm":160.0},"rows_used":10800,"rows_skipped":0,
            "first_skipped_lines":[]}"#,
    )
    .unwrap();
    let (plot, detail) = (HashedBytes::of(Bytes::from(png(3, 3, 0))), HashedBytes::of("{}".into()));
    let result = AnalysisResult {
        ecg_id,
        upload_id: id,
        mrn: upload.mrn,
        stored_at: now,
        outcome: Ok((analysis, BlobInfo::of(&plot, MediaType::Png), BlobInfo::of(&detail, MediaType::Json))),
    };
    api.store.store_analysis(&result, vec![plot, detail]).await.unwrap().unwrap();
    upload
}

async fn reanalyse(api: &Api, id: impl std::fmt::Display) -> Reply {
    api.send(Method::POST, &format!("/api/v1/ecgs/{id}/reanalyse"), &[], "").await
}

#[tokio::test]
async fn result_of_an_earlier_version_is_replaced() {
    let api = Api::open().await;
    let upload = analysed_before(&api, ecg_csv(75.0, 1), SignalOptions::default()).await;
    let id = upload.ecgs[0].id;
    let old_plot = api.get(&format!("/api/v1/ecgs/{id}/plot")).await;
    assert_eq!(reanalyse(&api, id).await.status, 202);
    let path = format!("/api/v1/ecgs/{id}");
    let is_new = |reply: &Reply| reply.json()["analysis"]["algorithm"] == ecg::ALGORITHM;
    let record = api.eventually(&path, is_new).await.json();
    let rate = record["heart_rate"].as_i64().unwrap();
    assert!((73..=77).contains(&rate) && record["analysis"]["quality"] == "good", "{record}");
    let patient = api.get("/api/v1/patients/7").await.json();
    assert_eq!(patient["latest_heart_rate"]["bpm"], rate);
    let rates = api.get("/api/v1/patients/7/heart-rates").await.json();
    assert_eq!(rates["items"].as_array().unwrap().len(), 1);
    let tag = old_plot.header("etag").to_owned();
    let new_plot = api.send(Method::GET, &format!("{path}/plot"), &[("if-none-match", &tag)], "").await;
    assert_eq!(new_plot.status, 200, "a cached plot is not shown any more");
    // Once more: the result of the same version changes nothing.
    let version = api.store.patient(upload.mrn).await.unwrap().unwrap().version;
    let mut changes = api.bus.subscribe(None).await.unwrap();
    assert_eq!(reanalyse(&api, id).await.status, 202);
    let published = async {
        while let Some(event) = changes.next().await {
            if matches!(&event, UpdateEvent::Updated(update) if update.changes[0].id == Some(id)) {
                return;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, published).await.expect("the result is published");
    assert_eq!(api.store.patient(upload.mrn).await.unwrap().unwrap().version, version);
}

#[tokio::test]
async fn signal_is_read_as_the_upload_stated() {
    let api = Api::open().await;
    let settings = ecg::synth::Settings { sample_rate_hz: 200.0, mean_bpm: 80.0, ..Default::default() };
    let samples = ecg::synth::generate(&settings).strip.segments.remove(0).samples;
    let without_times: String = samples.iter().map(|sample| format!("{sample:.4}\n")).collect();
    let options = SignalOptions { sample_rate_hz: Some(200.0), lead: None };
    let upload = analysed_before(&api, without_times.into_bytes(), options).await;
    assert_eq!(reanalyse(&api, upload.ecgs[0].id).await.status, 202);
    let path = format!("/api/v1/ecgs/{}", upload.ecgs[0].id);
    let is_new = |reply: &Reply| reply.json()["analysis"]["algorithm"] == ecg::ALGORITHM;
    let record = api.eventually(&path, is_new).await.json();
    assert!((78..=82).contains(&record["heart_rate"].as_i64().unwrap()), "{record}");
    assert_eq!(record["signal_options"]["sample_rate_hz"], 200.0);
}

#[tokio::test]
async fn ecgs_without_a_result_or_a_signal_are_rejected() {
    let api = Api::open().await;
    reanalyse(&api, "7").await.assert_problem(400, "UUID");
    reanalyse(&api, UploadId::generate()).await.assert_problem(404, "id");
    let reply = api.upload("7", Form::default().file("ecg_image", "a.png", &png(5, 5, 1)), &[]).await;
    let picture = reply.json()["files"][0]["id"].as_str().unwrap().to_owned();
    reanalyse(&api, picture).await.assert_problem(409, "picture");
    let api = Start { ingest: false, ..Default::default() }.start().await;
    let mut upload = analysed_before(&api, ecg_csv(75.0, 1), SignalOptions::default()).await;
    upload.id = UploadId::generate();
    upload.ecgs[0].id = upload.id.record("ecg", 0);
    let signal = HashedBytes::of(Bytes::from(ecg_csv(75.0, 1)));
    api.store.store_upload(&upload, vec![signal]).await.unwrap();
    reanalyse(&api, upload.ecgs[0].id).await.assert_problem(409, "still being analysed");
}
