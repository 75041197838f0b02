//! Answers to what the screen asks: calls to the gateway, and the work on what comes back.

use std::sync::Arc;

use bytes::Bytes;
use client::{ClientError, Gateway};
use ecg::csv::{LeadChoice, Options};
use proto_json::{BlobInfo, EcgDetail, EcgQuality, EcgRecord, EcgStatus, ImageRecord, MediaType, RecordId};
use ui::Picture;
use ui::trace::{EcgScene, Sparkline};

use crate::pages::{PAGE, Wanted};
use crate::patient::{Answer, Ask, Content, EcgShown, Side};

/// The longest signal that is drawn sample by sample, in bytes of its file; of longer ones, the picture is shown.
const LONGEST_SIGNAL: u64 = 64 << 20;
/// The largest picture.
const LARGEST_PICTURE: usize = 64 << 20;
/// How much of a signal a tile needs at most, in bytes of its file.
const SPARK_BYTES: usize = 384 << 10;
/// Seconds on a tile.
const SPARK_SECONDS: f64 = 5.0;
/// Heart rates fetched at a time.
const RATES: u32 = 500;
/// Pictures are shown no larger than this, in pixels.
const SHOWN: (u32, u32) = (2400, 1600);

/// Answers one question.
pub(crate) async fn answer(gateway: &Gateway, mrn: proto_json::Mrn, ask: Ask) -> Answer {
    let after = |wanted: Wanted| match wanted {
        Wanted::Newest => None,
        Wanted::After(cursor) => Some(cursor),
    };
    match ask {
        Ask::Ecgs(wanted) => Answer::Ecgs(wanted, gateway.ecgs(mrn, after(wanted), Some(PAGE)).await),
        Ask::Images(wanted) => Answer::Images(wanted, gateway.images(mrn, after(wanted), Some(PAGE)).await),
        Ask::Rates(after) => Answer::Rates(gateway.heart_rates(mrn, after, Some(RATES)).await),
        Ask::Ecg(side, id, strip) => Answer::Ecg(side, shown(gateway, side, id, strip).await.map(Box::new)),
        Ask::Image(record) => Answer::Image(image(gateway, record).await),
    }
}

/// The small strip of a tile; nothing where there is no signal that can be read.
pub(crate) async fn spark(gateway: &Gateway, id: RecordId) -> Result<Option<Sparkline>, ClientError> {
    let mut download = match gateway.signal(id).await {
        Ok(download) => download,
        Err(ClientError::NotFound(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = Vec::new();
    let mut is_whole = true;
    while let Some(chunk) = download.chunk().await? {
        head.extend_from_slice(&chunk);
        if head.len() >= SPARK_BYTES {
            is_whole = false;
            break;
        }
    }
    Ok(off_thread(move || {
        if !is_whole && let Some(end) = head.iter().rposition(|byte| *byte == b'\n') {
            head.truncate(end + 1);
        }
        let strip = ecg::read(head.as_slice(), &Options::default()).ok()?;
        Sparkline::of(&strip, SPARK_SECONDS)
    })
    .await
    .flatten())
}

async fn shown(
    gateway: &Gateway,
    side: Side,
    id: RecordId,
    strip: Option<Arc<ecg::Strip>>,
) -> Result<EcgShown, String> {
    let record = gateway.ecg(id).await.map_err(|error| error.to_string())?;
    let record = record.ok_or_else(|| "this ECG is no longer stored".to_owned())?;
    let why_none = match &record.signal {
        None => "uploaded as a picture".to_owned(),
        Some(signal) if signal.bytes > LONGEST_SIGNAL => {
            format!(
                "the signal of {} is too long to be drawn here: this is its picture",
                ui::format::bytes(signal.bytes)
            )
        }
        Some(signal) => match trace(gateway, &record, signal, strip).await {
            Ok((strip, scene)) => return Ok(EcgShown { record, content: Content::Trace(strip, scene) }),
            Err(reason) => reason,
        },
    };
    tracing::debug!(?side, "no trace: {why_none}");
    match &record.plot {
        Some(_) => {
            let file = gateway.plot(id).await.map_err(|error| error.to_string())?;
            let bytes = file.bytes(LARGEST_PICTURE).await.map_err(|error| error.to_string())?;
            let picture = decoded(bytes).await?;
            Ok(EcgShown { record, content: Content::Picture(picture, why_none) })
        }
        None => Err(record.failure.clone().unwrap_or(why_none)),
    }
}

async fn trace(
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
    let options = options(record);
    off_thread(move || {
        let strip = match bytes {
            Ok(bytes) => Arc::new(read(&bytes, options)?),
            Err(strip) => strip,
        };
        let scene = Arc::new(scene(strip.clone(), &detail));
        Ok((strip, scene))
    })
    .await
    .unwrap_or_else(|| Err("the signal could not be read".to_owned()))
}

/// Reads a signal as the analysis read it; where that does not fit, as it stands.
fn read(bytes: &Bytes, options: Options) -> Result<ecg::Strip, String> {
    ecg::read(bytes.as_ref(), &options)
        .or_else(|_| ecg::read(bytes.as_ref(), &Options { lead: None, ..options }))
        .map_err(|error| error.to_string())
}

/// What the analysis knows of how to read the file.
fn options(record: &EcgRecord) -> Options {
    let analysis = record.analysis.as_ref();
    Options {
        sample_rate_hz: analysis.map(|analysis| analysis.sample_rate_hz),
        lead: analysis.and_then(|analysis| analysis.lead.clone()).map(LeadChoice::Name),
        ..Options::default()
    }
}

fn scene(strip: Arc<ecg::Strip>, detail: &EcgDetail) -> EcgScene {
    let beats = detail.beats.iter().map(|beat| (beat.time_s, beat.confidence)).collect();
    let unusable = detail
        .quality_segments
        .iter()
        .filter(|segment| segment.quality == EcgQuality::Unusable)
        .map(|segment| (segment.start_s, segment.end_s))
        .collect();
    EcgScene::new(strip, beats, unusable)
}

async fn image(gateway: &Gateway, record: ImageRecord) -> Result<Picture, String> {
    if !matches!(record.file.media_type, MediaType::Png | MediaType::Jpeg) {
        return Err("this is no picture that can be shown".to_owned());
    }
    let file = gateway.image(record.id).await.map_err(|error| error.to_string())?;
    let bytes = file.bytes(LARGEST_PICTURE).await.map_err(|error| error.to_string())?;
    decoded(bytes).await
}

async fn decoded(bytes: Bytes) -> Result<Picture, String> {
    off_thread(move || Picture::from_bytes(&bytes, Some(SHOWN)).map_err(|error| error.to_string()))
        .await
        .unwrap_or_else(|| Err("the picture could not be read".to_owned()))
}

/// Runs what computes for long where it holds up nothing; nothing where it fell over.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
