//! Notification of systems outside of Bedside: Prometheus Alertmanager, which provides routing, grouping, escalation, e-mail,
//! chat and pagers, and signed webhooks.
//!
//! The evaluating process notifies. It compares the open alarms with what it has sent, several times per second, so an action
//! that another process has stored is sent, too. After a takeover, all open alarms and those that have ended are compared again:
//! Alertmanager gets them again and recognizes an alert by its labels; for each receiver of webhooks, the store has which states
//! it has got. So nothing is lost with a process, and a state can arrive twice.
//!
//! Failure modes: a receiver that cannot be reached delays nothing else. A webhook that fails again and again becomes a dead
//! letter: it is counted, logged without content, stored, and listed at `/api/v1/alarms/undelivered`.

mod alertmanager;
mod receiver;
mod webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_json::alarms::{Alarm, AlarmEndReason, UndeliveredAlarm, UndeliveredAlarms};
use proto_json::{RecordId, Timestamp};
use reqwest::Url;
use runtime::{Secret, Shutdown, StartError};
use store::alarms::AlarmQuery;
use store::{AlarmStore, PageRequest, StoreError};
use tokio::sync::watch;

use receiver::Receiver;

use crate::writer::OpenAlarms;
use crate::{Shared, machine};

/// Interval of the comparison.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time limit of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Ended alarms that are compared after a takeover: those of the newest that ended in this time.
const ENDED: usize = 5_000;
const ENDED_MS: i64 = 24 * 3_600_000;
/// Alarms of a page.
const PAGE: usize = 500;
/// Alertmanager gets the end of alarms that ended in this time: it has forgotten earlier ones.
const RESOLVED_MS: i64 = 20 * 60_000;

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

/// The notifications that receivers of webhooks did not take, newest first.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn undelivered(store: &dyn AlarmStore) -> Result<UndeliveredAlarms, StoreError> {
    let mut items = Vec::new();
    for state in store.receiver_states().await? {
        let Some(receiver) = Receiver::parse(&state.state) else { continue };
        for letter in receiver.letters {
            // The alarms of an erased patient are gone.
            let Some(alarm) = store.alarm(letter.alarm).await? else { continue };
            items.push(UndeliveredAlarm {
                receiver: receiver.url.clone(),
                version: letter.version,
                alarm,
                attempts: letter.attempts,
                reason: letter.reason,
                given_up_at: letter.given_up_at,
            });
        }
    }
    items.sort_by_key(|letter| std::cmp::Reverse(letter.given_up_at));
    Ok(UndeliveredAlarms { items })
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
    /// The alarms that were open at the last comparison.
    open: BTreeMap<RecordId, Alarm>,
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
    let mut alertmanager =
        targets.alertmanager.as_ref().map(|url| alertmanager::Alertmanager::new(http.clone(), url));
    let mut webhooks: Vec<webhook::Webhook> = Vec::new();
    let mut sent = Sent::default();
    let mut repeat_at = Instant::now();
    while shutdown.unless_begun(tokio::time::sleep(INTERVAL)).await.is_some() {
        if !*is_evaluating.borrow() {
            sent = Sent::default();
            webhooks.clear();
            continue;
        }
        if webhooks.is_empty()
            && let Some(secret) = &targets.secret
        {
            let start = |url: &Url| webhook::start(&http, url, secret, &shared, &shutdown);
            webhooks = targets.webhooks.iter().map(start).collect();
        }
        let mut changed = changed_alarms(&shared, &open, &mut sent).await;
        for alarm in &changed {
            for hook in &webhooks {
                hook.send(alarm.clone());
            }
        }
        if let Some(alertmanager) = &mut alertmanager {
            let now = Timestamp::now();
            changed.retain(|alarm| alarm.ended_at.is_none_or(|at| now.millis_since(at) < RESOLVED_MS));
            alertmanager.note(changed);
            if repeat_at <= Instant::now() {
                alertmanager.repeat(&open.all());
                repeat_at = Instant::now() + alertmanager::REPEAT;
            }
            alertmanager.post().await;
        }
    }
}

/// The alarms that have ended a short time ago, oldest first.
async fn ended_alarms(shared: &Shared) -> Result<Vec<Alarm>, StoreError> {
    let query = AlarmQuery { is_open: Some(false), ..AlarmQuery::default() };
    let mut page = PageRequest { after: None, limit: PAGE, include_errors: false };
    let (mut ended, mut read) = (Vec::new(), 0);
    let now = Timestamp::now();
    loop {
        let found = shared.ports.store.alarms(query, page).await?;
        read += found.items.len();
        let is_recent = |alarm: &Alarm| alarm.ended_at.is_some_and(|at| now.millis_since(at) < ENDED_MS);
        ended.extend(found.items.into_iter().filter(is_recent));
        page.after = found.next;
        if page.after.is_none() || read >= ENDED {
            ended.reverse();
            return Ok(ended);
        }
    }
}

/// The alarms that have changed since the last comparison.
async fn changed_alarms(shared: &Shared, open: &OpenAlarms, sent: &mut Sent) -> Vec<Alarm> {
    let mut changed = Vec::new();
    if !sent.is_begun {
        match ended_alarms(shared).await {
            Ok(ended) => {
                changed = ended;
                sent.is_begun = true;
            }
            Err(error) => {
                tracing::warn!(%error, "ended alarms cannot be read; they are notified later");
                return changed;
            }
        }
    }
    let mut before = std::mem::take(&mut sent.open);
    for alarm in open.all() {
        if before.remove(&alarm.id).map(|before| before.version) != Some(alarm.version) {
            changed.push(alarm.clone());
        }
        sent.open.insert(alarm.id, alarm);
    }
    // They have ended.
    for (id, before) in before {
        match shared.ports.store.alarm(id).await {
            Ok(Some(alarm)) => changed.push(alarm),
            Ok(None) => changed.extend(machine::withdraw(&before, Timestamp::now(), AlarmEndReason::Erased)),
            Err(error) => {
                tracing::warn!(%error, "an ended alarm cannot be read; it is notified later");
                sent.open.insert(id, before);
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
