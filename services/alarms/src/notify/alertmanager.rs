//! Prometheus Alertmanager: `POST /api/v2/alerts`.
//!
//! An alert has the labels `alertname`, `rule`, `priority`, `mrn` and `alarm` (the id), which identify it. It is posted when the
//! alarm changes and repeated while the alarm is open, with an end in the future, so that Alertmanager keeps it if this process
//! stops. When the alarm ends, it is posted with that time as its end, which resolves it. A failed request is repeated with
//! the next comparison.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto_json::alarms::Alarm;
use proto_json::{RecordId, Timestamp};
use reqwest::Url;
use serde::Serialize;

/// Interval at which open alarms are posted again.
pub(super) const REPEAT: Duration = Duration::from_secs(30);
/// Alertmanager resolves an alert that is not repeated for this long: no service or network is away that long without an alarm
/// of its own.
const HOLD_MS: i64 = 15 * 60_000;
/// Wait after a failed request.
const WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Alertmanager {
    http: reqwest::Client,
    url: Option<Url>,
    /// What waits to be posted.
    waiting: BTreeMap<RecordId, Alarm>,
    not_before: Instant,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

fn alert(alarm: &Alarm, now: Timestamp) -> Alert {
    let text = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Alert {
        labels: BTreeMap::from([
            ("alertname", "BedsidePatientAlarm".to_owned()),
            ("rule", alarm.rule.name().to_owned()),
            ("priority", alarm.priority.name().to_owned()),
            ("mrn", alarm.mrn.to_string()),
            ("alarm", alarm.id.to_string()),
        ]),
        annotations: BTreeMap::from([
            ("summary", alarm.text.clone()),
            ("state", serde_json::to_value(alarm.state).map(text).unwrap_or_default()),
            (
                "acknowledged_by",
                alarm.acknowledged.as_ref().map(|action| action.by.clone()).unwrap_or_default(),
            ),
        ]),
        starts_at: alarm.raised_at,
        ends_at: alarm.ended_at.unwrap_or_else(|| now.plus_millis(HOLD_MS)),
    }
}

impl Alertmanager {
    pub(super) fn new(http: reqwest::Client, base: &Url) -> Self {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let url = base.join("api/v2/alerts").ok();
        Alertmanager { http, url, waiting: BTreeMap::new(), not_before: Instant::now() }
    }

    /// Takes over changed alarms.
    pub(super) fn note(&mut self, changed: Vec<Alarm>) {
        for alarm in changed {
            if self.waiting.get(&alarm.id).is_none_or(|known| known.version <= alarm.version) {
                self.waiting.insert(alarm.id, alarm);
            }
        }
    }

    /// Posts the open alarms again.
    pub(super) fn repeat(&mut self, open: &[Alarm]) {
        self.note(open.to_vec());
    }

    /// Posts what waits.
    pub(super) async fn post(&mut self) {
        if self.waiting.is_empty() || Instant::now() < self.not_before {
            return;
        }
        let Some(url) = self.url.clone() else { return };
        let now = Timestamp::now();
        let alerts: Vec<Alert> = self.waiting.values().map(|alarm| alert(alarm, now)).collect();
        let Ok(body) = serde_json::to_vec(&alerts) else { return };
        let request = self.http.post(url).header("content-type", "application/json").body(body);
        let failed = match request.send().await.and_then(reqwest::Response::error_for_status) {
            Ok(_) => {
                self.waiting.clear();
                return;
            }
            Err(error) => error.without_url(),
        };
        metrics::counter!("bedside_alarm_notification_failures_total", "target" => "alertmanager")
            .increment(1);
        tracing::warn!(error = %failed, alerts = alerts.len(), "Alertmanager did not take alerts; retrying");
        self.not_before = Instant::now() + WAIT;
    }
}
