//! How to reach the broker, and what it shall hold.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ConnectOptions;

use super::lanes;
use crate::{QueueLimits, RetryPolicy};

/// How to reach NATS, and what its streams shall be like.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// `nats://host:port` or `tls://host:port`, one per server of a cluster.
    pub urls: Vec<String>,
    /// Who this client says it is.
    pub login: NatsLogin,
    /// PEM file of the authorities that may vouch for the servers, besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM files of this client's certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Refuses a connection without TLS.
    pub require_tls: bool,
    /// Name of this connection in the broker's lists.
    pub name: String,
    /// Prefix of the subjects on which this client hears replies and receipts. Each user needs one of its own, which
    /// nobody else may listen to.
    pub inbox_prefix: String,
    /// How long an answer of the broker may take.
    pub request_timeout: Duration,
    /// When work is tried again, and when it is given up. All processes should have the same.
    pub retry: RetryPolicy,
    /// How much the streams take, when this client makes them.
    pub limits: QueueLimits,
    /// Servers of a cluster that hold each stream, when this client makes them: 1, 3 or 5.
    pub replicas: usize,
    /// How often each stream on the way of an upload is there, so that none of them has to wait for a new leader; the same in
    /// all processes. What the streams take is divided among them.
    pub lanes: usize,
    /// A lane that has not answered for this long is not waited for alone any more. A healthy one takes some milliseconds.
    pub lane_patience: Duration,
    /// Makes streams and consumers when they are missing, or adapts them. A user with few permissions may not: then
    /// [`super::provision`] has to be run once by one who may.
    pub create: bool,
}

/// What a client logs in with.
#[derive(Clone, Default)]
pub enum NatsLogin {
    /// Nothing.
    #[default]
    Anonymous,
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token.
    Token(String),
}

impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NatsLogin::Anonymous => "Anonymous",
            NatsLogin::Password { .. } => "Password",
            NatsLogin::Token(_) => "Token",
        })
    }
}

impl NatsConfig {
    /// Connects to these servers without login; makes what is missing.
    #[must_use]
    pub fn new(urls: impl IntoIterator<Item = String>) -> Self {
        NatsConfig {
            urls: urls.into_iter().collect(),
            login: NatsLogin::Anonymous,
            ca_file: None,
            client_certificate: None,
            require_tls: false,
            name: "bedside".to_owned(),
            inbox_prefix: "_INBOX".to_owned(),
            request_timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            limits: QueueLimits::default(),
            replicas: 1,
            lanes: 1,
            lane_patience: Duration::from_millis(800),
            create: true,
        }
    }

    /// Has each stream held by so many servers, and where these are several, in lanes.
    #[must_use]
    pub fn replicated(self, replicas: usize) -> Self {
        NatsConfig { replicas, lanes: if replicas > 1 { lanes::IN_CLUSTER } else { 1 }, ..self }
    }

    pub(super) fn options(&self) -> ConnectOptions {
        let options = match &self.login {
            NatsLogin::Anonymous => ConnectOptions::new(),
            NatsLogin::Password { user, password } => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
            NatsLogin::Token(token) => ConnectOptions::with_token(token.clone()),
        };
        let options = options
            .name(&self.name)
            .custom_inbox_prefix(&self.inbox_prefix)
            .request_timeout(Some(self.request_timeout))
            .connection_timeout(self.request_timeout)
            .require_tls(self.require_tls)
            // Only missing answers to pings tell that a server has vanished.
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(LISTENER_MESSAGES)
            .reconnect_delay_callback(|attempt| {
                // At once the first time, then ever slower, up to two seconds.
                let shift = u32::try_from(attempt).unwrap_or(u32::MAX).min(6);
                Duration::from_millis(if attempt <= 1 { 0 } else { 40 << shift }).min(RECONNECT_MOST)
            });
        let options = match &self.ca_file {
            Some(file) => options.add_root_certificates(file.clone()),
            None => options,
        };
        match &self.client_certificate {
            Some((certificate, key)) => options.add_client_certificate(certificate.clone(), key.clone()),
            None => options,
        }
    }
}

/// Messages that wait for one slow listener before it misses some.
const LISTENER_MESSAGES: usize = 4_096;

const PING_INTERVAL: Duration = Duration::from_secs(5);

const RECONNECT_MOST: Duration = Duration::from_secs(2);
