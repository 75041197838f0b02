//! Webhooks: each state of an alarm is posted as JSON, signed with HMAC-SHA-256 (RFC 2104).
//!
//! Headers of a request:
//! - `Bedside-Delivery`: id and version of the alarm, `<id>/<version>`. It identifies the state; a receiver can get it twice.
//! - `Bedside-Timestamp`: seconds since 1970 at which it was sent. A receiver rejects old ones, so that a recorded request
//!   cannot be replayed.
//! - `Bedside-Signature`: `sha256=` and the hexadecimal HMAC of the timestamp, a point, and the body.
//!
//! The states of all alarms are sent to a receiver one after the other, in order. A failed request is repeated after 1 s, then
//! after twice the time up to a minute. After [`ATTEMPTS`] failures the state becomes a dead letter. A receiver that answers 4xx
//! (except 408 and 429) has rejected it for good.

use std::sync::Arc;
use std::time::Duration;

use proto_json::Timestamp;
use proto_json::alarms::{Alarm, UndeliveredAlarm};
use reqwest::{StatusCode, Url};
use runtime::{Backoff, Secret, Shutdown};
use tokio::sync::mpsc;

use crate::Shared;

/// Attempts before a state becomes a dead letter: about ten minutes.
const ATTEMPTS: u32 = 15;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// States that wait for a receiver.
const QUEUE: usize = 10_000;

/// Handle of the task of one receiver.
#[derive(Debug)]
pub(super) struct Webhook {
    queue: mpsc::Sender<Alarm>,
    url: Url,
    shared: Arc<Shared>,
}

impl Webhook {
    /// Queues a state of an alarm.
    pub(super) fn send(&self, alarm: Alarm) {
        if let Err(error) = self.queue.try_send(alarm) {
            let alarm = error.into_inner();
            give_up(&self.shared, &self.url, &alarm, 0, "too many notifications wait for this receiver");
        }
    }
}

pub(super) fn start(
    http: reqwest::Client,
    url: Url,
    secret: Secret,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) -> Webhook {
    let (queue, states) = mpsc::channel(QUEUE);
    let handle = Webhook { queue, url: url.clone(), shared: Arc::clone(&shared) };
    tokio::spawn(deliver(http, url, secret, states, shared, shutdown));
    handle
}

fn give_up(shared: &Shared, url: &Url, alarm: &Alarm, attempts: u32, reason: &str) {
    tracing::error!(alarm = %alarm.id, version = alarm.version, attempts, reason, "a webhook is not delivered");
    shared.undelivered.add(UndeliveredAlarm {
        // Without user, password and query, which can be secret.
        receiver: format!("{}{}", url.origin().ascii_serialization(), url.path()),
        alarm: alarm.clone(),
        attempts,
        reason: reason.to_owned(),
        given_up_at: Timestamp::now(),
    });
}

/// Signature of a body that is sent at this time.
pub(super) fn signature(secret: &Secret, timestamp_s: i64, body: &[u8]) -> String {
    let message = [timestamp_s.to_string().as_bytes(), b".", body].concat();
    let hash = secret.hmac(&message);
    let mut text = "sha256=".to_owned();
    for byte in hash {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Why a request failed.
struct Failed {
    reason: String,
    is_permanent: bool,
}

async fn post(http: &reqwest::Client, url: &Url, secret: &Secret, alarm: &Alarm) -> Result<(), Failed> {
    let failed = |reason: String, is_permanent| Failed { reason, is_permanent };
    let body = serde_json::to_vec(alarm).map_err(|error| failed(error.to_string(), true))?;
    let timestamp_s = Timestamp::now().as_millis().div_euclid(1_000);
    let request = http
        .post(url.clone())
        .header("content-type", "application/json")
        .header("bedside-delivery", format!("{}/{}", alarm.id, alarm.version))
        .header("bedside-timestamp", timestamp_s.to_string())
        .header("bedside-signature", signature(secret, timestamp_s, &body))
        .body(body);
    let answer = request.send().await.map_err(|error| failed(error.without_url().to_string(), false))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let is_temporary = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    Err(failed(format!("the receiver answered {status}"), status.is_client_error() && !is_temporary))
}

async fn deliver(
    http: reqwest::Client,
    url: Url,
    secret: Secret,
    mut states: mpsc::Receiver<Alarm>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    while let Some(Some(alarm)) = shutdown.unless_begun(states.recv()).await {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        for attempt in 1..=ATTEMPTS {
            let Some(posted) = shutdown.unless_begun(post(&http, &url, &secret, &alarm)).await else {
                return;
            };
            let Err(Failed { reason, is_permanent }) = posted else { break };
            metrics::counter!("bedside_alarm_notification_failures_total", "target" => "webhook")
                .increment(1);
            if is_permanent || attempt == ATTEMPTS {
                give_up(&shared, &url, &alarm, attempt, &reason);
                break;
            }
            tracing::warn!(alarm = %alarm.id, attempt, reason, "a webhook failed; retrying");
            if shutdown.unless_begun(backoff.wait()).await.is_none() {
                return;
            }
        }
    }
}
