//! Alert rules and dashboard use existing metrics, and the operations manual documents every alert.

#![allow(clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

/// All Bedside metrics in a text; histograms without suffix.
fn metrics(text: &str) -> BTreeSet<&str> {
    let ends = |char: char| !(char.is_ascii_lowercase() || char == '_');
    let starts = text.match_indices("bedside_").filter(|(at, _)| !text[..*at].ends_with(|char| !ends(char)));
    starts
        .map(|(at, _)| {
            let rest = &text[at..];
            let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
            ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
        })
        .collect()
}

#[test]
fn alerts_and_dashboard_use_documented_metrics() {
    let documented = metrics(include_str!("../../docs/METRICS.md"));
    for (file, text) in [
        ("alerts.yml", include_str!("../../deploy/observability/alerts.yml")),
        ("bedside.json", include_str!("../../deploy/observability/grafana/bedside.json")),
    ] {
        let named = metrics(text);
        assert!(named.len() > 5, "{file} uses metrics");
        let unknown: Vec<_> = named.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
    }
}

#[test]
fn every_alert_is_documented() {
    let operations = include_str!("../../docs/OPERATIONS.md");
    let alerts = include_str!("../../deploy/observability/alerts.yml").lines();
    let names: Vec<_> = alerts.filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 5);
    for name in names {
        assert!(operations.contains(&format!("`{name}`")), "docs/OPERATIONS.md does not document {name}");
    }
}

#[test]
fn dashboard_is_valid_json() {
    let text = include_str!("../../deploy/observability/grafana/bedside.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).expect("the dashboard is JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}
