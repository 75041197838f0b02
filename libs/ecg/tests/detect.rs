//! Invariants of the detector: time shift, scale, rate, division into pieces, arbitrary values.

use ecg::{Detector, Quality, Segment, Strip, analyze, detect::detect};
use proptest::prelude::*;

/// Beats at irregular times, each with a P wave, a QRS complex and a T wave, on a slow drift with a little
/// noise.
fn signal(rate: f64, seconds: f64, seed: u64) -> (Vec<f32>, Vec<f64>) {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut beats = vec![0.6];
    while beats[beats.len() - 1] + 1.3 < seconds {
        let next = beats[beats.len() - 1] + 0.75 + 0.15 * random();
        beats.push(next);
    }
    let bump = |t: f64, at: f64, height: f64, width: f64| height * (-((t - at) / width).powi(2) / 2.0).exp();
    let samples = (0..(seconds * rate) as usize).map(|index| {
        let t = index as f64 / rate;
        let near = beats.iter().filter(|beat| (t - **beat).abs() < 0.6);
        let wave: f64 = near
            .map(|beat| {
                bump(t, beat - 0.16, 0.12, 0.02)
                    + bump(t, beat - 0.025, -0.15, 0.008)
                    + bump(t, *beat, 1.0, 0.010)
                    + bump(t, beat + 0.028, -0.25, 0.009)
                    + bump(t, beat + 0.25, 0.25, 0.045)
            })
            .sum();
        (wave + 0.1 * (1.3 * t).sin()) as f32
    });
    (samples.collect(), beats)
}

fn times(samples: &[f32], rate: f64) -> Vec<f64> {
    detect(samples, rate).iter().map(|beat| beat.sample as f64 / rate).collect()
}

fn assert_same(found: &[f64], beats: &[f64], tolerance: f64) {
    assert_eq!(found.len(), beats.len(), "found {found:?}, expected {beats:?}");
    for (found, beat) in found.iter().zip(beats) {
        assert!((found - beat).abs() <= tolerance, "found {found}, expected {beat}");
    }
}

#[test]
fn r_peaks_are_exact_at_any_rate() {
    for rate in [50.0, 100.0, 128.0, 180.0, 250.0, 257.3, 360.0, 500.0, 1000.0, 2000.0] {
        let (samples, beats) = signal(rate, 31.0, 7);
        assert_same(&times(&samples, rate), &beats, 1.01 / rate);
    }
}

#[test]
fn strip_of_three_seconds_has_its_beats() {
    let (samples, beats) = signal(250.0, 3.5, 3);
    assert_same(&times(&samples, 250.0), &beats, 0.005);
}

#[test]
fn offset_scale_and_polarity_do_not_change_beats() {
    let (samples, beats) = signal(360.0, 40.0, 11);
    for (scale, offset) in [(-1.0, 0.0), (1e-6, 0.0), (1e6, 0.0), (1.0, 100.0), (-0.3, -5.0)] {
        let changed: Vec<f32> = samples.iter().map(|value| value * scale + offset).collect();
        assert_same(&times(&changed, 360.0), &beats, 1.01 / 360.0);
    }
}

#[test]
fn beats_after_a_long_constant_line_are_found() {
    let (samples, beats) = signal(250.0, 30.0, 1);
    let mut shifted = vec![samples[0]; 1901];
    shifted.extend(&samples);
    let expected: Vec<f64> = beats.iter().map(|beat| beat + 1901.0 / 250.0).collect();
    assert_same(&times(&shifted, 250.0), &expected, 0.0041);
}

#[test]
fn rate_out_of_range_is_clamped() {
    let samples: Vec<f32> = (0..500).map(|index| ((index * 7919) % 101) as f32).collect();
    assert_eq!(analyze(&Strip::from_samples(1e132, samples)).heart_rate, None);
}

#[test]
fn gap_does_not_change_adjacent_beats() {
    let (first, first_beats) = signal(250.0, 20.0, 5);
    let (second, second_beats) = signal(250.0, 25.0, 6);
    let mut strip = Strip::from_samples(250.0, first);
    strip.segments.push(Segment { start_s: 30.0, samples: second });
    let expected: Vec<f64> =
        first_beats.iter().copied().chain(second_beats.iter().map(|beat| beat + 30.0)).collect();
    let analysis = analyze(&strip);
    let found: Vec<f64> = analysis.beats.iter().map(|beat| beat.time_s).collect();
    assert_same(&found, &expected, 0.0041);
    // No RR interval spans the gap.
    assert_eq!(analysis.rr.map(|rr| rr.count), Some(expected.len() - 2));
}

#[test]
fn non_ecg_has_no_heart_rate() {
    for seed in [99, 1234, 777_777, 31_415_926, 2_718_281_828] {
        no_ecg(seed);
    }
}

fn no_ecg(seed: u64) {
    let rate = 250.0;
    let mut state = seed;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    let count = (60.0 * rate) as usize;
    let time = |index: usize| index as f64 / rate;
    let white: Vec<f32> = (0..count).map(|_| random()).collect();
    let mut walk = 0.0;
    let brown: Vec<f32> = (0..count)
        .map(|_| {
            walk = 0.98 * walk + random();
            walk
        })
        .collect();
    let zeros = vec![0.0; count];
    let hum: Vec<f32> =
        (0..count).map(|index| (time(index) * 50.0 * std::f64::consts::TAU).sin() as f32).collect();
    let slow: Vec<f32> =
        (0..count).map(|index| (time(index) * 1.2 * std::f64::consts::TAU).sin() as f32).collect();
    let square: Vec<f32> = (0..count).map(|index| if time(index) % 1.0 < 0.5 { 1.0 } else { 0.0 }).collect();
    // Syllables: a carrier in bursts of random length and amplitude.
    let mut strength = 0.0_f32;
    let speech: Vec<f32> = (0..count)
        .map(|index| {
            if index % 30 == 0 {
                strength = 0.6 * strength + random().max(0.0);
            }
            strength * ((time(index) * 9.0 * std::f64::consts::TAU).sin() as f32 + random())
        })
        .collect();
    for (name, samples) in [
        ("white noise", white),
        ("brown noise", brown),
        ("zeros", zeros),
        ("mains hum", hum),
        ("a slow sine", slow),
        ("a square wave", square),
        ("speech-like noise", speech),
    ] {
        let analysis = analyze(&Strip::from_samples(rate, samples));
        assert_eq!(
            analysis.heart_rate, None,
            "{name} has no heart rate, quality {:?}",
            analysis.quality_segments
        );
        assert!(analysis.no_heart_rate_reason.is_some(), "{name} needs a reason");
        assert_eq!(analysis.quality, Quality::Unusable, "{name}");
    }
}

#[test]
fn clean_strip_is_good_with_the_right_rate() {
    let (samples, beats) = signal(360.0, 60.0, 21);
    let analysis = analyze(&Strip::from_samples(360.0, samples));
    let rate = analysis.heart_rate.expect("a clean strip has a rate").mean_bpm;
    let truth = 60.0 * (beats.len() - 1) as f64 / (beats[beats.len() - 1] - beats[0]);
    assert!((rate - truth).abs() < 0.1, "{rate} instead of {truth}");
    assert_eq!(analysis.quality, Quality::Good);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_give_the_same_beats_as_the_whole(seed in 1_u64..1000, pieces in prop::collection::vec(1_usize..3000, 1..40)) {
        let (samples, _) = signal(250.0, 45.0, seed);
        let whole = detect(&samples, 250.0);
        let mut detector = Detector::new(250.0);
        let mut found = Vec::new();
        let mut rest = samples.as_slice();
        for length in pieces.iter().cycle() {
            let (piece, tail) = rest.split_at((*length).min(rest.len()));
            found.extend(detector.push(piece));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        found.extend(detector.finish());
        prop_assert_eq!(whole, found);
    }

    #[test]
    fn beats_are_reported_within_the_promised_delay(seed in 1_u64..1000) {
        let (samples, _) = signal(250.0, 60.0, seed);
        let mut detector = Detector::new(250.0);
        for (index, piece) in samples.chunks(50).enumerate() {
            for beat in detector.push(piece) {
                let delay = ((index + 1) * 50) as f64 / 250.0 - beat.sample as f64 / 250.0;
                // A beat waits for the end of the push that completes it.
                prop_assert!(delay <= Detector::MAX_DELAY_S + 0.2, "{delay} s");
            }
        }
    }

    #[test]
    fn whatever_comes_before_shifts_the_beats_after_it(shift in 1_usize..2000, seed in 1_u64..1000) {
        let (samples, beats) = signal(250.0, 30.0, seed);
        let mut shifted = vec![samples[0]; shift];
        shifted.extend(&samples);
        let expected: Vec<f64> = beats.iter().map(|beat| beat + shift as f64 / 250.0).collect();
        assert_same(&times(&shifted, 250.0), &expected, 0.0041);
    }

    #[test]
    fn no_samples_and_no_rate_make_it_panic(
        samples in prop::collection::vec(prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY), Just(f32::MAX), -1.0_f32..1.0], 0..4000),
        rate in prop_oneof![any::<f64>(), 40.0..2000.0],
    ) {
        let beats = detect(&samples, rate);
        prop_assert!(beats.iter().all(|beat| beat.sample < samples.len() as u64));
        let _ = analyze(&Strip::from_samples(if rate.is_finite() && rate > 1.0 { rate } else { 250.0 }, samples));
    }
}
