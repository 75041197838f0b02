//! Requirements of ANSI/AAMI EC13 and IEC 60601-2-27 on heart rate meters, with waveforms drawn after their figures:
//! docs/ecg/clauses.md.

use std::f64::consts::TAU;

use ecg::stream::{EventKind, Stream};
use ecg::synth::Random;
use ecg::{Analysis, Quality, Strip, analyze};

use super::draw::{Form, Trace, Wave};

/// Rates at which recorders of monitors sample.
const RATES_HZ: [f64; 3] = [250.0, 360.0, 500.0];

/// Number of strips that are drawn at random.
const STRIPS: u64 = 200;

/// A QRS complex as a triangle of this height and duration.
fn qrs(height_mv: f64, duration_s: f64) -> Wave {
    Wave { offset_s: 0.0, height_mv, width_s: duration_s / 2.0, form: Form::Triangle }
}

/// The T wave of the figures: 180 ms long, and 350 ms from the start of a QRS complex of 100 ms to its end.
fn t_wave(height_mv: f64) -> Wave {
    Wave { offset_s: 0.21, height_mv, width_s: 0.09, form: Form::HalfSine }
}

/// Times of beats at this rate, from 0.4 s on.
fn beats_at(bpm: f64, seconds: f64) -> Vec<f64> {
    (0..)
        .map(|number| 0.4 + 60.0 / bpm * f64::from(number))
        .take_while(|time| *time < seconds - 0.2)
        .collect()
}

/// A recording of beats of one shape with the noise of a recorder.
fn recorded(rate_hz: f64, seconds: f64, beats: &[f64], shape: &[Wave]) -> Trace {
    let mut trace = Trace::new(rate_hz, seconds);
    for beat in beats {
        trace.beat(*beat, shape, 1.0);
    }
    trace.white(0.005, &mut Random::new(1));
    trace
}

fn analysis(trace: &Trace) -> Analysis {
    let samples = trace.samples.iter().map(|value| *value as f32).collect();
    analyze(&Strip::from_samples(trace.rate_hz, samples))
}

/// The accuracy that both standards require: 10 % or 5 beats a minute.
fn is_accurate(found: &Analysis, bpm: f64) -> bool {
    found.heart_rate.is_some_and(|rate| (rate.mean_bpm - bpm).abs() <= (0.1 * bpm).max(5.0))
}

fn described(found: &Analysis) -> String {
    let rate = found.heart_rate.map(|rate| rate.mean_bpm.round());
    format!("{rate:?} {:?} {:?}", found.quality, found.no_heart_rate_reason)
}

/// Panics with all failures at once.
fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn heart_rate_is_accurate_from_30_to_250_a_minute() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for (duration_s, highest) in [(0.04, 250.0), (0.07, 250.0), (0.1, 200.0), (0.12, 200.0)] {
            for bpm in [30.0, 40.0, 60.0, 80.0, 100.0, 120.0, 150.0, 180.0, 200.0, 230.0, 250.0] {
                // A T wave that would merge with the next beat is absent in fast rhythms.
                let shape = [qrs(1.0, duration_s), t_wave(if bpm <= 120.0 { 0.2 } else { 0.0 })];
                let found = analysis(&recorded(rate_hz, 30.0, &beats_at(bpm, 30.0), &shape));
                if bpm <= highest && !is_accurate(&found, bpm) {
                    failures.push(format!("{rate_hz} Hz, QRS {duration_s} s, {bpm}: {}", described(&found)));
                }
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn rates_beyond_the_range_are_not_reported_within_it() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for bpm in [300.0, 350.0] {
            let found = analysis(&recorded(rate_hz, 30.0, &beats_at(bpm, 30.0), &[qrs(1.0, 0.06)]));
            // At 350 a minute every second beat is found, with poor quality.
            let counts = bpm <= 300.0 || found.quality == Quality::Good;
            if counts && found.heart_rate.is_some_and(|rate| rate.mean_bpm < 250.0) {
                failures.push(format!("{rate_hz} Hz, {bpm}: {}", described(&found)));
            }
        }
        for bpm in [10.0, 20.0] {
            let found =
                analysis(&recorded(rate_hz, 60.0, &beats_at(bpm, 60.0), &[qrs(1.0, 0.1), t_wave(0.2)]));
            if found.heart_rate.is_some_and(|rate| rate.mean_bpm > 30.0) {
                failures.push(format!("{rate_hz} Hz, {bpm}: {}", described(&found)));
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn qrs_complexes_of_half_to_5_mv_and_40_to_120_ms_are_counted() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for height_mv in [0.5, 1.0, 2.0, 5.0, -0.5, -5.0] {
            for duration_s in [0.04, 0.07, 0.1, 0.12] {
                let shape = [qrs(height_mv, duration_s), t_wave(0.2 * height_mv)];
                let found = analysis(&recorded(rate_hz, 20.0, &beats_at(80.0, 20.0), &shape));
                if !is_accurate(&found, 80.0) {
                    failures
                        .push(format!("{rate_hz} Hz, {height_mv} mV, {duration_s} s: {}", described(&found)));
                }
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn spikes_of_10_ms_are_not_beats() {
    let mut failures = Vec::new();
    for rate_hz in [500.0, 1000.0] {
        let found = analysis(&recorded(rate_hz, 20.0, &beats_at(80.0, 20.0), &[qrs(1.0, 0.01)]));
        if found.heart_rate.is_some() {
            failures.push(format!("{rate_hz} Hz: {}", described(&found)));
        }
    }
    assert_none(&failures);
}

#[test]
fn mains_and_drift_do_not_change_the_rate() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        let beats = beats_at(80.0, 30.0);
        for hertz in [50.0, 60.0] {
            let mut trace = recorded(rate_hz, 30.0, &beats, &[qrs(0.5, 0.1), t_wave(0.1)]);
            trace.drift(0.05, hertz, &mut Random::new(2));
            let found = analysis(&trace);
            if !is_accurate(&found, 80.0) {
                failures.push(format!("{rate_hz} Hz, {hertz} Hz mains: {}", described(&found)));
            }
        }
        let mut trace = recorded(rate_hz, 30.0, &beats, &[qrs(0.5, 0.1), t_wave(0.1)]);
        // A triangle of 4 mV from peak to valley, 0.1 Hz.
        trace.add(|time_s| 4.0 * (2.0 * (0.1 * time_s - (0.1 * time_s + 0.5).floor()).abs() - 0.5));
        let found = analysis(&trace);
        if !is_accurate(&found, 80.0) {
            failures.push(format!("{rate_hz} Hz, drift: {}", described(&found)));
        }
    }
    assert_none(&failures);
}

#[test]
fn t_waves_of_up_to_1_2_mv_after_a_qrs_complex_of_1_mv_are_not_counted() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for tenths in 1..=12 {
            let height_mv = f64::from(tenths) / 10.0;
            let shape = [qrs(1.0, 0.1), t_wave(height_mv)];
            let found = analysis(&recorded(rate_hz, 30.0, &beats_at(80.0, 30.0), &shape));
            if !is_accurate(&found, 80.0) {
                failures.push(format!("{rate_hz} Hz, T wave of {height_mv} mV: {}", described(&found)));
            }
        }
    }
    assert_none(&failures);
}

/// Pulses without tail, and with tails of a quarter of the pulse, at most 2 mV, with these time constants.
fn pulses() -> Vec<(f64, f64, f64, f64)> {
    let mut out = Vec::new();
    for height_mv in [2.0, -2.0, 20.0, -20.0, 200.0, -200.0, 700.0, -700.0_f64] {
        for width_s in [0.0001, 0.0005, 0.001, 0.002] {
            out.push((height_mv, width_s, 0.0, 0.01));
        }
        for decay_s in [0.004, 0.015, 0.05, 0.1] {
            let tail_mv = (0.25 * height_mv.abs()).min(2.0) * height_mv.signum();
            out.push((height_mv, 0.001, tail_mv, decay_s));
        }
    }
    out
}

/// Effective pacing at 60, ineffective pacing at 80 with a rhythm of 30, and pulses at 80 without beats.
#[test]
fn pacemaker_pulses_are_not_counted() {
    let mut failures = Vec::new();
    for rate_hz in [250.0, 360.0, 500.0, 1000.0] {
        for (height_mv, width_s, tail_mv, decay_s) in pulses() {
            for (bpm, paced_bpm) in [(60.0, 60.0), (30.0, 80.0), (0.0, 80.0)] {
                let beats = if bpm > 0.0 { beats_at(bpm, 20.0) } else { Vec::new() };
                let mut trace = recorded(rate_hz, 20.0, &beats, &[qrs(1.0, 0.1), t_wave(0.2)]);
                for time_s in beats_at(paced_bpm, 20.0) {
                    trace.pulse(time_s - 0.12, height_mv, width_s, tail_mv, decay_s);
                }
                let found = analysis(&trace);
                let is_right = if bpm > 0.0 { is_accurate(&found, bpm) } else { found.heart_rate.is_none() };
                if !is_right {
                    failures.push(format!(
                        "{rate_hz} Hz, {height_mv} mV, {width_s} s, tail {tail_mv} mV, {decay_s} s, beats at {bpm}, pulses at \
                         {paced_bpm}: {}",
                        described(&found)
                    ));
                }
            }
        }
    }
    assert_none(&failures);
}

/// The filters of a recorder, one pole each: low-pass and high-pass.
fn filtered(trace: &mut Trace, low_pass_hz: f64, high_pass_hz: f64) {
    let step = |hertz: f64| 1.0 - (-TAU * hertz / trace.rate_hz).exp();
    let (fast, slow) = (step(low_pass_hz), step(high_pass_hz));
    let (mut smooth, mut level) = (0.0, 0.0);
    for sample in &mut trace.samples {
        smooth += fast * (*sample - smooth);
        level += slow * (smooth - level);
        *sample = smooth - level;
    }
}

/// Standstill under pacing with pulses and tails of either polarity at random, seen by different recorders. A third of the
/// tails has two time constants. Each strip is also drawn with the beats that the pulses capture. docs/ecg/clauses.md states the rest, which must not grow.
#[test]
fn drawn_pulses_without_beats_rarely_have_a_rate() {
    let (mut rates, mut good, mut right) = (0, 0, 0);
    for seed in 0..STRIPS {
        let random = &mut Random::new(seed);
        let mut between = |low: f64, high: f64| low + (high - low) * random.uniform();
        let rate_hz = [250.0, 360.0, 500.0, 1000.0][between(0.0, 4.0) as usize];
        let sign = |share: f64| if share < 0.5 { -1.0 } else { 1.0 };
        let height_mv = sign(between(0.0, 1.0)) * 2.0 * 100.0_f64.powf(between(0.0, 1.0));
        let width_s = between(0.0002, 0.002);
        let tail_mv = sign(between(0.0, 1.0)) * (0.25 * height_mv.abs()).min(2.0) * between(0.2, 1.0);
        let decay_s = 0.003 * 33.0_f64.powf(between(0.0, 1.0));
        let (second_mv, second_s) = (tail_mv * between(-0.5, 1.0), decay_s * between(0.2, 3.0));
        let has_second = between(0.0, 3.0) < 1.0;
        let (bpm, delay_s) = (between(40.0, 120.0), between(0.06, 0.15));
        let (noise_mv, drift_mv, drift_hz) = (between(0.002, 0.03), between(0.0, 0.3), between(0.1, 0.4));
        let low_pass_hz = between(100.0, 0.45 * rate_hz);
        let high_pass_hz = [0.01, 0.05, 0.5][between(0.0, 3.0) as usize];
        for is_paced in [false, true] {
            let random = &mut Random::new(seed);
            let mut trace = Trace::new(rate_hz, 20.0);
            for time_s in beats_at(bpm, 20.0) {
                trace.pulse(time_s, height_mv, width_s, tail_mv, decay_s);
                if has_second {
                    trace.pulse(time_s, 0.0, width_s, second_mv, second_s.clamp(0.003, 0.1));
                }
                if is_paced {
                    trace.beat(time_s + delay_s, &[qrs(1.0, 0.14), t_wave(-0.3)], 1.0);
                }
            }
            trace.drift(drift_mv, drift_hz, random);
            filtered(&mut trace, low_pass_hz, high_pass_hz);
            trace.white(noise_mv, random);
            let found = analysis(&trace);
            if is_paced {
                right += usize::from(is_accurate(&found, bpm));
            } else if found.heart_rate.is_some() {
                rates += 1;
                good += usize::from(found.quality == Quality::Good);
            }
        }
    }
    println!("of {STRIPS}: {rates} rates, {good} of them good; {right} right with beats");
    assert!(
        rates <= 22 && good <= 10 && right >= 190,
        "{rates} rates, {good} good, {right} right with beats"
    );
}

/// Rhythms with a narrow beat and a wide one in turn, after figure 3 of both standards, with their rates.
#[test]
fn rates_of_irregular_rhythms_are_means() {
    let narrow = [qrs(1.0, 0.08), t_wave(0.2)];
    let wide =
        [qrs(-1.3, 0.14), Wave { offset_s: 0.28, height_mv: 0.35, width_s: 0.1, form: Form::HalfSine }];
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for (name, to_wide_s, to_narrow_s, bpm) in [
            ("bigeminy", 0.5, 1.0, 80.0),
            ("slow alternating bigeminy", 0.7, 1.3, 60.0),
            ("fast alternating bigeminy", 0.4, 0.6, 120.0),
            ("bidirectional systoles", 0.6, 0.7333, 90.0),
        ] {
            let mut trace = recorded(rate_hz, 30.0, &[], &[]);
            let mut at = 0.4;
            while at < 29.0 {
                trace.beat(at, &narrow, 1.0);
                trace.beat(at + to_wide_s, &wide, 1.0);
                at += to_wide_s + to_narrow_s;
            }
            let found = analysis(&trace);
            if !is_accurate(&found, bpm) {
                failures.push(format!("{rate_hz} Hz, {name}: {}", described(&found)));
            }
        }
    }
    assert_none(&failures);
}

/// Seconds from `from_s` until the mean of the last four intervals of the stream satisfies `is_reached`. Provisional beats
/// count until they are retracted.
fn response_s(trace: &Trace, from_s: f64, is_reached: impl Fn(f64) -> bool) -> Option<f64> {
    let samples: Vec<f32> = trace.samples.iter().map(|value| *value as f32).collect();
    let mut stream = Stream::new(trace.rate_hz, 1);
    let mut beats: Vec<u64> = Vec::new();
    for piece in samples.chunks((0.2 * trace.rate_hz) as usize) {
        for event in stream.push(piece) {
            match event.kind {
                EventKind::Provisional(beat) | EventKind::Final(beat) => beats.push(beat.sample),
                EventKind::Retracted { frame } => beats.retain(|beat| *beat != frame),
                _ => {}
            }
        }
        beats.sort_unstable();
        beats.dedup();
        let now_s = stream.frames() as f64 / trace.rate_hz;
        if let [.., first, _, _, _, last] = beats.as_slice()
            && now_s > from_s
            && is_reached(60.0 * 4.0 * trace.rate_hz / (last - first) as f64)
        {
            return Some(now_s - from_s);
        }
    }
    None
}

#[test]
fn stream_follows_a_change_of_the_rate() {
    for rate_hz in RATES_HZ {
        for (bpm, most_s) in [(120.0, 3.0), (40.0, 7.5)] {
            let mut beats = beats_at(80.0, 20.0);
            let from_s = beats.last().copied().unwrap_or_default();
            beats.extend((1..20).map(|number| from_s + 60.0 / bpm * f64::from(number)));
            let trace = recorded(rate_hz, 35.0, &beats, &[qrs(1.0, 0.08), t_wave(0.2)]);
            let is_reached = |found: f64| (found - bpm).abs() <= (0.1 * bpm).max(5.0);
            let response_s = response_s(&trace, from_s, is_reached);
            assert!(response_s.is_some_and(|time| time <= most_s), "{rate_hz} Hz, {bpm}: {response_s:?} s");
        }
    }
}

/// Waveforms B1 (1 mV, 206 a minute) and B2 (2 mV, 195 a minute), each also doubled, after a sinus rhythm of 1 mV. They are
/// drawn as triangles up and down, nearly sine waves. At 1 mV and less they are not found (docs/ecg/clauses.md).
#[test]
fn stream_reports_ventricular_tachycardia_of_2_mv_within_5_s() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        for (height_mv, bpm, gains) in [(1.0, 206.0, &[2.0][..]), (2.0, 195.0, &[1.0, 2.0])] {
            for gain in gains {
                let mut beats = beats_at(80.0, 20.0);
                let from_s = beats.last().copied().unwrap_or_default();
                let mut trace = recorded(rate_hz, 40.0, &beats, &[qrs(1.0, 0.08), t_wave(0.2)]);
                beats = (0..)
                    .map(|number| from_s + 0.4 + 60.0 / bpm * f64::from(number))
                    .take_while(|it| *it < 39.5)
                    .collect();
                for beat in &beats {
                    // From peak to valley, the complex has this height.
                    let half = gain * height_mv / 2.0;
                    let valley = Wave { offset_s: 0.14, ..qrs(-half, 0.14) };
                    trace.beat(*beat, &[qrs(half, 0.14), valley], 1.0);
                }
                let time_s = response_s(&trace, from_s, |found| found > 150.0);
                if time_s.is_none_or(|time_s| time_s > 5.0) {
                    failures.push(format!("{rate_hz} Hz, {height_mv} mV x {gain}: {time_s:?} s"));
                }
            }
        }
    }
    assert_none(&failures);
}

#[test]
fn standstill_has_no_beats_and_is_a_pause() {
    let mut failures = Vec::new();
    for rate_hz in RATES_HZ {
        let beats =
            [beats_at(80.0, 15.0), beats_at(80.0, 15.0).iter().map(|beat| beat + 22.0).collect()].concat();
        let found = analysis(&recorded(rate_hz, 37.0, &beats, &[qrs(1.0, 0.1), t_wave(0.2)]));
        let invented = found.beats.iter().filter(|beat| (15.2..22.2).contains(&beat.time_s)).count();
        let is_pause = found.rhythm_notes.iter().any(|note| note.code == "pause");
        if invented > 0 || !is_pause {
            failures.push(format!("{rate_hz} Hz: {invented} beats, pause {is_pause}: {}", described(&found)));
        }
    }
    assert_none(&failures);
}
