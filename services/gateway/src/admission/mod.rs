//! Decides what the gateway takes on: requests in flight, request rates, memory, and the share of each client in them.
//!
//! Invariants:
//! - No client gets more than its share of the permits, so one token cannot stop the others.
//! - Requests of one client queue among themselves (FIFO) and never in front of another client.
//! - Whoever is refused is told when to try again (`Retry-After`).
//!
//! Without tokens all clients count as one, which may use everything.

mod concurrency;
mod memory;
mod rate;

use std::sync::Arc;

use axum::http::{HeaderValue, header};
use runtime::Turns;
use runtime::disk::DiskReserve;
use runtime::problem::{ApiError, ProblemType};

use crate::auth::tokens::Client;
use crate::config::Limits;

pub(crate) use concurrency::{ConcurrencyLimiter, NoPermit, Permit};
pub(crate) use memory::{MemoryBudget, Reservation};
pub(crate) use rate::RateKey;
use rate::RateLimiter;

/// A client that was quiet may catch up by this many seconds of its rate.
const BURST_SECONDS: u32 = 4;
/// Requests with a wrong token or none that are answered 401, for each network; further ones 429.
const FAILED_PER_SECOND: u32 = 5;
const FAILED_BURST: u32 = 60;
/// What a body of the largest size takes beside its own bytes.
const BODY_OVERHEAD: u64 = 1 << 20;

/// Seconds after which a client may ask again whether there is space on the disk.
const DISK_RETRY_AFTER: u16 = 5;

/// Everything that is shared among clients.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Below its reserve, no upload is taken.
    disks: Arc<DiskReserve>,
    uploads: ConcurrencyLimiter,
    reads: ConcurrencyLimiter,
    event_streams: ConcurrencyLimiter,
    /// Connections of one client that are worked on by the threads of the runtime at the same time.
    pub(crate) threads: Turns,
    /// For files of uploads while they are checked.
    pub(crate) file_memory: MemoryBudget,
    /// For whole bodies of `/api/new_patient` while they are parsed.
    pub(crate) body_memory: MemoryBudget,
    /// Requests with a token.
    requests: RateLimiter,
    /// Requests with a wrong token or none, where one is needed: guessing tokens does not pay.
    failed: RateLimiter,
    /// Requests for what everybody may ask.
    public: RateLimiter,
}

/// A kind of request rate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    /// With a known token.
    Authenticated,
    /// With a wrong token or none, where one is needed.
    Failed,
    /// Where no token is needed.
    Public,
}

impl Admission {
    /// `reads_in_process`: reads keep a thread of this process busy. Needs a runtime.
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
        // Reads that are answered in this process keep a processor busy each; one processor is left to other clients.
        let active_reads = if with_tokens && reads_in_process { processors.saturating_sub(1) } else { reads };
        let parsed_at_once = if with_tokens { 1 } else { processors };
        // Half for files, half for whole bodies; a body of the largest size must fit.
        let half = limits.upload_memory.0 / 2;
        let for_bodies = half.max(limits.max_legacy_body.0 + BODY_OVERHEAD);
        let (requests, public) = (limits.max_requests_per_second, limits.max_public_requests_per_second);
        Admission {
            disks,
            uploads: ConcurrencyLimiter::new(uploads, share(uploads), active_uploads),
            reads: ConcurrencyLimiter::new(reads, share(reads), active_reads),
            event_streams: ConcurrencyLimiter::new(streams, share(streams), 1),
            threads: Turns::at_threads(),
            file_memory: MemoryBudget::new(half, 1),
            body_memory: MemoryBudget::new(for_bodies, parsed_at_once),
            requests: RateLimiter::new(requests, requests.saturating_mul(BURST_SECONDS)),
            failed: RateLimiter::new(FAILED_PER_SECOND, FAILED_BURST),
            public: RateLimiter::new(public, public.saturating_mul(BURST_SECONDS)),
        }
    }

    /// Allows one more upload to be in flight, while the disks have their reserve.
    pub(crate) fn upload(&self, client: &Client) -> Result<Permit, ApiError> {
        if let Err(low) = self.disks.check() {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            tracing::debug!(
                disk = low.disk,
                free = low.free,
                reserve = low.reserve,
                "too little disk space for uploads"
            );
            return Err(ApiError::unavailable(
                "The disk of this server is nearly full; send the upload again later.",
                DISK_RETRY_AFTER,
            ));
        }
        self.uploads.try_acquire(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_uploads_refused_total").increment(1);
            refused(none, "uploads")
        })
    }

    /// Allows one more read to be in flight.
    pub(crate) fn read(&self, client: &Client) -> Result<Permit, ApiError> {
        self.reads.try_acquire(&client.name).map_err(|none| {
            metrics::counter!("bedside_gateway_reads_refused_total").increment(1);
            refused(none, "reads")
        })
    }

    /// Allows one more event stream to be open.
    pub(crate) fn event_stream(&self, client: &Client) -> Result<Permit, ApiError> {
        self.event_streams.try_acquire(&client.name).map_err(|none| refused(none, "event streams"))
    }

    /// Counts a request against its rate.
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

/// The reply to a request that gets no permit.
fn refused(none: NoPermit, what: &str) -> ApiError {
    match none {
        NoPermit::Total => ApiError::unavailable(
            format!("As many {what} are under way as this server takes; try again in a moment."),
            1,
        ),
        NoPermit::Client => too_many(what),
    }
}

/// The reply to a client that has its share already.
pub(crate) fn too_many(what: &str) -> ApiError {
    ApiError::new(
        ProblemType::TOO_MANY_REQUESTS,
        format!("As many {what} of this token are under way as one may have; try again in a moment."),
    )
    .header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}
