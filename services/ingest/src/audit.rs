//! Appends to the audit for gateways, and writes the head of its chain to the log at intervals.
//!
//! Someone who can write the database can compute the whole chain anew. The heads in the log, which is kept elsewhere, reveal
//! that: `bedside audit verify --anchor` compares the chain with one of them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use http_server::problem::ApiError;
use proto_json::audit::AuditBatch;
use tokio::time::{MissedTickBehavior, interval};

use crate::Ports;

/// Interval of the heads in the log.
const HEAD_INTERVAL: Duration = Duration::from_secs(600);

/// `POST /internal/audit`
pub(crate) async fn append(
    State(ports): State<Arc<Ports>>,
    Json(batch): Json<AuditBatch>,
) -> Result<StatusCode, ApiError> {
    ports.audit.append_audit(batch).await.map_err(|error| {
        tracing::error!(%error, "the audit cannot be written");
        ApiError::unavailable("The audit cannot be written for now.", 5)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

/// Logs the head of the chain whenever it has changed, at intervals.
pub(crate) async fn log_heads(ports: &Ports) {
    let mut ticks = interval(HEAD_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = None;
    loop {
        ticks.tick().await;
        match ports.audit.audit_head().await {
            Ok(head) if head != logged => {
                if let Some(head) = head {
                    tracing::info!(anchor = %head, "head of the audit");
                }
                logged = head;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the head of the audit cannot be read"),
        }
    }
}
