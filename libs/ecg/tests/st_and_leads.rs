//! ST levels and derived leads on signals whose truth is known.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue reports it by a panic")]

use ecg::limb_leads::{DERIVED, LeadsError, derive, limb_leads};
use ecg::st::{StLevels, levels, measure};
use ecg::synth::Random;
use ecg::waves::delineate;
use ecg::{Segment, Strip, analyze};
use proptest::prelude::*;

/// Beats with a P wave, a QRS complex, an ST segment of a known level up to the T wave, noise and drift.
fn elevated(rate: f64, bpm: f64, st_mv: f64, noise_mv: f64, seed: u64) -> Strip {
    let mut random = Random::new(seed);
    let seconds = 30.0;
    let beats: Vec<f64> =
        (0..).map(|beat| 0.7 + f64::from(beat) * 60.0 / bpm).take_while(|at| *at < seconds).collect();
    let bump = |t: f64, at: f64, height: f64, width: f64| height * (-((t - at) / width).powi(2) / 2.0).exp();
    let edge = |t: f64, at: f64| 1.0 / (1.0 + (-(t - at) / 0.004).exp());
    let samples = (0..(seconds * rate) as usize).map(|index| {
        let t = index as f64 / rate;
        let near = beats.iter().filter(|beat| (t - **beat).abs() < 0.7);
        let wave: f64 = near
            .map(|beat| {
                bump(t, beat - 0.16, 0.12, 0.018)
                    + bump(t, *beat, 1.2, 0.010)
                    + bump(t, beat + 0.027, -0.25, 0.009)
                    + st_mv * (edge(t, beat + 0.035) - edge(t, beat + 0.21))
                    + bump(t, beat + 0.27, 0.3, 0.035)
            })
            .sum();
        (wave + 0.1 * (0.9 * t).sin() + noise_mv * random.normal()) as f32
    });
    Strip::from_samples(rate, samples.collect())
}

fn st(strip: &Strip) -> StLevels {
    let beats = analyze(strip).beats;
    let measured = measure(strip, &beats, &delineate(strip, &beats));
    levels(&measured, |_| true)
}

#[test]
fn st_levels_are_those_of_the_signal() {
    for rate in [200.0, 250.0, 360.0, 500.0, 1000.0] {
        for st_mv in [-0.3, -0.1, 0.0, 0.1, 0.3] {
            let levels = st(&elevated(rate, 70.0, st_mv, 0.01, 5));
            for level in [levels.j60.unwrap(), levels.j80.unwrap()] {
                assert!(f64::from(level.median) - st_mv < 0.03, "{level:?} instead of {st_mv} at {rate} Hz");
                assert!(st_mv - f64::from(level.median) < 0.03, "{level:?} instead of {st_mv} at {rate} Hz");
                assert!(level.spread < 0.06 && level.count > 25, "{level:?}");
            }
        }
    }
}

#[test]
fn fast_rates_have_no_level_at_80_ms() {
    let levels = st(&elevated(360.0, 140.0, 0.2, 0.01, 6));
    assert_eq!(levels.j80, None);
    assert!((levels.j60.unwrap().median - 0.2).abs() < 0.05, "{levels:?}");
}

#[test]
fn levels_follow_scale_and_ignore_offset() {
    let strip = elevated(360.0, 70.0, 0.2, 0.01, 7);
    let before = st(&strip).j60.unwrap();
    let mut changed = strip.clone();
    for sample in &mut changed.segments[0].samples {
        *sample = 2.0 * *sample + 3.0;
    }
    let after = st(&changed).j60.unwrap();
    assert!((after.median - 2.0 * before.median).abs() < 1e-3, "{before:?} {after:?}");
    for sample in &mut changed.segments[0].samples {
        *sample = -*sample;
    }
    let inverted = st(&changed).j60.unwrap();
    assert!((inverted.median + after.median).abs() < 0.02, "{after:?} {inverted:?}");
}

#[test]
fn beats_that_do_not_count_do_not_affect_the_level() {
    let strip = elevated(360.0, 70.0, 0.2, 0.01, 8);
    let beats = analyze(&strip).beats;
    let mut measured = measure(&strip, &beats, &delineate(&strip, &beats));
    let before = levels(&measured, |_| true).j60.unwrap();
    for beat in measured.iter_mut().filter(|beat| !beat.beat.is_multiple_of(3)) {
        beat.j60_mv = Some(-5.0);
    }
    let after = levels(&measured, |beat| beat.is_multiple_of(3)).j60.unwrap();
    assert!((before.median - after.median).abs() < 0.02 && after.count < before.count);
    assert_eq!(levels(&measured, |beat| beat < 2), StLevels::default());
}

#[test]
fn strips_without_beats_have_no_level() {
    assert_eq!(st(&Strip::from_samples(250.0, Vec::new())), StLevels::default());
    assert_eq!(st(&Strip::from_samples(250.0, vec![0.0; 5000])), StLevels::default());
}

proptest! {
    #[test]
    fn derived_leads_satisfy_the_laws(one in -5.0_f32..5.0, two in -5.0_f32..5.0) {
        let [three, avr, avl, avf] = derive(one, two);
        prop_assert!((one + three - two).abs() < 1e-5, "Einthoven");
        prop_assert!((avr + avl + avf).abs() < 1e-5, "Goldberger");
        prop_assert!((avl - (one - three) / 2.0).abs() < 1e-5);
        prop_assert!((avf - (two + three) / 2.0).abs() < 1e-5);
    }

    #[test]
    fn electrode_potentials_give_the_leads(left in -5.0_f32..5.0, right in -5.0_f32..5.0, foot in -5.0_f32..5.0) {
        let [three, avr, avl, avf] = derive(left - right, foot - right);
        prop_assert!((three - (foot - left)).abs() < 1e-4);
        prop_assert!((avr - (right - (left + foot) / 2.0)).abs() < 1e-4);
        prop_assert!((avl - (left - (right + foot) / 2.0)).abs() < 1e-4);
        prop_assert!((avf - (foot - (right + left) / 2.0)).abs() < 1e-4);
    }
}

#[test]
fn derived_leads_exist_where_both_leads_do() {
    let mut one = Strip::from_samples(100.0, (0..300).map(|index| index as f32).collect());
    one.segments.push(Segment { start_s: 5.0, samples: vec![1.0; 200] });
    let mut two = Strip::from_samples(100.0, vec![10.0; 100]);
    two.segments.push(Segment { start_s: 2.0, samples: vec![20.0; 350] });
    let derived = limb_leads(&one, &two).unwrap();
    for (strip, name) in derived.iter().zip(DERIVED) {
        assert_eq!(strip.lead.as_deref(), Some(name));
        let spans: Vec<(f64, usize)> =
            strip.segments.iter().map(|segment| (segment.start_s, segment.samples.len())).collect();
        assert_eq!(spans, [(0.0, 100), (2.0, 100), (5.0, 50)], "{name}");
        assert_eq!(strip.rows.used, 250);
    }
    assert_eq!(derived[0].segments[1].samples[3], 20.0 - 203.0);
    assert_eq!(derived[3].segments[2].samples[0], 20.0 - 0.5);
}

#[test]
fn leads_of_other_rates_or_times_are_rejected() {
    let one = Strip::from_samples(100.0, vec![0.0; 100]);
    assert_eq!(
        limb_leads(&one, &Strip::from_samples(200.0, vec![0.0; 100])),
        Err(LeadsError::Rates(100.0, 200.0))
    );
    let mut later = one.clone();
    later.segments[0].start_s = 1.0;
    assert_eq!(limb_leads(&one, &later), Err(LeadsError::NoOverlap));
    assert_eq!(limb_leads(&one, &Strip::from_samples(100.0, Vec::new())), Err(LeadsError::NoOverlap));
}
