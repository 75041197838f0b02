//! Analysis of a strip: beats, signal quality, heart rate and findings.

use std::ops::Range;

use crate::analysis::{Analysis, Beat, Quality, QualitySegment};
use crate::detect::{Change, Detection};
use crate::parts::{Lead, LeadEvent};
use crate::strip::Strip;
use crate::{pacing, quality, rate};

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
        for part in parts(samples, rate_hz) {
            if part.range.start > from {
                quality::lead_off(time_s(from), time_s(part.range.start), &mut quality_segments);
            }
            from = part.range.end;
            let recorded = &samples[part.range.clone()];
            let cleaned = (!part.pulses.is_empty()).then(|| pacing::remove(recorded, rate_hz));
            let cleaned = cleaned.as_deref().unwrap_or(recorded);
            let first = quality_segments.len();
            let start_s = time_s(part.range.start);
            has_evidence |= quality::assess(cleaned, start_s, rate_hz, &part.beats, &mut quality_segments);
            let decays = pacing::decays(recorded, cleaned, &part.pulses, &part.beats, rate_hz);
            let segments = &mut quality_segments[first..];
            quality::pulses_without_beats(&part.beats, &decays, start_s, rate_hz, segments);
            if pacing::dissociated(&part.pulses, &part.beats, rate_hz) {
                quality::dissociated(&mut quality_segments[first..]);
            }
            pacing_pulses_s.extend(part.pulses.iter().map(|pulse| time_s(part.range.start + pulse)));
            beats.extend(part.beats.iter().map(|detection| {
                let sample = part.range.start + detection.sample as usize;
                Beat { time_s: time_s(sample), segment: index, sample, confidence: detection.confidence }
            }));
        }
        if samples.len() > from {
            quality::lead_off(time_s(from), time_s(samples.len()), &mut quality_segments);
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

/// A part of a segment in which the lead is on. Pulses and beats are counted from its start.
struct Part {
    range: Range<usize>,
    pulses: Vec<usize>,
    beats: Vec<Detection>,
}

/// The parts of a segment, in order. A segment without samples is one part.
fn parts(samples: &[f32], rate_hz: f64) -> Vec<Part> {
    let mut lead = Lead::new(rate_hz, false);
    let mut events = Vec::new();
    lead.push(samples, &mut events);
    lead.finish(&mut events);
    let empty = |start: usize| Part { range: start..start, pulses: Vec::new(), beats: Vec::new() };
    let mut out: Vec<Part> = Vec::new();
    for event in events {
        match (event, out.last_mut()) {
            (LeadEvent::Start(sample), _) => out.push(empty(sample as usize)),
            (LeadEvent::End(sample), Some(part)) => part.range.end = sample as usize,
            (LeadEvent::Pulse(sample), Some(part)) => part.pulses.push(sample as usize - part.range.start),
            (LeadEvent::Beat(Change::Final(beat)), Some(part)) => {
                part.beats.push(Detection { sample: beat.sample - part.range.start as u64, ..beat });
            }
            _ => {}
        }
    }
    out.retain(|part| !part.range.is_empty());
    if samples.is_empty() {
        out.push(empty(0));
    }
    out
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
