//! Admission control: in-flight limits, rate limits, memory, and the share of each client.
//!
//! Invariants:
//! - No client gets more than its share of the permits, so a single token cannot block the others.
//! - Requests of one client queue among themselves (FIFO) and never ahead of another client.
//! - A rejected request has a `Retry-After` header.
//!
//! Without tokens there is one client, which may use everything.

mod concurrency;
mod memory;
mod rate;

use std::sync::Arc;

use axum::http::{HeaderValue, header};
use http_server::FairScheduler;
use http_server::problem::{ApiError, ProblemType};
use runtime::disk::DiskReserve;

use crate::auth::tokens::Client;
use crate::config::Limits;

pub(crate) use concurrency::{ConcurrencyLimiter, NoPermit, Permit};
pub(crate) use memory::{MemoryBudget, Reservation};
pub(crate) use rate::RateKey;
use rate::RateLimiter;

/// A burst is this many seconds of the rate.
const BURST_SECONDS: u32 = 4;
/// Requests per network with an invalid or missing token that are answered with 401; further ones get 429.
const FAILED_PER_SECOND: u32 = 5;
const FAILED_BURST: u32 = 60;
/// Memory that parsing a body of maximum size needs in addition to the body.
const BODY_OVERHEAD: u64 = 1 << 20;

/// `Retry-After` in seconds if the disk is nearly full.
const DISK_RETRY_AFTER: u16 = 5;

/// The limits that all clients share.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Uploads are rejected while a disk is below its reserve.
    disks: Arc<DiskReserve>,
    uploads: ConcurrencyLimiter,
    reads: ConcurrencyLimiter,
    event_streams: ConcurrencyLimiter,
    device_streams: ConcurrencyLimiter,
    /// Limits the connections of each client that are polled at the same time.
    pub(crate) threads: FairScheduler,
    /// Memory for files of uploads while they are validated.
    pub(crate) file_memory: MemoryBudget,
    /// Memory for whole bodies of `/api/new_patient` while they are parsed.
    pub(crate) body_memory: MemoryBudget,
    /// Memory for waveforms that are not durable yet.
    pub(crate) wave_memory: MemoryBudget,
    /// Requests with a valid token.
    requests: RateLimiter,
    /// Requests with an invalid or missing token, where one is needed. Limits guessing of tokens.
    failed: RateLimiter,
    /// Requests that need no token.
    public: RateLimiter,
}

/// Kinds of request rates.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    /// With a valid token.
    Authenticated,
    /// With an invalid or missing token, where one is needed.
    Failed,
    /// Where no token is needed.
    Public,
}

impl Admission {
    /// `reads_in_process`: reads use a thread of this process. Must be called on a tokio runtime.
    pub(crate) fn new(
        limits: &Limits,
        disks: Arc<DiskReserve>,
        with_tokens: bool,
        reads_in_process: bool,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let share = |total: usize| if with_tokens { limits.share_of(total) } else { total };
        let (uploads, reads, streams) =
            (limits.max_uploads_in_flight, limits.max_reads_in_flight, limits.max_watchers);
        let active_uploads = if with_tokens { limits.token_uploads_at_once } else { uploads };
        // A read in this process keeps a processor busy. One processor is left for other clients.
        let active_reads = if with_tokens && reads_in_process { processors.saturating_sub(1) } else { reads };
        let parsed_at_once = if with_tokens { 1 } else { processors };
        // Half of the memory is for files, half for whole bodies. A body of maximum size must fit.
        let half = limits.upload_memory.0 / 2;
        let for_bodies = half.max(limits.max_legacy_body.0 + BODY_OVERHEAD);
        let (requests, public) = (limits.max_requests_per_second, limits.max_public_requests_per_second);
        Admission {
            disks,
            uploads: ConcurrencyLimiter::new(uploads, share(uploads), active_uploads),
            reads: ConcurrencyLimiter::new(reads, share(reads), active_reads),
            event_streams: ConcurrencyLimiter::new(streams, share(streams), 1),
            device_streams: ConcurrencyLimiter::new(
                limits.max_device_streams,
                share(limits.max_device_streams),
                1,
            ),
            threads: FairScheduler::per_worker_thread(),
            file_memory: MemoryBudget::new(half, 1),
            body_memory: MemoryBudget::new(for_bodies, parsed_at_once),
            wave_memory: MemoryBudget::new(limits.device_memory.0, 1),
            requests: RateLimiter::new(requests, requests.saturating_mul(BURST_SECONDS)),
            failed: RateLimiter::new(FAILED_PER_SECOND, FAILED_BURST),
            public: RateLimiter::new(public, public.saturating_mul(BURST_SECONDS)),
        }
    }

    /// Takes a permit for an upload. Rejects it while a disk is below its reserve.
    pub(crate) fn upload(&self, client: &Client) -> Result<Permit, ApiError> {
        if let Err(low) = self.disks.check() {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            tracing::debug!(
                disk = low.disk,
                free = low.free,
                reserve = low.reserve,
                "an upload was rejected because a disk is nearly full"
            );
            return Err(ApiError::unavailable(
                "The disk of this server is nearly full; send the upload again later.",
                DISK_RETRY_AFTER,
            ));
        }
        self.uploads.try_acquire(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            no_permit(none, "uploads")
        })
    }

    /// Takes a permit for a read.
    pub(crate) fn read(&self, client: &Client) -> Result<Permit, ApiError> {
        self.reads.try_acquire(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_reads_refused_total").increment(1);
            no_permit(none, "reads")
        })
    }

    /// Takes a permit for an event stream.
    pub(crate) fn event_stream(&self, client: &Client) -> Result<Permit, ApiError> {
        self.event_streams.try_acquire(&client.name).map_err(|none| no_permit(none, "event streams"))
    }

    /// Takes a permit for the stream of a device.
    pub(crate) fn device_stream(&self, client: &Client) -> Result<Permit, ApiError> {
        self.device_streams.try_acquire(&client.name).map_err(|none| no_permit(none, "waveform streams"))
    }

    /// Counts a request against a rate limit.
    pub(crate) fn check_rate(&self, rate: Rate, key: &RateKey) -> Result<(), ApiError> {
        let limiter = match rate {
            Rate::Authenticated => &self.requests,
            Rate::Failed => &self.failed,
            Rate::Public => &self.public,
        };
        limiter.check(key).map_err(|wait| {
            metrics::counter!("bedside_gateway_rate_limited_total").increment(1);
            let seconds = wait.as_secs_f64().ceil().max(1.0);
            ApiError::new(ProblemType::TOO_MANY_REQUESTS, format!("Too many requests; go on in {seconds} s."))
                .header(header::RETRY_AFTER, HeaderValue::from(seconds as u64))
        })
    }
}

/// The response to a request that gets no permit.
fn no_permit(none: NoPermit, what: &str) -> ApiError {
    match none {
        NoPermit::Total => ApiError::unavailable(
            format!("As many {what} are under way as this server takes; try again in a moment."),
            1,
        ),
        NoPermit::Client => too_many(what),
    }
}

/// The response to a client that already uses its share.
pub(crate) fn too_many(what: &str) -> ApiError {
    ApiError::new(
        ProblemType::TOO_MANY_REQUESTS,
        format!("As many {what} of this token are under way as one may have; try again in a moment."),
    )
    .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}
