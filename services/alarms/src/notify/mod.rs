//! Notification of systems outside of Bedside: Prometheus Alertmanager, which provides routing, grouping, escalation, e-mail,
//! chat and pagers, and signed webhooks.
//!
//! The evaluating process notifies. It compares the open alarms with what it has sent, several times per second, so an action
//! that another process has stored is sent, too. After a takeover, everything that is open and everything that ended a
//! short time ago is sent again: Alertmanager recognizes an alert by its labels, and receivers of webhooks recognize a state of
//! an alarm by its id and version. So nothing is lost with a process.
//!
//! Failure modes: a receiver that cannot be reached delays nothing else. A webhook that fails again and again becomes a dead
//! letter: it is counted, logged without content, and listed at `/api/v1/alarms/undelivered`.

mod alertmanager;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto_json::alarms::{Alarm, UndeliveredAlarm};
use proto_json::{RecordId, Timestamp};
use reqwest::Url;
use runtime::{Secret, Shutdown, StartError};
use store::PageRequest;
use store::alarms::AlarmQuery;
use tokio::sync::watch;

use crate::Shared;
use crate::writer::OpenAlarms;

/// Interval of the comparison.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Ended alarms that are sent again after a takeover: at most this many, that ended in this time.
const ENDED: usize = 500;
const ENDED_MS: i64 = 20 * 60_000;
/// Dead letters that are listed; older ones are dropped.
const MAX_UNDELIVERED: usize = 1_000;

/// Whom to notify.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Notification")]
#[group(id = "alarm_notifications")]
pub struct NotifyArgs {
    /// URL of a Prometheus Alertmanager, such as http://alertmanager:9093. It receives the record number, the rule and the value
    /// of each alarm
    #[arg(long, env = "BEDSIDE_ALERTMANAGER", value_name = "URL")]
    pub alertmanager: Option<String>,
    /// URLs that receive each state of an alarm as a signed JSON document, separated by commas. Requires
    /// --webhook-secret-file
    #[arg(long = "webhook", env = "BEDSIDE_ALARM_WEBHOOKS", value_name = "URL", value_delimiter = ',')]
    pub webhooks: Vec<String>,
    /// File with the secret that signs webhooks, at least 32 characters
    #[arg(long, env = "BEDSIDE_ALARM_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}

/// Targets of notifications.
#[derive(Debug, Clone, Default)]
pub struct Notifications {
    alertmanager: Option<Url>,
    webhooks: Vec<Url>,
    secret: Option<Secret>,
}

fn url(text: &str) -> Result<Url, StartError> {
    let parsed = Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    parsed
        .filter(Url::has_host)
        .ok_or_else(|| StartError::config(format!("{text:?} is not a URL such as http://alertmanager:9093")))
}

impl NotifyArgs {
    /// Checks the settings and reads the secret.
    ///
    /// # Errors
    /// The setting to change.
    pub fn open(&self) -> Result<Notifications, StartError> {
        let webhooks = self.webhooks.iter().map(|text| url(text)).collect::<Result<Vec<_>, _>>()?;
        let secret = self.webhook_secret_file.as_deref().map(Secret::read).transpose()?;
        if !webhooks.is_empty() && secret.is_none() {
            return Err(StartError::config(
                "--webhook requires --webhook-secret-file, which signs the requests",
            ));
        }
        Ok(Notifications {
            alertmanager: self.alertmanager.as_deref().map(url).transpose()?,
            webhooks,
            secret,
        })
    }
}

/// Webhooks that failed again and again, newest first.
#[derive(Debug, Default)]
pub(crate) struct Undelivered(Mutex<VecDeque<UndeliveredAlarm>>);

impl Undelivered {
    fn add(&self, letter: UndeliveredAlarm) {
        metrics::counter!("bedside_alarm_webhook_dead_letters_total").increment(1);
        let mut letters = self.0.lock();
        letters.truncate(MAX_UNDELIVERED - 1);
        letters.push_front(letter);
    }

    pub(crate) fn all(&self) -> Vec<UndeliveredAlarm> {
        self.0.lock().iter().cloned().collect()
    }
}

/// An HTTP client for notifications.
fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    // Fails only if the process has already installed a provider, which works as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(REQUEST_TIMEOUT)
        // A redirect could send patient data to another host.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("bedside-alarms/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// What was sent.
#[derive(Default)]
struct Sent {
    /// Versions of the alarms that were open at the last comparison.
    versions: BTreeMap<RecordId, u64>,
    is_begun: bool,
}

/// Notifies while this process evaluates, until the shutdown begins.
pub(crate) async fn run(
    shared: Arc<Shared>,
    open: Arc<OpenAlarms>,
    is_evaluating: watch::Receiver<bool>,
    shutdown: Shutdown,
) {
    let targets = &shared.notifications;
    if targets.alertmanager.is_none() && targets.webhooks.is_empty() {
        return;
    }
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => {
            tracing::error!(%error, "notifications cannot be sent");
            return;
        }
    };
    let alertmanager =
        targets.alertmanager.as_ref().map(|url| alertmanager::Alertmanager::new(http.clone(), url));
    let webhooks: Vec<_> = targets
        .webhooks
        .iter()
        .zip(std::iter::repeat(targets.secret.as_ref()))
        .filter_map(|(url, secret)| {
            Some(webhook::start(
                http.clone(),
                url.clone(),
                secret?.clone(),
                Arc::clone(&shared),
                shutdown.clone(),
            ))
        })
        .collect();
    let mut alertmanager = alertmanager;
    let mut sent = Sent::default();
    let mut repeat_at = Instant::now();
    while shutdown.unless_begun(tokio::time::sleep(INTERVAL)).await.is_some() {
        if !*is_evaluating.borrow() {
            sent = Sent::default();
            continue;
        }
        let changed = changed_alarms(&shared, &open, &mut sent).await;
        for alarm in &changed {
            for hook in &webhooks {
                hook.send(alarm.clone());
            }
        }
        if let Some(alertmanager) = &mut alertmanager {
            alertmanager.note(changed);
            if repeat_at <= Instant::now() {
                alertmanager.repeat(&open.all());
                repeat_at = Instant::now() + alertmanager::REPEAT;
            }
            alertmanager.post().await;
        }
    }
}

/// The alarms that have changed since the last comparison.
async fn changed_alarms(shared: &Shared, open: &OpenAlarms, sent: &mut Sent) -> Vec<Alarm> {
    let mut changed = Vec::new();
    if !sent.is_begun {
        let query = AlarmQuery { is_open: Some(false), ..AlarmQuery::default() };
        let page = PageRequest { after: None, limit: ENDED, include_errors: false };
        match shared.ports.store.alarms(query, page).await {
            Ok(ended) => {
                let now = Timestamp::now();
                let is_recent =
                    |alarm: &Alarm| alarm.ended_at.is_some_and(|at| now.millis_since(at) < ENDED_MS);
                changed.extend(ended.items.into_iter().filter(is_recent));
                sent.is_begun = true;
            }
            Err(error) => {
                tracing::warn!(%error, "ended alarms cannot be read; they are notified later");
                return changed;
            }
        }
    }
    let now = open.all();
    let mut versions = std::mem::take(&mut sent.versions);
    for alarm in now {
        if versions.remove(&alarm.id) != Some(alarm.version) {
            changed.push(alarm.clone());
        }
        sent.versions.insert(alarm.id, alarm.version);
    }
    // They have ended.
    for (id, version) in versions {
        match shared.ports.store.alarm(id).await {
            Ok(Some(alarm)) => changed.push(alarm),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "an ended alarm cannot be read; it is notified later");
                sent.versions.insert(id, version);
            }
        }
    }
    changed
}

/// Describes the metrics.
pub(crate) fn describe() {
    metrics::describe_counter!(
        "bedside_alarm_webhook_dead_letters_total",
        "Webhooks that failed again and again and are not repeated"
    );
    metrics::counter!("bedside_alarm_webhook_dead_letters_total").increment(0);
    metrics::describe_counter!(
        "bedside_alarm_notification_failures_total",
        "Failed requests to Alertmanager and webhooks, by target; they are repeated"
    );
    for target in ["alertmanager", "webhook"] {
        metrics::counter!("bedside_alarm_notification_failures_total", "target" => target).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_rejected() {
        let args = |alertmanager: Option<&str>, webhooks: &[&str]| NotifyArgs {
            alertmanager: alertmanager.map(str::to_owned),
            webhooks: webhooks.iter().map(|url| (*url).to_owned()).collect(),
            webhook_secret_file: None,
        };
        assert!(args(Some("http://alertmanager:9093"), &[]).open().is_ok());
        let message = args(Some("alertmanager:9093"), &[]).open().unwrap_err().to_string();
        assert!(message.contains("is not a URL"), "{message}");
        let message = args(None, &["https://pager.example"]).open().unwrap_err().to_string();
        assert!(message.contains("--webhook-secret-file"), "{message}");
    }
}
