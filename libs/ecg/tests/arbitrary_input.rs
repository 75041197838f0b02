//! Arbitrary bytes never make a reader panic, loop forever or use memory out of proportion; every strip read
//! can be drawn.

use ecg::csv::{LeadChoice, Options};
use ecg::plot;
use ecg::synth::{self, Settings};
use proptest::prelude::*;

mod strip_checks;

use strip_checks::assert_in_order;

fn read_anyhow(bytes: &[u8]) {
    for sample_rate_hz in [None, Some(250.0)] {
        for lead in [None, Some(LeadChoice::Index(1))] {
            let options = Options { sample_rate_hz, lead, ..Options::default() };
            match ecg::read(bytes, &options) {
                Ok(strip) => assert_in_order(&strip, bytes.len()),
                Err(error) => {
                    let sentence = error.to_string();
                    assert!(sentence.ends_with('.') && sentence.len() < 1000, "{sentence}");
                }
            }
            if let Ok(recording) = ecg::read_recording(bytes, &options) {
                recording.leads.iter().for_each(|lead| assert_in_order(&lead.strip, bytes.len()));
                assert!(recording.selected < recording.leads.len());
            }
        }
    }
}

/// Lines similar to those of an ECG file.
fn line() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        4 => (-5.0..5.0f64).prop_map(|value| format!("{value:.3}")),
        2 => (0..100_000u32).prop_map(|value| format!("{:.3}", f64::from(value) / 250.0)),
        1 => any::<f64>().prop_map(|value| value.to_string()),
        1 => any::<i64>().prop_map(|value| value.to_string()),
        1 => "[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\\.[0-9]{0,4})?",
        1 => "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]{0,12}Z?",
        1 => "[\"' ]{0,2}[a-zA-Z(µ)#%/_-]{0,8}[\"' ]{0,2}",
        1 => "[0-9.,eE+-]{0,30}",
        1 => Just(String::new()),
    ];
    let delimiter = prop_oneof![Just(","), Just(";"), Just("\t"), Just(" "), Just(", ")];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("\n\n")];
    (proptest::collection::vec(field, 0..5), delimiter, end)
        .prop_map(|(fields, delimiter, end)| fields.join(delimiter) + end)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_read_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        read_anyhow(&bytes);
    }

    #[test]
    fn arbitrary_lines_are_read_or_rejected(
        header in proptest::collection::vec(line(), 0..4),
        body in line(),
        repeats in 0..400usize,
        tail in proptest::collection::vec(line(), 0..60),
    ) {
        let text = header.concat() + &body.repeat(repeats) + &tail.concat();
        read_anyhow(text.as_bytes());
    }

    #[test]
    fn arbitrary_time_steps_are_read_or_rejected(
        steps in proptest::collection::vec(prop_oneof![20 => Just(4.0), 1 => -1e3..1e3f64, 1 => Just(0.0), 1 => 0.0..9.0f64], 200..2000),
        decimals in 0..4usize,
    ) {
        let mut time = 0.0;
        let rows = steps.iter().enumerate().map(|(index, step)| {
            time += step;
            format!("{time:.decimals$},{}\n", index % 97)
        });
        read_anyhow(rows.collect::<String>().as_bytes());
    }
}

/// Changes, removes and duplicates random parts.
fn mutated(bytes: &[u8], state: &mut u64) -> Vec<u8> {
    let mut next = |limit: usize| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 33) as usize % limit.max(1)
    };
    let mut changed = bytes.to_vec();
    for _ in 0..=next(12) {
        let at = next(changed.len());
        let length = next(300).min(changed.len() - at);
        match next(5) {
            0 => changed[at] = next(256) as u8,
            1 => drop(changed.drain(at..at + length)),
            2 => changed.extend_from_within(at..at + length),
            3 => changed[at] = b",;.-+eE\n\r\t \"'#0123456789:Tn\x14\xff"[next(29)],
            _ => changed.truncate(changed.len() - next(50).min(changed.len() - 1)),
        }
        if changed.is_empty() {
            return bytes.to_vec();
        }
    }
    changed
}

#[test]
fn damaged_files_are_rejected_or_read_and_drawn() {
    let strip =
        synth::generate(&Settings { duration_s: 6.0, sample_rate_hz: 250.0, ..Settings::default() }).strip;
    let text = String::from_utf8(synth::csv(&strip)).unwrap();
    let mut edf =
        format!("{:<8}{:<80}{:<80}{:<16}{:<8}{:<44}{:<8}{:<8}{:<4}", 0, "", "", "", 768, "EDF+D", 6, 1, 2);
    for (width, of) in [
        (16, ["ECG", "EDF Annotations"]),
        (80, ["", ""]),
        (8, ["mV", ""]),
        (8, ["-5", "-1"]),
        (8, ["5", "1"]),
        (8, ["-32768", "-32768"]),
        (8, ["32767", "32767"]),
        (80, ["", ""]),
        (8, ["250", "8"]),
        (32, ["", ""]),
    ] {
        edf += &format!("{:<width$}{:<width$}", of[0], of[1]);
    }
    let mut edf = edf.into_bytes();
    for (record, samples) in strip.segments[0].samples.chunks(250).enumerate() {
        edf.extend(samples.iter().flat_map(|sample| ((sample * 6000.0) as i16).to_le_bytes()));
        edf.extend(format!("{:\0<16}", format!("+{record}\x14\x14")).as_bytes());
    }
    let originals = [
        text.clone().into_bytes(),
        format!("time (s);V5 (mV)\r\n{}", text.replace(',', ";").replace('.', ",").replace('\n', "\r\n"))
            .into_bytes(),
        text.lines().map(|line| format!("00:00:0{line}\n")).collect::<String>().into_bytes(),
        edf,
    ];
    assert!(originals.iter().all(|original| ecg::read(original.as_slice(), &Options::default()).is_ok()));
    let mut state = 1;
    for round in 0..4000 {
        let original = &originals[round % originals.len()];
        let bytes = mutated(original, &mut state);
        let Ok(strip) = ecg::read(bytes.as_slice(), &Options::default()) else { continue };
        assert_in_order(&strip, bytes.len());
        if round % 251 == 0 {
            let analysis = ecg::analyze(&strip);
            plot::png(&strip, &analysis, &plot::Options::default()).unwrap();
            plot::svg(&strip, &analysis, &plot::Options::default()).unwrap();
        }
    }
}

#[test]
fn endless_stream_is_rejected_in_bounded_memory() {
    struct Endless(&'static [u8], usize);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            for byte in buffer.iter_mut() {
                *byte = self.0[self.1 % self.0.len()];
                self.1 += 1;
            }
            Ok(buffer.len())
        }
    }
    let options = Options { max_rows: 200_000, ..Options::default() };
    for pattern in [&b"0.1,2\n"[..], b"1", b"\n", b"# remark\n", b"a,b\n", b"0,", b"\0"] {
        assert!(ecg::read(Endless(pattern, 0), &options).is_err(), "{pattern:?}");
    }
}
