//! `POST /api/v1/ecg/preview`: analysis and picture of an ECG file that is not stored.
//!
//! The browser cannot analyse files itself. The form has the parts of an upload that concern one raw ECG: `ecg`,
//! `ecg_sample_rate` and `ecg_lead`. Limits, permits, spool and parsing are those of uploads; the analysis is that of
//! the worker (`ecg_records`).
//!
//! The analysis runs in this process and not in the worker. A worker receives files through the staging store and
//! returns results through queues, so a preview there would be stored for a while, and would wait behind uploads.
//! The analysis is safe Rust without I/O, is fuzzed, and the gateway contains it:
//!
//! Invariants:
//! - Nothing is sent to other services. The file is in the spool and is gone after the response.
//! - At most [`AT_ONCE`] analyses run, of files of at most [`MAX_BYTES`], so memory is bounded. With tokens, each client
//!   has one of them, and others of the client wait behind it.
//! - An analysis has a thread of low priority of its own. It holds its turn until it ends, even if the client is gone.
//!
//! Failure modes: a file that is not a usable ECG is rejected with 422. A request that gets no turn within
//! [`TURN_WAIT`], and an analysis that takes longer than [`MAX_TIME`], are answered with 503. A panic ends its thread
//! alone and is answered with 500.

use std::fmt::Write as _;
use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ecg_records::{AnalysisError, Picture};
use http_server::FairScheduler;
use http_server::problem::{ApiError, ProblemType};
use proto_json::{EcgPreview, FileKind, MediaType, PreviewPlot, SignalOptions, Timestamp};
use runtime::ByteSize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::app::App;
use crate::auth::tokens::Client;
use crate::config::Limits;
use crate::http::body::{BodyReader, Pace};
use crate::http::multipart::{Multipart, PartHead};
use crate::uploads::arriving_file::ArrivingFile;
use crate::uploads::fields;
use crate::uploads::handler::{form_boundary, shortened, value};
use crate::uploads::submit::ValidatedFile;

/// Analyses at the same time.
const AT_ONCE: usize = 2;
/// Largest file. Samples take at most twice the memory of their file, and the analysis copies one lead at a time. An hour
/// of twelve leads at 250 Hz has about 60 MB as CSV. Larger files are uploaded without a preview.
const MAX_BYTES: u64 = 96_000_000;
/// Bytes of a form in addition to its file.
const FORM_OVERHEAD: u64 = 64 * 1024;
/// Longest wait for a turn.
const TURN_WAIT: Duration = Duration::from_secs(10);
/// Longest time to read, analyse and draw a file.
const MAX_TIME: Duration = Duration::from_secs(30);
/// `Retry-After` in seconds of a request without a turn.
const RETRY_AFTER: u16 = 5;

/// The turns of previews.
#[derive(Debug)]
pub(crate) struct Previews {
    turns: Arc<Semaphore>,
    per_client: FairScheduler,
}

/// The right to analyse one file.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Previews {
    /// `with_tokens`: there are several clients.
    pub(crate) fn new(with_tokens: bool) -> Self {
        let per_client = if with_tokens { 1 } else { AT_ONCE };
        Previews { turns: Arc::new(Semaphore::new(AT_ONCE)), per_client: FairScheduler::new(per_client) }
    }

    /// Waits for a turn, first among the requests of the client and then among all clients.
    async fn turn(&self, client: &Arc<str>) -> Result<Turn, ApiError> {
        let turn = async {
            // The semaphores are never closed.
            let of_client = self.per_client.client(client).acquire_owned().await.ok()?;
            Some((of_client, self.turns.clone().acquire_owned().await.ok()?))
        };
        tokio::time::timeout(TURN_WAIT, turn).await.ok().flatten().ok_or_else(|| {
            let detail = "As many previews are under way as this server takes; try again in a moment.";
            ApiError::unavailable(detail, RETRY_AFTER)
        })
    }
}

/// One raw ECG and how to read it.
struct PreviewForm {
    file: ValidatedFile,
    options: SignalOptions,
}

pub(crate) async fn preview(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    match answer(&app, &client, &parts.headers, body).await {
        Ok(preview) => Json(preview).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn answer(
    app: &Arc<App>,
    client: &Client,
    headers: &HeaderMap,
    body: Body,
) -> Result<EcgPreview, ApiError> {
    let limits = limits(&app.config.limits);
    let body_limit = ByteSize(limits.max_upload.0.min(limits.max_file.0 + FORM_OVERHEAD));
    let reader = BodyReader::new(body, headers, body_limit, Pace::from(&app.config));
    let started = app.admission.upload(client).and_then(|permit| {
        reader.check_length(headers).map_err(|_| too_large(limits.max_file))?;
        Ok((permit, form_boundary(headers)?))
    });
    let (permit, boundary) = match started {
        Ok(started) => started,
        Err(error) => {
            reader.discard().await;
            return Err(error);
        }
    };
    let mut form = Multipart::new(reader, &boundary);
    let PreviewForm { file, options } = match read_form(app, &limits, &mut form).await {
        Ok(form) => form,
        Err(error) => {
            form.into_body().discard().await;
            return Err(error);
        }
    };
    let turn = app.previews.turn(&client.name).await?;
    let given_up = GiveUp::default();
    let source = Source {
        reader: SyncIoBridge::new(StreamReader::new(file.content.stream())),
        until: Instant::now() + MAX_TIME,
        given_up: given_up.0.clone(),
    };
    let work = background::run_long(move || {
        // Permit, turn and the memory of the file are held until the work ends, even if the client is gone.
        let _held = (permit, turn, file);
        analyse(source, &options)
    });
    match tokio::time::timeout(MAX_TIME, work).await {
        Ok(done) => done.map_err(ApiError::internal)?,
        Err(_) => Err(too_long()),
    }
}

/// The limits of a preview: those of an upload, with smaller files.
fn limits(limits: &Limits) -> Limits {
    Limits { max_file: ByteSize(limits.max_file.0.min(MAX_BYTES)), ..limits.clone() }
}

/// Reads and validates the whole form.
async fn read_form(app: &App, limits: &Limits, form: &mut Multipart) -> Result<PreviewForm, ApiError> {
    let mut spool = app.spool.spool();
    let mut file = None;
    let mut options = SignalOptions::default();
    let mut seen: Vec<String> = Vec::new();
    while let Some(PartHead { name: key, file_name }) = form.next_part().await? {
        if seen.contains(&key) {
            return Err(ApiError::invalid(format!("`{key}` is given twice; a preview takes one file.")));
        }
        let about = |error: String| ApiError::invalid(format!("`{key}` {error}."));
        match key.as_str() {
            "ecg" => {
                let mut arriving = ArrivingFile::begin(FileKind::Ecg, &mut spool, limits);
                while let Some(chunk) = form.chunk().await? {
                    arriving.write(&chunk).await.map_err(|error| error.into_problem(&key))?;
                }
                let file_name = file_name.as_deref().and_then(fields::file_name);
                file = Some(arriving.finish(file_name).await.map_err(|error| error.into_problem(&key))?);
            }
            "ecg_sample_rate" => {
                options.sample_rate_hz = fields::sample_rate(&value(form, &key).await?).map_err(about)?;
            }
            "ecg_lead" => options.lead = fields::lead(value(form, &key).await?).map_err(about)?,
            _ => {
                let detail = format!(
                    "There is no part named {:?}; the parts are ecg, ecg_sample_rate and ecg_lead.",
                    shortened(&key)
                );
                return Err(ApiError::invalid(detail));
            }
        }
        seen.push(key);
    }
    let file = file.ok_or_else(|| ApiError::invalid("`ecg` is missing; send the file of a raw ECG."))?;
    Ok(PreviewForm { file, options })
}

/// Reads, analyses and draws a file. Blocks.
fn analyse(mut source: impl Read, options: &SignalOptions) -> Result<EcgPreview, ApiError> {
    let mut head = Vec::new();
    (&mut source).take(ecg::START_BYTES as u64).read_to_end(&mut head).map_err(unread)?;
    let start = ecg::start_of(&head).map(Start);
    let time =
        start.as_ref().map_or_else(|| "preview".to_owned(), |start| format!("{} (preview)", start.shown()));
    let found = ecg_records::analyze(Cursor::new(head).chain(source), options, time);
    let Picture { analysis, detail, png, width, height } = found.map_err(|error| match error {
        AnalysisError::Signal { reason, needs_options: true } => {
            ApiError::new(ProblemType::ECG_NEEDS_OPTIONS, reason)
        }
        AnalysisError::Signal { reason, .. } => ApiError::new(ProblemType::NOT_AN_ECG, reason),
        AnalysisError::Transfer(cause) => unread(cause),
    })?;
    let plot = PreviewPlot { media_type: MediaType::Png, width, height, base64: STANDARD.encode(png) };
    Ok(EcgPreview { analysis, detail, started_at: start.map(|start| start.time()), plot })
}

/// The response if the file cannot be read from the spool.
fn unread(cause: io::Error) -> ApiError {
    if cause.kind() == io::ErrorKind::TimedOut { too_long() } else { ApiError::internal(cause) }
}

fn too_large(max: ByteSize) -> ApiError {
    let detail = format!("A preview takes a file of at most {max}. Upload the file without a preview.");
    ApiError::new(ProblemType::TOO_LARGE, detail)
}

fn too_long() -> ApiError {
    let detail = format!(
        "The preview of this file took longer than {} s. Upload it without a preview; the server analyses it then.",
        MAX_TIME.as_secs()
    );
    ApiError::unavailable(detail, RETRY_AFTER)
}

/// Start of a recording as its file states it.
struct Start(ecg::Start);

impl Start {
    /// As `2026-03-14 15:09:26`.
    fn shown(&self) -> String {
        let ecg::Start { year, month, day, hour, minute, second, .. } = self.0;
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }

    /// As `2026-03-14T15:09:26.000`, in UTC with a `Z` if the file states the offset.
    fn time(&self) -> String {
        let ecg::Start { year, month, day, hour, minute, second, millisecond, offset_s } = self.0;
        let in_utc = offset_s.and_then(|_| {
            Timestamp::from_calendar((year, month, day), (hour, minute, second, millisecond), offset_s).ok()
        });
        in_utc.map_or_else(
            || {
                let mut text = self.shown().replace(' ', "T");
                let _ = write!(text, ".{millisecond:03}");
                text
            },
            |at| at.to_string(),
        )
    }
}

/// Ends the reading of a file when the request is dropped.
#[derive(Default)]
struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a file until the time is over or the client is gone.
struct Source<R> {
    reader: R,
    until: Instant,
    given_up: Arc<AtomicBool>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given_up.load(Ordering::Relaxed) || Instant::now() >= self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_client_has_one_turn_and_waits_no_longer_than_the_limit() {
        let previews = Previews::new(true);
        let (bed, other, third) = ("bed".into(), "other".into(), "third".into());
        let first = previews.turn(&bed).await.unwrap();
        let started = tokio::time::Instant::now();
        let error = previews.turn(&bed).await.unwrap_err();
        assert_eq!((error.kind, started.elapsed()), (ProblemType::UNAVAILABLE, TURN_WAIT));
        let second = previews.turn(&other).await.unwrap();
        assert!(previews.turn(&third).await.is_err(), "more than {AT_ONCE} at once");
        drop(first);
        drop((previews.turn(&third).await.unwrap(), second));
        assert!(previews.turn(&bed).await.is_ok());
    }

    #[test]
    fn reading_ends_when_the_client_is_gone_or_the_time_is_over() {
        let given_up = GiveUp::default();
        let source = |until| Source { reader: &b"0,1\n"[..], until, given_up: given_up.0.clone() };
        let later = Instant::now() + MAX_TIME;
        assert_eq!(io::read_to_string(source(later)).unwrap(), "0,1\n");
        let over = analyse(source(Instant::now()), &SignalOptions::default()).unwrap_err();
        assert_eq!(over.kind, ProblemType::UNAVAILABLE);
        let mut open = source(later);
        drop(given_up);
        assert_eq!(open.read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
