//! Rhythm of a strip: findings with their evidence. They are findings, not diagnoses.
//!
//! Atrial fibrillation is decided on windows of 30 s by a logistic regression on the irregularity of the RR intervals and on the
//! consistency of P waves. `examples/fit_rhythm` fits [`FIBRILLATION_WEIGHTS`] and cross-validates them by patient. Ectopic
//! patterns follow from the beat types. Windows of unusable signal have no finding.

use std::ops::Range;

use crate::analysis::{Analysis, Beat, Quality};
use crate::beat_types::{self, BeatType, Shape, TypedBeat};
use crate::strip::Strip;
use crate::waves::BeatWaves;

/// Number of features of the regression.
pub const FIBRILLATION_FEATURES: usize = 6;
/// Length of the windows in seconds.
pub const WINDOW_S: f64 = 30.0;
/// A window needs at least this many RR intervals.
const MIN_INTERVALS: usize = 8;
/// Successive intervals that differ by more than this share of the typical one are irregular.
const IRREGULAR_SHARE: f64 = 0.08;
/// Beats in a row of ventricular or supraventricular type that are a run.
const RUN_BEATS: usize = 3;
/// Repetitions of a pattern that are a bigeminy or a trigeminy.
const PATTERN_REPEATS: usize = 3;
/// An RR interval longer than this is a pause.
const PAUSE_S: f64 = 2.0;
/// Share of paced beats from which the rhythm is paced.
const PACED_SHARE: f64 = 0.5;
/// Limits of the normal sinus rate in beats per minute.
const NORMAL_BPM: Range<f64> = 60.0..100.0;
/// Share of beats with a P wave in a sinus rhythm.
const SINUS_P_SHARE: f64 = 0.6;

/// A finding of a strip.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Stable code: `atrial_fibrillation`, `sinus_rhythm`, `sinus_bradycardia`, `sinus_tachycardia`, `paced`, `bigeminy`,
    /// `trigeminy`, `couplet`, `ventricular_run`, `supraventricular_run` or `pause`.
    pub code: &'static str,
    /// Start in seconds from the start of the strip.
    pub start_s: f64,
    /// End in seconds from the start of the strip.
    pub end_s: f64,
    /// One sentence that states the evidence.
    pub evidence: String,
}

impl Finding {
    /// Name of the finding for people, such as `Atrial fibrillation`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.code {
            "sinus_rhythm" => "Sinus rhythm",
            "sinus_bradycardia" => "Sinus bradycardia",
            "sinus_tachycardia" => "Sinus tachycardia",
            "atrial_fibrillation" => "Atrial fibrillation",
            "paced" => "Paced rhythm",
            "bigeminy" => "Bigeminy",
            "trigeminy" => "Trigeminy",
            "couplet" => "Couplet",
            "ventricular_run" => "Ventricular run",
            "supraventricular_run" => "Supraventricular run",
            "pause" => "Pause",
            code => code,
        }
    }
}

/// Weights of the regression on atrial fibrillation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FibrillationWeights {
    /// Constant term.
    pub bias: f64,
    /// Weight of each feature.
    pub features: [f64; FIBRILLATION_FEATURES],
}

impl FibrillationWeights {
    /// Log-odds of atrial fibrillation in a window with these features.
    #[must_use]
    pub fn log_odds(&self, features: &[f64; FIBRILLATION_FEATURES]) -> f64 {
        self.bias + self.features.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f64>()
    }
}

/// The weights in use, as printed by `examples/fit_rhythm`.
pub const FIBRILLATION_WEIGHTS: FibrillationWeights =
    FibrillationWeights { bias: 8.868, features: [1.116, 0.429, 5.134, 0.988, -4.025, -7.301] };

/// The windows of a strip with the ranges of their beats. Windows do not cross gaps; a remainder shorter than half a window is
/// part of the window before it.
#[must_use]
pub fn windows(strip: &Strip, beats: &[Beat]) -> Vec<(f64, f64, Range<usize>)> {
    let mut out = Vec::new();
    for (index, segment) in strip.segments.iter().enumerate() {
        let length_s = segment.samples.len() as f64 / strip.sample_rate_hz;
        let count = (length_s / WINDOW_S).round().max(1.0) as usize;
        for number in 0..count {
            let start_s = segment.start_s + number as f64 * WINDOW_S;
            let end_s = if number + 1 == count { segment.start_s + length_s } else { start_s + WINDOW_S };
            let from = beats.partition_point(|beat| (beat.segment, beat.time_s) < (index, start_s));
            let to = beats.partition_point(|beat| (beat.segment, beat.time_s) < (index, end_s));
            out.push((start_s, end_s, from..to));
        }
    }
    out
}

/// Features of the beats of one window. Ventricular beats take no part: they are irregular and without P waves in any rhythm.
/// `None` if there are too few RR intervals between other beats.
#[must_use]
pub fn fibrillation_features(
    strip: &Strip,
    beats: &[Beat],
    waves: &[BeatWaves],
    types: &[TypedBeat],
) -> Option<[f64; FIBRILLATION_FEATURES]> {
    let conducted: Vec<bool> = types.iter().map(|typed| typed.kind != BeatType::Ventricular).collect();
    let rr: Vec<f64> = beats
        .windows(2)
        .zip(conducted.windows(2))
        .filter(|(pair, conducted)| pair[0].segment == pair[1].segment && conducted[0] && conducted[1])
        .map(|(pair, _)| pair[1].time_s - pair[0].time_s)
        .collect();
    if rr.len() < MIN_INTERVALS {
        return None;
    }
    let typical = beat_types::median(rr.clone())?;
    let relative = |distance: usize| -> Vec<f64> {
        rr.windows(distance + 1).map(|piece| (piece[distance] - piece[0]).abs() / typical).collect()
    };
    let changes = relative(1);
    let irregular = changes.iter().filter(|change| **change > IRREGULAR_SHARE).count();
    let share = irregular as f64 / changes.len().max(1) as f64;
    // Bigeminy is regular at a distance of two, trigeminy at three.
    let periodic = [2, 3]
        .into_iter()
        .filter_map(|distance| beat_types::median(relative(distance)))
        .fold(f64::INFINITY, f64::min);
    let log = |value: f64| (value + 0.005).ln();
    let deviations = rr.iter().map(|interval| (interval / typical - 1.0).abs()).collect();
    let p: Vec<f64> = waves
        .iter()
        .zip(&conducted)
        .filter(|(_, conducted)| **conducted)
        .map(|(waves, _)| waves.p.map_or(0.0, |p| f64::from(p.confidence)))
        .collect();
    let conducted_beats = beats.iter().zip(&conducted).filter(|(_, conducted)| **conducted);
    Some([
        log(beat_types::median(changes)?),
        log(beat_types::median(deviations)?),
        share,
        log(periodic.min(1.0)),
        p.iter().sum::<f64>() / p.len().max(1) as f64,
        p_consistency(strip, conducted_beats.map(|(beat, _)| beat)),
    ])
}

/// Mean correlation of the P segments of the beats with their mean.
fn p_consistency<'a>(strip: &Strip, beats: impl Iterator<Item = &'a Beat>) -> f64 {
    let segments: Vec<Vec<f32>> = beats.map(|beat| Shape::of(strip, beat).p).collect();
    let length = segments.iter().map(Vec::len).max().unwrap_or(0);
    let whole: Vec<Vec<f32>> = segments
        .into_iter()
        .filter(|segment| segment.len() == length && length > 0)
        .map(|segment| {
            // The tail of the T wave before is nearly a straight line.
            let (first, last) = (segment[0], segment[length - 1]);
            let line = |at: usize| first + (last - first) * at as f32 / (length - 1).max(1) as f32;
            segment.iter().enumerate().map(|(at, value)| value - line(at)).collect()
        })
        .collect();
    let count = whole.len();
    if count < 2 {
        return 0.0;
    }
    let sum: Vec<f32> = (0..length).map(|at| whole.iter().map(|segment| segment[at]).sum()).collect();
    // Each beat is compared with the mean of the others.
    let of = |segment: &Vec<f32>| {
        let others: Vec<f32> =
            sum.iter().zip(segment).map(|(sum, own)| (sum - own) / (count - 1) as f32).collect();
        beat_types::correlation(segment, &others)
    };
    whole.iter().map(of).sum::<f64>() / count as f64
}

/// Findings of a strip in order of their start. `waves` and `types` belong to the beats of `analysis`.
#[must_use]
pub fn findings(
    strip: &Strip,
    analysis: &Analysis,
    waves: &[BeatWaves],
    types: &[TypedBeat],
) -> Vec<Finding> {
    let beats = &analysis.beats;
    if waves.len() != beats.len() || types.len() != beats.len() {
        return Vec::new();
    }
    let usable = |start_s: f64, end_s: f64| {
        analysis
            .quality_segments
            .iter()
            .filter(|segment| segment.start_s < end_s && segment.end_s > start_s)
            .all(|segment| segment.quality != Quality::Unusable)
    };
    let mut out: Vec<Finding> = Vec::new();
    for (start_s, end_s, range) in windows(strip, beats) {
        if !usable(start_s, end_s) {
            continue;
        }
        let (beats, waves, types) = (&beats[range.clone()], &waves[range.clone()], &types[range]);
        let Some(finding) = basic_rhythm(strip, beats, waves, types) else { continue };
        match out.last_mut() {
            Some(last) if last.code == finding.0 && (last.end_s - start_s).abs() < 1e-6 => last.end_s = end_s,
            _ => out.push(Finding { code: finding.0, start_s, end_s, evidence: finding.1 }),
        }
    }
    out.extend(patterns(beats, types).into_iter().filter(|finding| usable(finding.start_s, finding.end_s)));
    out.extend(
        beats
            .windows(2)
            .filter(|pair| pair[0].segment == pair[1].segment && pair[1].time_s - pair[0].time_s > PAUSE_S)
            .filter(|pair| usable(pair[0].time_s, pair[1].time_s))
            .map(|pair| Finding {
                code: "pause",
                start_s: pair[0].time_s,
                end_s: pair[1].time_s,
                evidence: format!("No beat for {:.1} s.", pair[1].time_s - pair[0].time_s),
            }),
    );
    out.sort_by(|left, right| left.start_s.total_cmp(&right.start_s));
    out
}

/// Code and evidence of the basic rhythm of a window.
fn basic_rhythm(
    strip: &Strip,
    beats: &[Beat],
    waves: &[BeatWaves],
    types: &[TypedBeat],
) -> Option<(&'static str, String)> {
    let features = fibrillation_features(strip, beats, waves, types)?;
    let share = |count: usize| count as f64 / beats.len() as f64;
    let paced = share(types.iter().filter(|typed| typed.kind == BeatType::Paced).count());
    if paced >= PACED_SHARE {
        return Some(("paced", format!("{:.0} % of the beats follow a pacemaker pulse.", 100.0 * paced)));
    }
    let log_odds = FIBRILLATION_WEIGHTS.log_odds(&features);
    if log_odds >= 0.0 {
        let evidence = format!(
            "{:.0} % of successive RR intervals differ by more than {:.0} %, without consistent P waves (log-odds {log_odds:.1}).",
            100.0 * features[2],
            100.0 * IRREGULAR_SHARE
        );
        return Some(("atrial_fibrillation", evidence));
    }
    let with_p = share(waves.iter().filter(|waves| waves.p.is_some()).count());
    let normal = share(types.iter().filter(|typed| typed.kind == BeatType::Normal).count());
    if with_p < SINUS_P_SHARE || normal < SINUS_P_SHARE {
        return None;
    }
    let bpm = crate::score::mean_rate(&beats.iter().map(|beat| beat.time_s).collect::<Vec<_>>())?;
    let code = if bpm < NORMAL_BPM.start {
        "sinus_bradycardia"
    } else if bpm > NORMAL_BPM.end {
        "sinus_tachycardia"
    } else {
        "sinus_rhythm"
    };
    Some((
        code,
        format!("{:.0} % of the beats have a P wave; the mean rate is {bpm:.0} bpm.", 100.0 * with_p),
    ))
}

/// Bigeminy, trigeminy, couplets and runs.
fn patterns(beats: &[Beat], types: &[TypedBeat]) -> Vec<Finding> {
    let mut out = Vec::new();
    let ectopic = |kind: BeatType| matches!(kind, BeatType::Ventricular | BeatType::Supraventricular);
    let name =
        |kind: BeatType| if kind == BeatType::Ventricular { "ventricular" } else { "supraventricular" };
    let mut at = 0;
    while at < types.len() {
        let kind = types[at].kind;
        if !ectopic(kind) {
            at += 1;
            continue;
        }
        let length = (at..types.len())
            .take_while(|other| types[*other].kind == kind && beats[*other].segment == beats[at].segment)
            .count();
        if length >= 2 {
            let code = match kind {
                _ if length < RUN_BEATS => "couplet",
                BeatType::Ventricular => "ventricular_run",
                _ => "supraventricular_run",
            };
            let (start_s, end_s) = (beats[at].time_s, beats[at + length - 1].time_s);
            let evidence = format!("{length} {} beats in a row.", name(kind));
            out.push(Finding { code, start_s, end_s, evidence });
        }
        at += length;
    }
    for (code, period) in [("bigeminy", 2), ("trigeminy", 3)] {
        let mut at = 0;
        while at < types.len() {
            let kind = types[at].kind;
            let fits = |other: usize| {
                let due = (other - at).is_multiple_of(period);
                beats[other].segment == beats[at].segment
                    && if due { types[other].kind == kind } else { types[other].kind == BeatType::Normal }
            };
            let length =
                if ectopic(kind) { (at..types.len()).take_while(|other| fits(*other)).count() } else { 0 };
            let repeats = length.div_ceil(period);
            if repeats >= PATTERN_REPEATS {
                let (start_s, end_s) = (beats[at].time_s, beats[at + length - 1].time_s);
                let evidence =
                    format!("A {} beat in place of every {period}th beat, {repeats} times.", name(kind));
                out.push(Finding {
                    code,
                    start_s,
                    end_s,
                    evidence: evidence.replace("2th", "2nd").replace("3th", "3rd"),
                });
            }
            at += length.max(1);
        }
    }
    out
}
