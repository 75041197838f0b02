//! WebSocket connections to the gateway.
//!
//! The opening request is an ordinary request of the HTTP client (RFC 6455, section 4.1), so that address, access token,
//! certificates and error documents are handled as in every other call.
//!
//! Failure modes: a connection on which nothing arrives for [`SILENCE`] counts as broken; pings make a healthy server answer
//! within this time. A message that cannot be written within [`WRITE_LIMIT`] ends the connection.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use reqwest::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use reqwest::{StatusCode, Upgraded};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use crate::{ClientError, Gateway};

/// Interval of pings.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time without any message or answer to a ping.
pub(crate) const SILENCE: Duration = Duration::from_secs(9);
/// Time limit to write one message.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Largest message that is received, in bytes.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// An open connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    socket: WebSocketStream<Upgraded>,
    last_received: Instant,
    ping_at: Instant,
}

/// A received message.
#[derive(Debug)]
pub(crate) enum Received {
    Text(String),
    Binary(Bytes),
}

/// Why a connection has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Code of the server's close frame; `None` if the connection broke.
    pub(crate) code: Option<u16>,
    /// One sentence.
    pub(crate) reason: String,
}

impl Gateway {
    /// Opens a WebSocket at this path below `/api/v1` within `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(crate) async fn web_socket(
        &self,
        segments: &[&str],
        limit: Duration,
    ) -> Result<WebSocket, ClientError> {
        let opened = async {
            let key = generate_key();
            let request = self
                .get(self.api(segments))
                .header(CONNECTION, "Upgrade")
                .header(UPGRADE, "websocket")
                .header(SEC_WEBSOCKET_VERSION, "13")
                .header(SEC_WEBSOCKET_KEY, &key);
            let response = self.answer(request, limit).await?;
            let wrong = |reason: &str| ClientError::BadAnswer {
                gateway: self.address().to_owned(),
                reason: reason.to_owned(),
            };
            let accepts = response.headers().get(SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes());
            if response.status() != StatusCode::SWITCHING_PROTOCOLS
                || accepts != Some(derive_accept_key(key.as_bytes()).as_bytes())
            {
                return Err(wrong("it does not open a WebSocket at this address"));
            }
            let stream = response
                .upgrade()
                .await
                .map_err(|error| ClientError::from_reqwest(&error, self.address(), limit))?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(MAX_MESSAGE_BYTES))
                .max_frame_size(Some(MAX_MESSAGE_BYTES))
                // A message is passed to the operating system at once.
                .write_buffer_size(0)
                .max_write_buffer_size(2 * MAX_MESSAGE_BYTES);
            let now = Instant::now();
            Ok(WebSocket {
                socket: WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await,
                last_received: now,
                ping_at: now + PING_INTERVAL,
            })
        };
        match timeout(limit, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(ClientError::TimedOut { gateway: self.address().to_owned(), limit }),
        }
    }
}

impl WebSocket {
    /// The next message. Sends pings while it waits. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Received, Ended> {
        loop {
            let due = self.ping_at.min(self.last_received + SILENCE);
            let message = match timeout_at(due, self.socket.next()).await {
                Ok(Some(message)) => message.map_err(|error| Ended::broken(error.to_string()))?,
                Ok(None) => return Err(Ended::broken("the server closed the connection")),
                Err(_) if self.last_received.elapsed() >= SILENCE => {
                    return Err(Ended::broken(format!("nothing was received for {} s", SILENCE.as_secs())));
                }
                Err(_) => {
                    // The time is set first: a cancelled ping is not repeated at once.
                    self.ping_at = Instant::now() + PING_INTERVAL;
                    self.send(Message::Ping(Bytes::new())).await?;
                    continue;
                }
            };
            self.last_received = Instant::now();
            match message {
                Message::Text(text) => return Ok(Received::Text(text.as_str().to_owned())),
                Message::Binary(bytes) => return Ok(Received::Binary(bytes)),
                Message::Close(frame) => return Err(Ended::closed(frame)),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    pub(crate) async fn send_text(&mut self, text: String) -> Result<(), Ended> {
        self.send(Message::Text(text.into())).await
    }

    pub(crate) async fn send_binary(&mut self, bytes: Bytes) -> Result<(), Ended> {
        self.send(Message::Binary(bytes)).await
    }

    /// Sends a close frame. The server answers with its own, or not at all.
    pub(crate) async fn close(&mut self) {
        let _ = timeout(WRITE_LIMIT, self.socket.close(None)).await;
    }

    async fn send(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(WRITE_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // The server may have said why before it closed the connection.
            Ok(Err(error)) => {
                Err(self.close_frame().await.unwrap_or_else(|| Ended::broken(error.to_string())))
            }
            Err(_) => {
                Err(Ended::broken(format!("a message could not be sent within {} s", WRITE_LIMIT.as_secs())))
            }
        }
    }

    /// The close frame among the messages that have arrived already.
    async fn close_frame(&mut self) -> Option<Ended> {
        while let Ok(Some(Ok(message))) = timeout(Duration::from_millis(100), self.socket.next()).await {
            if let Message::Close(frame) = message {
                return Some(Ended::closed(frame));
            }
        }
        None
    }
}

impl Ended {
    pub(crate) fn broken(reason: impl Into<String>) -> Self {
        Ended { code: None, reason: reason.into() }
    }

    fn closed(frame: Option<CloseFrame>) -> Self {
        match frame {
            Some(frame) => {
                let code = u16::from(frame.code);
                let reason = if frame.reason.is_empty() {
                    format!("the server closed the connection with code {code}")
                } else {
                    frame.reason.as_str().to_owned()
                };
                Ended { code: Some(code), reason }
            }
            None => Ended::broken("the server closed the connection"),
        }
    }
}
