//! Waves, beat types and rhythm on synthetic recordings, and their invariants.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue reports it by a panic")]

use ecg::beat_types::{BeatType, TypedBeat, classify, classify_leads};
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

/// A beat at a time: narrow or wide, with a P wave of some height before it.
#[derive(Clone, Copy)]
struct Drawn {
    at: f64,
    wide: bool,
    p: f64,
}

const RATE_HZ: f64 = 250.0;

/// Two minutes with these beats and slight noise.
fn drawn(beats: &[Drawn]) -> Strip {
    let bump = |t: f64, at: f64, height: f64, width: f64| height * (-((t - at) / width).powi(2) / 2.0).exp();
    let wave = |beat: &Drawn, t: f64| {
        let p = bump(t, beat.at - 0.16, beat.p, 0.02);
        let qrs = if beat.wide {
            bump(t, beat.at, 1.3, 0.035) + bump(t, beat.at + 0.09, -0.4, 0.03)
        } else {
            bump(t, beat.at - 0.025, -0.15, 0.008)
                + bump(t, beat.at, 1.0, 0.010)
                + bump(t, beat.at + 0.028, -0.25, 0.009)
        };
        let t_height = if beat.wide { -0.35 } else { 0.25 };
        p + qrs + bump(t, beat.at + 0.28, t_height, 0.045)
    };
    let mut random = synth::Random::new(11);
    let samples = (0..(120.0 * RATE_HZ) as usize)
        .map(|index| {
            let t = index as f64 / RATE_HZ;
            let near = beats.iter().filter(|beat| (t - beat.at).abs() < 0.7);
            (near.map(|beat| wave(beat, t)).sum::<f64>() + 0.01 * random.normal()) as f32
        })
        .collect();
    Strip::from_samples(RATE_HZ, samples)
}

/// Beats with these intervals before them, repeated for two minutes.
fn repeated(pattern: &[(f64, Drawn)]) -> Vec<Drawn> {
    let mut at = 0.3;
    let mut out = Vec::new();
    for (number, (interval, beat)) in pattern.iter().cycle().enumerate() {
        // A sinus rhythm varies by a few percent.
        at += interval * (1.0 + 0.02 * (number as f64 * 0.9).sin());
        if at > 118.5 {
            return out;
        }
        out.push(Drawn { at, ..*beat });
    }
    out
}

const NORMAL: Drawn = Drawn { at: 0.0, wide: false, p: 0.12 };
const WIDE: Drawn = Drawn { at: 0.0, wide: true, p: 0.0 };
const ATRIAL: Drawn = Drawn { at: 0.0, wide: false, p: -0.08 };

/// Share of the beats for which `of` holds that have this type.
fn share(strip: &Strip, beats: &[Drawn], kind: BeatType, of: impl Fn(usize) -> bool) -> f64 {
    let All { analysis, types, .. } = all(strip);
    let found = |beat: &Drawn| {
        let at = analysis.beats.partition_point(|found| found.time_s < beat.at - 0.08);
        let near = analysis.beats.get(at).is_some_and(|found| found.time_s < beat.at + 0.08);
        near && types[at].kind == kind
    };
    let chosen: Vec<&Drawn> =
        beats.iter().enumerate().filter(|(at, _)| of(*at)).map(|(_, beat)| beat).collect();
    chosen.iter().filter(|beat| found(beat)).count() as f64 / chosen.len() as f64
}

#[test]
fn every_second_beat_of_a_bigeminy_is_ventricular() {
    let beats = repeated(&[(1.1, NORMAL), (0.5, WIDE)]);
    let strip = drawn(&beats);
    let ventricular = share(&strip, &beats, BeatType::Ventricular, |at| beats[at].wide);
    let normal = share(&strip, &beats, BeatType::Normal, |at| !beats[at].wide);
    assert!(ventricular > 0.95 && normal > 0.95, "{ventricular} {normal}");
}

#[test]
fn wide_beats_of_a_bundle_branch_block_are_normal() {
    let beats = repeated(&[(0.85, Drawn { p: 0.12, ..WIDE })]);
    let normal = share(&drawn(&beats), &beats, BeatType::Normal, |_| true);
    assert!(normal > 0.95, "{normal}");
}

#[test]
fn early_narrow_beats_are_supraventricular() {
    let mut pattern = vec![(0.85, NORMAL); 9];
    pattern.push((0.52, ATRIAL));
    pattern[0].0 = 0.95;
    let beats = repeated(&pattern);
    let strip = drawn(&beats);
    let early = |at: usize| at % 10 == 9;
    let found = share(&strip, &beats, BeatType::Supraventricular, early);
    let normal = share(&strip, &beats, BeatType::Normal, |at| !early(at));
    assert!(found > 0.9 && normal > 0.95, "{found} {normal}");
}

/// Codes of the runs in a sinus rhythm with four beats in a row of one kind every ten beats.
fn runs(beat: Drawn, interval: f64) -> Vec<&'static str> {
    let mut pattern = vec![(0.85, NORMAL); 10];
    pattern.extend([(interval, beat); 4]);
    pattern[0].0 = 1.0;
    let codes = codes(&drawn(&repeated(&pattern))).into_iter();
    codes.filter(|code| code.ends_with("run")).collect()
}

#[test]
fn runs_are_ventricular_or_supraventricular() {
    let (wide, atrial) = (runs(WIDE, 0.42), runs(ATRIAL, 0.5));
    assert!(wide.len() >= 5 && wide.iter().all(|code| *code == "ventricular_run"), "{wide:?}");
    assert!(atrial.len() >= 5 && atrial.iter().all(|code| *code == "supraventricular_run"), "{atrial:?}");
}

#[test]
fn fibrillation_has_no_supraventricular_beats() {
    let All { types, .. } = all(&minute(|settings| settings.rhythm = Rhythm::Irregular).strip);
    let found = types.iter().filter(|typed| typed.kind == BeatType::Supraventricular).count();
    assert!(found * 50 <= types.len(), "{found} of {}", types.len());
}

#[test]
fn further_leads_take_part_if_they_fit() {
    let beats = repeated(&[(0.85, NORMAL), (0.85, NORMAL), (0.85, NORMAL), (0.5, WIDE), (1.2, NORMAL)]);
    let strip = drawn(&beats);
    let All { analysis, waves, types } = all(&strip);
    // The same beats in a lead that shows no P waves.
    let mut other = drawn(&beats.iter().map(|beat| Drawn { p: 0.0, ..*beat }).collect::<Vec<_>>());
    let kinds = |types: &[TypedBeat]| types.iter().map(|typed| typed.kind).collect::<Vec<_>>();
    let both = classify_leads(&[&strip, &other], &analysis, &waves);
    let (left, right) = (kinds(&both), kinds(&types));
    let different = left.iter().zip(&right).filter(|(left, right)| left != right).count();
    assert!(different * 50 <= types.len(), "{different}");
    assert_ne!(both, types, "the second lead changes the confidence");
    other.segments[0].samples.pop();
    assert_eq!(classify_leads(&[&strip, &other], &analysis, &waves), types, "another length");
    other.sample_rate_hz = 500.0;
    assert_eq!(classify_leads(&[&strip, &other], &analysis, &waves), types, "another rate");
    assert!(classify_leads(&[], &analysis, &waves).iter().all(|typed| typed.kind == BeatType::Unknown));
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
