//! The task of a sender: connects, opens or resumes the stream, sends, and handles acknowledgements.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use proto_json::{DeviceMessage, DeviceReply, close};
use tokio::time::{Instant, sleep, timeout_at};

use super::Shared;
use super::queue::{Next, NotContinued, Outgoing};
use crate::ClientError;
use crate::web_socket::{Ended, Received, WebSocket};

/// Time limit to open a connection, and for the server to open the stream.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// First and longest wait before the next connection, without jitter.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Wait after an error that needs an action of a person, such as a rejected token or an unknown patient.
const BLOCKED_WAIT: Duration = Duration::from_secs(10);
/// Longest wait that the server can ask for.
const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(30);
/// A message is dropped when the server has rejected it this many times.
const MAX_REJECTIONS: u32 = 3;

/// How a connection has ended.
enum Outcome {
    /// The stream has ended as requested.
    Finished,
    /// The connection ended.
    Ended(Ended),
    /// The server cannot continue the stream.
    NotContinued,
}

/// Runs until the stream has ended as requested.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut waits = waits();
    let mut rejections = 0;
    let mut wait_for_message = false;
    loop {
        if wait_for_message {
            while shared.queue.lock().is_empty() && !*shared.finishing.borrow() {
                shared.changed.notified().await;
            }
            wait_for_message = false;
        }
        let acknowledged = shared.state.borrow().acknowledged;
        let settings = &shared.settings;
        let path = ["patients", &settings.mrn.to_string(), "waveforms"];
        let wait = match settings.gateway.web_socket(&path, OPEN_LIMIT).await {
            Ok(socket) => {
                let outcome = exchange(&shared, socket).await;
                let has_advanced = shared.state.borrow().acknowledged > acknowledged;
                if has_advanced {
                    waits = self::waits();
                    rejections = 0;
                }
                match outcome {
                    Outcome::Finished => {
                        shared.update_state(|state| state.is_connected = false);
                        return;
                    }
                    Outcome::NotContinued => {
                        tracing::warn!(mrn = %settings.mrn, "the server does not continue the stream; a new one follows");
                        shared.queue.lock().start_new_stream();
                        waits.next()
                    }
                    Outcome::Ended(ended) => {
                        tracing::debug!(mrn = %settings.mrn, ?ended, "the connection of a waveform stream has ended");
                        // The server closes a stream without messages. The next message opens it again.
                        wait_for_message = ended.code == Some(close::SILENT.code);
                        let blocked = handle_close(&shared, &ended, &mut rejections);
                        report(&shared, ended.reason, blocked);
                        if blocked { Some(BLOCKED_WAIT) } else { waits.next() }
                    }
                }
            }
            Err(error) => {
                let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED_WAIT);
                let blocked = !error.is_transient() && !matches!(error, ClientError::BadAnswer { .. });
                let wait = if blocked { BLOCKED_WAIT } else { waits.next().unwrap_or(LONGEST_WAIT) };
                report(&shared, error.to_string(), blocked);
                Some(wait.max(asked))
            }
        };
        sleep(wait.unwrap_or(LONGEST_WAIT)).await;
    }
}

fn waits() -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
    builder.without_max_times().with_jitter().build()
}

fn report(shared: &Shared, problem: String, is_blocked: bool) {
    shared.update_state(|state| {
        state.is_connected = false;
        state.is_blocked = is_blocked;
        state.problem = Some(problem);
    });
}

/// Reacts to the code with which the server has closed the connection. Returns whether a person has to act.
fn handle_close(shared: &Shared, ended: &Ended, rejections: &mut u32) -> bool {
    let mut queue = shared.queue.lock();
    match ended.code {
        Some(code) if code == close::UNKNOWN.code => {
            let had_stream = queue.stream().is_some();
            queue.start_new_stream();
            // Without a stream, it is the patient that is unknown.
            !had_stream
        }
        // The server has ended the stream without a request.
        Some(code) if code == close::NORMAL.code => {
            queue.start_new_stream();
            false
        }
        Some(code) if code == close::MALFORMED.code || code == close::TOO_LARGE.code => {
            *rejections += 1;
            if *rejections >= MAX_REJECTIONS {
                *rejections = 0;
                tracing::error!(mrn = %shared.settings.mrn, reason = ended.reason, "the server rejects a message; it is dropped");
                queue.drop_first();
            }
            false
        }
        Some(code) => close::ALL.iter().any(|known| known.code == code && !known.retry),
        None => false,
    }
}

/// Opens or resumes the stream, then sends and receives until the connection ends.
async fn exchange(shared: &Arc<Shared>, mut socket: WebSocket) -> Outcome {
    match opened(shared, &mut socket).await {
        Ok(Ok(())) => {}
        Ok(Err(NotContinued)) => {
            socket.close().await;
            return Outcome::NotContinued;
        }
        Err(ended) => return Outcome::Ended(ended),
    }
    let mut end_sent = false;
    loop {
        if let Err(ended) = send_waiting(shared, &mut socket).await {
            return Outcome::Ended(ended);
        }
        if *shared.finishing.borrow() && shared.queue.lock().is_empty() && !end_sent {
            end_sent = true;
            if let Err(ended) = socket.send_text(json(&DeviceMessage::End {})).await {
                return Outcome::Ended(ended);
            }
        }
        let received = tokio::select! {
            received = socket.next() => received,
            () = shared.changed.notified() => continue,
        };
        match received {
            Ok(Received::Text(text)) => reply(shared, &text),
            Ok(Received::Binary(_)) => {}
            // Everything is acknowledged: the end of the stream is all that can be missing.
            Err(ended) if end_sent => {
                tracing::debug!(?ended, "the stream has ended");
                return Outcome::Finished;
            }
            Err(ended) => return Outcome::Ended(ended),
        }
    }
}

async fn opened(shared: &Shared, socket: &mut WebSocket) -> Result<Result<(), NotContinued>, Ended> {
    let settings = &shared.settings;
    let open = DeviceMessage::Open {
        resume: shared.queue.lock().stream(),
        device: settings.device.clone(),
        channels: settings.channels.clone(),
        device_time_us: now_us(),
    };
    socket.send_text(json(&open)).await?;
    let due = Instant::now() + OPEN_LIMIT;
    loop {
        let received = timeout_at(due, socket.next()).await.map_err(|_| {
            Ended::broken(format!("the server did not open the stream within {OPEN_LIMIT:?}"))
        })??;
        let Received::Text(text) = received else { continue };
        let Ok(DeviceReply::Opened { stream, next_sequence, window, .. }) = serde_json::from_str(&text)
        else {
            reply(shared, &text);
            continue;
        };
        let opened = shared.queue.lock().opened(stream, next_sequence, window);
        shared.update_state(|state| {
            if opened.is_ok() {
                (state.is_connected, state.stream) = (true, Some(stream));
                (state.is_blocked, state.problem) = (false, None);
            }
        });
        return Ok(opened);
    }
}

/// Sends what the window permits.
async fn send_waiting(shared: &Arc<Shared>, socket: &mut WebSocket) -> Result<(), Ended> {
    loop {
        let next = shared.queue.lock().next();
        match next {
            Next::Send(Outgoing::Binary(bytes)) => socket.send_binary(bytes).await?,
            Next::Send(Outgoing::Text(text)) => socket.send_text(text).await?,
            Next::Read(block) => {
                let spill = shared.spill.clone();
                let read = tokio::task::spawn_blocking(move || spill.map(|spill| spill.take(block))).await;
                let messages = match read {
                    Ok(Some(Ok(messages))) => Some(messages),
                    Ok(Some(Err(error))) => {
                        tracing::error!(%error, "waveforms in the temporary file cannot be read; they are lost");
                        None
                    }
                    _ => None,
                };
                shared.queue.lock().restored(messages);
            }
            Next::Wait => return Ok(()),
        }
    }
}

fn reply(shared: &Shared, text: &str) {
    match serde_json::from_str(text) {
        Ok(DeviceReply::Ack { sequence }) => {
            shared.queue.lock().acknowledge(sequence);
            shared.update_state(|_| {});
        }
        Ok(DeviceReply::Notice { code, message }) => {
            tracing::info!(mrn = %shared.settings.mrn, code, message, "notice of the server");
            shared.update_state(|state| state.notice = Some(message));
        }
        Ok(DeviceReply::Opened { .. }) => {}
        // A server of a later version.
        Err(error) => tracing::debug!(%error, "cannot parse a reply"),
    }
}

fn json(message: &DeviceMessage) -> String {
    // Serialising a message cannot fail.
    serde_json::to_string(message).unwrap_or_default()
}

/// The clock of this computer in microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
