//! Waves, beat types and rhythm on synthetic recordings, and their invariants.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue reports it by a panic")]

use ecg::beat_types::{BeatType, TypedBeat, classify};
use ecg::rhythm::findings;
use ecg::synth::{self, Rhythm, Settings, Synthetic};
use ecg::waves::{BeatWaves, delineate, intervals};
use ecg::{Analysis, Strip, analyze};

struct All {
    analysis: Analysis,
    waves: Vec<BeatWaves>,
    types: Vec<TypedBeat>,
}

fn all(strip: &Strip) -> All {
    let analysis = analyze(strip);
    let waves = delineate(strip, &analysis.beats);
    let types = classify(strip, &analysis, &waves);
    All { analysis, waves, types }
}

fn minute(change: impl FnOnce(&mut Settings)) -> Synthetic {
    let mut settings = Settings { duration_s: 60.0, ..Settings::default() };
    change(&mut settings);
    synth::generate(&settings)
}

fn codes(strip: &Strip) -> Vec<&'static str> {
    let All { analysis, waves, types } = all(strip);
    findings(strip, &analysis, &waves, &types).iter().map(|finding| finding.code).collect()
}

#[test]
fn waves_are_in_order_and_give_plausible_intervals() {
    let strip = minute(|_| {}).strip;
    let All { analysis, waves, .. } = all(&strip);
    assert_eq!(waves.len(), analysis.beats.len());
    for beat in waves.iter().filter(|beat| beat.p.is_some() && beat.qrs.is_some() && beat.t.is_some()) {
        let (p, qrs, t) = (beat.p.unwrap(), beat.qrs.unwrap(), beat.t.unwrap());
        let times = [p.on_s, p.peak_s, qrs.on_s, qrs.peak_s, qrs.end_s, t.peak_s, t.end_s];
        assert!(times.is_sorted(), "{times:?}");
    }
    let found = intervals(&waves, &analysis.beats);
    let (pr, qrs, qt) = (found.pr.unwrap(), found.qrs.unwrap(), found.qt.unwrap());
    assert!((100.0..260.0).contains(&pr.median), "{pr:?}");
    assert!((50.0..150.0).contains(&qrs.median), "{qrs:?}");
    assert!((280.0..480.0).contains(&qt.median) && qt.spread < 40.0, "{qt:?}");
    assert!(found.qtc_bazett.unwrap().median > qt.median, "72 bpm is faster than 60");
}

#[test]
fn scale_offset_and_time_shift_do_not_change_waves_and_types() {
    let strip = minute(|settings| settings.ectopy = 0.1).strip;
    let before = all(&strip);
    let mut changed = strip.clone();
    changed.segments[0].start_s += 5.0;
    for sample in &mut changed.segments[0].samples {
        *sample = *sample * 4.0 + 2.0;
    }
    let after = all(&changed);
    assert_eq!(before.types.len(), after.types.len());
    for (left, right) in before.types.iter().zip(&after.types) {
        assert_eq!(left.kind, right.kind);
    }
    let shift = |waves: &BeatWaves| waves.t.map(|t| t.end_s);
    let same =
        before.waves.iter().zip(&after.waves).filter(|(left, right)| match (shift(left), shift(right)) {
            (Some(left), Some(right)) => (right - left - 5.0).abs() < 0.005,
            (None, None) => true,
            _ => false,
        });
    assert!(same.count() * 100 >= 98 * before.waves.len());
}

#[test]
fn premature_wide_beats_are_ventricular() {
    let made = minute(|settings| settings.ectopy = 0.1);
    let All { analysis, types, .. } = all(&made.strip);
    let early: Vec<usize> = (1..analysis.beats.len())
        .filter(|at| analysis.beats[*at].time_s - analysis.beats[at - 1].time_s < 0.62)
        .collect();
    assert!(early.len() >= 3);
    let found = early.iter().filter(|at| types[**at].kind == BeatType::Ventricular).count();
    assert!(found * 10 >= early.len() * 9, "{found} of {}", early.len());
    let ventricular = types.iter().filter(|typed| typed.kind == BeatType::Ventricular).count();
    assert!(ventricular <= early.len() + 2, "{ventricular}");
}

#[test]
fn few_beats_have_no_type() {
    let strip = synth::generate(&Settings { duration_s: 4.0, ..Settings::default() }).strip;
    let All { analysis, types, .. } = all(&strip);
    assert_eq!(types.len(), analysis.beats.len());
    assert!(types.len() >= 5 || types.iter().all(|typed| typed.kind == BeatType::Unknown));
}

#[test]
fn sinus_and_fibrillation_are_distinguished() {
    assert_eq!(codes(&minute(|_| {}).strip), ["sinus_rhythm"]);
    assert_eq!(codes(&minute(|settings| settings.mean_bpm = 48.0).strip), ["sinus_bradycardia"]);
    assert_eq!(codes(&minute(|settings| settings.mean_bpm = 120.0).strip), ["sinus_tachycardia"]);
    let fibrillation = codes(&minute(|settings| settings.rhythm = Rhythm::Irregular).strip);
    assert!(fibrillation.contains(&"atrial_fibrillation"), "{fibrillation:?}");
}

#[test]
fn noise_has_no_findings() {
    let mut random = synth::Random::new(3);
    let samples = (0..15_000).map(|_| random.normal() as f32).collect();
    assert_eq!(codes(&Strip::from_samples(250.0, samples)), [""; 0]);
}

#[test]
fn empty_strips_have_no_waves() {
    let strip = Strip::from_samples(250.0, Vec::new());
    assert!(all(&strip).waves.is_empty());
    assert!(codes(&strip).is_empty());
}
