//! Executes the requests of the window: calls the gateway, decodes the results.

use std::sync::Arc;

use bytes::Bytes;
use client::{ClientError, Gateway};
use ecg::csv::{LeadChoice, Options};
use proto_json::{
    BeatMark, BlobInfo, EcgDetail, EcgQuality, EcgRecord, EcgStatus, ImageRecord, MediaType, RecordId,
};
use ui::trace::{Beat, EcgScene, Sparkline};
use ui::{Picture, tr};

use crate::messages;
use crate::paged_list::{PAGE_SIZE, PageRequest};
use crate::patient::{EcgContent, LoadedEcg, Request, Response, Side};

/// The maximum size of a signal file that is drawn sample by sample. Of a larger one, the stored picture is shown.
const MAX_SIGNAL_BYTES: u64 = 64 << 20;
/// The maximum size of a picture file.
const MAX_PICTURE_BYTES: usize = 64 << 20;
/// How much of a signal file is read for a sparkline.
const SPARKLINE_BYTES: usize = 384 << 10;
/// The duration of a sparkline in seconds.
const SPARKLINE_SECONDS: f64 = 5.0;
/// The number of heart rates in a page.
const RATES_PAGE_SIZE: u32 = 500;
/// The maximum width and height of a decoded picture in pixels.
const MAX_PICTURE_SIZE: (u32, u32) = (2400, 1600);

/// Executes one request.
pub(crate) async fn respond(gateway: &Gateway, mrn: proto_json::Mrn, request: Request) -> Response {
    let cursor = |page: PageRequest| match page {
        PageRequest::Newest => None,
        PageRequest::After(cursor) => Some(cursor),
    };
    match request {
        Request::Ecgs(page) => Response::Ecgs(page, gateway.ecgs(mrn, cursor(page), Some(PAGE_SIZE)).await),
        Request::Images(page) => {
            Response::Images(page, gateway.images(mrn, cursor(page), Some(PAGE_SIZE)).await)
        }
        Request::Rates(after) => {
            Response::Rates(gateway.heart_rates(mrn, after, Some(RATES_PAGE_SIZE)).await)
        }
        Request::Ecg(side, id, strip) => {
            Response::Ecg(side, load_ecg(gateway, side, id, strip).await.map(Box::new))
        }
        Request::Image(record) => Response::Image(load_image(gateway, record).await),
    }
}

/// Loads a sparkline. `None` if the ECG has no readable signal.
pub(crate) async fn sparkline(gateway: &Gateway, id: RecordId) -> Result<Option<Sparkline>, ClientError> {
    let mut download = match gateway.signal(id).await {
        Ok(download) => download,
        Err(ClientError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    let mut is_whole = true;
    while let Some(chunk) = download.chunk().await? {
        head.extend_from_slice(&chunk);
        if head.len() >= SPARKLINE_BYTES {
            is_whole = false;
            break;
        }
    }
    Ok(run_blocking(move || {
        if !is_whole && let Some(end) = head.iter().rposition(|byte| *byte == b'\n') {
            head.truncate(end + 1);
        }
        let strip = ecg::read(head.as_slice(), &Options::default()).ok()?;
        Sparkline::of(&strip, SPARKLINE_SECONDS)
    })
    .await
    .flatten())
}

async fn load_ecg(
    gateway: &Gateway,
    side: Side,
    id: RecordId,
    strip: Option<Arc<ecg::Strip>>,
) -> Result<LoadedEcg, String> {
    let record = gateway.ecg(id).await.map_err(|error| error.to_string())?;
    let record = record.ok_or_else(|| tr!("this ECG is no longer stored").to_owned())?;
    let no_plot_reason = match &record.signal {
        None => tr!("uploaded as a picture").to_owned(),
        Some(signal) if signal.bytes > MAX_SIGNAL_BYTES => {
            tr!(
                "the signal of {} is too long to be drawn; this is the stored picture",
                ui::format::bytes(signal.bytes)
            )
        }
        Some(signal) => match load_signal(gateway, &record, signal, strip).await {
            Ok((strip, scene)) => return Ok(LoadedEcg { record, content: EcgContent::Signal(strip, scene) }),
            Err(reason) => reason,
        },
    };
    tracing::debug!(?side, reason = no_plot_reason, "the signal cannot be drawn");
    match &record.plot {
        Some(_) => {
            let file = gateway.plot(id).await.map_err(|error| error.to_string())?;
            let bytes = file.bytes(MAX_PICTURE_BYTES).await.map_err(|error| error.to_string())?;
            let picture = decode(bytes).await?;
            Ok(LoadedEcg { record, content: EcgContent::Picture(picture, no_plot_reason) })
        }
        None => Err(record.failure.clone().unwrap_or(no_plot_reason)),
    }
}

async fn load_signal(
    gateway: &Gateway,
    record: &EcgRecord,
    signal: &BlobInfo,
    strip: Option<Arc<ecg::Strip>>,
) -> Result<(Arc<ecg::Strip>, Arc<EcgScene>), String> {
    let limit = usize::try_from(signal.bytes).unwrap_or(usize::MAX);
    let (bytes, detail) = tokio::join!(
        async {
            match strip {
                Some(strip) => Ok(Err(strip)),
                None => gateway.signal(record.id).await?.bytes(limit).await.map(Ok),
            }
        },
        async {
            if record.status == EcgStatus::Analyzed { gateway.ecg_detail(record.id).await } else { Ok(None) }
        }
    );
    let bytes = bytes.map_err(|error: ClientError| error.to_string())?;
    let detail = detail.map_err(|error| error.to_string())?.unwrap_or_default();
    let options = read_options(record);
    run_blocking(move || {
        let strip = match bytes {
            Ok(bytes) => Arc::new(read_signal(&bytes, options)?),
            Err(strip) => strip,
        };
        let scene = Arc::new(scene(strip.clone(), &detail));
        Ok((strip, scene))
    })
    .await
    .unwrap_or_else(|| Err(tr!("the signal could not be read").to_owned()))
}

/// Reads a signal with the options of the analysis. If the file does not have the lead of the analysis, reads the first lead.
fn read_signal(bytes: &Bytes, options: Options) -> Result<ecg::Strip, String> {
    ecg::read(bytes.as_ref(), &options)
        .or_else(|_| ecg::read(bytes.as_ref(), &Options { lead: None, ..options }))
        .map_err(|error| error.to_string())
}

/// The sampling rate and the lead that the analysis used.
fn read_options(record: &EcgRecord) -> Options {
    let analysis = record.analysis.as_ref();
    Options {
        sample_rate_hz: analysis.map(|analysis| analysis.sample_rate_hz),
        lead: analysis.and_then(|analysis| analysis.lead.clone()).map(LeadChoice::Name),
        ..Options::default()
    }
}

fn scene(strip: Arc<ecg::Strip>, detail: &EcgDetail) -> EcgScene {
    let beat = |beat: &BeatMark| Beat {
        time_s: beat.time_s,
        confidence: beat.confidence,
        label: messages::beat_label(beat.beat_type),
    };
    let beats = detail.beats.iter().map(beat).collect();
    let unusable = detail
        .quality_segments
        .iter()
        .filter(|segment| segment.quality == EcgQuality::Unusable)
        .map(|segment| (segment.start_s, segment.end_s))
        .collect();
    EcgScene::new(strip, beats, unusable)
}

async fn load_image(gateway: &Gateway, record: ImageRecord) -> Result<Picture, String> {
    if !matches!(record.file.media_type, MediaType::Png | MediaType::Jpeg) {
        return Err(tr!("this file format cannot be shown").to_owned());
    }
    let file = gateway.image(record.id).await.map_err(|error| error.to_string())?;
    let bytes = file.bytes(MAX_PICTURE_BYTES).await.map_err(|error| error.to_string())?;
    decode(bytes).await
}

async fn decode(bytes: Bytes) -> Result<Picture, String> {
    run_blocking(move || {
        Picture::from_bytes(&bytes, Some(MAX_PICTURE_SIZE)).map_err(|error| error.to_string())
    })
    .await
    .unwrap_or_else(|| Err(tr!("the picture could not be read").to_owned()))
}

/// Runs a function on a thread for blocking work. `None` if it panicked.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
