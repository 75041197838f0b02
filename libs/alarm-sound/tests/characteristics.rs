//! Measures rendered bursts and compares them with tables 3 and 4 of IEC 60601-1-8.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::ops::RangeInclusive;

use alarm_sound::{
    SAMPLE_RATE_HZ, Sequencer, SoundPriority, Volume, burst, burst_duration, interburst_interval,
};
use realfft::RealFftPlanner;

const RATE: f64 = SAMPLE_RATE_HZ as f64;

/// A pulse as it is measured, in seconds.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    rise_s: f64,
    fall_s: f64,
    /// Where the amplitude rises above and falls below 90 %.
    above: (f64, f64),
    peak: f64,
}

/// Samples between two values of the envelope.
const STEP: usize = 16;

/// The envelope: the largest sample within one period of the burst's fundamental.
fn envelope(samples: &[f32], frequency_hz: f64) -> Vec<f64> {
    let window = (RATE / frequency_hz).round() as usize;
    let half = window / 2;
    (0..samples.len())
        .step_by(STEP)
        .map(|at| {
            let range = at.saturating_sub(half)..(at + half + 1).min(samples.len());
            samples[range].iter().map(|sample| f64::from(sample.abs())).fold(0.0, f64::max)
        })
        .collect()
}

/// Finds the pulses by the crossings of 10 % and 90 % of the largest amplitude.
fn pulses(samples: &[f32], frequency_hz: f64) -> Vec<Pulse> {
    let envelope = envelope(samples, frequency_hz);
    let peak = envelope.iter().copied().fold(0.0, f64::max);
    let (low, high) = (0.1 * peak, 0.9 * peak);
    let seconds = |at: usize| (at * STEP) as f64 / RATE;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(begin) = (at..envelope.len()).find(|at| envelope[*at] >= low) {
        let end = (begin..envelope.len()).find(|at| envelope[*at] < low).unwrap_or(envelope.len());
        let above: Vec<usize> = (begin..end).filter(|at| envelope[*at] >= high).collect();
        let (first, last) = (*above.first().unwrap(), *above.last().unwrap());
        found.push(Pulse {
            rise_s: seconds(first - begin),
            fall_s: seconds(end - last),
            above: (seconds(first), seconds(last)),
            peak: envelope[begin..end].iter().copied().fold(0.0, f64::max),
        });
        at = end;
    }
    found
}

/// Levels of the components of the first pulse in decibels relative to the largest one: pairs of frequency and level.
fn components(samples: &[f32], pulse: Pulse) -> Vec<(f64, f64)> {
    let range = (pulse.above.0 * RATE) as usize..(pulse.above.1 * RATE) as usize;
    let steady = &samples[range];
    // Padded to about 1.5 Hz per bin.
    let length = 1 << 15;
    let count = steady.len() as f64;
    let mut input: Vec<f64> = steady
        .iter()
        .enumerate()
        .map(|(at, sample)| {
            let hann = 0.5 - 0.5 * (std::f64::consts::TAU * at as f64 / count).cos();
            f64::from(*sample) * hann
        })
        .collect();
    input.resize(length, 0.0);
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(length);
    let mut spectrum = fft.make_output_vec();
    fft.process(&mut input, &mut spectrum).unwrap();
    let level: Vec<f64> = spectrum.iter().map(|bin| bin.norm()).collect();
    let peak = level.iter().copied().fold(0.0, f64::max);
    let bin_hz = RATE / length as f64;
    // A component is the largest within 60 Hz.
    let near = (60.0 / bin_hz) as usize;
    (near..level.len() - near)
        .filter(|at| level[*at] > peak * 0.03)
        .filter(|at| level[at - near..=at + near].iter().all(|other| *other <= level[*at]))
        .map(|at| (at as f64 * bin_hz, 20.0 * (level[at] / peak).log10()))
        .collect()
}

fn assert_within(what: &str, value: f64, range: RangeInclusive<f64>) {
    assert!(range.contains(&value), "{what}: {value} is not within {range:?}");
}

/// What the tables require of a priority.
struct Required {
    pulses: usize,
    pulse_s: RangeInclusive<f64>,
    /// Limits of `x` or `y`.
    spacing_s: RangeInclusive<f64>,
    interburst_s: RangeInclusive<f64>,
}

fn required(priority: SoundPriority) -> Required {
    match priority {
        SoundPriority::High => {
            Required { pulses: 10, pulse_s: 0.075..=0.2, spacing_s: 0.05..=0.125, interburst_s: 2.5..=15.0 }
        }
        SoundPriority::Medium => {
            Required { pulses: 3, pulse_s: 0.125..=0.25, spacing_s: 0.125..=0.25, interburst_s: 2.5..=30.0 }
        }
        SoundPriority::Low => {
            Required { pulses: 2, pulse_s: 0.125..=0.25, spacing_s: 0.125..=0.25, interburst_s: 15.0..=120.0 }
        }
    }
}

#[test]
fn bursts_have_the_pulses_spacings_and_edges_of_the_standard() {
    for priority in SoundPriority::ALL {
        let samples = burst(priority, Volume::MAX);
        let fundamental = components(&samples, pulses(&samples, 400.0)[0])[0].0;
        let pulses = pulses(&samples, fundamental);
        let required = required(priority);
        assert_eq!(pulses.len(), required.pulses, "{priority:?}");
        for pulse in &pulses {
            let length = pulse.above.1 - pulse.above.0;
            assert_within("effective pulse duration", length, required.pulse_s.clone());
            assert_within("rise time", pulse.rise_s / length, 0.1..=0.4);
            // Differences of more than 10 dB between pulses are not allowed.
            assert_within(
                "amplitude",
                pulse.peak,
                pulses[0].peak / 10_f64.sqrt()..=pulses[0].peak * 10_f64.sqrt(),
            );
        }
        let spacings: Vec<f64> = pulses.windows(2).map(|pair| pair[1].above.0 - pair[0].above.1).collect();
        for (pair, spacing) in pulses.windows(2).zip(&spacings) {
            assert!(pair[0].fall_s <= spacing - pair[1].rise_s, "{priority:?}: the fall is too slow");
        }
        if priority == SoundPriority::High {
            let x = spacings[0];
            assert_within("x", x, required.spacing_s.clone());
            let gap = 2.0 * x + (pulses[0].above.1 - pulses[0].above.0);
            for (at, spacing) in spacings.iter().enumerate() {
                match at {
                    2 | 7 => assert_within("2x + td", *spacing, gap * 0.95..=gap * 1.05),
                    4 => assert_within("between the groups", *spacing, 0.35..=1.3),
                    _ => assert_within("x", *spacing, x * 0.95..=x * 1.05),
                }
            }
        } else {
            for spacing in &spacings {
                assert_within("y", *spacing, required.spacing_s.clone());
                assert_within("y", *spacing, spacings[0] * 0.95..=spacings[0] * 1.05);
            }
        }
    }
}

#[test]
fn pulses_have_an_allowed_fundamental_and_at_least_four_harmonics() {
    for priority in SoundPriority::ALL {
        let samples = burst(priority, Volume::default());
        let found = components(&samples, pulses(&samples, 400.0)[0]);
        let (fundamental, level) = found[0];
        assert_within("fundamental", fundamental, 150.0..=1000.0);
        let harmonics = found.iter().filter(|(frequency, other)| {
            let order = frequency / fundamental;
            (order - order.round()).abs() < 0.02
                && (300.0..=4000.0).contains(frequency)
                && (other - level).abs() <= 15.0
        });
        assert!(harmonics.count() >= 4, "{priority:?}: {found:?}");
        // Each component is a harmonic: the sound is not distorted.
        for (frequency, _) in &found {
            let order = frequency / fundamental;
            assert!((order - order.round()).abs() < 0.02, "{priority:?}: {frequency} Hz in {found:?}");
        }
    }
}

#[test]
fn volume_changes_the_level_in_steps_and_never_to_silence_or_clipping() {
    let peak = |step| {
        let samples = burst(SoundPriority::Low, Volume::of_step(step));
        f64::from(samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs())))
    };
    assert_within("loudest", peak(10), 0.8..=0.95);
    assert_within("softest", peak(1), 0.03..=0.1);
    for step in 1..10 {
        assert_within("a step in decibels", 20.0 * (peak(step + 1) / peak(step)).log10(), 2.9..=3.1);
    }
    assert_eq!((Volume::of_step(0), Volume::of_step(99)), (Volume::MIN, Volume::MAX));
}

/// Plays a sequence with simulated time until `seconds`. Returns the starts of its bursts.
fn sequence(sequencer: &mut Sequencer, from_s: f64, seconds: f64) -> Vec<(f64, SoundPriority)> {
    let seconds_of = std::time::Duration::from_secs_f64;
    let mut now = seconds_of(from_s);
    let mut starts = Vec::new();
    while now < seconds_of(seconds) {
        let step = sequencer.step(now);
        starts.extend(step.play.map(|priority| (now.as_secs_f64(), priority)));
        now = step.next.filter(|next| *next > now).unwrap_or(seconds_of(seconds));
    }
    starts
}

#[test]
fn bursts_repeat_after_the_interval_of_their_priority() {
    for priority in SoundPriority::ALL {
        let mut sequencer = Sequencer::default();
        sequencer.set(Some(priority));
        let starts = sequence(&mut sequencer, 0.0, 120.0);
        assert!(starts.len() >= 5, "{priority:?}: {starts:?}");
        let length = burst_duration(priority).as_secs_f64();
        for pair in starts.windows(2) {
            assert_within(
                "interburst interval",
                pair[1].0 - pair[0].0 - length,
                required(priority).interburst_s,
            );
        }
        assert_eq!(starts[0].0, 0.0, "the first burst does not wait");
    }
    assert!(interburst_interval(SoundPriority::High) < interburst_interval(SoundPriority::Medium));
    assert!(interburst_interval(SoundPriority::Medium) < interburst_interval(SoundPriority::Low));
}

#[test]
fn higher_priority_interrupts_and_silence_stops_at_once() {
    let at = std::time::Duration::from_millis;
    let mut sequencer = Sequencer::default();
    sequencer.set(Some(SoundPriority::Medium));
    assert_eq!(sequencer.step(at(0)).play, Some(SoundPriority::Medium));
    sequencer.set(Some(SoundPriority::High));
    let step = sequencer.step(at(300));
    assert!(step.stop && step.play == Some(SoundPriority::High), "{step:?}");
    sequencer.set(None);
    let step = sequencer.step(at(600));
    assert!(step.stop && step.play.is_none() && step.next.is_none(), "{step:?}");
    // A new alarm does not wait for the interval.
    sequencer.set(Some(SoundPriority::High));
    assert_eq!(sequencer.step(at(700)).play, Some(SoundPriority::High));
    // A lower one does.
    sequencer.set(Some(SoundPriority::Medium));
    let step = sequencer.step(at(800));
    assert!(step.stop && step.play.is_none(), "{step:?}");
    assert_eq!(step.next, Some(at(800) + interburst_interval(SoundPriority::Medium)));
}

#[test]
fn test_plays_one_burst_unless_an_alarm_sounds() {
    let mut sequencer = Sequencer::default();
    sequencer.test(SoundPriority::High);
    assert_eq!(sequence(&mut sequencer, 0.0, 60.0).len(), 1);
    sequencer.set(Some(SoundPriority::Low));
    let before = sequence(&mut sequencer, 60.0, 61.0);
    sequencer.test(SoundPriority::High);
    let after = sequence(&mut sequencer, 61.0, 70.0);
    assert_eq!((before.len(), after.len()), (1, 0), "the test does not replace the alarm");
    sequencer.set(None);
    assert!(sequence(&mut sequencer, 70.0, 80.0).is_empty(), "and does not follow it");
}
