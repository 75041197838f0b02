//! Writes the audit entries of requests to the store, through ingest.
//!
//! A request that reads is answered only after its entry is stored. Entries of concurrent requests are sent in one batch. While
//! entries cannot be stored, reads are refused with 503; changes go on, because their data must not be lost, and their entries
//! are kept in memory and sent later.
//!
//! Requests without a valid identity are not stored here: anyone could fill the disk with them. The audit log has their lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use proto_json::audit::{AuditBatch, AuditEvent};
use runtime::Shutdown;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::reads::query::QueryService;

/// Entries that wait in memory. A change whose entry does not fit is counted and logged.
const MAX_WAITING: usize = 20_000;
/// Maximum number of entries of a batch.
const MAX_BATCH: usize = 256;
/// Wait after a failed attempt.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// The entry could not be stored in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotStored;

struct Waiting {
    event: AuditEvent,
    stored: Option<oneshot::Sender<Result<(), NotStored>>>,
}

/// Handle of the task that sends entries.
#[derive(Debug, Clone)]
pub(crate) struct AuditChain {
    sender: mpsc::Sender<Waiting>,
    failing: Arc<AtomicBool>,
}

impl AuditChain {
    /// Starts the task. It ends when the last handle is dropped and what waits is sent.
    pub(crate) fn start(records: QueryService, shutdown: Shutdown) -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let failing = Arc::new(AtomicBool::new(false));
        let task =
            Task { records, waiting, failing: Arc::clone(&failing), gateway: Uuid::now_v7(), batch: 0 };
        (AuditChain { sender, failing }, tokio::spawn(task.run(shutdown)))
    }

    /// Whether the last attempt to store entries failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// Stores an entry and waits until it is stored.
    pub(crate) async fn store(&self, event: AuditEvent) -> Result<(), NotStored> {
        if self.is_failing() {
            return Err(NotStored);
        }
        let (stored, is_stored) = oneshot::channel();
        self.sender.try_send(Waiting { event, stored: Some(stored) }).map_err(|_| NotStored)?;
        is_stored.await.unwrap_or(Err(NotStored))
    }

    /// Stores an entry without waiting.
    pub(crate) fn store_later(&self, event: AuditEvent) {
        if self.sender.try_send(Waiting { event, stored: None }).is_err() {
            metrics::counter!("bedside_gateway_audit_failures_total").increment(1);
            tracing::error!("an entry of the audit is lost: too many wait to be stored");
        }
    }
}

struct Task {
    records: QueryService,
    waiting: mpsc::Receiver<Waiting>,
    failing: Arc<AtomicBool>,
    /// Id of this process.
    gateway: Uuid,
    /// Number of the last batch.
    batch: u64,
}

impl Task {
    async fn run(mut self, shutdown: Shutdown) {
        let mut taken = Vec::with_capacity(MAX_BATCH);
        while self.waiting.recv_many(&mut taken, MAX_BATCH).await > 0 {
            self.batch += 1;
            let (events, waiters) = taken.drain(..).map(|waiting| (waiting.event, waiting.stored)).unzip();
            self.send(events, waiters, &shutdown).await;
        }
    }

    /// Sends a batch until it is stored. Its waiters are told of the first failure.
    async fn send(
        &self,
        events: Vec<AuditEvent>,
        mut waiters: Vec<Option<oneshot::Sender<Result<(), NotStored>>>>,
        shutdown: &Shutdown,
    ) {
        let batch = AuditBatch { gateway: self.gateway, batch: self.batch, events };
        let Ok(body) = serde_json::to_vec(&batch).map(Bytes::from) else { return };
        loop {
            let stored = self.attempt(body.clone()).await;
            let was_failing = self.failing.swap(stored.is_err(), Ordering::Relaxed);
            for waiter in waiters.drain(..).flatten() {
                // The send fails only if the request was cancelled.
                let _ = waiter.send(stored);
            }
            match stored {
                Ok(()) => {
                    if was_failing {
                        tracing::info!("the audit is stored again");
                    }
                    return;
                }
                Err(NotStored) => {
                    metrics::counter!("bedside_gateway_audit_failures_total").increment(1);
                    if !was_failing {
                        tracing::error!("the audit cannot be stored; reads are refused");
                    }
                    if shutdown.has_begun() {
                        tracing::error!(entries = batch.events.len(), "entries of the audit are lost");
                        return;
                    }
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<(), NotStored> {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        let path = PathAndQuery::from_static("/internal/audit");
        let response = self.records.request_with(Method::POST, path, headers, body).await;
        match response {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => Ok(()),
            _ => Err(NotStored),
        }
    }
}
