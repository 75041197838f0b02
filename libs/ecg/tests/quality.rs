//! Signals that are not ECGs have no heart rate, and analyses are consistent.

#[path = "../examples/noise/kinds.rs"]
mod kinds;

use std::f64::consts::TAU;

use ecg::synth::{self, Rhythm, Settings};
use ecg::{Analysis, Quality, Strip, analyze, best_channel};
use proptest::prelude::*;

/// Random numbers that are the same on all platforms.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// `count` samples of noise of all colours at `rate`.
fn noises(random: &mut Random, rate: f64, count: usize) -> Vec<(&'static str, Vec<f64>)> {
    let mut out = Vec::new();
    out.push(("white noise", (0..count).map(|_| random.normal()).collect()));
    // One random number per octave, renewed half as often as that of the octave above (Voss 1978).
    let mut octaves = [0.0; 12];
    let pink = (0..count).map(|at| {
        for (octave, value) in octaves.iter_mut().enumerate() {
            if at % (1 << octave) == 0 {
                *value = random.normal();
            }
        }
        octaves.iter().sum()
    });
    out.push(("pink noise", pink.collect()));
    let mut walk = 0.0;
    out.push(("brown noise", {
        let brown = (0..count).map(|_| {
            walk += random.normal();
            walk
        });
        brown.collect()
    }));
    // A resonance with the amplitude of syllables.
    for (center_hz, syllables_per_s) in [(6.0, 1.5), (8.0, 3.0), (10.0, 4.0), (14.0, 2.0)] {
        let keep = 0.9_f64.powf(250.0 / rate);
        let turn = 2.0 * keep * (TAU * center_hz / rate).cos();
        let hold = (rate / syllables_per_s) as usize;
        let (mut last, mut before, mut loudness, mut aim) = (0.0, 0.0, 0.0, 0.0);
        let speech = (0..count).map(|at| {
            if at % hold == 0 {
                aim = random.uniform().powi(2);
            }
            loudness += (aim - loudness) * 8.0 / rate;
            (last, before) = (turn * last - keep * keep * before + random.normal(), last);
            loudness * last
        });
        out.push(("speech-like noise", speech.collect()));
    }
    let bursts = (0..count).map(|at| (TAU * 1.2 * at as f64 / rate).sin().max(0.0).powi(2) * random.normal());
    out.push(("noise in regular bursts", bursts.collect()));
    out
}

/// One period of a wave by its phase, 0 to 1.
type Shape = fn(f64) -> f64;

/// Generated waves at `hertz` with a little noise.
fn waves(
    random: &mut Random,
    rate: f64,
    count: usize,
    hertz: f64,
    noise: f64,
) -> Vec<(&'static str, Vec<f64>)> {
    let shapes: [(&'static str, Shape); 5] = [
        ("a sine", |phase| (TAU * phase).sin()),
        ("a triangle wave", |phase| (2.0 * phase - 1.0).abs()),
        ("a ramp", |phase| phase),
        ("a square wave", |phase| f64::from(phase < 0.5)),
        ("a square wave of short pulses", |phase| f64::from(phase < 0.2)),
    ];
    let mut wave = |shape: Shape| -> Vec<f64> {
        (0..count).map(|at| shape((hertz * at as f64 / rate) % 1.0) + noise * random.normal()).collect()
    };
    shapes.map(|(name, shape)| (name, wave(shape))).into()
}

fn assert_no_heart_rate(name: &str, rate: f64, samples: &[f64]) {
    // As long as uploaded strips, so that one accepted segment fails the test.
    for strip in samples.chunks((10.0 * rate) as usize) {
        let strip = Strip::from_samples(rate, strip.iter().map(|value| *value as f32).collect());
        let analysis = analyze(&strip);
        assert_eq!(analysis.heart_rate, None, "{name} at {rate} Hz: {:?}", analysis.quality_segments);
        assert_eq!(analysis.quality, Quality::Unusable, "{name} at {rate} Hz");
        assert_consistent(&analysis);
    }
}

fn assert_consistent(analysis: &Analysis) {
    assert_eq!(analysis.heart_rate.is_none(), analysis.no_heart_rate_reason.is_some(), "a rate or a reason");
    if analysis.quality == Quality::Unusable {
        assert_eq!(analysis.heart_rate, None, "unusable means no heart rate");
    }
    if analysis.heart_rate.is_none() {
        assert!(analysis.rr.is_none() && analysis.trend.is_empty() && analysis.rhythm_notes.is_empty());
    }
    if let Some(rate) = analysis.heart_rate {
        assert!(rate.min_bpm <= rate.mean_bpm && rate.mean_bpm <= rate.max_bpm, "{rate:?}");
        assert!(analysis.rr.is_some() && !analysis.trend.is_empty());
    }
    for stretch in &analysis.quality_segments {
        assert_eq!(
            stretch.quality == Quality::Good,
            stretch.reason.is_none(),
            "a reason where it is not good"
        );
    }
}

#[test]
fn coloured_noise_has_no_heart_rate() {
    for (seed, rate) in [125.0, 250.0, 360.0, 500.0].into_iter().enumerate() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + seed as u64);
        for (name, samples) in noises(&mut random, rate, (60.0 * rate) as usize) {
            assert_no_heart_rate(name, rate, &samples);
        }
    }
}

#[test]
fn generated_waves_have_no_heart_rate() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for (rate, hertz, noise) in
        [(250.0, 0.5, 0.0), (250.0, 1.0, 0.02), (360.0, 1.3, 0.0), (360.0, 2.0, 0.05), (500.0, 3.0, 0.01)]
    {
        for (name, samples) in waves(&mut random, rate, (30.0 * rate) as usize, hertz, noise) {
            assert_no_heart_rate(name, rate, &samples);
        }
    }
}

/// The hardest strips of earlier searches, which had a heart rate then.
#[test]
fn hardest_noise_strips_have_no_heart_rate() {
    for (word, seed) in [
        ("syllables", 617),
        ("syllables", 3703),
        ("loudness", 2565),
        ("loudness", 3632),
        ("loudness", 200_222),
        ("ramp", 33),
    ] {
        for (name, kind) in kinds::KINDS.iter().filter(|(name, _)| name.contains(word)) {
            let analysis = analyze(&kinds::strip(*kind, seed));
            assert_eq!(analysis.heart_rate, None, "{name}, {seed}: {:?}", analysis.quality_segments);
        }
    }
}

/// The first strips of the search of `examples/noise`.
#[test]
fn noise_speech_and_waves_have_no_heart_rate() {
    for (name, kind) in kinds::KINDS {
        for seed in 0..40 {
            let analysis = analyze(&kinds::strip(kind, seed));
            assert_eq!(analysis.heart_rate, None, "{name}, {seed}: {:?}", analysis.quality_segments);
            assert_eq!(analysis.quality, Quality::Unusable, "{name}, {seed}");
            assert_consistent(&analysis);
        }
    }
}

#[test]
fn mains_hum_has_no_heart_rate() {
    for rate in [250.0, 360.0, 500.0, 1000.0] {
        for hertz in [50.0, 60.0] {
            // Mains hum with a varying frequency and amplitude and a third harmonic, on a moving baseline.
            let hum = (0..(30.0 * rate) as usize).map(|at| {
                let time_s = at as f64 / rate;
                let swell = 1.0 + 0.1 * (TAU * 0.3 * time_s).sin();
                swell * (TAU * (hertz + 0.02) * time_s).sin()
                    + 0.2 * (TAU * 3.0 * hertz * time_s).sin()
                    + 0.1 * (TAU * 0.2 * time_s).sin()
            });
            assert_no_heart_rate("mains hum", rate, &hum.collect::<Vec<_>>());
        }
    }
}

#[test]
fn lead_off_has_no_heart_rate() {
    assert_no_heart_rate("zeros", 250.0, &[0.0; 5000]);
    let mut random = Random(7);
    let touched: Vec<f64> =
        (0..5000).map(|at| if at % 2500 == 1200 { random.normal() } else { 0.3 }).collect();
    assert_no_heart_rate("a flat line that was touched", 250.0, &touched);
}

#[test]
fn beats_below_strong_noise_give_no_rate() {
    for seed in 1..=5 {
        let settings =
            Settings { noise_mv: 0.6, amplitude_mv: 1.1, duration_s: 28.0, seed, ..Settings::default() };
        let analysis = analyze(&synth::generate(&settings).strip);
        assert_consistent(&analysis);
        assert!(analysis.heart_rate.is_none_or(|rate| (rate.mean_bpm - 72.0).abs() < 5.0), "{analysis:?}");
    }
}

#[test]
fn moderate_noise_keeps_the_rate() {
    for (noise_mv, muscle_mv, mains_mv) in [(0.1, 0.0, 0.0), (0.0, 0.12, 0.0), (0.0, 0.0, 0.4)] {
        // Beats at irregular times need a higher concordance.
        for (rhythm, rr_sd_ms, share) in [(Rhythm::Sinus, 30.0, 1.0), (Rhythm::Irregular, 150.0, 0.5)] {
            let settings = Settings {
                noise_mv: share * noise_mv,
                muscle_mv: share * muscle_mv,
                mains_mv: share * mains_mv,
                rhythm,
                rr_sd_ms,
                duration_s: 28.0,
                ..Settings::default()
            };
            let synthetic = synth::generate(&settings);
            let analysis = analyze(&synthetic.strip);
            assert!(analysis.heart_rate.is_some(), "{settings:?}: {:?}", analysis.quality_segments);
            assert!(analysis.beats.len().abs_diff(synthetic.beat_times_s.len()) <= 1, "{settings:?}");
        }
    }
}

#[test]
fn usual_disturbances_keep_good_quality() {
    for settings in [
        Settings { mains_mv: 0.1, ..Settings::default() },
        Settings { drift_mv: 1.0, ..Settings::default() },
        Settings { noise_mv: 0.04, ..Settings::default() },
        Settings { ectopy: 0.3, duration_s: 60.0, ..Settings::default() },
        Settings { rhythm: Rhythm::Irregular, rr_sd_ms: 150.0, ..Settings::default() },
        Settings { amplitude_mv: -0.5, mean_bpm: 45.0, ..Settings::default() },
        Settings { mean_bpm: 170.0, sample_rate_hz: 128.0, ..Settings::default() },
        Settings { noise_mv: 0.0, drift_mv: 0.0, sample_rate_hz: 1000.0, ..Settings::default() },
    ] {
        let synthetic = synth::generate(&settings);
        let analysis = analyze(&synthetic.strip);
        assert_eq!(analysis.quality, Quality::Good, "{settings:?}: {:?}", analysis.quality_segments);
        assert!(analysis.beats.len().abs_diff(synthetic.beat_times_s.len()) <= 1, "{settings:?}");
    }
}

#[test]
fn saturation_makes_a_strip_poor() {
    let mut strip = synth::generate(&Settings { duration_s: 10.0, ..Settings::default() }).strip;
    for sample in &mut strip.segments[0].samples {
        *sample = sample.clamp(-0.3, 0.5);
    }
    let analysis = analyze(&strip);
    assert_eq!(analysis.quality, Quality::Poor);
    let reason = analysis.quality_segments[0].reason.clone().unwrap_or_default();
    assert!(reason.contains("clipped"), "{reason}");
}

#[test]
fn best_channel_is_the_cleanest() {
    let lead = |noise_mv| analyze(&synth::generate(&Settings { noise_mv, ..Settings::default() }).strip);
    let leads = [lead(0.3), lead(0.02), lead(1.0), lead(0.02)];
    assert_eq!(best_channel(&leads), Some(1), "the first of equals");
    assert_eq!(best_channel(&leads[2..3]), Some(0));
    assert_eq!(best_channel([]), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_analysis_never_contradicts_itself(
        seed in any::<u64>(),
        sample_rate_hz in prop_oneof![Just(125.0), Just(250.0), Just(360.0), 50.0..1000.0],
        duration_s in 0.1..45.0,
        mean_bpm in 20.0..250.0,
        noise_mv in prop_oneof![Just(0.0), 0.0..1.5],
        muscle_mv in prop_oneof![Just(0.0), 0.0..1.5],
        mains_mv in prop_oneof![Just(0.0), 0.0..3.0],
        drift_mv in 0.0..5.0,
        flat in prop_oneof![Just(None), (0.0..30.0, 1.0..30.0).prop_map(Some)],
    ) {
        let dropout = |(start_s, length_s)| synth::Dropout { start_s, length_s, kind: synth::DropoutKind::LeadOff };
        let settings = Settings {
            sample_rate_hz, duration_s, mean_bpm, noise_mv, muscle_mv, mains_mv, drift_mv, seed,
            dropouts: flat.map(dropout).into_iter().collect(),
            ..Settings::default()
        };
        assert_consistent(&analyze(&synth::generate(&settings).strip));
    }
}
