//! Tests of the results of an analysis: what the record and the details contain, and drawings of leads and pages.

use std::fmt::Write as _;

use axum::http::Method;
use serde_json::Value;

use crate::fixture::{Api, Form, Reply, Start, png};

/// A file with twelve leads of ten seconds.
fn twelve_leads() -> Vec<u8> {
    let settings = ecg::synth::Settings { sample_rate_hz: 250.0, duration_s: 10.0, ..Default::default() };
    let made = ecg::synth::generate(&settings);
    let mut text = "time,I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6".to_owned();
    for (index, sample) in made.strip.segments[0].samples.iter().enumerate() {
        write!(text, "\n{:.3}", index as f64 / 250.0).unwrap();
        for factor in [0.5, 1.0, 0.5, -0.75, 0.1, 0.75, -0.6, -0.9, 0.4, 1.2, 1.1, 0.8] {
            write!(text, ",{:.4}", sample * factor).unwrap();
        }
    }
    text.into_bytes()
}

/// Uploads an ECG, waits for its analysis, and returns the path and the content of its record.
async fn analysed(api: &Api, content: &[u8]) -> (String, Value) {
    let reply = api.upload("7", Form::default().file("ecg", "strip.csv", content), &[]).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let path = format!("/api/v1/ecgs/{}", reply.json()["files"][0]["id"].as_str().unwrap());
    let is_done = |reply: &Reply| reply.json()["status"] != "pending";
    let record = api.eventually(&path, is_done).await.json();
    assert_eq!(record["status"], "analyzed", "{record}");
    (path, record)
}

#[tokio::test]
async fn leads_and_pages_are_drawn_in_every_format() {
    for query_over_http in [false, true] {
        let api = Start { query_over_http, ..Start::default() }.start().await;
        let (path, record) = analysed(&api, &twelve_leads()).await;
        let leads = record["analysis"]["leads"].as_array().unwrap();
        assert_eq!((leads.len(), &leads[6]["name"]), (12, &"V1".into()));
        for (query, media_type, start) in [
            ("plot?lead=V2", "image/png", "\u{fffd}PNG"),
            ("plot?lead=3&format=svg", "image/svg+xml", "<svg"),
            ("plot?format=pdf", "application/pdf", "%PDF"),
            ("page", "image/png", "\u{fffd}PNG"),
            ("page?format=svg&from_s=2.5", "image/svg+xml", "<svg"),
            ("page?format=pdf", "application/pdf", "%PDF"),
        ] {
            let reply = api.get(&format!("{path}/{query}")).await;
            assert_eq!(reply.status, 200, "{query}: {}", String::from_utf8_lossy(&reply.body));
            assert_eq!(reply.header("content-type"), media_type, "{query}");
            assert!(String::from_utf8_lossy(&reply.body).starts_with(start), "{query}");
            assert!(reply.header("content-security-policy").contains("sandbox"));
            assert_eq!(reply.header("cache-control"), "private, no-cache");
            let tag = reply.header("etag").to_owned();
            let known = [("if-none-match", tag.as_str())];
            let again = api.send(Method::GET, &format!("{path}/{query}"), &known, "").await;
            assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{query}");
        }
        let [v1, v2] = ["V1", "v2"].map(|lead| format!("{path}/plot?format=svg&lead={lead}"));
        let (v1, v2) = (api.get(&v1).await, api.get(&v2).await);
        assert!(v1.text().contains("V1") && v1.body != v2.body && v1.header("etag") != v2.header("etag"));
        let page = api.get(&format!("{path}/page?format=svg")).await;
        for name in ["aVR", "V6", "PR ", "Sinus rhythm"] {
            assert!(page.text().contains(name), "{name}");
        }
    }
}

#[tokio::test]
async fn samples_of_a_lead_are_those_of_the_file_and_gaps_stay_gaps() {
    let api = Api::open().await;
    let (path, record) = analysed(&api, &twelve_leads()).await;
    let reply = api.get(&format!("{path}/samples?lead=v2")).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    let samples: proto_json::EcgSamples = serde_json::from_slice(&reply.body).unwrap();
    let file = api.get(&format!("{path}/signal")).await;
    let file = file.text();
    let lines: Vec<Vec<&str>> = file.lines().map(|line| line.split(',').collect()).collect();
    let column = lines[0].iter().position(|name| name.starts_with("V2")).unwrap();
    let in_file: Vec<i32> = lines[1..]
        .iter()
        .map(|line| (line[column].parse::<f64>().unwrap() * 1000.0).round() as i32)
        .collect();
    assert_eq!(samples.segments.len(), 1);
    assert_eq!(samples.segments[0].microvolts.len(), in_file.len());
    let differs =
        samples.segments[0].microvolts.iter().zip(&in_file).find(|(one, other)| (*one - *other).abs() > 1);
    assert_eq!(differs, None);
    assert_eq!(Some(samples.sample_rate_hz), record["analysis"]["sample_rate_hz"].as_f64());
    let without: proto_json::EcgSamples =
        serde_json::from_slice(&api.get(&format!("{path}/samples")).await.body).unwrap();
    assert_eq!(Some(without.lead.as_str()), record["analysis"]["lead"].as_str());
    let known = [("if-none-match", reply.header("etag"))];
    let again = api.send(Method::GET, &format!("{path}/samples?lead=v2"), &known, "").await;
    assert_eq!(again.status, 304);

    // Ten seconds, then five seconds of silence.
    let lead: Vec<String> =
        file.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().to_owned()).collect();
    let rate = samples.sample_rate_hz;
    let row = |at: usize, shift: f64| format!("{:.4},{}\n", at as f64 / rate + shift, lead[at]);
    let mut csv = "time_s,II (mV)\n".to_owned();
    csv.extend((0..lead.len()).map(|at| row(at, 0.0)));
    csv.extend((0..lead.len()).map(|at| row(at, 15.0)));
    let (path, _) = analysed(&api, csv.as_bytes()).await;
    let samples: proto_json::EcgSamples =
        serde_json::from_slice(&api.get(&format!("{path}/samples")).await.body).unwrap();
    let starts: Vec<f64> = samples.segments.iter().map(|segment| segment.start_s).collect();
    assert!(starts.len() == 2 && (starts[1] - 15.0).abs() < 0.01, "{starts:?}");
    assert!((samples.duration_s - 25.0).abs() < 0.05, "{}", samples.duration_s);
}

#[tokio::test]
async fn drawings_that_cannot_be_made_say_why() {
    let api = Api::open().await;
    let (path, _) = analysed(&api, &twelve_leads()).await;
    for (query, status, about) in [
        ("plot?lead=V9", 404, "The leads are I, II, III"),
        ("plot?lead=0", 404, "The leads are"),
        ("samples?lead=V9", 404, "The leads are I, II, III"),
        ("plot?format=gif", 400, "png, svg or pdf"),
        ("page?from_s=11", 404, "no samples at this time"),
        ("page?from_s=-1", 400, "from_s"),
        ("page?from_s=NaN", 400, "from_s"),
    ] {
        api.get(&format!("{path}/{query}")).await.assert_problem(status, about);
    }
    let long = "x".repeat(101);
    api.get(&format!("{path}/plot?lead={long}")).await.assert_problem(400, "at most 100");
    let reply = api.upload("8", Form::default().file("ecg_image", "a.png", &png(5, 5, 1)), &[]).await;
    let picture = reply.json()["files"][0]["id"].as_str().unwrap().to_owned();
    api.get(&format!("/api/v1/ecgs/{picture}/page")).await.assert_problem(404, "picture");
    assert_eq!(api.get(&format!("/api/v1/ecgs/{picture}/plot")).await.status, 200);
    let id = proto_json::UploadId::generate();
    api.get(&format!("/api/v1/ecgs/{id}/page")).await.assert_problem(404, "id");
}

#[tokio::test]
async fn record_and_details_contain_the_results_of_all_leads() {
    let api = Api::open().await;
    let (path, record) = analysed(&api, &twelve_leads()).await;
    let analysis = &record["analysis"];
    assert_eq!(analysis["algorithm"], ecg::ALGORITHM);
    assert_eq!(analysis["rhythm"][0]["code"], "sinus_rhythm");
    assert!(analysis["intervals"]["qt"]["median_ms"].as_f64().unwrap() > 250.0, "{analysis}");
    assert_eq!(analysis["st"].as_array().unwrap().len(), 12);
    let rating: Vec<&Value> =
        analysis["leads"].as_array().unwrap().iter().filter(|lead| lead["gives_rate"] == true).collect();
    assert_eq!((rating.len(), &rating[0]["name"]), (1, &analysis["lead"]));
    let detail = api.get(&format!("{path}/detail")).await;
    assert_eq!(detail.header("cache-control"), "private, no-cache");
    let detail = detail.json();
    let beat = &detail["beats"][4];
    assert_eq!(beat["type"], "normal");
    for wave in ["p", "qrs", "t"] {
        assert!(beat[wave]["end_s"].as_f64() > beat[wave]["on_s"].as_f64(), "{beat}");
    }
    assert_eq!(detail["rhythm"][0]["code"], "sinus_rhythm");
}
