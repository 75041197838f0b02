//! RR intervals, heart rate, variability, trend and rhythm findings, derived from the beats of a strip.

use crate::analysis::{Beat, HeartRate, Quality, QualitySegment, RhythmNote, RrStatistics, TrendPoint};

/// The lowest and the highest rate are those of windows of this many beats.
const WINDOW_BEATS: usize = 8;
/// Length of the segments of the trend.
pub(crate) const TREND_STEP_S: f64 = 10.0;
/// An RR interval longer than this is a pause.
const PAUSE_S: f64 = 2.0;
/// Usual limits of the resting rate of adults.
const SLOW_BPM: f64 = 60.0;
const FAST_BPM: f64 = 100.0;
/// Two successive intervals that differ by more than this share are a change of rhythm.
const CHANGE: f64 = 0.15;
/// A strip in which this share of the successive intervals changes is irregular.
const IRREGULAR_SHARE: f64 = 0.25;

/// An interval between two successive beats with no gap and no unusable segment between them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interval {
    /// Index of the beat at the end of the interval.
    pub(crate) ends: usize,
    pub(crate) start_s: f64,
    pub(crate) seconds: f64,
}

/// Returns the valid intervals: both beats in one segment of the strip, and no unusable segment touched.
pub(crate) fn intervals(beats: &[Beat], quality_segments: &[QualitySegment]) -> Vec<Interval> {
    let mut out = Vec::with_capacity(beats.len());
    let mut segment = 0;
    for (index, pair) in beats.windows(2).enumerate() {
        let [first, second] = [pair[0], pair[1]];
        if first.segment != second.segment {
            continue;
        }
        while quality_segments.get(segment).is_some_and(|segment| segment.end_s <= first.time_s) {
            segment += 1;
        }
        let usable = quality_segments[segment.min(quality_segments.len())..]
            .iter()
            .take_while(|segment| segment.start_s <= second.time_s)
            .all(|segment| segment.quality != Quality::Unusable);
        if usable {
            let seconds = second.time_s - first.time_s;
            out.push(Interval { ends: index + 1, start_s: first.time_s, seconds });
        }
    }
    out
}

pub(crate) fn heart_rate(intervals: &[Interval]) -> Option<HeartRate> {
    if intervals.len() < 2 {
        return None;
    }
    let bpm = |intervals: &[Interval]| {
        60.0 * intervals.len() as f64 / intervals.iter().map(|interval| interval.seconds).sum::<f64>()
    };
    let mean_bpm = bpm(intervals);
    let (mut min_bpm, mut max_bpm) = (f64::INFINITY, 0.0_f64);
    for run in runs(intervals) {
        for window in run.windows(WINDOW_BEATS - 1) {
            let rate = bpm(window);
            (min_bpm, max_bpm) = (min_bpm.min(rate), max_bpm.max(rate));
        }
    }
    // Beats at the ends are part of fewer windows, so the mean of all can lie outside the range of the
    // windows.
    Some(HeartRate { mean_bpm, min_bpm: min_bpm.min(mean_bpm), max_bpm: max_bpm.max(mean_bpm) })
}

/// Groups of intervals in which each interval starts where the one before ends.
fn runs(intervals: &[Interval]) -> impl Iterator<Item = &[Interval]> {
    intervals.chunk_by(|left, right| left.ends + 1 == right.ends)
}

pub(crate) fn statistics(intervals: &[Interval]) -> Option<RrStatistics> {
    if intervals.len() < 2 {
        return None;
    }
    let count = intervals.len();
    let mut milliseconds: Vec<f64> = intervals.iter().map(|interval| interval.seconds * 1000.0).collect();
    let mean = milliseconds.iter().sum::<f64>() / count as f64;
    let sdnn_ms =
        (milliseconds.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64).sqrt();
    let differences: Vec<f64> = runs(intervals)
        .flat_map(|run| run.windows(2).map(|pair| (pair[1].seconds - pair[0].seconds) * 1000.0))
        .collect();
    let rmssd_ms = (!differences.is_empty()).then(|| {
        (differences.iter().map(|value| value * value).sum::<f64>() / differences.len() as f64).sqrt()
    });
    milliseconds.sort_unstable_by(f64::total_cmp);
    let median_ms = (milliseconds[(count - 1) / 2] + milliseconds[count / 2]) / 2.0;
    Some(RrStatistics { count, median_ms, sdnn_ms, rmssd_ms })
}

/// One point for each segment that contains the middle of at least one interval.
pub(crate) fn trend(intervals: &[Interval]) -> Vec<TrendPoint> {
    let step = |interval: &Interval| ((interval.start_s + interval.seconds / 2.0) / TREND_STEP_S).floor();
    intervals
        .chunk_by(|left, right| step(left) == step(right))
        .map(|segment| {
            let total: f64 = segment.iter().map(|interval| interval.seconds).sum();
            let (shortest, longest) =
                segment.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), interval| {
                    (low.min(interval.seconds), high.max(interval.seconds))
                });
            TrendPoint {
                time_s: (step(&segment[0]) + 0.5) * TREND_STEP_S,
                mean_bpm: 60.0 * segment.len() as f64 / total,
                min_bpm: 60.0 / longest,
                max_bpm: 60.0 / shortest,
            }
        })
        .collect()
}

pub(crate) fn notes(intervals: &[Interval], rate: &HeartRate) -> Vec<RhythmNote> {
    let mut out = Vec::new();
    if rate.mean_bpm < SLOW_BPM {
        out.push(RhythmNote {
            code: "slow",
            message: format!("The mean rate of {:.0} bpm is below {SLOW_BPM:.0} bpm.", rate.mean_bpm),
            at_s: None,
        });
    } else if rate.mean_bpm > FAST_BPM {
        out.push(RhythmNote {
            code: "fast",
            message: format!("The mean rate of {:.0} bpm is above {FAST_BPM:.0} bpm.", rate.mean_bpm),
            at_s: None,
        });
    }
    let pairs: Vec<f64> = runs(intervals)
        .flat_map(|run| run.windows(2).map(|pair| (pair[1].seconds / pair[0].seconds - 1.0).abs()))
        .collect();
    let changes = pairs.iter().filter(|change| **change > CHANGE).count();
    if pairs.len() >= 5 && changes as f64 > IRREGULAR_SHARE * pairs.len() as f64 {
        out.push(RhythmNote {
            code: "irregular",
            message: format!(
                "The rhythm is irregular: {:.0} % of successive intervals differ by more than {:.0} %.",
                100.0 * changes as f64 / pairs.len() as f64,
                100.0 * CHANGE
            ),
            at_s: None,
        });
    }
    let pauses = intervals.iter().filter(|interval| interval.seconds > PAUSE_S);
    let longest = pauses.clone().max_by(|left, right| left.seconds.total_cmp(&right.seconds));
    if let Some(longest) = longest {
        let count = pauses.count();
        let more = if count > 1 { format!(" It is the longest of {count} pauses.") } else { String::new() };
        out.push(RhythmNote {
            code: "pause",
            message: format!(
                "No beat for {:.1} s, from {:.1} s to {:.1} s.{more}",
                longest.seconds,
                longest.start_s,
                longest.start_s + longest.seconds
            ),
            at_s: Some(longest.start_s),
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats of one segment with these intervals between them, the first at 0 s.
    fn beats(intervals_s: &[f64]) -> Vec<Beat> {
        let mut time_s = 0.0;
        let times = std::iter::once(0.0).chain(intervals_s.iter().map(|interval| {
            time_s += interval;
            time_s
        }));
        times.map(|time_s| Beat { time_s, segment: 0, sample: 0, confidence: 1.0 }).collect()
    }

    fn segment(start_s: f64, end_s: f64, quality: Quality) -> QualitySegment {
        QualitySegment { start_s, end_s, quality, reason: None }
    }

    fn of(intervals_s: &[f64]) -> Vec<Interval> {
        intervals(&beats(intervals_s), &[segment(0.0, 1000.0, Quality::Good)])
    }

    fn codes(intervals: &[Interval]) -> Vec<&'static str> {
        let rate = heart_rate(intervals).expect("enough intervals");
        notes(intervals, &rate).iter().map(|note| note.code).collect()
    }

    #[test]
    fn extreme_rates_come_from_windows_of_eight_beats() {
        // Ten intervals of 1 s, then seven of 0.5 s: exactly one window contains fast beats only.
        let rate = heart_rate(&of(&[[1.0; 10].as_slice(), &[0.5; 7]].concat())).expect("a rate");
        assert!((rate.mean_bpm - 60.0 * 17.0 / 13.5).abs() < 1e-9, "{rate:?}");
        assert!((rate.min_bpm - 60.0).abs() < 1e-9 && (rate.max_bpm - 120.0).abs() < 1e-9, "{rate:?}");
        // One fast interval is no window.
        let rate = heart_rate(&of(&[[1.0; 10].as_slice(), &[0.5], &[1.0; 10]].concat())).expect("a rate");
        assert!((rate.max_bpm - 60.0 * 7.0 / 6.5).abs() < 1e-9, "{rate:?}");
        // With fewer than eight beats, lowest and highest equal the mean.
        let rate = heart_rate(&of(&[1.0, 0.5])).expect("a rate");
        assert_eq!((rate.min_bpm, rate.max_bpm), (rate.mean_bpm, rate.mean_bpm));
        assert_eq!(heart_rate(&of(&[1.0])), None, "one interval is no rate");
    }

    #[test]
    fn variability_matches_task_force_definitions() {
        // European Society of Cardiology 1996: SDNN of the intervals, RMSSD of differences of adjacent
        // intervals.
        let found = statistics(&of(&[0.8, 1.0, 0.9, 1.1])).expect("enough intervals");
        assert_eq!(found.count, 4);
        assert!((found.median_ms - 950.0).abs() < 1e-6, "{found:?}");
        assert!((found.sdnn_ms - (50_000.0_f64 / 3.0).sqrt()).abs() < 1e-6, "{found:?}");
        let rmssd_ms = found.rmssd_ms.expect("neighbours");
        assert!((rmssd_ms - (90_000.0_f64 / 3.0).sqrt()).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn intervals_across_gaps_and_unusable_segments_are_excluded() {
        let mut found = beats(&[1.0; 9]);
        found.iter_mut().skip(3).for_each(|beat| beat.segment = 1);
        let quality_segments = [
            segment(0.0, 5.5, Quality::Good),
            segment(5.5, 6.5, Quality::Unusable),
            segment(6.5, 10.0, Quality::Poor),
        ];
        let ends: Vec<usize> =
            intervals(&found, &quality_segments).iter().map(|interval| interval.ends).collect();
        // Beat 3 is across the gap; 6 and 7 are on either side of the beat at 6 s.
        assert_eq!(ends, [1, 2, 4, 5, 8, 9]);
        // Intervals that are adjacent in the list but not in the strip form no difference and no window.
        let runs: Vec<usize> = runs(&intervals(&found, &quality_segments)).map(<[_]>::len).collect();
        assert_eq!(runs, [2, 2, 2]);
    }

    #[test]
    fn rhythm_notes_match_intervals() {
        assert_eq!(codes(&of(&[0.8; 20])), [""; 0]);
        assert_eq!(codes(&of(&[1.2; 20])), ["slow"]);
        assert_eq!(codes(&of(&[0.5; 20])), ["fast"]);
        assert_eq!(codes(&of(&[0.7, 1.0].repeat(10))), ["irregular"]);
        let with_pauses = of(&[[0.8; 10].as_slice(), &[2.1], &[0.8; 10], &[2.4], &[0.8; 10]].concat());
        let rate = heart_rate(&with_pauses).expect("a rate");
        let found = notes(&with_pauses, &rate);
        assert_eq!(found.iter().map(|note| note.code).collect::<Vec<_>>(), ["pause"]);
        assert!(found[0].message.starts_with("No beat for 2.4 s"), "{}", found[0].message);
        assert!(found[0].message.ends_with("longest of 2 pauses."), "{}", found[0].message);
        assert!((found[0].at_s.expect("a place") - 18.1).abs() < 1e-6);
        assert_eq!(codes(&of(&[[0.8; 10].as_slice(), &[1.9]].concat())), [""; 0], "1.9 s are no pause");
    }

    #[test]
    fn trend_has_a_point_per_ten_seconds_with_beats() {
        let mut found = beats(&[[1.0; 10].as_slice(), &[0.5; 20]].concat());
        // No beats from 10 to 20 s.
        found.iter_mut().skip(11).for_each(|beat| {
            beat.time_s += 10.0;
            beat.segment = 1;
        });
        let points = trend(&intervals(&found, &[segment(0.0, 100.0, Quality::Good)]));
        let rates: Vec<(f64, f64)> =
            points.iter().map(|point| (point.time_s, point.mean_bpm.round())).collect();
        assert_eq!(rates, [(5.0, 60.0), (25.0, 120.0)]);
        assert!(
            points.iter().all(|point| point.min_bpm <= point.mean_bpm && point.mean_bpm <= point.max_bpm)
        );
    }
}
