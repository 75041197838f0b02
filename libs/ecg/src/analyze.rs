//! Analysis of a strip: beats, signal quality, heart rate and findings.

use crate::analysis::{Analysis, Beat, Quality, QualitySegment};
use crate::detect::detect;
use crate::strip::Strip;
use crate::{lead_off, pacing, quality, rate};

/// The quality of a strip is the best one that this share of its time has.
const MIN_TIME_SHARE: f64 = 0.5;

/// Detects the beats of a strip and derives heart rate, quality and findings from them.
#[must_use]
pub fn analyze(strip: &Strip) -> Analysis {
    let mut beats = Vec::new();
    let mut quality_segments: Vec<QualitySegment> = Vec::new();
    let mut has_evidence = false;
    let mut pacing_pulses_s = Vec::new();
    let rate_hz = strip.sample_rate_hz;
    for (index, segment) in strip.segments.iter().enumerate() {
        let samples = &segment.samples;
        let time_s = |sample: usize| segment.start_s + sample as f64 / rate_hz;
        // While the lead is off, nothing is known about the heart. The parts before and after are analysed
        // separately.
        let mut from = 0;
        let end = std::iter::once(samples.len()..samples.len());
        for off in lead_off::segments(samples, rate_hz).into_iter().chain(end) {
            if off.start > from || samples.is_empty() {
                let recorded = &samples[from..off.start];
                let pacing = pacing::remove(recorded, rate_hz);
                let part = pacing.cleaned.as_deref().unwrap_or(recorded);
                let found = detect(part, rate_hz);
                let first = quality_segments.len();
                has_evidence |= quality::assess(part, time_s(from), rate_hz, &found, &mut quality_segments);
                if pacing::dissociated(&pacing.pulses, &found, rate_hz) {
                    quality::dissociated(&mut quality_segments[first..]);
                }
                pacing_pulses_s.extend(pacing.pulses.iter().map(|pulse| time_s(from + pulse)));
                beats.extend(found.iter().map(|detection| {
                    let sample = from + detection.sample as usize;
                    Beat { time_s: time_s(sample), segment: index, sample, confidence: detection.confidence }
                }));
            }
            if !off.is_empty() {
                quality::lead_off(time_s(off.start), time_s(off.end), &mut quality_segments);
            }
            from = off.end;
        }
    }
    // A strip without a rate keeps the reasons of its segments.
    if !has_evidence && overall(&quality_segments) > Quality::Unusable {
        quality::reject(&mut quality_segments);
    }
    let intervals = rate::intervals(&beats, &quality_segments);
    let overall = overall(&quality_segments);
    // A few plausible intervals in a strip of noise occur by chance.
    let heart_rate = (overall != Quality::Unusable).then(|| rate::heart_rate(&intervals)).flatten();
    let no_heart_rate_reason = heart_rate.is_none().then(|| reason(strip, &quality_segments));
    Analysis {
        heart_rate,
        no_heart_rate_reason,
        rr: heart_rate.and_then(|_| rate::statistics(&intervals)),
        quality: overall,
        rhythm_notes: heart_rate.map(|rate| rate::notes(&intervals, &rate)).unwrap_or_default(),
        trend: heart_rate.map(|_| rate::trend(&intervals)).unwrap_or_default(),
        quality_segments,
        pacing_pulses_s,
        beats,
        warnings: strip.warnings.clone(),
    }
}

fn reason(strip: &Strip, quality_segments: &[QualitySegment]) -> String {
    if strip.sample_count() == 0 {
        return "The strip has no samples.".to_owned();
    }
    quality_segments
        .iter()
        .filter(|segment| segment.quality == Quality::Unusable)
        .find_map(|segment| segment.reason.clone())
        .unwrap_or_else(|| "There are fewer than three beats in a row, too few for a heart rate.".to_owned())
}

/// The best quality that at least half of the time has.
fn overall(quality_segments: &[QualitySegment]) -> Quality {
    let time = |at_least: Quality| -> f64 {
        quality_segments
            .iter()
            .filter(|segment| segment.quality >= at_least)
            .map(|segment| segment.end_s - segment.start_s)
            .sum()
    };
    let total = time(Quality::Unusable);
    if total > 0.0 && time(Quality::Good) >= MIN_TIME_SHARE * total {
        Quality::Good
    } else if total > 0.0 && time(Quality::Poor) >= MIN_TIME_SHARE * total {
        Quality::Poor
    } else {
        Quality::Unusable
    }
}
