//! Live waveforms: WebSockets of devices, which send them, and of screens, which display them.
//!
//! - A device opens a stream of a patient and sends frames ([`device`]). The gateway appends them to the broker's log and
//!   acknowledges them once they are durable.
//! - A screen subscribes to patients ([`live`]). All screens share one subscription at the broker per patient
//!   ([`hub`]).
//!
//! Invariants:
//! - A sequence number is acknowledged only after it and all earlier ones are durable.
//! - A channel of a patient has at most one sender at this gateway ([`registry`]).
//! - The memory of each connection is bounded: by its window towards the broker, by its buffer towards a screen.
//!
//! Failure modes: if the broker cannot store a message, the connection is closed with 4503 and the device resumes with
//! the first message that is not durable. After a restart of the gateway, this number comes from the broker. Devices at
//! different gateways that send the same channel of a patient are not detected.

mod clock;
mod columns;
pub(crate) mod device;
mod hub;
mod identity;
pub(crate) mod live;
mod pace;
mod registry;
mod socket;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::Response;
use bus::WaveLog;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use hub::Hub;
use registry::Registry;

/// Route of devices. The same route without an upgrade reads stored waveforms.
pub(crate) const DEVICE_ROUTE: &str = "/api/v1/patients/{mrn}/waveforms";

/// Time that open WebSockets have to end after the shutdown begins.
const DRAIN: Duration = Duration::from_secs(5);

/// Live waveforms of this gateway.
#[derive(Debug)]
pub(crate) struct Waves {
    log: Arc<dyn WaveLog>,
    registry: Arc<Registry>,
    hub: Hub,
    /// The open WebSockets.
    sockets: TaskTracker,
}

impl Waves {
    pub(crate) fn new(log: Arc<dyn WaveLog>) -> Self {
        let registry = Arc::new(Registry::default());
        let hub = Hub::new(log.clone(), registry.clone());
        Waves { log, registry, hub, sockets: TaskTracker::new() }
    }

    /// Waits until all WebSockets have ended, after the shutdown has begun.
    pub(crate) async fn ended(&self) {
        self.sockets.close();
        if tokio::time::timeout(DRAIN, self.sockets.wait()).await.is_err() {
            tracing::warn!("open WebSockets were aborted");
        }
    }
}

/// Middleware: forwards an upgrade request for [`DEVICE_ROUTE`] to `devices`, and all other requests to the routing table.
pub(crate) async fn select_device(State(devices): State<Router>, request: Request, next: Next) -> Response {
    let upgrade = request.headers().get(header::UPGRADE);
    let is_upgrade = upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let of_patient = request.uri().path().strip_prefix("/api/v1/patients/");
    let mrn = of_patient.and_then(|rest| rest.strip_suffix("/waveforms"));
    let is_device = mrn.is_some_and(|mrn| !mrn.is_empty() && !mrn.contains('/'));
    if is_upgrade && is_device && request.method() == Method::GET {
        return devices.oneshot(request).await.unwrap_or_else(|never| match never {});
    }
    next.run(request).await
}

/// Returns the server time in microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
