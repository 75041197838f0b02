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
//!
//! What a receiver has got is stored after each delivery (during a storm: after up to [`UNSAVED`]). After a restart or a takeover,
//! it gets the latest state of each alarm that it has not got. So a delivery happens at least once.

use std::sync::Arc;
use std::time::Duration;

use proto_json::Timestamp;
use proto_json::alarms::Alarm;
use reqwest::{StatusCode, Url};
use runtime::{Backoff, Secret, Shutdown};
use store::StoreError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::receiver::{self, Letter, Receiver};
use crate::Shared;

/// Attempts before a state becomes a dead letter: about ten minutes.
const ATTEMPTS: u32 = 15;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// States that wait for a receiver.
const QUEUE: usize = 10_000;
/// Deliveries after which the state of the receiver is stored at the latest.
const UNSAVED: usize = 16;

/// Handle of the task of one receiver. The task ends with it.
#[derive(Debug)]
pub(super) struct Webhook {
    queue: mpsc::Sender<Alarm>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Queues a state of an alarm. If too many wait, it is dropped; the receiver gets the latest state of the alarm after a
    /// restart.
    pub(super) fn send(&self, alarm: Alarm) {
        if let Err(error) = self.queue.try_send(alarm) {
            let alarm = error.into_inner();
            tracing::error!(alarm = %alarm.id, version = alarm.version, "too many webhooks wait; one is dropped");
            metrics::counter!("bedside_alarm_webhook_dead_letters_total").increment(1);
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) fn start(
    http: &reqwest::Client,
    url: &Url,
    secret: &Secret,
    shared: &Arc<Shared>,
    shutdown: &Shutdown,
) -> Webhook {
    let (queue, states) = mpsc::channel(QUEUE);
    let target = Target {
        http: http.clone(),
        url: url.clone(),
        secret: secret.clone(),
        shared: Arc::clone(shared),
        shutdown: shutdown.clone(),
    };
    Webhook { queue, task: tokio::spawn(target.run(states)) }
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

/// One receiver.
struct Target {
    http: reqwest::Client,
    url: Url,
    secret: Secret,
    shared: Arc<Shared>,
    shutdown: Shutdown,
}

impl Target {
    async fn run(self, mut states: mpsc::Receiver<Alarm>) {
        let Some((mut receiver, missed)) = self.load().await else { return };
        let mut unsaved = 0;
        for alarm in missed {
            if !self.deliver(&mut receiver, &alarm).await {
                return;
            }
            unsaved += 1;
        }
        loop {
            if unsaved >= UNSAVED || (unsaved > 0 && states.is_empty()) {
                unsaved = if self.save(&receiver).await { 0 } else { unsaved };
            }
            let Some(Some(alarm)) = self.shutdown.unless_begun(states.recv()).await else { break };
            if receiver.wants(&alarm) {
                if !self.deliver(&mut receiver, &alarm).await {
                    break;
                }
                unsaved += 1;
            }
        }
        if unsaved > 0 {
            self.save(&receiver).await;
        }
    }

    /// What the receiver has got, and the alarms that have ended without its knowledge. `None` if the shutdown began.
    async fn load(&self) -> Option<(Receiver, Vec<Alarm>)> {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        loop {
            match self.shutdown.unless_begun(self.read()).await? {
                Ok(loaded) => return Some(loaded),
                Err(error) => tracing::warn!(%error, "the state of a receiver cannot be read; retrying"),
            }
            self.shutdown.unless_begun(backoff.wait()).await?;
        }
    }

    async fn read(&self) -> Result<(Receiver, Vec<Alarm>), StoreError> {
        let store = &self.shared.ports.store;
        let key = receiver::key(&self.url);
        let stored = store.receiver_states().await?.into_iter().find(|state| state.receiver == key);
        let Some(mut receiver) = stored.and_then(|state| Receiver::parse(&state.state)) else {
            let receiver = Receiver::new(&self.url, Timestamp::now());
            if let Some(state) = receiver.stored(&self.url) {
                store.put_receiver_state(state).await?;
            }
            return Ok((receiver, Vec::new()));
        };
        let mut missed = Vec::new();
        for id in receiver.open() {
            match store.alarm(id).await? {
                Some(alarm) if alarm.is_open() => {}
                Some(alarm) => missed.push(alarm),
                None => receiver.forget(id),
            }
        }
        Ok((receiver, missed))
    }

    /// Stores what the receiver has got. After a failure, it is stored with the next delivery.
    async fn save(&self, receiver: &Receiver) -> bool {
        let Some(state) = receiver.stored(&self.url) else { return false };
        let saved = self.shared.ports.store.put_receiver_state(state).await;
        saved.inspect_err(|error| tracing::warn!(%error, "the state of a receiver cannot be stored")).is_ok()
    }

    /// Posts a state until the receiver takes it or it is given up. False if the shutdown began.
    async fn deliver(&self, receiver: &mut Receiver, alarm: &Alarm) -> bool {
        let mut backoff = Backoff::new(FIRST_WAIT, MAX_WAIT);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let posting = post(&self.http, &self.url, &self.secret, alarm);
            let Some(posted) = self.shutdown.unless_begun(posting).await else { return false };
            let Err(Failed { reason, is_permanent }) = posted else {
                receiver.settle(alarm, None);
                return true;
            };
            metrics::counter!("bedside_alarm_notification_failures_total", "target" => "webhook")
                .increment(1);
            if is_permanent || attempts == ATTEMPTS {
                tracing::error!(alarm = %alarm.id, version = alarm.version, attempts, reason, "a webhook is given up");
                metrics::counter!("bedside_alarm_webhook_dead_letters_total").increment(1);
                let (version, given_up_at) = (alarm.version, Timestamp::now());
                let letter = Letter { alarm: alarm.id, version, attempts, reason, given_up_at };
                receiver.settle(alarm, Some(letter));
                return true;
            }
            tracing::warn!(alarm = %alarm.id, attempts, reason, "a webhook failed; retrying");
            if self.shutdown.unless_begun(backoff.wait()).await.is_none() {
                return false;
            }
        }
    }
}
