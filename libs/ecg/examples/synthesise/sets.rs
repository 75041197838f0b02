//! The test sets. Each generates a strip from a seed, with its reference.

use std::f64::consts::TAU;

use ecg::Strip;
use ecg::synth::{self, Random};

use super::draw::{Form, Trace, Wave, gaussian};

/// A strip and its reference. Times are seconds from its start.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) strip: Strip,
    pub(crate) beats: Vec<f64>,
    /// Intervals of at least 2.2 s without a beat.
    pub(crate) pauses: Vec<(f64, f64)>,
    /// Beats of runs and couplets. A subset of `beats`.
    pub(crate) runs: Vec<f64>,
    /// Intervals in which the lead is off.
    pub(crate) lead_off: Vec<(f64, f64)>,
    /// Whether heart and pacemaker dissociate.
    pub(crate) dissociated: bool,
}

/// Generates a strip.
pub(crate) type Draw = fn(&mut Random) -> Case;

/// The sets by name.
pub(crate) const SETS: [(&str, Draw); 16] = [
    ("rates_30_250", rates),
    ("rates_model", rates_of_the_model),
    ("neonates", neonates),
    ("rhythms", rhythms),
    ("tall_t", tall_t),
    ("tall_t_wide_qrs", tall_t_wide_qrs),
    ("pauses", pauses),
    ("ec13", ec13),
    ("ec13_tall_t", ec13_tall_t),
    ("paced_effective", paced_effective),
    ("paced_ineffective", paced_ineffective),
    ("runs", runs),
    ("low_beats", low_beats),
    ("lead_off", lead_off),
    ("shapes", shapes),
    ("poor_part", poor_part),
];

const RATES_HZ: [f64; 7] = [100.0, 125.0, 200.0, 250.0, 360.0, 500.0, 1000.0];
const LENGTHS_S: [f64; 3] = [5.0, 10.0, 28.0];
/// Shortest pause that must be reported.
const PAUSE_S: f64 = 2.2;

/// The strip of a set with this seed.
pub(crate) fn case(draw: Draw, seed: u64) -> Case {
    draw(&mut Random::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(77)))
}

fn between(random: &mut Random, low: f64, high: f64) -> f64 {
    low + (high - low) * random.uniform()
}

fn one_of<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[(random.uniform() * values.len() as f64) as usize]
}

/// The waves of a heart, drawn at random for each strip.
#[derive(Debug, Clone)]
struct Heart {
    normal: Vec<Wave>,
    without_p: Vec<Wave>,
    wide: Vec<Wave>,
    p: Wave,
}

impl Heart {
    /// `t_share` is the height of the T wave relative to the R wave. Times scale with the square root of the
    /// interval, as the QT interval does (Bazett, Heart 7, 1920).
    fn draw(random: &mut Random, rr_s: f64, qrs_s: (f64, f64), t_share: f64) -> Self {
        let root = rr_s.sqrt().clamp(0.45, 1.3);
        let (r_mv, width_s) = (between(random, 0.6, 1.8), between(random, qrs_s.0, qrs_s.1));
        let sign = if random.uniform() < 0.2 { -1.0 } else { 1.0 };
        let (q, s) = (between(random, 0.0, 0.2), between(random, 0.0, 0.5));
        let t = gaussian(
            between(random, 0.26, 0.31) * root,
            sign * t_share * r_mv,
            between(random, 0.04, 0.06) * root,
        );
        let without_p = vec![
            gaussian(-2.6 * width_s, -sign * q * r_mv, width_s),
            gaussian(0.0, sign * r_mv, width_s),
            gaussian(2.6 * width_s, -sign * s * r_mv, width_s),
            t,
        ];
        let p = gaussian(
            -between(random, 0.13, 0.18) * rr_s.clamp(0.25, 1.0).sqrt(),
            between(random, 0.05, 0.2) * r_mv,
            0.02 * root,
        );
        let mut normal = without_p.clone();
        normal.push(p);
        let (high, wide_s) = (between(random, 0.8, 1.6) * r_mv, between(random, 0.028, 0.04));
        let turn = one_of(random, &[1.0, -1.0]);
        let wide = vec![
            gaussian(0.0, turn * high, wide_s),
            gaussian(2.6 * wide_s, -turn * between(random, 0.1, 0.4) * high, wide_s),
            gaussian(0.3, -turn * 0.25 * high, 0.05),
        ];
        Heart { normal, without_p, wide, p }
    }

    /// The heart of an adult at this interval with a T wave of usual height.
    fn usual(random: &mut Random, rr_s: f64) -> Self {
        let share = between(random, 0.1, 0.35);
        Self::draw(random, rr_s, (0.008, 0.013), share)
    }
}

/// Adds the disturbances of most recordings.
fn disturb(trace: &mut Trace, random: &mut Random) {
    let (noise, drift) = (between(random, 0.002, 0.03), between(random, 0.0, 0.3));
    trace.white(noise, random);
    let hertz = between(random, 0.1, 0.4);
    trace.drift(drift, hertz, random);
    if random.uniform() < 0.3 {
        let (mains, hertz) = (between(random, 0.0, 0.05), one_of(random, &[50.0, 60.0]));
        trace.drift(mains, hertz, random);
    }
}

fn finish(trace: Trace, beats: &[f64]) -> Case {
    let seconds = trace.seconds();
    let beats = beats.iter().copied().filter(|time| (0.0..seconds).contains(time)).collect();
    let samples = trace.samples.iter().map(|value| *value as f32).collect();
    Case {
        strip: Strip::from_samples(trace.rate_hz, samples),
        beats,
        pauses: Vec::new(),
        runs: Vec::new(),
        lead_off: Vec::new(),
        dissociated: false,
    }
}

fn blank(random: &mut Random) -> Trace {
    let (rate_hz, seconds) = (one_of(random, &RATES_HZ), one_of(random, &LENGTHS_S));
    Trace::new(rate_hz, seconds)
}

/// Beat times from before the start to after the end. `spread` is the relative standard deviation of the
/// intervals.
fn regular(random: &mut Random, rr_s: f64, spread: f64, seconds: f64) -> Vec<f64> {
    let mut out = vec![-between(random, 0.0, 1.0) * rr_s];
    while out[out.len() - 1] < seconds + 1.0 {
        let next = out[out.len() - 1] + rr_s * (1.0 + spread * random.normal().clamp(-2.5, 2.5));
        out.push(next);
    }
    out
}

fn sinus(random: &mut Random, rr_s: f64, heart: &Heart) -> Case {
    let mut trace = blank(random);
    let spread = between(random, 0.0, 0.05);
    let beats = regular(random, rr_s, spread, trace.seconds());
    for beat in &beats {
        let gain = 1.0 + 0.04 * random.normal();
        trace.beat(*beat, &heart.normal, gain);
    }
    disturb(&mut trace, random);
    finish(trace, &beats)
}

fn rates(random: &mut Random) -> Case {
    let rr_s = 60.0 / between(random, 30.0, 250.0);
    let heart = Heart::usual(random, rr_s);
    sinus(random, rr_s, &heart)
}

/// The model of McSharry et al. at the same rates.
fn rates_of_the_model(random: &mut Random) -> Case {
    let settings = synth::Settings {
        sample_rate_hz: one_of(random, &RATES_HZ),
        duration_s: one_of(random, &LENGTHS_S),
        mean_bpm: between(random, 30.0, 220.0),
        rr_sd_ms: between(random, 0.0, 30.0),
        noise_mv: between(random, 0.0, 0.05),
        drift_mv: between(random, 0.0, 0.3),
        seed: (random.uniform() * 1e9) as u64,
        ..synth::Settings::default()
    };
    let made = synth::generate(&settings);
    let (rate_hz, samples) = (made.strip.sample_rate_hz, &made.strip.segments[0].samples);
    let trace = Trace { rate_hz, samples: samples.iter().map(|value| f64::from(*value)).collect() };
    finish(trace, &made.beat_times_s)
}

fn neonates(random: &mut Random) -> Case {
    let rr_s = 60.0 / between(random, 100.0, 250.0);
    let share = between(random, 0.1, 0.4);
    let heart = Heart::draw(random, rr_s, (0.005, 0.009), share);
    sinus(random, rr_s, &heart)
}

/// A beat: normal, without a P wave, wide, or with a relative height.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Normal,
    WithoutP,
    Wide,
    Gain(f64),
}

fn rhythms(random: &mut Random) -> Case {
    let mut trace = blank(random);
    let end = trace.seconds() + 1.0;
    let rr = between(random, 0.55, 1.1);
    let which = (random.uniform() * 12.0) as usize;
    let fast = rr * between(random, 0.5, 0.8);
    let heart = Heart::usual(random, if which == 1 || which == 2 { fast } else { rr });
    let mut beats: Vec<(f64, Kind)> = Vec::new();
    let mut at = -between(random, 0.0, 1.0) * rr;
    let mut number = (random.uniform() * 12.0) as usize;
    let mut lone_p: Vec<f64> = Vec::new();
    let coupling = between(random, 0.55, 0.75);
    while at < end {
        number += 1;
        let (kind, step) = match which {
            // Respiratory arrhythmia.
            0 => (Kind::Normal, rr * (1.0 + 0.2 * (TAU * at / 4.0).sin())),
            // Atrial fibrillation, fast and slow.
            1 | 2 => {
                let mean = if which == 1 { fast } else { rr };
                (Kind::WithoutP, mean * (1.0 + 0.25 * random.normal()).clamp(0.5, 1.9))
            }
            3 if number.is_multiple_of(2) => (Kind::Wide, (2.0 - coupling) * rr),
            3 => (Kind::Normal, coupling * rr),
            4 if number.is_multiple_of(3) => (Kind::Wide, (2.0 - coupling) * rr),
            4 if number % 3 == 2 => (Kind::Normal, coupling * rr),
            // Premature atrial beats.
            5 if random.uniform() < 0.2 => (Kind::Normal, coupling * rr),
            // Wenckebach: every fourth P wave is not conducted.
            6 if number.is_multiple_of(4) => {
                lone_p.push(at + rr);
                (Kind::Normal, 2.0 * rr - 0.05)
            }
            // Complete block: P waves without relation to slow wide beats.
            7 => (Kind::Wide, between(random, 1.45, 1.55)),
            // Two to one block.
            8 => {
                lone_p.push(at + rr);
                (Kind::Normal, 2.0 * rr)
            }
            // Ventricular tachycardia.
            9 => (Kind::Wide, 0.38 * (1.0 + 0.02 * random.normal())),
            // Junctional rhythm.
            10 => (Kind::WithoutP, 1.2 * (1.0 + 0.02 * random.normal())),
            // Electrical alternans.
            11 => (Kind::Gain(if number.is_multiple_of(2) { 0.6 } else { 1.0 }), rr),
            _ => (Kind::Normal, rr * (1.0 + 0.03 * random.normal())),
        };
        beats.push((at, kind));
        at += step;
    }
    if which == 1 || which == 2 {
        let (hertz, height) = (between(random, 4.5, 8.0), between(random, 0.02, 0.08));
        trace.drift(height, hertz, random);
        trace.drift(0.6 * height, 1.37 * hertz, random);
    }
    if which == 7 {
        let atrial = between(random, 0.65, 0.85);
        let first = -between(random, 0.0, 1.0) * atrial;
        lone_p.extend((0..).map(|n| first + atrial * f64::from(n)).take_while(|time| *time < end));
    }
    for time in &lone_p {
        trace.beat(*time, &[Wave { offset_s: 0.0, ..heart.p }], 1.0);
    }
    draw_all(&mut trace, &beats, &heart, random);
    disturb(&mut trace, random);
    finish(trace, &times(&beats))
}

fn times(beats: &[(f64, Kind)]) -> Vec<f64> {
    beats.iter().map(|(time, _)| *time).collect()
}

fn draw_all(trace: &mut Trace, beats: &[(f64, Kind)], heart: &Heart, random: &mut Random) {
    for (time, kind) in beats {
        let gain = 1.0 + 0.04 * random.normal();
        match kind {
            Kind::Normal => trace.beat(*time, &heart.normal, gain),
            Kind::WithoutP => trace.beat(*time, &heart.without_p, gain),
            Kind::Wide => trace.beat(*time, &heart.wide, gain),
            Kind::Gain(height) => trace.beat(*time, &heart.normal, gain * height),
        }
    }
}

fn tall_t(random: &mut Random) -> Case {
    let rr_s = 60.0 / between(random, 40.0, 100.0);
    let share = between(random, 0.2, 1.0);
    let mut heart = Heart::draw(random, rr_s, (0.008, 0.013), share);
    shape_t(&mut heart, rr_s, random);
    sinus(random, rr_s, &heart)
}

/// Gives the T wave a random shape: symmetric, tented (as in hyperkalaemia), triangular, or with a slow rise
/// and a fast fall.
fn shape_t(heart: &mut Heart, rr_s: f64, random: &mut Random) {
    let root = rr_s.sqrt().clamp(0.45, 1.3);
    let tent_s = between(random, 0.07, 0.11) * root;
    let form = (random.uniform() * 4.0) as usize;
    let change = |wave: Wave| match form {
        0 => vec![wave],
        1 => vec![Wave { form: Form::HalfSine, width_s: tent_s, ..wave }],
        2 => vec![Wave { form: Form::Triangle, width_s: tent_s, ..wave }],
        _ => vec![
            Wave { height_mv: 0.8 * wave.height_mv, width_s: 0.7 * wave.width_s, ..wave },
            gaussian(wave.offset_s - 1.3 * wave.width_s, 0.45 * wave.height_mv, wave.width_s),
        ],
    };
    for waves in [&mut heart.normal, &mut heart.without_p] {
        // The T wave is the fourth wave.
        let t = waves.remove(3);
        waves.extend(change(t));
    }
}

/// Like [`tall_t`], with QRS complexes as wide as in bundle branch block.
fn tall_t_wide_qrs(random: &mut Random) -> Case {
    let rr_s = 60.0 / between(random, 40.0, 90.0);
    let share = between(random, 0.2, 0.7);
    let mut heart = Heart::draw(random, rr_s, (0.016, 0.024), share);
    shape_t(&mut heart, rr_s, random);
    sinus(random, rr_s, &heart)
}

fn pauses(random: &mut Random) -> Case {
    let rr_s = between(random, 0.6, 1.1);
    let heart = Heart::usual(random, rr_s);
    let rate_hz = one_of(random, &RATES_HZ);
    let mut trace = Trace::new(rate_hz, one_of(random, &[10.0, 28.0]));
    let (seconds, pause) = (trace.seconds(), between(random, PAUSE_S + 0.05, 4.5));
    let after = match (random.uniform() * 3.0) as usize {
        // One or two beats before the pause, several on both sides, or two or three after it.
        0 => between(random, 0.2, 1.2),
        1 => between(random, 2.0, seconds - pause - 2.0),
        _ => seconds - pause - between(random, 0.9, 2.2),
    };
    let mut beats = Vec::new();
    let mut at = after;
    while at > -1.0 {
        beats.push(at);
        at -= rr_s * (1.0 + 0.03 * random.normal());
    }
    beats.reverse();
    at = after + pause;
    while at < seconds + 1.0 {
        beats.push(at);
        at += rr_s * (1.0 + 0.03 * random.normal());
    }
    for beat in &beats {
        trace.beat(*beat, &heart.normal, 1.0 + 0.04 * random.normal());
    }
    disturb(&mut trace, random);
    Case { pauses: vec![(after, after + pause)], ..finish(trace, &beats) }
}

/// Shapes and rates according to AAMI EC13: triangles of 40 to 120 ms, bigeminy, tachycardia.
fn ec13(random: &mut Random) -> Case {
    let mut trace = blank(random);
    let (half_s, high) = (between(random, 0.02, 0.06), between(random, 0.5, 2.0));
    let narrow = vec![
        Wave { offset_s: 0.0, height_mv: high, width_s: half_s, form: Form::Triangle },
        Wave { offset_s: 0.3, height_mv: 0.2 * high, width_s: 0.09, form: Form::HalfSine },
    ];
    let wide_s = between(random, 0.06, 0.09);
    let turn = one_of(random, &[1.0, -1.0]);
    let wide = vec![
        Wave { offset_s: 0.0, height_mv: turn * 1.3 * high, width_s: wide_s, form: Form::Triangle },
        Wave { offset_s: 0.3, height_mv: -turn * 0.3 * high, width_s: 0.09, form: Form::HalfSine },
    ];
    let end = trace.seconds() + 1.0;
    let mut beats = Vec::new();
    let mut at = -between(random, 0.0, 0.7);
    let (which, mut number) = ((random.uniform() * 6.0) as usize, 0);
    let rr_s = 60.0 / between(random, 30.0, 250.0);
    while at < end {
        number += 1;
        let even = number % 2 == 0;
        let (shape, step) = match which {
            // Ventricular bigeminy, 80 a minute, slow and fast.
            0 => (if even { &wide } else { &narrow }, if even { 1.0 } else { 0.5 }),
            1 => (if even { &wide } else { &narrow }, if even { 1.45 } else { 0.55 }),
            2 => (if even { &wide } else { &narrow }, if even { 0.6 } else { 0.4 }),
            // Ventricular tachycardia of 195 to 206.
            3 => (&wide, 60.0 / 200.0),
            _ => (&narrow, rr_s),
        };
        let t_fits = which < 3 || which > 3 && rr_s > 0.45;
        let count = if t_fits { 2 } else { 1 };
        trace.beat(at, &shape[..count], 1.0);
        beats.push(at);
        at += step;
    }
    trace.white(between(random, 0.0, 0.02), random);
    finish(trace, &beats)
}

/// The T wave of IEC 60601-2-27: QRS 1 mV and 100 ms, T wave of 180 ms at a QT interval of 350 ms, 80 a minute.
fn ec13_tall_t(random: &mut Random) -> Case {
    let mut trace = blank(random);
    let share = between(random, 0.2, 1.2);
    let shape = [
        Wave { offset_s: 0.0, height_mv: 1.0, width_s: 0.05, form: Form::Triangle },
        Wave { offset_s: 0.21, height_mv: share, width_s: 0.09, form: Form::HalfSine },
    ];
    let beats = regular(random, 0.75, 0.0, trace.seconds());
    for beat in &beats {
        trace.beat(*beat, &shape, 1.0);
    }
    trace.white(between(random, 0.0, 0.02), random);
    finish(trace, &beats)
}

/// A pacemaker pulse as recorded.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    height_mv: f64,
    width_s: f64,
    tail_mv: f64,
    decay_s: f64,
}

impl Pulse {
    fn draw(random: &mut Random) -> Self {
        let height_mv =
            2.0 * (between(random, 0.0, 1.0) * 350.0_f64.ln()).exp() * one_of(random, &[1.0, -1.0]);
        let tail_mv = if random.uniform() < 0.5 {
            0.0
        } else {
            (0.25 * height_mv.abs()).min(2.0) * height_mv.signum() * random.uniform()
        };
        Pulse {
            height_mv,
            width_s: between(random, 0.0001, 0.002),
            tail_mv,
            decay_s: between(random, 0.004, 0.1),
        }
    }

    fn put(&self, trace: &mut Trace, time_s: f64) {
        trace.pulse(time_s, self.height_mv, self.width_s, self.tail_mv, self.decay_s);
    }
}

/// Below 250 Hz recorders do not resolve pulses.
const PACED_RATES_HZ: [f64; 4] = [250.0, 360.0, 500.0, 1000.0];

fn paced_effective(random: &mut Random) -> Case {
    let mut trace = Trace::new(one_of(random, &PACED_RATES_HZ), one_of(random, &LENGTHS_S));
    let rr_s = 60.0 / between(random, 55.0, 110.0);
    let heart = Heart::usual(random, rr_s);
    let pulse = Pulse::draw(random);
    let beats = regular(random, rr_s, 0.002, trace.seconds());
    let delay_s = between(random, 0.05, 0.1);
    for beat in &beats {
        trace.beat(*beat, &heart.wide, 1.0 + 0.02 * random.normal());
        if beat - delay_s > 0.0 {
            pulse.put(&mut trace, beat - delay_s);
        }
    }
    disturb(&mut trace, random);
    finish(trace, &beats)
}

/// Pulses at a fixed rate, and a slower independent rhythm of the heart.
fn paced_ineffective(random: &mut Random) -> Case {
    let mut trace = Trace::new(one_of(random, &PACED_RATES_HZ), one_of(random, &LENGTHS_S));
    let (rr_s, paced_s) = (60.0 / between(random, 30.0, 80.0), 60.0 / between(random, 55.0, 100.0));
    let heart = Heart::usual(random, rr_s);
    let pulse = Pulse::draw(random);
    let beats = regular(random, rr_s, 0.02, trace.seconds());
    for beat in &beats {
        trace.beat(*beat, &heart.normal, 1.0 + 0.03 * random.normal());
    }
    let pulses: Vec<f64> =
        regular(random, paced_s, 0.0, trace.seconds()).into_iter().filter(|time| *time > 0.0).collect();
    disturb(&mut trace, random);
    for time in pulses {
        pulse.put(&mut trace, time);
    }
    Case { dissociated: true, ..finish(trace, &beats) }
}

/// Couplets and runs of wide beats in a sinus rhythm.
fn runs(random: &mut Random) -> Case {
    let mut trace = Trace::new(one_of(random, &RATES_HZ), one_of(random, &[10.0, 28.0]));
    let rr_s = between(random, 0.65, 1.0);
    let heart = Heart::usual(random, rr_s);
    let wide_mv = heart.wide[0].height_mv.abs();
    let normal_mv = heart.normal[1].height_mv.abs();
    let gain = between(random, 0.5, 2.0) * normal_mv / wide_mv;
    let (length, run_s) = (one_of(random, &[2, 3, 5, 8]), 60.0 / between(random, 120.0, 180.0));
    let (mut beats, mut run) = (Vec::new(), Vec::new());
    let mut at = -between(random, 0.0, 1.0) * rr_s;
    let mut until_run = 3 + (random.uniform() * 3.0) as usize;
    while at < trace.seconds() + 1.0 {
        trace.beat(at, &heart.normal, 1.0 + 0.03 * random.normal());
        beats.push(at);
        until_run -= 1;
        if until_run == 0 {
            until_run = 5 + (random.uniform() * 5.0) as usize;
            at += run_s * 1.05;
            for number in 0..length {
                // The T wave of a beat in a run is hidden by the next beat.
                let last = number + 1 == length;
                trace.beat(at, &heart.wide[..if last { 3 } else { 2 }], gain);
                beats.push(at);
                run.push(at);
                at += if last { 1.3 * rr_s } else { run_s * (1.0 + 0.03 * random.normal()) };
            }
        } else {
            at += rr_s * (1.0 + 0.03 * random.normal());
        }
    }
    disturb(&mut trace, random);
    let seconds = trace.seconds();
    run.retain(|time| (0.2..seconds - 0.2).contains(time));
    Case { runs: run, ..finish(trace, &beats) }
}

/// Low beats between tall ones.
fn low_beats(random: &mut Random) -> Case {
    let mut trace = blank(random);
    let rr_s = between(random, 0.5, 0.95);
    let heart = Heart::usual(random, rr_s);
    let (low, every) = (between(random, 0.2, 0.5), one_of(random, &[2, 2, 3]));
    let beats = regular(random, rr_s, 0.02, trace.seconds());
    for (number, beat) in beats.iter().enumerate() {
        let gain = if number % every == 0 { low } else { 1.0 };
        trace.beat(*beat, &heart.normal, gain * (1.0 + 0.03 * random.normal()));
    }
    disturb(&mut trace, random);
    finish(trace, &beats)
}

fn lead_off(random: &mut Random) -> Case {
    let mut trace = Trace::new(one_of(random, &RATES_HZ), one_of(random, &[10.0, 28.0]));
    let rr_s = between(random, 0.5, 1.1);
    let heart = Heart::usual(random, rr_s);
    let beats = regular(random, rr_s, 0.03, trace.seconds());
    for beat in &beats {
        trace.beat(*beat, &heart.normal, 1.0);
    }
    disturb(&mut trace, random);
    let length = between(random, 0.6, 4.0);
    let from = between(random, 1.0, trace.seconds() - length - 1.0);
    let level = one_of(random, &[None, Some(5.0), Some(-5.0), Some(0.0)]);
    trace.hold(from, from + length, level);
    let off = (from, from + length);
    let seen: Vec<f64> = beats.into_iter().filter(|time| *time < off.0 || *time > off.1).collect();
    Case { lead_off: vec![off], ..finish(trace, &seen) }
}

/// ST elevation, tremor, muscle noise, strong drift, saturation.
fn shapes(random: &mut Random) -> Case {
    let mut trace = blank(random);
    let rr_s = between(random, 0.5, 1.2);
    let mut heart = Heart::usual(random, rr_s);
    let which = (random.uniform() * 5.0) as usize;
    let root = rr_s.sqrt();
    if which == 0 {
        // A plateau from the QRS complex to the T wave.
        let high = between(random, 0.2, 0.6) * heart.normal[1].height_mv;
        heart.normal.extend([
            gaussian(0.08 * root, high, 0.03 * root),
            gaussian(0.15 * root, high, 0.04 * root),
            gaussian(0.22 * root, high, 0.04 * root),
        ]);
    }
    let beats = regular(random, rr_s, 0.04, trace.seconds());
    for beat in &beats {
        trace.beat(*beat, &heart.normal, 1.0 + 0.04 * random.normal());
    }
    trace.white(between(random, 0.0, 0.02), random);
    match which {
        1 => {
            let (height, hertz) = (between(random, 0.05, 0.15), between(random, 4.0, 8.0));
            trace.drift(height, hertz, random);
        }
        2 => {
            let end = trace.seconds();
            trace.muscle(between(random, 0.05, 0.15), 0.0, end, random);
        }
        3 => {
            let (height, hertz) = (between(random, 1.0, 4.0), between(random, 0.05, 0.35));
            trace.drift(height, hertz, random);
        }
        4 => {
            let high = heart.normal[1].height_mv.abs();
            let limit = between(random, 0.4, 0.8) * high;
            for sample in &mut trace.samples {
                *sample = sample.clamp(-limit, limit);
            }
        }
        _ => {}
    }
    finish(trace, &beats)
}

/// A good strip with a section of muscle noise and electrode movement.
fn poor_part(random: &mut Random) -> Case {
    let mut trace = Trace::new(one_of(random, &RATES_HZ), one_of(random, &[10.0, 28.0]));
    let rr_s = between(random, 0.5, 1.1);
    let heart = Heart::usual(random, rr_s);
    let beats = regular(random, rr_s, 0.03, trace.seconds());
    for beat in &beats {
        trace.beat(*beat, &heart.normal, 1.0);
    }
    disturb(&mut trace, random);
    let length = between(random, 0.15, 0.45) * trace.seconds();
    let from = between(random, 0.0, trace.seconds() - length);
    let strength = between(random, 0.3, 1.5) * heart.normal[1].height_mv.abs();
    trace.muscle(strength, from, from + length, random);
    let mut wander = 0.0;
    let step = strength * 3.0 / trace.rate_hz.sqrt();
    trace.add(|time_s| {
        wander = if (from..from + length).contains(&time_s) {
            0.995 * wander + step * random.normal()
        } else {
            0.95 * wander
        };
        wander
    });
    finish(trace, &beats)
}
