//! Properties of the synthetic ECG.

use ecg::synth::{self, Dropout, DropoutKind, Pause, Rhythm, Settings};

fn intervals_ms(beats: &[f64]) -> Vec<f64> {
    beats.windows(2).map(|pair| (pair[1] - pair[0]) * 1000.0).collect()
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn rate_and_variability_match_settings() {
    for (mean_bpm, rr_sd_ms) in [(45.0, 60.0), (72.0, 30.0), (150.0, 10.0)] {
        let settings = Settings { mean_bpm, rr_sd_ms, duration_s: 600.0, ..Settings::default() };
        let (mean_ms, sd_ms) = mean_and_deviation(&intervals_ms(&synth::generate(&settings).beat_times_s));
        assert!((60_000.0 / mean_ms - mean_bpm).abs() < 0.02 * mean_bpm, "{} bpm", 60_000.0 / mean_ms);
        assert!((sd_ms - rr_sd_ms).abs() < 0.25 * rr_sd_ms + 2.0, "{sd_ms} ms");
    }
}

#[test]
fn beat_times_are_peaks_of_the_requested_height() {
    for amplitude_mv in [1.2, -0.8] {
        for mean_bpm in [50.0, 72.0, 120.0, 180.0] {
            let settings = Settings {
                amplitude_mv,
                mean_bpm,
                noise_mv: 0.0,
                drift_mv: 0.0,
                ectopy: 0.1,
                ..Settings::default()
            };
            let made = synth::generate(&settings);
            let samples = &made.strip.segments[0].samples;
            let mut heights = Vec::new();
            for time_s in &made.beat_times_s {
                let at = (time_s * 360.0).round() as usize;
                let sign = amplitude_mv.signum() as f32;
                let near = &samples[at.saturating_sub(5)..(at + 6).min(samples.len())];
                assert!(
                    near.iter().all(|sample| sign * sample <= sign * samples[at]),
                    "no peak at {time_s} s"
                );
                heights.push(f64::from(samples[at]));
            }
            let (mean, _) = mean_and_deviation(&heights);
            assert!((mean / amplitude_mv - 1.0).abs() < 0.25, "R waves of {mean} mV at {mean_bpm} bpm");
        }
    }
}

#[test]
fn recording_depends_on_seed_only() {
    let settings = Settings { noise_mv: 0.05, muscle_mv: 0.02, ectopy: 0.1, ..Settings::default() };
    assert_eq!(synth::generate(&settings), synth::generate(&settings));
    let other = Settings { seed: 2, ..settings.clone() };
    assert_ne!(synth::generate(&settings).beat_times_s, synth::generate(&other).beat_times_s);
}

#[test]
fn premature_beats_have_a_compensatory_pause() {
    let settings = Settings { ectopy: 0.15, rr_sd_ms: 0.0, duration_s: 120.0, ..Settings::default() };
    let intervals = intervals_ms(&synth::generate(&settings).beat_times_s);
    let early: Vec<_> = intervals.windows(2).filter(|pair| pair[0] < 600.0).collect();
    assert!(early.len() > 5);
    for pair in early {
        assert!((pair[0] + pair[1] - 2.0 * 60_000.0 / 72.0).abs() < 80.0, "{pair:?}");
    }
}

#[test]
fn irregular_rhythm_is_irregular() {
    let settings = Settings { rhythm: Rhythm::Irregular, duration_s: 120.0, ..Settings::default() };
    let (mean_ms, sd_ms) = mean_and_deviation(&intervals_ms(&synth::generate(&settings).beat_times_s));
    assert!(sd_ms / mean_ms > 0.15, "{sd_ms} of {mean_ms}");
}

#[test]
fn ventricular_tachycardia_is_regular_and_wide() {
    let wide = |rhythm| {
        let settings = Settings { rhythm, mean_bpm: 160.0, rr_sd_ms: 10.0, ..Settings::default() };
        let made = synth::generate(&settings);
        let (mean_ms, sd_ms) = mean_and_deviation(&intervals_ms(&made.beat_times_s));
        assert!((mean_ms - 375.0).abs() < 10.0 && sd_ms < 20.0, "{mean_ms} {sd_ms}");
        // Width of the R wave at half of its height above the median.
        let samples = &made.strip.segments[0].samples;
        let mut sorted = samples.clone();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[sorted.len() / 2];
        let width = |time_s: &f64| {
            let peak = (time_s * 360.0).round() as usize;
            let half = (samples[peak] + median) / 2.0;
            let run = |samples: &mut dyn Iterator<Item = &f32>| {
                samples.take_while(|sample| **sample > half).count() as f64
            };
            (run(&mut samples[peak..].iter()) + run(&mut samples[..peak].iter().rev())) / 0.36
        };
        let widths: Vec<f64> = made.beat_times_s.iter().map(width).collect();
        widths.iter().sum::<f64>() / widths.len() as f64
    };
    let (normal, ventricular) = (wide(Rhythm::Sinus), wide(Rhythm::VentricularTachycardia));
    assert!(ventricular > 2.0 * normal && ventricular > 55.0, "{normal} ms and {ventricular} ms");
}

#[test]
fn asystole_and_pauses_have_no_beats() {
    let asystole = synth::generate(&Settings { rhythm: Rhythm::Asystole, ..Settings::default() });
    assert!(asystole.beat_times_s.is_empty());
    assert!(
        asystole.strip.segments[0].samples.iter().all(|sample| sample.abs() < 0.15),
        "only noise and drift"
    );
    let pause = Pause { start_s: 10.0, length_s: 4.0 };
    let beats = synth::generate(&Settings { pauses: vec![pause], ..Settings::default() }).beat_times_s;
    let longest = intervals_ms(&beats).into_iter().fold(0.0, f64::max);
    assert!((4_000.0..6_000.0).contains(&longest), "{longest}");
    assert!(!beats.iter().any(|time| (10.1..13.9).contains(time)));
}

#[test]
fn dropouts_contain_no_beats() {
    let settings = Settings {
        dropouts: vec![
            Dropout { start_s: 5.0, length_s: 3.0, kind: DropoutKind::LeadOff },
            Dropout { start_s: 12.0, length_s: 2.0, kind: DropoutKind::Missing },
        ],
        ..Settings::default()
    };
    let made = synth::generate(&settings);
    let gaps: Vec<_> = made.strip.gaps().collect();
    assert_eq!(gaps.len(), 1);
    assert!((gaps[0].start_s - 12.0).abs() < 0.01 && (gaps[0].end_s - 14.0).abs() < 0.01);
    let flat = &made.strip.segments[0].samples[5 * 360..8 * 360];
    assert!(flat.iter().all(|sample| *sample == flat[0]));
    let lost = |time: &&f64| (5.0..8.0).contains(*time) || (12.0..14.0).contains(*time);
    assert_eq!(made.beat_times_s.iter().find(lost), None);
}

#[test]
fn settings_out_of_range_are_clamped() {
    let wild = Settings {
        sample_rate_hz: f64::NAN,
        duration_s: -1.0,
        mean_bpm: 0.0,
        rr_sd_ms: 1e9,
        lf_hf_ratio: 0.0,
        ectopy: 7.0,
        amplitude_mv: f64::INFINITY,
        dropouts: vec![
            Dropout { start_s: f64::NAN, length_s: -3.0, kind: DropoutKind::Missing },
            Dropout { start_s: -5.0, length_s: 1e18, kind: DropoutKind::LeadOff },
        ],
        ..Settings::default()
    };
    assert!(synth::generate(&wild).strip.sample_count() <= 1);
}

#[test]
fn csv_round_trip_preserves_samples() {
    for rate in [50.0, 128.0, 250.0, 360.0, 500.0, 1000.0, 2000.0] {
        let settings = Settings {
            sample_rate_hz: rate,
            dropouts: vec![Dropout { start_s: 12.0, length_s: 2.0, kind: DropoutKind::Missing }],
            ..Settings::default()
        };
        let made = synth::generate(&settings).strip;
        let read = ecg::csv::read(synth::csv(&made).as_slice(), &ecg::csv::Options::default()).unwrap();
        assert_eq!(read.sample_rate_hz, rate);
        assert_eq!(read.segments.len(), 2);
        for (read, made) in read.segments.iter().zip(&made.segments) {
            assert!(
                (read.start_s - made.start_s).abs() < 0.5 / rate,
                "{} and {}",
                read.start_s,
                made.start_s
            );
            assert_eq!(read.samples.len(), made.samples.len());
            let off = read.samples.iter().zip(&made.samples).map(|(read, made)| (read - made).abs());
            assert!(off.fold(0.0, f32::max) < 1e-4);
        }
    }
}
