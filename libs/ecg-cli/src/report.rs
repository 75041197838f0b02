//! The analysis of a recording as JSON. Times are seconds from the start of the recording, voltages millivolts, intervals
//! milliseconds, rates beats per minute. A value that could not be measured is `null`.

use ecg::beat_types::BeatType;
use ecg::waves::{self, BeatWaves};
use ecg::{Analysis, Quality, RecordingAnalysis, Start, Strip, st};
use serde::Serialize;

use crate::input::Input;

/// The analysis of all leads of a recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// Version of the method of analysis.
    pub algorithm: u32,
    /// Local time of the first sample (ISO 8601), if the file states it.
    pub start: Option<String>,
    /// Index in `leads` of the lead that gives the heart rate.
    pub best_lead: usize,
    /// The leads in the order of the file.
    pub leads: Vec<LeadReport>,
    /// Names of signals that are not leads of an ECG.
    pub other_signals: Vec<String>,
}

/// The analysis of one lead.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "named as the fields of the library, which are documented")]
pub struct LeadReport {
    pub lead: Option<String>,
    pub sample_rate_hz: f64,
    pub samples: usize,
    pub duration_s: f64,
    /// `good`, `poor` or `unusable`.
    pub quality: &'static str,
    pub heart_rate: Option<Rate>,
    pub no_heart_rate_reason: Option<String>,
    pub rr: Option<Rr>,
    pub intervals_ms: Intervals,
    pub st_mv: St,
    pub findings: Vec<Finding>,
    pub notes: Vec<Note>,
    pub quality_segments: Vec<QualitySegment>,
    pub gaps: Vec<Span>,
    pub pacing_pulses_s: Vec<f64>,
    pub beats: Vec<Beat>,
    pub warnings: Vec<Note>,
}

/// Heart rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::HeartRate`")]
pub struct Rate {
    pub mean_bpm: f64,
    pub min_bpm: f64,
    pub max_bpm: f64,
}

/// RR intervals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::RrStatistics`")]
pub struct Rr {
    pub count: usize,
    pub median_ms: f64,
    pub sdnn_ms: f64,
    pub rmssd_ms: Option<f64>,
}

/// A median with its interquartile range and the number of beats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Median {
    pub median: f64,
    pub spread: f64,
    pub beats: usize,
}

/// Intervals between waves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::waves::Intervals`")]
pub struct Intervals {
    pub pr: Option<Median>,
    pub qrs: Option<Median>,
    pub qt: Option<Median>,
    pub qtc_bazett: Option<Median>,
    pub qtc_fridericia: Option<Median>,
}

/// ST levels of the beats that are neither ventricular nor paced.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::st::StLevels`")]
pub struct St {
    pub j60: Option<Median>,
    pub j80: Option<Median>,
}

/// A finding of the rhythm with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::rhythm::Finding`")]
pub struct Finding {
    pub code: &'static str,
    pub start_s: f64,
    pub end_s: f64,
    pub evidence: String,
}

/// A note or a warning.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::RhythmNote` and `ecg::Warning`")]
pub struct Note {
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_s: Option<f64>,
}

/// Quality of a part.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::QualitySegment`")]
pub struct QualitySegment {
    pub start_s: f64,
    pub end_s: f64,
    pub quality: &'static str,
    pub reason: Option<String>,
}

/// An interval of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Span {
    pub start_s: f64,
    pub end_s: f64,
}

/// A beat.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Beat {
    /// Time of the R peak.
    pub time_s: f64,
    /// Confidence, 0 to 1.
    pub confidence: f32,
    /// `N`, `S`, `V`, `P` (paced) or `Q` (unknown).
    #[serde(rename = "type")]
    pub kind: char,
    /// Confidence of the type, 0 to 1.
    pub type_confidence: f32,
    /// P wave.
    pub p: Option<Wave>,
    /// QRS complex.
    pub qrs: Option<Wave>,
    /// T wave.
    pub t: Option<Wave>,
}

/// A wave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "see `ecg::waves::Wave`")]
pub struct Wave {
    pub on_s: f64,
    pub peak_s: f64,
    pub end_s: f64,
    pub confidence: f32,
}

/// Analyses all leads of a recording.
#[must_use]
pub fn report(input: &Input) -> Report {
    let Input { recording, start } = input;
    let RecordingAnalysis { leads: analyses, best } = recording.analyze();
    let leads =
        recording.leads.iter().zip(analyses).map(|(lead, analysis)| lead_report(&lead.strip, &analysis));
    Report {
        version: env!("CARGO_PKG_VERSION"),
        algorithm: ecg::ALGORITHM,
        start: start.as_ref().map(iso_8601),
        best_lead: best,
        leads: leads.collect(),
        other_signals: recording.other_signals.clone(),
    }
}

/// Waves, beat types, rhythm and ST levels of a lead, with its analysis.
#[must_use]
pub fn lead_report(strip: &Strip, analysis: &Analysis) -> LeadReport {
    let ecg::Report { waves: beat_waves, types, intervals, findings } = ecg::report(strip, analysis);
    let conducted = |beat: usize| {
        types.get(beat).is_some_and(|it| !matches!(it.kind, BeatType::Ventricular | BeatType::Paced))
    };
    let levels = st::levels(&st::measure(strip, &analysis.beats, &beat_waves), conducted);
    let interval = |it: Option<waves::IntervalMs>| {
        it.map(|it| Median { median: it.median, spread: it.spread, beats: it.count })
    };
    let level = |it: Option<st::LevelMv>| {
        it.map(|it| Median { median: it.median.into(), spread: it.spread.into(), beats: it.count })
    };
    let mut waves_of = vec![None; analysis.beats.len()];
    for beat in &beat_waves {
        if let Some(place) = waves_of.get_mut(beat.beat) {
            *place = Some(beat);
        }
    }
    let wave = |waves: Option<&BeatWaves>, of: fn(&BeatWaves) -> Option<waves::Wave>| {
        waves.and_then(of).map(|it| Wave {
            on_s: it.on_s,
            peak_s: it.peak_s,
            end_s: it.end_s,
            confidence: it.confidence,
        })
    };
    let beats = analysis.beats.iter().zip(&types).zip(waves_of).map(|((beat, typed), waves)| Beat {
        time_s: beat.time_s,
        confidence: beat.confidence,
        kind: typed.kind.symbol(),
        type_confidence: typed.confidence,
        p: wave(waves, |it| it.p),
        qrs: wave(waves, |it| it.qrs),
        t: wave(waves, |it| it.t),
    });
    LeadReport {
        lead: strip.lead.clone(),
        sample_rate_hz: strip.sample_rate_hz,
        samples: strip.sample_count(),
        duration_s: strip.duration_s(),
        quality: quality(analysis.quality),
        heart_rate: analysis.heart_rate.map(|it| Rate {
            mean_bpm: it.mean_bpm,
            min_bpm: it.min_bpm,
            max_bpm: it.max_bpm,
        }),
        no_heart_rate_reason: analysis.no_heart_rate_reason.clone(),
        rr: analysis.rr.map(|it| Rr {
            count: it.count,
            median_ms: it.median_ms,
            sdnn_ms: it.sdnn_ms,
            rmssd_ms: it.rmssd_ms,
        }),
        intervals_ms: Intervals {
            pr: interval(intervals.pr),
            qrs: interval(intervals.qrs),
            qt: interval(intervals.qt),
            qtc_bazett: interval(intervals.qtc_bazett),
            qtc_fridericia: interval(intervals.qtc_fridericia),
        },
        st_mv: St { j60: level(levels.j60), j80: level(levels.j80) },
        findings: findings
            .into_iter()
            .map(|it| Finding { code: it.code, start_s: it.start_s, end_s: it.end_s, evidence: it.evidence })
            .collect(),
        notes: analysis
            .rhythm_notes
            .iter()
            .map(|it| Note { code: it.code, message: it.message.clone(), at_s: it.at_s })
            .collect(),
        quality_segments: analysis
            .quality_segments
            .iter()
            .map(|it| QualitySegment {
                start_s: it.start_s,
                end_s: it.end_s,
                quality: quality(it.quality),
                reason: it.reason.clone(),
            })
            .collect(),
        gaps: strip.gaps().map(|gap| Span { start_s: gap.start_s, end_s: gap.end_s }).collect(),
        pacing_pulses_s: analysis.pacing_pulses_s.clone(),
        beats: beats.collect(),
        warnings: analysis
            .warnings
            .iter()
            .map(|it| Note { code: it.code, message: it.message.clone(), at_s: None })
            .collect(),
    }
}

fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Poor => "poor",
        Quality::Unusable => "unusable",
    }
}

/// Date and time according to ISO 8601, with the offset from UTC if it is known.
#[must_use]
pub fn iso_8601(start: &Start) -> String {
    let Start { year, month, day, hour, minute, second, millisecond, offset_s } = start;
    let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}");
    match offset_s {
        None => time,
        Some(offset_s) => {
            let (sign, offset) = (if *offset_s < 0 { '-' } else { '+' }, offset_s.abs());
            format!("{time}{sign}{:02}:{:02}", offset / 3600, offset / 60 % 60)
        }
    }
}
