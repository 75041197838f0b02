//! Draws ECGs on demand: a chosen lead, and the page of twelve leads, as PNG, SVG or PDF. Clients that draw themselves get the
//! samples of a lead, so that all of them read a file in the same way.
//!
//! The worker draws and stores the lead that gives the heart rate. Everything else is drawn here from the stored
//! signal: most drawings are never requested, and a drawing follows from signal and version, so storing twelve more
//! files per ECG would add nothing. Drawing happens on threads of low priority. At most [`AT_ONCE`] drawings of
//! signals of at most [`MAX_SIGNAL_BYTES`] are made at a time, so memory and processor use are bounded; further
//! requests wait, then get 503.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ecg::plot::{Options, Page, PlotError};
use http_server::problem::{ApiError, ProblemType};
use proto_json::{BlobHash, BlobInfo, EcgRecord, EcgSampleSegment, EcgSamples};
use serde::Deserialize;
use store::BlobKey;
use tokio::sync::Semaphore;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::errors::{damaged, file_error, store_error};
use crate::files;
use crate::state::Ports;

/// Drawings at the same time.
const AT_ONCE: usize = 2;
/// Longest signal that is drawn on demand. A recording of an hour with twelve leads at 250 Hz has about 60 MB as CSV.
const MAX_SIGNAL_BYTES: u64 = 96 << 20;
/// Longest wait for a turn.
const WAIT: Duration = Duration::from_secs(10);
/// Longest name of a lead in characters.
const MAX_LEAD_CHARS: usize = 100;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));

/// Format of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Png,
    Svg,
    Pdf,
    /// Samples.
    Json,
}

impl Format {
    fn media_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Svg => "image/svg+xml",
            Format::Pdf => "application/pdf",
            Format::Json => "application/json",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Svg => "svg",
            Format::Pdf => "pdf",
            Format::Json => "json",
        }
    }
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
enum Subject {
    /// One lead by its name or number; `None`: the one that gives the heart rate.
    Lead(Option<String>),
    /// The ten seconds from this time, of all standard leads.
    Page { from_s: f64 },
    /// The samples of one lead by its name or number; `None`: the one that gives the heart rate.
    Samples(Option<String>),
}

/// `?lead=&format=&from_s=`
#[derive(Debug, Deserialize)]
struct RawParams {
    lead: Option<String>,
    format: Option<String>,
    from_s: Option<String>,
}

/// The parameters of a drawing.
pub(crate) struct DrawingParams {
    lead: Option<String>,
    format: Option<Format>,
    from_s: Option<f64>,
}

impl<S: Send + Sync> FromRequestParts<S> for DrawingParams {
    type Rejection = ApiError;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(raw): Query<RawParams> =
            Query::from_request_parts(parts, state).await.map_err(|rejection: QueryRejection| {
                ApiError::invalid(format!("The query string cannot be read: {}.", rejection.body_text()))
            })?;
        let format = match raw.format.as_deref() {
            None => None,
            Some("png") => Some(Format::Png),
            Some("svg") => Some(Format::Svg),
            Some("pdf") => Some(Format::Pdf),
            Some(_) => return Err(ApiError::invalid("`format` must be png, svg or pdf.")),
        };
        if raw.lead.as_ref().is_some_and(|lead| lead.chars().count() > MAX_LEAD_CHARS) {
            return Err(ApiError::invalid(format!("`lead` must be at most {MAX_LEAD_CHARS} characters.")));
        }
        let from_s = raw.from_s.map(|text| {
            let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e7).contains(seconds));
            seconds
                .ok_or_else(|| ApiError::invalid("`from_s` must be a number of seconds from 0 to 10000000."))
        });
        Ok(DrawingParams { lead: raw.lead, format, from_s: from_s.transpose()? })
    }
}

impl DrawingParams {
    /// Whether the stored plot is requested.
    pub(crate) fn is_stored(&self) -> bool {
        self.lead.is_none() && self.format.is_none()
    }

    fn format(&self) -> Format {
        self.format.unwrap_or(Format::Png)
    }
}

/// Answers a request for a lead.
pub(crate) async fn lead(
    store: &Ports,
    ecg: &EcgRecord,
    params: DrawingParams,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let format = params.format();
    answer(store, ecg, Subject::Lead(params.lead), format, request).await
}

/// Answers a request for the page.
pub(crate) async fn page(
    store: &Ports,
    ecg: &EcgRecord,
    params: DrawingParams,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let subject = Subject::Page { from_s: params.from_s.unwrap_or(0.0) };
    answer(store, ecg, subject, params.format(), request).await
}

/// Answers a request for the samples of a lead.
pub(crate) async fn samples(
    store: &Ports,
    ecg: &EcgRecord,
    params: DrawingParams,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    answer(store, ecg, Subject::Samples(params.lead), Format::Json, request).await
}

async fn answer(
    store: &Ports,
    ecg: &EcgRecord,
    subject: Subject,
    format: Format,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let Some(signal) = &ecg.signal else {
        return Err(ApiError::not_found("This ECG was uploaded as a picture; it has no signal."));
    };
    // The drawing follows from these.
    let source = (signal.sha256, ecg::ALGORITHM, &ecg.signal_options, &subject, format);
    let tag = format!("\"{}\"", BlobHash::of(format!("{source:?}").as_bytes()));
    let tag = HeaderValue::try_from(tag).map_err(ApiError::internal)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::CACHE_CONTROL, files::REVALIDATE);
    if request.get_all(header::IF_NONE_MATCH).iter().any(|value| files::contains_tag(value, &tag)) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let name = match &subject {
        Subject::Lead(_) => format!("ecg-{}-lead.{}", ecg.id, format.extension()),
        Subject::Page { .. } => format!("ecg-{}-page.{}", ecg.id, format.extension()),
        Subject::Samples(_) => format!("ecg-{}-samples.{}", ecg.id, format.extension()),
    };
    let bytes = drawn(store, ecg, signal, subject, format).await?;
    let disposition = format!("inline; filename=\"{name}\"");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers
        .insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition).map_err(ApiError::internal)?);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, files::FILE_POLICY);
    Ok((headers, bytes).into_response())
}

async fn drawn(
    store: &Ports,
    ecg: &EcgRecord,
    signal: &BlobInfo,
    subject: Subject,
    format: Format,
) -> Result<Vec<u8>, ApiError> {
    if signal.bytes > MAX_SIGNAL_BYTES {
        let limit = MAX_SIGNAL_BYTES >> 20;
        let detail = format!(
            "The signal has more than {limit} MB, too much to draw on demand. Its stored plot is available without parameters."
        );
        return Err(ApiError::new(ProblemType::TOO_LARGE, detail));
    }
    let turn = tokio::time::timeout(WAIT, TURNS.clone().acquire_owned()).await;
    let turn = turn.map_err(|_| {
        ApiError::unavailable("As many ECGs are being drawn as this server takes; try again in a moment.", 5)
    })?;
    let turn = turn.map_err(ApiError::internal)?;
    let key = BlobKey { upload: ecg.upload_id, sha256: signal.sha256 };
    let stored = store.files.blob(key).await.map_err(store_error)?;
    let stored =
        stored.ok_or_else(|| damaged(&format!("the stored file (sha256 {}) is missing", signal.sha256)))?;
    let body = SyncIoBridge::new(StreamReader::new(stored.body));
    let options = reading(ecg);
    let recorded_at = match ecg.recorded_at {
        Some(at) => at.local_seconds(),
        None => format!("{} (received)", ecg.received_at.local_seconds()),
    };
    let done = background::run_long(move || {
        // A client that does not wait any longer must not make room for another drawing.
        let _turn = turn;
        draw(body, &options, recorded_at, &subject, format)
    });
    done.await.map_err(ApiError::internal)?
}

/// How to read the signal. Records of earlier versions contain only the sampling rate that was found.
fn reading(ecg: &EcgRecord) -> ecg::csv::Options {
    let (rate, lead) = match &ecg.signal_options {
        Some(options) => (options.sample_rate_hz, options.lead.as_deref()),
        None => (ecg.analysis.as_ref().map(|analysis| analysis.sample_rate_hz), None),
    };
    let lead = lead.map(ecg::csv::LeadChoice::of);
    ecg::csv::Options { sample_rate_hz: rate, lead, ..Default::default() }
}

fn draw(
    body: impl std::io::Read,
    reading: &ecg::csv::Options,
    recorded_at: String,
    subject: &Subject,
    format: Format,
) -> Result<Vec<u8>, ApiError> {
    let recording = ecg::read_recording(body, reading).map_err(|error| match error {
        ecg::ReadError::Csv(ecg::csv::ReadError::Io(cause))
        | ecg::ReadError::Edf(ecg::edf::ReadError::Io(cause)) => file_error(&cause),
        other => {
            ApiError::not_found(format!("There is no drawing, because the file is not readable: {other}"))
        }
    })?;
    let analysis = recording.analyze();
    let best = analysis.best;
    let report = ecg::report(&recording.leads[best].strip, &analysis.leads[best]);
    let options = Options { recorded_at: Some(recorded_at), ..Options::default() };
    let failed = |error: PlotError| match error {
        PlotError::Empty => ApiError::not_found("The recording has no samples at this time."),
        error => ApiError::internal(error),
    };
    let named = |name: &Option<String>| {
        let name = name.clone().unwrap_or_else(|| recording.lead_name(best));
        let view = recording.view(&analysis, &report, &name);
        view.map(|view| (name, view)).ok_or_else(|| {
            let mut names: Vec<String> =
                (0..recording.leads.len()).map(|index| recording.lead_name(index)).collect();
            names.extend(recording.derived_names().into_iter().map(str::to_owned));
            ApiError::not_found(format!("There is no lead of this name. The leads are {}.", names.join(", ")))
        })
    };
    match subject {
        Subject::Page { from_s } => {
            let options = Options { report: Some(Arc::new(report)), ..options };
            let report = options.report.clone().unwrap_or_default();
            let page = Page::of(&recording, &analysis, &report, &options, *from_s).map_err(failed)?;
            match format {
                Format::Svg => page.svg().map(String::into_bytes),
                Format::Pdf => page.pdf(),
                Format::Png | Format::Json => page.png(),
            }
        }
        Subject::Lead(name) => {
            let (_, view) = named(name)?;
            let options = Options { report: Some(Arc::new(view.report)), ..options };
            match format {
                Format::Svg => ecg::plot::svg(&view.strip, &view.analysis, &options).map(String::into_bytes),
                Format::Pdf => ecg::plot::pdf(&view.strip, &view.analysis, &options),
                Format::Png | Format::Json => ecg::plot::png(&view.strip, &view.analysis, &options),
            }
        }
        Subject::Samples(name) => {
            let (name, view) = named(name)?;
            return serde_json::to_vec(&lead_samples(name, &view.strip)).map_err(ApiError::internal);
        }
    }
    .map_err(failed)
}

/// The samples of a lead in whole microvolts. A value beyond the range of the type is at its limit.
fn lead_samples(lead: String, strip: &ecg::Strip) -> EcgSamples {
    let segments = strip.segments.iter().map(|segment| EcgSampleSegment {
        start_s: segment.start_s,
        microvolts: segment.samples.iter().map(|mv| (f64::from(*mv) * 1000.0).round() as i32).collect(),
    });
    EcgSamples {
        lead,
        sample_rate_hz: strip.sample_rate_hz,
        duration_s: strip.duration_s(),
        segments: segments.collect(),
    }
}
