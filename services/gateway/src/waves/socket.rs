//! A WebSocket whose end has a code and a reason.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_server::problem::ApiError;
use proto_json::waveform::{CloseCode, close};
use serde::Serialize;
use tokio_tungstenite::tungstenite::Error as SocketError;

/// Longest text message from a client, in bytes.
pub(super) const MAX_TEXT: usize = 64 * 1024;
/// Time in which a message must be written.
const SEND: Duration = Duration::from_secs(30);
/// Time that a client has to read the close code before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of a socket that are read at once. The default of the library would use 128 KiB per connection.
const READ_BUFFER: usize = 8 * 1024;
/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5).
const MAX_REASON: usize = 123;

/// Why a WebSocket ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has closed it or is unreachable.
    Gone,
    /// The server closes it.
    Close { code: CloseCode, reason: String },
    /// The server closes it, and cannot read the rest of a message.
    TooLarge { reason: String },
}

impl End {
    pub(super) fn because(code: CloseCode, reason: impl ToString) -> Self {
        End::Close { code, reason: reason.to_string() }
    }

    pub(super) fn malformed(reason: impl ToString) -> Self {
        End::because(close::MALFORMED, reason)
    }

    /// Name for metrics.
    fn name(&self) -> &'static str {
        match self {
            End::Gone => "gone",
            End::Close { code, .. } => code.name,
            End::TooLarge { .. } => close::TOO_LARGE.name,
        }
    }
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        End::because(code, code.reason)
    }
}

/// A message with content.
#[derive(Debug)]
pub(super) enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping or pong. The library has answered it.
    Control,
}

/// An open WebSocket.
#[derive(Debug)]
pub(super) struct Socket(WebSocket);

/// Sets the limits of a WebSocket.
///
/// # Errors
/// The response to a request that is not a valid upgrade.
pub(super) fn upgrade(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    max_message: usize,
) -> Result<WebSocketUpgrade, ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::invalid(format!("This is no WebSocket request: {}.", rejection.body_text()))
    })?;
    Ok(upgrade.read_buffer_size(READ_BUFFER).max_message_size(max_message).max_frame_size(max_message))
}

impl Socket {
    pub(super) fn new(socket: WebSocket) -> Self {
        Socket(socket)
    }

    /// Returns the next message. It may be called again after its future was dropped.
    pub(super) async fn receive(&mut self) -> Result<Incoming, End> {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) if text.len() > MAX_TEXT => {
                let reason =
                    format!("the text message has {} bytes; at most {MAX_TEXT} are allowed", text.len());
                Err(End::because(close::TOO_LARGE, reason))
            }
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(bytes))) => Ok(Incoming::Binary(bytes)),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(Incoming::Control),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            Some(Err(error)) => Err(match error.into_inner().downcast::<SocketError>().map(|error| *error) {
                Ok(SocketError::Capacity(error)) => End::TooLarge { reason: error.to_string() },
                Ok(error @ (SocketError::Protocol(_) | SocketError::Utf8(_))) => End::malformed(error),
                _ => End::Gone,
            }),
        }
    }

    /// Sends a text message.
    pub(super) async fn send_json(&mut self, message: &impl Serialize) -> Result<(), End> {
        self.queue_json(message).await?;
        self.flush().await
    }

    /// Like [`Socket::send_json`], without flushing.
    pub(super) async fn queue_json(&mut self, message: &impl Serialize) -> Result<(), End> {
        // Serialization of the message types cannot fail.
        let text = serde_json::to_string(message).map_err(|_| End::Gone)?;
        self.queue(Message::Text(text.into())).await
    }

    /// Sends a binary message without flushing.
    pub(super) async fn queue_binary(&mut self, bytes: Vec<u8>) -> Result<(), End> {
        self.queue(Message::Binary(bytes.into())).await
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.queue(Message::Ping(Bytes::new())).await?;
        self.flush().await
    }

    async fn queue(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(SEND, self.0.feed(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        match tokio::time::timeout(SEND, self.0.flush()).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    /// Closes the connection. The client gets code and reason even while it is sending: until it closes, or for
    /// [`LINGER`], what it sends is dropped. Otherwise the operating system would reset the connection, and the client could
    /// miss the code.
    pub(super) async fn finish(mut self, end: End, endpoint: &'static str) {
        let labels = [("endpoint", endpoint), ("reason", end.name())];
        metrics::counter!("bedside_gateway_websockets_closed_total", &labels).increment(1);
        let (code, reason, reads) = match end {
            End::Gone => return,
            End::Close { code, reason } => (code, reason, true),
            End::TooLarge { reason } => (close::TOO_LARGE, reason, false),
        };
        tracing::debug!(endpoint, code = code.code, "a WebSocket was closed");
        let reason = shortened(&reason).into();
        let close = Message::Close(Some(CloseFrame { code: code.code, reason }));
        let linger = async {
            if self.0.send(close).await.is_err() {
                return;
            }
            if reads { while let Some(Ok(_)) = self.0.next().await {} } else { std::future::pending().await }
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}

/// The longest beginning of a reason that fits into a close frame.
fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reason_is_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(100);
        assert_eq!(shortened(&long).len(), 122);
    }
}
