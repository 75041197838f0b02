//! Connection settings, and the shape of the streams.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ConnectOptions;

use crate::{QueueLimits, RetryPolicy};

/// Connection settings, and the shape of the streams.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// `nats://host:port` or `tls://host:port`, one per server of a cluster.
    pub urls: Vec<String>,
    /// Credentials of this client.
    pub login: NatsLogin,
    /// PEM file of certificate authorities to trust in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client certificate and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    /// Refuses a connection without TLS.
    pub require_tls: bool,
    /// Name of this connection in the broker's connection list.
    pub name: String,
    /// Subject prefix for replies and receipts. Each user needs its own prefix, to which no other user may
    /// subscribe.
    pub inbox_prefix: String,
    /// Timeout for replies of the broker.
    pub request_timeout: Duration,
    /// When work is retried and when it is dead-lettered. All processes should use the same policy.
    pub retry: RetryPolicy,
    /// Limits of the streams, if this client creates them.
    pub limits: QueueLimits,
    /// Replicas of each stream: 1 on one server, 3 or 5 in a cluster.
    pub replicas: usize,
    /// Creates missing streams and consumers and adapts existing ones. A user without that permission sets
    /// this to false; [`super::provision`] must then be run once by another user.
    pub create: bool,
}

/// Credentials of a client.
#[derive(Clone, Default)]
pub enum NatsLogin {
    /// No credentials.
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
    /// Connects to these servers without credentials, and creates what is missing.
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
            create: true,
        }
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
            // Missing replies to pings are the only sign that a server has vanished.
            .ping_interval(PING_INTERVAL)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(|attempt| {
                // The first attempt is immediate; the wait then grows to two seconds.
                let shift = u32::try_from(attempt).unwrap_or(u32::MAX).min(6);
                Duration::from_millis(if attempt <= 1 { 0 } else { 40 << shift }).min(MAX_RECONNECT_WAIT)
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

/// Messages that are buffered for a slow subscriber before messages are dropped.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

const PING_INTERVAL: Duration = Duration::from_secs(5);

const MAX_RECONNECT_WAIT: Duration = Duration::from_secs(2);
