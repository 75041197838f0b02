//! Analysis of one ECG: reads a signal and produces the analysis, the details and the plot.

use std::io::Read;

use bytes::Bytes;
use proto_json::{
    BeatMark, EcgAnalysis, EcgBeatCounts, EcgBeatType, EcgDetail, EcgGap, EcgIntervals, EcgNote, EcgQuality,
    EcgQualitySegment, EcgRate, EcgRrStatistics, EcgTrendPoint, EcgWarning, SignalOptions,
};

/// Limit on findings and on warnings of a result.
const MOST_REMARKS: usize = 50;

/// Result of the analysis of a signal.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Summary of the analysis.
    pub analysis: EcgAnalysis,
    /// All beats, the quality segments and the trend.
    pub detail: EcgDetail,
    /// The plot as PNG.
    pub png: Bytes,
    /// Width of the plot in pixels.
    pub width: u32,
    /// Height of the plot in pixels.
    pub height: u32,
}

/// Error of [`analyze`].
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The bytes are not a usable ECG. The text is one sentence for people.
    #[error("{0}")]
    Signal(String),
    /// The bytes could not be read completely.
    #[error("the signal could not be read from the staging store: {0}")]
    Transfer(#[source] std::io::Error),
}

/// Reads, analyses and draws a signal. `time` is shown in the header of the plot. Blocks.
///
/// # Errors
/// Returns [`AnalysisError::Signal`] if the bytes are not a usable ECG, [`AnalysisError::Transfer`] if they
/// could not be read completely.
pub fn analyze(reader: impl Read, options: &SignalOptions, time: String) -> Result<Picture, AnalysisError> {
    let lead = options.lead.as_deref().map(lead_choice);
    let options = ecg::csv::Options { sample_rate_hz: options.sample_rate_hz, lead, ..Default::default() };
    let recording = ecg::read_recording(reader, &options).map_err(|error| match error {
        ecg::ReadError::Csv(ecg::csv::ReadError::Io(cause))
        | ecg::ReadError::Edf(ecg::edf::ReadError::Io(cause)) => AnalysisError::Transfer(cause),
        other => AnalysisError::Signal(other.to_string()),
    })?;
    let (strip, found) = recording.into_best();
    let options = ecg::plot::Options { recorded_at: Some(time), ..Default::default() };
    let png =
        ecg::plot::png(&strip, &found, &options).map_err(|error| AnalysisError::Signal(error.to_string()))?;
    let (width, height) = png_size(&png);
    Ok(Picture {
        analysis: summary(&strip, &found),
        detail: detail(&strip, &found),
        png: png.into(),
        width,
        height,
    })
}

/// A number is an index from 1; anything else is a name.
fn lead_choice(text: &str) -> ecg::csv::LeadChoice {
    match text.trim().parse::<usize>() {
        Ok(place) if place > 0 => ecg::csv::LeadChoice::Index(place - 1),
        _ => ecg::csv::LeadChoice::Name(text.trim().to_owned()),
    }
}

/// Width and height from the IHDR chunk of a PNG file (PNG specification, 11.2.2).
fn png_size(png: &[u8]) -> (u32, u32) {
    let number =
        |at: usize| png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    (number(16), number(20))
}

fn summary(strip: &ecg::Strip, found: &ecg::Analysis) -> EcgAnalysis {
    EcgAnalysis {
        duration_s: round(strip.duration_s(), 3),
        sample_rate_hz: round(strip.sample_rate_hz, 4),
        lead: strip.lead.clone(),
        heart_rate: found.heart_rate.map(|rate| EcgRate {
            mean_bpm: round(rate.mean_bpm, 1),
            min_bpm: round(rate.min_bpm, 1),
            max_bpm: round(rate.max_bpm, 1),
        }),
        no_heart_rate_reason: found.no_heart_rate_reason.clone(),
        rr: found.rr.map(|rr| EcgRrStatistics {
            count: rr.count as u64,
            median_ms: round(rr.median_ms, 1),
            sdnn_ms: round(rr.sdnn_ms, 1),
            rmssd_ms: rr.rmssd_ms.map(|rmssd| round(rmssd, 1)),
        }),
        quality: quality(found.quality),
        beat_count: found.beats.len() as u64,
        algorithm: 0,
        intervals: EcgIntervals::default(),
        rhythm: Vec::new(),
        rhythm_count: 0,
        beat_types: EcgBeatCounts::default(),
        leads: Vec::new(),
        st: Vec::new(),
        notes: found
            .rhythm_notes
            .iter()
            .take(MOST_REMARKS)
            .map(|note| EcgNote {
                code: note.code.to_owned(),
                message: note.message.clone(),
                at_s: note.at_s.map(|at| round(at, 3)),
            })
            .collect(),
        warnings: found
            .warnings
            .iter()
            .take(MOST_REMARKS)
            .map(|warning| EcgWarning { code: warning.code.to_owned(), message: warning.message.clone() })
            .collect(),
        rows_used: strip.rows.used,
        rows_skipped: strip.rows.skipped,
        first_skipped_lines: strip.rows.first_skipped_lines.clone(),
    }
}

fn detail(strip: &ecg::Strip, found: &ecg::Analysis) -> EcgDetail {
    EcgDetail {
        beats: found
            .beats
            .iter()
            .map(|beat| BeatMark {
                time_s: round(beat.time_s, 4),
                confidence: beat.confidence,
                beat_type: EcgBeatType::Unknown,
                p: None,
                qrs: None,
                t: None,
            })
            .collect(),
        quality_segments: found
            .quality_segments
            .iter()
            .map(|segment| EcgQualitySegment {
                start_s: round(segment.start_s, 3),
                end_s: round(segment.end_s, 3),
                quality: quality(segment.quality),
                reason: segment.reason.clone(),
            })
            .collect(),
        trend: found
            .trend
            .iter()
            .map(|point| EcgTrendPoint {
                time_s: round(point.time_s, 3),
                mean_bpm: round(point.mean_bpm, 1),
                min_bpm: round(point.min_bpm, 1),
                max_bpm: round(point.max_bpm, 1),
            })
            .collect(),
        gaps: strip
            .gaps()
            .map(|gap| EcgGap { start_s: round(gap.start_s, 4), end_s: round(gap.end_s, 4) })
            .collect(),
        rhythm: Vec::new(),
        pacing_pulses_s: Vec::new(),
    }
}

fn quality(quality: ecg::Quality) -> EcgQuality {
    match quality {
        ecg::Quality::Good => EcgQuality::Good,
        ecg::Quality::Poor => EcgQuality::Poor,
        ecg::Quality::Unusable => EcgQuality::Unusable,
    }
}

/// Further digits would exceed the accuracy of the method.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
