//! docs/METRICS.md documents exactly the metrics that the services export.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use client::{Upload, UploadFile};
use proto_json::{EcgStatus, FileKind, Mrn};
use testkit::{Mode, Service, System, test_data, within};

fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string("../docs/METRICS.md").unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split(['`', '{']).next().unwrap().to_owned()).collect()
}

async fn metrics(address: &str) -> String {
    testkit::http_client().get(format!("{address}/metrics")).send().await.unwrap().text().await.unwrap()
}

fn names(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Uploads an ECG and waits for its analysis.
async fn upload_ecg(system: &System) {
    let gateway = system.gateway();
    let file = UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::strip_csv(72.0, 10.0, 1));
    gateway.upload(Mrn::new(7).unwrap(), &Upload::of(vec![file]), |_| {}).await.unwrap();
    within("the ECG is analysed", || async {
        let ecgs = gateway.ecgs(Mrn::new(7).unwrap(), None, None).await.ok()?;
        ecgs.items.first().filter(|ecg| ecg.status == EcgStatus::Analyzed).map(drop)
    })
    .await;
}

#[tokio::test]
async fn services_export_exactly_the_documented_metrics() {
    let mut system = System::start(Mode::Processes);
    upload_ecg(&system).await;
    let mut shown = BTreeSet::new();
    for service in Service::ALL {
        let text = metrics(&system.admin_url(service)).await;
        for line in text.lines().filter(|line| line.starts_with("bedside_")) {
            let labels = line.split_once('{').map_or("", |(_, labels)| labels);
            assert!(!labels.contains("/7"), "a label names a patient: {line}");
        }
        shown.extend(names(&text));
    }
    assert_eq!(shown, documented());
    let ingest = system.admin_url(Service::Ingest);
    for line in [
        "bedside_work_total{queue=\"UPLOADS\",outcome=\"done\"} 1",
        "bedside_upload_to_analysis_announced_seconds_count 1",
    ] {
        within(line, || async { metrics(&ingest).await.contains(line).then_some(()) }).await;
    }
}

#[tokio::test]
async fn standalone_exports_the_same_metrics() {
    let mut system = System::start(Mode::Standalone);
    upload_ecg(&system).await;
    let shown = names(&metrics(&system.admin_url(Service::Gateway)).await);
    assert_eq!(shown, documented());
}
