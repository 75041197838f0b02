//! Rhythms and disturbances with known beats.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ecg::detect::detect;
use ecg::synth::{self, Dropout, DropoutKind, Settings};
use ecg::{Detector, Quality, analyze};
use proptest::prelude::*;

/// Time of the R peak, and whether the beat is ventricular: wide, without a P wave, with an inverted T wave.
#[derive(Clone, Copy)]
struct Beat {
    at: f64,
    wide: bool,
}

fn bump(t: f64, at: f64, height: f64, width: f64) -> f64 {
    height * (-((t - at) / width).powi(2) / 2.0).exp()
}

fn wave(beat: &Beat, t: f64) -> f64 {
    if beat.wide {
        bump(t, beat.at, 1.3, 0.035)
            + bump(t, beat.at + 0.09, -0.4, 0.03)
            + bump(t, beat.at + 0.3, -0.35, 0.05)
    } else {
        bump(t, beat.at - 0.16, 0.12, 0.02)
            + bump(t, beat.at - 0.025, -0.15, 0.008)
            + bump(t, beat.at, 1.0, 0.010)
            + bump(t, beat.at + 0.028, -0.25, 0.009)
            + bump(t, beat.at + 0.25, 0.25, 0.045)
    }
}

/// `seconds` of these beats, plus `beside` at each time.
fn drawn(rate: f64, seconds: f64, beats: &[Beat], beside: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..(seconds * rate) as usize)
        .map(|index| {
            let t = index as f64 / rate;
            let near = beats.iter().filter(|beat| (t - beat.at).abs() < 0.7);
            (near.map(|beat| wave(beat, t)).sum::<f64>() + beside(t)) as f32
        })
        .collect()
}

/// Narrow beats every `rr` seconds.
fn regular(rr: f64, seconds: f64) -> Vec<Beat> {
    let count = ((seconds - 1.3) / rr) as usize;
    (0..=count).map(|number| Beat { at: 0.6 + rr * number as f64, wide: false }).collect()
}

/// Asserts that each beat is detected once within 40 ms, and nothing else.
fn assert_found(what: &str, rate: f64, samples: &[f32], beats: &[Beat]) {
    for (way, sign) in [("up", 1.0), ("down", -1.0)] {
        let turned: Vec<f32> = samples.iter().map(|value| value * sign).collect();
        let found: Vec<f64> = detect(&turned, rate).iter().map(|beat| beat.sample as f64 / rate).collect();
        let expected: Vec<f64> = beats.iter().map(|beat| beat.at).collect();
        assert_eq!(found.len(), expected.len(), "{what} at {rate} Hz, {way}: {found:?} for {expected:?}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 0.04, "{what} at {rate} Hz, {way}: {found} for {expected}");
        }
    }
}

const RATES_HZ: [f64; 5] = [128.0, 250.0, 360.0, 500.0, 1000.0];

#[test]
fn bigeminy_beats_are_detected() {
    let mut beats = Vec::new();
    for pair in 0..18 {
        let at = 0.6 + 1.5 * f64::from(pair);
        beats.extend([Beat { at, wide: false }, Beat { at: at + 0.5, wide: true }]);
    }
    for rate in RATES_HZ {
        assert_found("bigeminy", rate, &drawn(rate, 28.0, &beats, |_| 0.0), &beats);
    }
}

#[test]
fn flutter_waves_are_not_beats() {
    // 300 a minute, of which every third or fourth is conducted.
    let mut at = 0.6;
    let mut beats = Vec::new();
    for number in 0..30 {
        beats.push(Beat { at, wide: false });
        at += if number % 2 == 0 { 0.6 } else { 0.8 };
    }
    let flutter = |t: f64| 0.2 * (1.0 - 2.0 * (t * 5.0).fract());
    for rate in RATES_HZ {
        assert_found("flutter", rate, &drawn(rate, beats[beats.len() - 1].at + 0.6, &beats, flutter), &beats);
    }
}

#[test]
fn pacing_spike_is_not_a_beat() {
    let beats: Vec<Beat> = regular(0.85, 28.0).into_iter().map(|beat| Beat { wide: true, ..beat }).collect();
    let spikes = beats.clone();
    let spike = move |t: f64| {
        let paced = spikes.iter().any(|beat| (beat.at - 0.09..beat.at - 0.088).contains(&t));
        if paced { 2.5 } else { 0.0 }
    };
    for rate in [360.0, 500.0, 1000.0] {
        assert_found("paced", rate, &drawn(rate, 28.0, &beats, &spike), &beats);
    }
}

#[test]
fn drift_and_saturation_hide_no_beat() {
    let beats = regular(0.8, 28.0);
    for rate in RATES_HZ {
        let drifting = drawn(rate, 28.0, &beats, |t| 1.5 * (2.0 * std::f64::consts::PI * 0.3 * t).sin());
        assert_found("drift", rate, &drifting, &beats);
        let clipped: Vec<f32> =
            drawn(rate, 28.0, &beats, |_| 0.0).iter().map(|value| value.clamp(-0.1, 0.6)).collect();
        assert_found("clipped", rate, &clipped, &beats);
    }
}

#[test]
fn temporary_lead_off_has_no_beats() {
    let lost = Dropout { start_s: 20.0, length_s: 12.0, kind: DropoutKind::LeadOff };
    let settings = Settings { duration_s: 50.0, dropouts: vec![lost], ..Settings::default() };
    let made = synth::generate(&settings);
    let analysis = analyze(&made.strip);
    // Near a jump of the line, a beat more or less is acceptable.
    let clear = |time: &f64| (time - 20.0).abs() > 0.5 && (time - 32.0).abs() > 0.5;
    let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).filter(clear).collect();
    let expected: Vec<f64> = made.beat_times_s.iter().copied().filter(clear).collect();
    assert_eq!(found.len(), expected.len(), "{found:?} for {expected:?}");
    assert!(found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 0.02));
    let inside =
        analysis.quality_segments.iter().filter(|stretch| stretch.start_s >= 20.0 && stretch.end_s <= 32.0);
    assert!(
        inside.clone().all(|stretch| stretch.quality == Quality::Unusable),
        "{:?}",
        analysis.quality_segments
    );
    let rate = analysis.heart_rate.unwrap();
    assert!((rate.mean_bpm - settings.mean_bpm).abs() < 2.0, "{rate:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn piece_by_piece_is_as_in_one_at_every_rate(
        seed in 1_u64..10_000,
        rate in 50.0..2000.0,
        mean_bpm in 45.0..160.0,
        piece in 1_usize..5_000,
    ) {
        let settings = Settings { sample_rate_hz: rate, mean_bpm, ectopy: 0.1, seed, ..Settings::default() };
        let samples = synth::generate(&settings).strip.segments.remove(0).samples;
        let mut detector = Detector::new(rate);
        let mut found = Vec::new();
        let mut taken = 0;
        for part in samples.chunks(piece) {
            taken += part.len();
            for beat in detector.push(part) {
                let delay = (taken as f64 - beat.sample as f64) / rate;
                let waited = part.len() as f64 / rate;
                prop_assert!(delay <= Detector::MAX_DELAY_S + waited, "{delay} s late");
                found.push(beat);
            }
        }
        found.extend(detector.finish());
        prop_assert_eq!(found, detect(&samples, rate));
    }

    #[test]
    fn scale_offset_and_polarity_change_nothing(
        seed in 1_u64..10_000,
        scale in prop_oneof![0.001_f32..1000.0, -1000.0_f32..-0.001],
        offset in -2.0_f32..2.0,
    ) {
        let samples = synth::generate(&Settings { seed, ..Settings::default() }).strip.segments.remove(0).samples;
        let changed: Vec<f32> = samples.iter().map(|value| (value + offset) * scale).collect();
        let places = |samples: &[f32]| detect(samples, 360.0).iter().map(|beat| beat.sample).collect::<Vec<_>>();
        let (before, after) = (places(&samples), places(&changed));
        prop_assert_eq!(before.len(), after.len());
        for (one, other) in before.iter().zip(&after) {
            // Rounding can make the neighbour of a flat peak the highest sample.
            prop_assert!(one.abs_diff(*other) <= 1, "{} and {}", one, other);
        }
    }
}
