//! Properties of the stream: division into pushes, equality with the analysis of the whole recording, time shift,
//! scale, gaps, lead-off, delays and bounded memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot continue reports it by a panic")]

use ecg::stream::{Event, EventKind, Stream};
use ecg::synth::{self, Dropout, DropoutKind, Random, Rhythm, Settings};
use ecg::{Segment, Strip, analyze};
use proptest::prelude::*;

/// All events of a recording that is pushed in pieces of these lengths, in turn.
fn events(rate: f64, leads: usize, samples: &[f32], pieces: &[usize]) -> Vec<Event> {
    let mut stream = Stream::new(rate, leads);
    let mut out = Vec::new();
    let mut rest = samples;
    for length in pieces.iter().cycle() {
        let (piece, tail) = rest.split_at((*length).min(rest.len()));
        out.extend_from_slice(stream.push(piece));
        rest = tail;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(stream.finish());
    out
}

fn of_lead(events: &[Event], lead: usize) -> Vec<EventKind> {
    events.iter().filter(|event| event.lead == lead).map(|event| event.kind).collect()
}

fn finals(kinds: &[EventKind]) -> Vec<u64> {
    let beat = |kind: &EventKind| match kind {
        EventKind::Final(beat) => Some(beat.sample),
        _ => None,
    };
    kinds.iter().filter_map(beat).collect()
}

/// Frames of the beats that the analysis of the whole strip finds.
fn offline(strip: &Strip) -> Vec<u64> {
    let first = |segment: usize| (strip.segments[segment].start_s * strip.sample_rate_hz).round() as u64;
    analyze(strip).beats.iter().map(|beat| first(beat.segment) + beat.sample as u64).collect()
}

/// The samples of a strip with NaN in its gaps.
fn with_gaps(strip: &Strip) -> Vec<f32> {
    let mut out = Vec::new();
    for segment in &strip.segments {
        out.resize((segment.start_s * strip.sample_rate_hz).round() as usize, f32::NAN);
        out.extend_from_slice(&segment.samples);
    }
    out
}

/// A recording with what happens to a patient: premature beats, noise, drift, a lead-off and a gap.
fn recording(rate: f64, seed: u64) -> Strip {
    let mut random = Random::new(seed);
    let mut dropout = |from_s: f64, kind| Dropout {
        start_s: from_s + 4.0 * random.uniform(),
        length_s: 0.6 + 5.0 * random.uniform(),
        kind,
    };
    let dropouts = vec![dropout(12.0, DropoutKind::LeadOff), dropout(28.0, DropoutKind::Missing)];
    synth::generate(&Settings {
        sample_rate_hz: rate,
        duration_s: 50.0,
        mean_bpm: 50.0 + 90.0 * random.uniform(),
        rhythm: if seed.is_multiple_of(3) { Rhythm::Irregular } else { Rhythm::Sinus },
        ectopy: 0.1,
        noise_mv: 0.01 + 0.05 * random.uniform(),
        muscle_mv: 0.1 * random.uniform(),
        dropouts,
        seed,
        ..Settings::default()
    })
    .strip
}

/// Adds pacemaker pulses of 5 mV with a tail before each beat.
fn paced(strip: &Strip, beats_s: &[f64]) -> Strip {
    let mut paced = strip.clone();
    let rate = strip.sample_rate_hz;
    for segment in &mut paced.segments {
        for beat_s in beats_s {
            let at = ((beat_s - segment.start_s - 0.12) * rate) as usize;
            for (step, sample) in segment.samples.iter_mut().skip(at).take((0.1 * rate) as usize).enumerate()
            {
                let seconds = step as f64 / rate;
                *sample += if seconds < 0.002 { 5.0 } else { (-0.6 * (-seconds / 0.02).exp()) as f32 };
            }
        }
    }
    paced
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_do_not_depend_on_the_pushes(
        seed in 1_u64..10_000,
        rate in prop_oneof![Just(125.0), Just(200.0), Just(250.0), Just(360.0), Just(1000.0)],
        leads in 1_usize..4,
        pieces in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..5000], 1..30),
    ) {
        let strips: Vec<Strip> = (0..leads as u64).map(|lead| recording(rate, seed + lead)).collect();
        let columns: Vec<Vec<f32>> = strips.iter().map(with_gaps).collect();
        let length = columns.iter().map(Vec::len).min().unwrap();
        let frames: Vec<f32> =
            (0..length).flat_map(|frame| columns.iter().map(move |column| column[frame])).collect();
        let whole = events(rate, leads, &frames, &[frames.len()]);
        let divided = events(rate, leads, &frames, &pieces);
        for (lead, column) in columns.iter().enumerate() {
            prop_assert_eq!(of_lead(&whole, lead), of_lead(&divided, lead));
            // A lead does not affect the others.
            prop_assert_eq!(of_lead(&whole, lead), of_lead(&events(rate, 1, &column[..length], &[1000]), 0));
        }
    }

    #[test]
    fn final_beats_are_those_of_the_whole_recording(
        seed in 1_u64..10_000,
        rate in prop_oneof![Just(125.0), Just(250.0), Just(360.0), Just(500.0)],
        with_pulses in any::<bool>(),
    ) {
        let mut strip = recording(rate, seed);
        if with_pulses {
            let beats: Vec<f64> = analyze(&strip).beats.iter().map(|beat| beat.time_s).collect();
            strip = paced(&strip, &beats);
        }
        let found = of_lead(&events(rate, 1, &with_gaps(&strip), &[50]), 0);
        let expected = offline(&strip);
        prop_assert!(expected.len() > 20);
        prop_assert_eq!(finals(&found), expected);
        if with_pulses && rate >= 250.0 {
            let pulses: Vec<f64> = found
                .iter()
                .filter_map(|kind| match kind {
                    EventKind::Pulse { frame } => Some(*frame as f64 / rate),
                    _ => None,
                })
                .collect();
            let analysis = analyze(&strip);
            prop_assert!(pulses.len() > 20);
            prop_assert_eq!(pulses.len(), analysis.pacing_pulses_s.len());
            for (pulse, other) in pulses.iter().zip(&analysis.pacing_pulses_s) {
                prop_assert!((pulse - other).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn each_provisional_beat_becomes_final_or_is_retracted(
        seed in 1_u64..10_000,
        rate in prop_oneof![Just(200.0), Just(360.0)],
    ) {
        let mut open = Vec::new();
        let mut last_final = None;
        for kind in of_lead(&events(rate, 1, &with_gaps(&recording(rate, seed)), &[40]), 0) {
            match kind {
                EventKind::Provisional(beat) => {
                    prop_assert!(!open.contains(&beat.sample));
                    open.push(beat.sample);
                }
                EventKind::Retracted { frame } => {
                    prop_assert!(open.contains(&frame), "no provisional beat at {}", frame);
                    open.retain(|other| *other != frame);
                }
                EventKind::Final(beat) => {
                    prop_assert!(last_final < Some(beat.sample), "final beats are in order");
                    last_final = Some(beat.sample);
                    open.retain(|other| *other != beat.sample);
                }
                EventKind::Ended { .. } => prop_assert!(open.is_empty(), "{:?} remain", open),
                _ => {}
            }
        }
        prop_assert!(open.is_empty(), "{:?} remain", open);
    }

    #[test]
    fn delays_keep_their_limits(seed in 1_u64..10_000, rate in prop_oneof![Just(125.0), Just(250.0), Just(360.0)]) {
        let samples = with_gaps(&recording(rate, seed));
        let push = (0.2 * rate) as usize;
        let mut stream = Stream::new(rate, 1);
        let (mut provisional, mut last) = (0, 0);
        for piece in samples.chunks(push) {
            let frames = stream.frames() + piece.len() as u64;
            for event in stream.push(piece) {
                match event.kind {
                    EventKind::Provisional(beat) => {
                        provisional += 1;
                        let delay_s = (frames - beat.sample) as f64 / rate;
                        prop_assert!(delay_s <= 0.5, "provisional after {} s", delay_s);
                    }
                    EventKind::Final(beat) => {
                        last += 1;
                        let delay_s = (frames - beat.sample) as f64 / rate;
                        // Missing samples delay a decision until they are a gap, by at most 0.5 s.
                        prop_assert!(delay_s <= 5.5, "final after {} s", delay_s);
                    }
                    _ => {}
                }
            }
        }
        prop_assert!(last > 20 && provisional * 10 > last * 7, "{} provisional, {} final", provisional, last);
    }

    #[test]
    fn time_shift_moves_all_beats(shift in 1_usize..4000, seed in 1_u64..10_000) {
        let samples = with_gaps(&recording(250.0, seed));
        let mut shifted = vec![f32::NAN; shift];
        shifted.extend(&samples);
        let expected: Vec<u64> =
            finals(&of_lead(&events(250.0, 1, &samples, &[50]), 0)).iter().map(|beat| beat + shift as u64).collect();
        prop_assert_eq!(finals(&of_lead(&events(250.0, 1, &shifted, &[50]), 0)), expected);
    }

    #[test]
    fn scale_and_polarity_do_not_change_events(
        power in -8_i32..9,
        sign in prop_oneof![Just(-1.0_f32), Just(1.0)],
        seed in 1_u64..10_000,
    ) {
        let samples = with_gaps(&recording(360.0, seed));
        // Powers of two scale without rounding.
        let factor = sign * 2.0_f32.powi(power);
        let scaled: Vec<f32> = samples.iter().map(|value| value * factor).collect();
        let frames = |samples: &[f32]| -> Vec<(u8, u64)> {
            of_lead(&events(360.0, 1, samples, &[72]), 0)
                .iter()
                .map(|kind| match kind {
                    EventKind::Started { frame } => (0, *frame),
                    EventKind::Ended { frame } => (1, *frame),
                    EventKind::Provisional(beat) => (2, beat.sample),
                    EventKind::Retracted { frame } => (3, *frame),
                    EventKind::Final(beat) => (4, beat.sample),
                    EventKind::Pulse { frame } => (5, *frame),
                    _ => (6, 0),
                })
                .collect()
        };
        prop_assert_eq!(frames(&samples), frames(&scaled));
    }
}

#[test]
fn gap_and_lead_off_end_a_part() {
    let rate = 250.0;
    let first =
        synth::generate(&Settings { sample_rate_hz: rate, duration_s: 20.0, seed: 3, ..Settings::default() })
            .strip;
    let second =
        synth::generate(&Settings { sample_rate_hz: rate, duration_s: 15.0, seed: 4, ..Settings::default() })
            .strip;
    for (between, name) in [(f32::NAN, "missing"), (4.0, "saturated")] {
        let mut samples = first.segments[0].samples.clone();
        samples.resize(samples.len() + 500, between);
        samples.extend_from_slice(&second.segments[0].samples);
        let kinds = of_lead(&events(rate, 1, &samples, &[50]), 0);
        let borders: Vec<EventKind> = kinds
            .iter()
            .copied()
            .filter(|kind| matches!(kind, EventKind::Started { .. } | EventKind::Ended { .. }))
            .collect();
        assert_eq!(
            borders,
            [
                EventKind::Started { frame: 0 },
                EventKind::Ended { frame: 5000 },
                EventKind::Started { frame: 5500 },
                EventKind::Ended { frame: 9250 },
            ],
            "{name}"
        );
        let mut strip = first.clone();
        strip.segments.push(Segment { start_s: 22.0, samples: second.segments[0].samples.clone() });
        let (found, expected) = (finals(&kinds), offline(&strip));
        assert_eq!(found, expected, "{name}");
        assert!(found.iter().all(|beat| !(5000..5500).contains(beat)), "{name}");
    }
}

#[test]
fn single_missing_samples_do_not_lose_beats() {
    let made = synth::generate(&Settings { sample_rate_hz: 250.0, duration_s: 60.0, ..Settings::default() });
    let mut samples = made.strip.segments[0].samples.clone();
    for index in (0..samples.len()).step_by(97) {
        samples[index] = f32::NAN;
    }
    let kinds = of_lead(&events(250.0, 1, &samples, &[50]), 0);
    assert_eq!(kinds.iter().filter(|kind| matches!(kind, EventKind::Ended { .. })).count(), 1);
    assert_eq!(finals(&kinds).len(), made.beat_times_s.len());
}

#[test]
fn best_lead_is_the_clear_one_that_records() {
    let lead = |noise_mv| {
        let settings = Settings { sample_rate_hz: 250.0, noise_mv, duration_s: 30.0, ..Settings::default() };
        synth::generate(&settings).strip.segments.remove(0).samples
    };
    let (noisy, clear) = (lead(0.6), lead(0.01));
    let mut stream = Stream::new(250.0, 2);
    assert_eq!(stream.best_lead(), None);
    let frames: Vec<f32> = noisy.iter().zip(&clear).flat_map(|(noisy, clear)| [*noisy, *clear]).collect();
    stream.push(&frames);
    assert_eq!(stream.best_lead(), Some(1));
    let off: Vec<f32> = noisy.iter().take(500).flat_map(|noisy| [*noisy, f32::NAN]).collect();
    stream.push(&off);
    assert_eq!(stream.best_lead(), Some(0));
}

#[test]
fn memory_is_bounded() {
    let samples = with_gaps(
        &synth::generate(&Settings { sample_rate_hz: 250.0, duration_s: 60.0, ..Settings::default() }).strip,
    );
    let frames: Vec<f32> = samples.iter().flat_map(|sample| [*sample; 3]).collect();
    let mut stream = Stream::new(250.0, 3);
    let mut run = |minutes: usize| {
        let mut highest = 0;
        for _ in 0..minutes {
            for piece in frames.chunks(150) {
                stream.push(piece);
                highest = highest.max(stream.heap_bytes());
            }
        }
        highest
    };
    let (first, later) = (run(5), run(120));
    assert!(later <= first + first / 10, "{first} bytes after 5 minutes, {later} later");
    assert!(later < 3 * 600_000, "{later} bytes");
}

#[test]
fn no_leads_and_no_samples_are_harmless() {
    assert!(Stream::new(250.0, 0).push(&[1.0, 2.0]).is_empty());
    assert!(Stream::new(f64::NAN, 2).push(&[]).is_empty());
    assert!(Stream::new(250.0, 1).finish().is_empty());
    let mut stream = Stream::new(250.0, 1);
    assert!(stream.push(&[f32::NAN; 1000]).is_empty());
    assert!(stream.finish().is_empty());
}

#[test]
fn stream_can_move_between_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Stream>();
}
