//! Exports of stored waveforms as WFDB, EDF+ and CSV. All formats have the stored samples, bit for bit.
//!
//! A file has the channels of one stream that have one sample rate, because the formats cannot mix other rates exactly.
//! It is made while it is sent, some seconds at a time. A gap is missing samples in WFDB, no row in CSV; for EDF+ see
//! [`ecg::edf::writer`]. If the store fails in the middle, the connection is aborted, so that a file is never cut
//! unnoticed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ecg::edf::writer::Writer as EdfWriter;
use ecg::wfdb::writer::{self as wfdb, Checksum, OutputSignal, StartTime};
use futures::stream;
use http_server::problem::ApiError;
use proto_json::Timestamp;
use proto_json::waveform::{MISSING_SAMPLE, SampleRate, StreamId};
use proto_json::waveform_reads::{WaveformFormat, export_name};
use store::waveforms::Span;

use super::grid::Grid;
use super::params::ExportParams;
use super::{Source, micros, sources};
use crate::params::PathMrn;
use crate::state::Ports;

/// Samples of a channel that are read at a time.
const BLOCK: u64 = 60_000;

/// Stream and sample rate (numerator and denominator) of a file.
type FileKey = (StreamId, (u32, u32));

pub(crate) async fn export(
    State(store): State<Ports>,
    PathMrn(mrn): PathMrn,
    ExportParams { format, from, to, stream, rate }: ExportParams,
) -> Result<Response, ApiError> {
    let times = micros(from)..micros(to);
    // The files that the range can be exported to.
    let mut files: BTreeMap<FileKey, Vec<(Source, Vec<Span>)>> = BTreeMap::new();
    for source in sources(&store, mrn, to).await? {
        let SampleRate { numerator, denominator } = source.rate();
        let id = source.stream.description.stream;
        let is_selected =
            stream.is_none_or(|stream| stream == id) && rate.is_none_or(|rate| rate == source.rate());
        if is_selected {
            let spans = source.spans(&store, &times).await?;
            if !spans.is_empty() {
                files.entry((id, (numerator, denominator))).or_default().push((source, spans));
            }
        }
    }
    if files.len() > 1 {
        let mut detail =
            "The range has several streams or sample rates; each is a file of its own. Choose one of:"
                .to_owned();
        for ((stream, (numerator, denominator)), channels) in files.iter().take(20) {
            let labels: Vec<&str> =
                channels.iter().map(|(source, _)| source.channel().label.as_str()).collect();
            // Writing to a string does not fail.
            let _ =
                write!(detail, " stream={stream}&rate={numerator}/{denominator} ({});", labels.join(", "));
        }
        return Err(ApiError::invalid(format!("{}.", detail.trim_end_matches(';'))));
    }
    let Some(((stream, _), channels)) = files.into_iter().next() else {
        return Err(ApiError::not_found("The patient has no stored waveforms in the range."));
    };
    let grid = Grid::new(channels)?;
    let name = export_name(mrn, from, stream, grid.rate());
    let export =
        Arc::new(Export { store, start: start_time(grid.start_us())?, grid, mrn: mrn.to_string(), name });
    let body = export.clone().body(format).await?;
    let file = format!("attachment; filename=\"{}.{}\"", export.name, format.extension());
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        (header::CONTENT_DISPOSITION, HeaderValue::try_from(file).map_err(ApiError::internal)?),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    Ok((headers, body).into_response())
}

/// Splits a time into the fields of file headers.
fn start_time(time_us: i64) -> Result<StartTime, ApiError> {
    let time = Timestamp::from_millis(time_us.div_euclid(1_000)).map_err(ApiError::internal)?;
    // `2026-03-14T15:09:26.535Z`
    let text = time.to_string();
    let field = |range: Range<usize>| text.get(range).and_then(|digits| digits.parse::<u16>().ok());
    let fields = || {
        let small = |range| u8::try_from(field(range)?).ok();
        Some(StartTime {
            date: (field(0..4)?, small(5..7)?, small(8..10)?),
            time: (small(11..13)?, small(14..16)?, small(17..19)?),
            micros: time_us.rem_euclid(1_000_000) as u32,
        })
    };
    fields()
        .ok_or_else(|| ApiError::invalid("The file formats cannot represent years before 0 or after 9999."))
}

/// A file that is made while it is sent.
struct Export {
    store: Ports,
    grid: Grid,
    start: StartTime,
    mrn: String,
    name: String,
}

impl Export {
    async fn body(self: Arc<Self>, format: WaveformFormat) -> Result<Body, ApiError> {
        match format {
            WaveformFormat::WfdbHeader => self.wfdb_header().await.map(Body::from),
            WaveformFormat::WfdbSamples => {
                let encode = |_: &Export, _: u64, samples: Vec<Vec<i16>>| wfdb::samples(&samples);
                Ok(self.blocks(Vec::new(), BLOCK, false, encode))
            }
            WaveformFormat::Csv => {
                let head = self.csv_header();
                Ok(self.blocks(head.into_bytes(), BLOCK, true, Export::csv_rows))
            }
            WaveformFormat::Edf => self.edf(),
        }
    }

    fn signals(&self, has_type: bool) -> Vec<OutputSignal> {
        let signal = |channel: &proto_json::waveform::Channel| OutputSignal {
            label: if has_type && channel.is_ecg() {
                format!("ECG {}", channel.label)
            } else {
                channel.label.clone()
            },
            unit: channel.unit.clone(),
            scale: channel.scale,
            offset: channel.offset,
        };
        self.grid.channels().map(signal).collect()
    }

    /// Sends `head`, and then the encoded samples of one block after the other. `skips` states that a block without
    /// samples is left out.
    fn blocks(
        self: Arc<Self>,
        head: Vec<u8>,
        block: u64,
        skips: bool,
        encode: impl Fn(&Export, u64, Vec<Vec<i16>>) -> Vec<u8> + Send + Sync + Clone + 'static,
    ) -> Body {
        let next = move |(export, head, mut from): (Arc<Export>, Option<Vec<u8>>, u64)| {
            let encode = encode.clone();
            async move {
                if let Some(head) = head {
                    return Ok(Some((Bytes::from(head), (export, None, from))));
                }
                let length = export.grid.length();
                while skips && from < length && !export.grid.has_samples(&(from..from + block)) {
                    from += block;
                }
                if from >= length {
                    return Ok(None);
                }
                let to = (from + block).min(length);
                let samples = export.grid.samples(&export.store, &(from..to)).await;
                let samples = samples.map_err(|error| std::io::Error::other(error.detail))?;
                let bytes = encode(&export, from, samples);
                Ok::<_, std::io::Error>(Some((Bytes::from(bytes), (export, None, to))))
            }
        };
        Body::from_stream(stream::try_unfold((self, Some(head), 0), next))
    }

    async fn wfdb_header(&self) -> Result<String, ApiError> {
        let signals = self.signals(false);
        let mut checksums = vec![Checksum::default(); signals.len()];
        let length = self.grid.length();
        for from in (0..length).step_by(BLOCK as usize) {
            let samples = self.grid.samples(&self.store, &(from..(from + BLOCK).min(length))).await?;
            checksums.iter_mut().zip(&samples).for_each(|(checksum, samples)| checksum.add(samples));
        }
        let SampleRate { numerator, denominator } = self.grid.rate();
        let rate = (numerator, denominator);
        Ok(wfdb::header(&self.name, rate, length, self.start, &signals, &checksums))
    }

    fn edf(self: Arc<Self>) -> Result<Body, ApiError> {
        let SampleRate { numerator, denominator } = self.grid.rate();
        let writer = EdfWriter::new(self.signals(true), (numerator, denominator), self.start)
            .map_err(|error| ApiError::invalid(format!("{error}. Export WFDB or CSV instead.")))?;
        let size = writer.record_samples() as u64;
        let records = self.grid.length().div_ceil(size);
        let is_written = |record: u64| self.grid.has_samples(&(record * size..(record + 1) * size));
        let count = (0..records).filter(|record| is_written(*record)).count() as u64;
        let device = &self.grid.source().stream.description.device;
        let device = format!("{} {}", device.name, device.serial);
        let head = writer.header(&self.mrn, &device, count, count == records);
        let writer = Arc::new(writer);
        // Whole data records.
        let block = (BLOCK / size).max(1) * size;
        Ok(self.blocks(head, block, true, move |export, from, mut samples| {
            for channel in &mut samples {
                channel.resize(channel.len().next_multiple_of(size as usize), MISSING_SAMPLE);
            }
            let mut bytes = Vec::new();
            let length = samples.first().map_or(0, Vec::len) as u64;
            for start in (0..length).step_by(size as usize) {
                let positions = from + start..from + start + size;
                if export.grid.has_samples(&positions) {
                    let range = start as usize..(start + size) as usize;
                    let parts: Vec<&[i16]> = samples.iter().map(|channel| &channel[range.clone()]).collect();
                    bytes.extend(writer.record(positions.start / size, &parts));
                }
            }
            bytes
        }))
    }

    fn csv_header(&self) -> String {
        let start = Timestamp::from_millis(self.grid.start_us().div_euclid(1_000));
        let SampleRate { numerator, denominator } = self.grid.rate();
        let mut text = format!(
            "# Start: {}, sample rate: {numerator}/{denominator} Hz\ntime (s)",
            start.map(|start| start.to_string()).unwrap_or_default()
        );
        for channel in self.grid.channels() {
            let label = channel.label.replace(['"', ',', ';'], "_");
            // Writing to a string does not fail.
            let _ = write!(text, ",{label} ({})", channel.unit.replace(['"', ',', ';'], "_"));
        }
        text.push('\n');
        text
    }

    /// Rows with the time since the start and the values; the value of a missing sample is empty. The values have
    /// enough digits to compute the samples again.
    fn csv_rows(&self, from: u64, samples: Vec<Vec<i16>>) -> Vec<u8> {
        let rate = self.grid.rate();
        let channels: Vec<(f64, f64, usize)> = self
            .grid
            .channels()
            .map(|channel| {
                let digits = (1.5 - channel.scale.abs().log10()).ceil().clamp(0.0, 17.0) as usize;
                (channel.scale, channel.offset, digits)
            })
            .collect();
        let mut text = String::new();
        for row in 0..samples.first().map_or(0, Vec::len) {
            if samples.iter().all(|channel| channel[row] == MISSING_SAMPLE) {
                continue;
            }
            let time = rate.micros(from + row as u64);
            // Writing to a string does not fail.
            let _ = write!(text, "{}.{:06}", time / 1_000_000, time % 1_000_000);
            for (channel, (scale, offset, digits)) in samples.iter().zip(&channels) {
                match channel[row] {
                    MISSING_SAMPLE => text.push(','),
                    sample => {
                        let _ = write!(text, ",{:.digits$}", f64::from(sample) * scale + offset);
                    }
                }
            }
            text.push('\n');
        }
        text.into_bytes()
    }
}
