//! Requirements on rates, pauses and runs, measured on strips of `examples/synthesise` with reporting seeds.

#[path = "../examples/synthesise/draw.rs"]
mod draw;
#[path = "../examples/synthesise/sets.rs"]
mod sets;
mod standards;
#[path = "../examples/synthesise/tally.rs"]
mod tally;

use sets::{SETS, case};
use tally::Tally;

const FROM: u64 = 200_000;
const STRIPS: u64 = 100;

fn scored(set: &str) -> Tally {
    scored_of(set, STRIPS)
}

fn scored_of(set: &str, strips: u64) -> Tally {
    let (_, draw) = SETS.iter().find(|(name, _)| *name == set).copied().unwrap_or(SETS[0]);
    let mut tally = Tally::default();
    for seed in FROM..FROM + strips {
        let case = case(draw, seed);
        tally.add(&case, &ecg::analyze(&case.strip));
    }
    println!("{set}: {tally}");
    tally
}

#[test]
fn tall_t_waves_are_not_beats() {
    for set in ["tall_t", "tall_t_wide_qrs", "ec13_tall_t"] {
        let tally = scored(set);
        assert!(tally.beats.positive_predictivity() >= 99.5, "{set}: {tally}");
        assert!(tally.beats.sensitivity() >= 99.5, "{set}: {tally}");
        assert!(tally.strips.wrong_good <= 1, "{set}: {tally}");
    }
}

#[test]
fn pauses_are_reported_without_invented_beats() {
    let tally = scored("pauses");
    assert!(tally.reported.percent() >= 95.0, "{tally}");
    assert!(tally.invented.percent() <= 2.0, "{tally}");
}

#[test]
fn run_beats_and_low_beats_are_detected() {
    let runs = scored("runs");
    assert!(runs.in_runs.percent() >= 88.0, "{runs}");
    let low = scored("low_beats");
    assert!(low.beats.sensitivity() >= 98.0, "{low}");
}

#[test]
fn beats_of_30_to_250_a_minute_are_found() {
    for set in ["rates_30_250", "rates_model", "neonates"] {
        let tally = scored(set);
        assert!(tally.beats.sensitivity() >= 98.0, "{set}: {tally}");
        assert!(tally.beats.positive_predictivity() >= 99.0, "{set}: {tally}");
    }
}

#[test]
fn paced_beats_are_found_and_pulses_are_not() {
    let paced = scored("paced_effective");
    assert!(paced.strips.right >= 95, "{paced}");
    assert!(paced.beats.sensitivity() >= 99.0 && paced.beats.positive_predictivity() >= 99.0, "{paced}");
}

#[test]
fn dissociated_pacing_is_rarely_good_and_its_rate_is_right() {
    let dissociated = scored_of("paced_ineffective", 400);
    // The rest are pulses too low to be visible, and pulses that happen to precede each beat at a constant delay. They are
    // too few for a share of 100 strips.
    assert!(dissociated.dissociated_good.percent() <= 4.0, "{dissociated}");
    assert!(dissociated.strips.right >= 376, "{dissociated}");
    assert_eq!(dissociated.strips.wrong_good, 0, "{dissociated}");
}

#[test]
fn no_interval_spans_lead_off() {
    let off = scored("lead_off");
    assert!(off.across.percent() <= 2.0, "{off}");
    assert_eq!(off.strips.wrong_good, 0, "{off}");
}

/// Recorders of low bandwidth widen pulses to the width of a QRS complex. These are part of the beats.
#[test]
fn only_pulses_narrower_than_a_qrs_complex_are_reported() {
    use draw::{Trace, gaussian};
    for rate_hz in [250.0, 360.0, 500.0, 1000.0] {
        for pulse_s in [0.0005, 0.005] {
            let mut trace = Trace::new(rate_hz, 10.0);
            let mut random = ecg::synth::Random::new(5);
            let beats: Vec<f64> = (0..12).map(|beat| 0.35 + 0.8 * f64::from(beat)).collect();
            let shape = [gaussian(0.0, 0.6, 0.03), gaussian(0.28, -0.25, 0.05)];
            for beat in &beats {
                trace.beat(*beat, &shape, 1.0);
                if pulse_s < 0.002 {
                    trace.pulse(beat - 0.08, 10.0, pulse_s, 0.0, 0.01);
                } else {
                    // The QRS complex follows as a plateau.
                    trace.beat(beat - 0.08, &[gaussian(0.0, 1.0, pulse_s), gaussian(0.03, 0.7, 0.015)], 1.0);
                }
            }
            trace.white(0.005, &mut random);
            let samples = trace.samples.iter().map(|value| *value as f32).collect();
            let analysis = ecg::analyze(&ecg::Strip::from_samples(rate_hz, samples));
            let pulses = if pulse_s < 0.002 { beats.len() } else { 0 };
            assert_eq!(analysis.pacing_pulses_s.len(), pulses, "{pulse_s} s at {rate_hz} Hz");
            let bpm = analysis.heart_rate.map(|rate| rate.mean_bpm);
            assert!(bpm.is_some_and(|bpm| (bpm - 75.0).abs() < 2.0), "{pulse_s} s at {rate_hz} Hz: {bpm:?}");
        }
    }
}
