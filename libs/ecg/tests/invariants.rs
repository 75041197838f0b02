//! Changes of the recording that do not concern the heart do not change the beats.

use ecg::detect::detect;
use ecg::synth::{self, Settings};
use ecg::{Segment, Strip, analyze};
use proptest::prelude::*;

/// Interpolates by a windowed sinc over 8 samples on either side, which is band-limited.
fn value_at(samples: &[f32], position: f64) -> f32 {
    let middle = position.floor() as i64;
    let sum: f64 = (middle - 7..=middle + 8)
        .map(|index| {
            let off = position - index as f64;
            let sinc = if off.abs() < 1e-9 {
                1.0
            } else {
                (std::f64::consts::PI * off).sin() / (std::f64::consts::PI * off)
            };
            let bell = 0.5 + 0.5 * (std::f64::consts::PI * off / 9.0).cos();
            let at = index.clamp(0, samples.len() as i64 - 1) as usize;
            f64::from(samples[at]) * sinc * bell
        })
        .sum();
    sum as f32
}

fn resampled(samples: &[f32], from_hz: f64, to_hz: f64) -> Vec<f32> {
    let count = (samples.len() as f64 / from_hz * to_hz) as usize;
    (0..count).map(|index| value_at(samples, index as f64 * from_hz / to_hz)).collect()
}

fn times(samples: &[f32], rate: f64) -> Vec<f64> {
    detect(samples, rate).iter().map(|beat| beat.sample as f64 / rate).collect()
}

fn beats_of(strip: &Strip) -> Vec<f64> {
    analyze(strip).beats.iter().map(|beat| beat.time_s).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resampling_moves_beats_by_less_than_a_sample(
        seed in 1_u64..10_000,
        from_hz in prop_oneof![Just(250.0), Just(360.0), Just(500.0)],
        to_hz in 200.0..1000.0,
        mean_bpm in 50.0..140.0,
    ) {
        // White noise extends to half the sampling rate, so it differs at another rate.
        let settings =
            Settings { sample_rate_hz: from_hz, duration_s: 25.0, mean_bpm, noise_mv: 0.0, seed, ..Settings::default() };
        let samples = synth::generate(&settings).strip.segments.remove(0).samples;
        let before = times(&samples, from_hz);
        let after = times(&resampled(&samples, from_hz, to_hz), to_hz);
        let sample_s = 1.0 / f64::min(from_hz, to_hz);
        for (beats, others) in [(&before, &after), (&after, &before)] {
            // A beat at either end may be incomplete.
            for beat in beats.iter().filter(|time| (0.3..24.7).contains(*time)) {
                let moved = others.iter().map(|other| (other - beat).abs() / sample_s).fold(f64::INFINITY, f64::min);
                prop_assert!(moved < 1.0, "the beat at {} moved by {} samples", beat, moved);
            }
        }
    }

    #[test]
    fn strips_joined_with_a_gap_have_the_beats_of_both(
        seed in 1_u64..10_000,
        rate in prop_oneof![Just(125.0), Just(250.0), Just(360.0)],
        seconds in (5.0..30.0, 5.0..30.0),
        gap_s in 0.5..100.0,
        bpm in (50.0..140.0, 50.0..140.0),
    ) {
        let strip = |duration_s, mean_bpm, seed| {
            synth::generate(&Settings { sample_rate_hz: rate, duration_s, mean_bpm, seed, ..Settings::default() }).strip
        };
        let (first, second) = (strip(seconds.0, bpm.0, seed), strip(seconds.1, bpm.1, seed + 1));
        let start_s = first.duration_s() + gap_s;
        let mut joined = first.clone();
        joined.segments.push(Segment { start_s, samples: second.segments[0].samples.clone() });
        let mut expected = beats_of(&first);
        expected.extend(beats_of(&second).iter().map(|time| time + start_s));
        let found = beats_of(&joined);
        prop_assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            prop_assert!((found - expected).abs() < 1e-9, "{} instead of {}", found, expected);
        }
        // No interval spans the gap.
        let intervals = |strip: &Strip| analyze(strip).rr.map_or(0, |rr| rr.count);
        prop_assert!(intervals(&joined) <= expected.len().saturating_sub(2));
    }
}
