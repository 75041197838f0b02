//! All leads of a recording: text files, EDF and WFDB.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by its panic")]

use std::fmt::Write as _;

use ecg::csv::{LeadChoice, Options, ReadError};
use ecg::synth::{self, Settings};
use ecg::{Quality, Recording, VoltageUnit};

/// Ten seconds of clean ECG in millivolts at 250 Hz.
fn signal() -> Vec<f64> {
    let settings = Settings { sample_rate_hz: 250.0, duration_s: 10.0, ..Settings::default() };
    let strip = synth::generate(&settings).strip;
    strip.segments[0].samples.iter().map(|&sample| f64::from(sample)).collect()
}

/// White noise of the amplitude of an ECG.
fn noise() -> Vec<f64> {
    let mut state = 7u64;
    (0..2500)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f64 / f64::from(1 << 24) - 0.5
        })
        .collect()
}

/// A file with a time in seconds and one column per lead.
fn file(names: &str, leads: &[Vec<f64>]) -> String {
    let mut text = format!("time (s),{names}\n");
    for index in 0..leads[0].len() {
        write!(text, "{:.3}", index as f64 / 250.0).unwrap();
        for lead in leads {
            write!(text, ",{:.4}", lead[index]).unwrap();
        }
        text.push('\n');
    }
    text
}

fn read(text: &str) -> Recording {
    ecg::read_recording(text.as_bytes(), &Options::default()).unwrap()
}

fn with_lead(name: &str) -> Options {
    Options { lead: Some(LeadChoice::Name(name.to_owned())), ..Options::default() }
}

fn names(recording: &Recording) -> Vec<&str> {
    recording.leads.iter().map(|lead| lead.strip.lead.as_deref().unwrap_or_default()).collect()
}

#[test]
fn lead_of_best_quality_gives_the_rate() {
    let text = file("I (mV),V1 (mV)", &[noise(), signal()]);
    let recording = read(&text);
    assert_eq!((names(&recording).as_slice(), recording.selected), (["I", "V1"].as_slice(), 0));
    let analysis = recording.analyze();
    assert_eq!(analysis.best, 1);
    assert_eq!(analysis.leads[0].heart_rate, None);
    let rate = analysis.leads[1].heart_rate.unwrap().mean_bpm;
    let (strip, best) = recording.into_best();
    assert_eq!((strip.lead.as_deref(), best.quality), (Some("V1"), Quality::Good));
    assert_eq!(best.heart_rate.unwrap().mean_bpm, rate);

    // Of leads of similar quality, the one that is preferred by its name gives the rate.
    let similar: Vec<f64> = signal().iter().zip(noise()).map(|(value, noise)| value + noise * 0.05).collect();
    let recording = read(&file("V1 (mV),II (mV)", &[signal(), similar]));
    assert_eq!(recording.into_best().0.lead.as_deref(), Some("II"));

    // A requested lead is used even if another one is better.
    let recording = ecg::read_recording(text.as_bytes(), &with_lead("i")).unwrap();
    assert_eq!((recording.analyze().best, recording.leads.len()), (0, 2));
    let (strip, analysis) = recording.into_best();
    assert_eq!((strip.lead.as_deref(), analysis.heart_rate), (Some("I"), None));
}

#[test]
fn missing_values_of_one_lead_do_not_affect_the_other() {
    let mut text = String::from("time (s),II (mV),V5 (mV)\n");
    for (index, value) in signal().into_iter().enumerate() {
        let time = index as f64 / 250.0;
        let v5 = match index {
            // 8 ms, and half a second.
            100..102 | 1000..1125 => String::new(),
            1200 => "nan".to_owned(),
            _ => format!("{value:.4}"),
        };
        writeln!(text, "{time:.3},{value:.4},{v5}").unwrap();
    }
    let recording = read(&text);
    let [two, five] = recording.leads.as_slice() else { panic!("two leads") };
    assert_eq!((two.strip.segments.len(), two.strip.sample_count()), (1, 2500));
    assert_eq!(two.strip.warnings, []);
    let lengths: Vec<usize> = five.strip.segments.iter().map(|segment| segment.samples.len()).collect();
    assert_eq!(lengths, [1000, 1375]);
    assert!((five.strip.segments[1].start_s - 4.5).abs() < 1e-9);
    let warning = &five.strip.warnings[0];
    assert_eq!(warning.code, "values_missing");
    assert!(warning.message.starts_with("128 rows have no voltage"), "{}", warning.message);
    // The short gap is interpolated, everything else is equal.
    for (before, after) in [(98..100, 98..100), (102..1000, 102..1000)] {
        assert_eq!(two.strip.segments[0].samples[before], five.strip.segments[0].samples[after]);
    }
    assert_eq!(two.strip.segments[0].samples[1125..1200], five.strip.segments[1].samples[..75]);
    // A row without a voltage of the lead that is read is a bad row for a caller of one lead.
    let strip = ecg::read(text.as_bytes(), &with_lead("V5")).unwrap();
    assert_eq!((strip.rows.used, strip.rows.skipped), (2372, 128));
}

#[test]
fn leads_without_a_signal_are_left_out() {
    let flat = vec![0.0; 2500];
    let text = file("I (mV),II (mV)", &[flat.clone(), signal()]);
    let recording = read(&text);
    assert_eq!((names(&recording).as_slice(), recording.selected), (["II"].as_slice(), 0));
    assert_eq!(recording.other_signals, ["I"]);
    let warning = &recording.leads[0].strip.warnings[0];
    assert_eq!(warning.code, "lead_left_out");
    assert!(
        warning.message.starts_with("Lead I is left out. Every one of the 2500 voltages is 0:"),
        "{warning:?}"
    );
    let error = ecg::read_recording(text.as_bytes(), &with_lead("I")).unwrap_err();
    assert!(matches!(error, ecg::ReadError::Csv(ReadError::Constant { .. })), "{error}");
    let error =
        ecg::read_recording(file("I (mV),II (mV)", &[flat.clone(), flat]).as_bytes(), &Options::default());
    assert!(matches!(error, Err(ecg::ReadError::Csv(ReadError::Constant { .. }))));
}

#[test]
fn leads_beyond_the_limit_are_left_out() {
    // Several blocks of the file are read before the limit.
    let long: Vec<f64> = signal().into_iter().cycle().take(50_000).collect();
    let text = file(
        "V1 (mV),II (mV),V5 (mV)",
        &[long.iter().map(|value| -value).collect(), long.clone(), long.clone()],
    );
    let options = Options { max_rows: 60_000, ..Options::default() };
    let recording = ecg::read_recording(text.as_bytes(), &options).unwrap();
    assert_eq!((names(&recording).as_slice(), recording.selected), (["II"].as_slice(), 0));
    let strip = &recording.leads[0].strip;
    assert_eq!(strip.sample_count(), 50_000);
    assert!(
        strip.segments[0]
            .samples
            .iter()
            .zip(&long)
            .all(|(read, made)| (f64::from(*read) - made).abs() < 1e-3)
    );
    let warning = strip.warnings.iter().find(|warning| warning.code == "lead_left_out").unwrap();
    assert!(
        warning.message.contains("more than 60000 values in total, so V1, V5 are left out"),
        "{warning:?}"
    );
    let options = Options { max_rows: 150_000, ..Options::default() };
    assert_eq!(ecg::read_recording(text.as_bytes(), &options).unwrap().leads.len(), 3);
}

#[test]
fn leads_of_the_same_name_can_be_selected() {
    let doubled: Vec<f64> = signal().iter().map(|value| value * 2.0).collect();
    let text = file("ECG (mV),ECG (uV)", &[signal(), doubled.iter().map(|value| value * 1e3).collect()]);
    let recording = read(&text);
    assert_eq!(names(&recording), ["ECG", "ECG 2"]);
    let units: Vec<_> = recording.leads.iter().map(|lead| lead.file_unit).collect();
    assert_eq!(units, [Some(VoltageUnit::Millivolt), Some(VoltageUnit::Microvolt)]);
    let second = ecg::read(text.as_bytes(), &with_lead("ECG 2")).unwrap();
    assert_eq!(second.segments, recording.leads[1].strip.segments);
    let (first, second) = (&recording.leads[0].strip.segments[0], &second.segments[0]);
    assert!(first.samples.iter().zip(&second.samples).all(|(one, two)| (two - 2.0 * one).abs() < 1e-3));
}

#[test]
fn gaps_and_single_wrong_times_affect_all_leads_alike() {
    let mut text = String::from("time (s),II (mV),V5 (mV)\n");
    for (index, value) in signal().into_iter().enumerate() {
        let time = match index {
            700 => 99_999.0,
            1500.. => index as f64 / 250.0 + 5.0,
            _ => index as f64 / 250.0,
        };
        writeln!(text, "{time:.3},{value:.4},{:.4}", -value).unwrap();
    }
    let recording = read(&text);
    let [two, five] = recording.leads.as_slice() else { panic!("two leads") };
    assert_eq!(two.strip.segments.len(), 2);
    let expected = signal();
    for (two, five) in two.strip.segments.iter().zip(&five.strip.segments) {
        assert_eq!(two.start_s, five.start_s);
        assert!(two.samples.iter().zip(&five.samples).all(|(two, five)| *two == -five));
    }
    let samples: Vec<f32> = two.strip.segments.iter().flat_map(|segment| segment.samples.clone()).collect();
    assert_eq!(samples.len(), expected.len());
    assert!(samples.iter().zip(&expected).all(|(read, made)| (f64::from(*read) - made).abs() < 1e-3));
}

/// An EDF file with records of one second: label, samples per record, values in millivolts.
fn edf(signals: &[(&str, usize, Vec<f64>)]) -> Vec<u8> {
    let mut header = format!("{:<8}{:<160}{:<16}", 0, "X X X X", "14.03.2615.09.26");
    write!(header, "{:<8}{:<44}{:<8}{:<8}{:<4}", (signals.len() + 1) * 256, "", 10, 1, signals.len())
        .unwrap();
    for (width, text) in
        [(16, ""), (80, " "), (8, "mV"), (8, "-5"), (8, "5"), (8, "-32768"), (8, "32767"), (80, " ")]
    {
        for (label, _, _) in signals {
            write!(header, "{:<width$}", if text.is_empty() { label } else { text }).unwrap();
        }
    }
    for (_, samples, _) in signals {
        write!(header, "{samples:<8}").unwrap();
    }
    header.push_str(&" ".repeat(32 * signals.len()));
    let mut file = header.into_bytes();
    for record in 0..10 {
        for (_, samples, values) in signals {
            for value in &values[record * samples..(record + 1) * samples] {
                file.extend_from_slice(&((value * 6553.5) as i16).to_le_bytes());
            }
        }
    }
    file
}

#[test]
fn edf_leads_may_have_different_rates() {
    let slow: Vec<f64> = signal().into_iter().step_by(2).collect();
    let resp: Vec<f64> = (0..250).map(|index| (f64::from(index) * 0.06).sin()).collect();
    let file = edf(&[
        ("Resp", 25, resp.clone()),
        ("ECG V5", 125, slow),
        ("ECG II", 250, signal()),
        ("ECG II", 250, noise()),
        ("HRate", 25, resp.clone()),
    ]);
    let recording = ecg::read_recording(file.as_slice(), &Options::default()).unwrap();
    assert_eq!(names(&recording), ["V5", "II", "II 2"]);
    let rates: Vec<f64> = recording.leads.iter().map(|lead| lead.strip.sample_rate_hz).collect();
    assert_eq!((rates.as_slice(), recording.selected), ([125.0, 250.0, 250.0].as_slice(), 1));
    assert_eq!(recording.other_signals, ["Resp", "HRate"]);
    assert!(recording.leads.iter().all(|lead| lead.file_unit == Some(VoltageUnit::Millivolt)));
    // A caller that needs one lead gets II, not the first signal.
    let strip = ecg::read(file.as_slice(), &Options::default()).unwrap();
    assert_eq!(strip.segments, recording.leads[1].strip.segments);
    let second = ecg::read(file.as_slice(), &with_lead("II 2")).unwrap();
    assert_eq!(second.segments, recording.leads[2].strip.segments);
    let (best, analysis) = recording.into_best();
    assert!(analysis.heart_rate.is_some() && best.lead.as_deref() != Some("II 2"));

    let options = Options { max_rows: 5000, ..Options::default() };
    let recording = ecg::read_recording(file.as_slice(), &options).unwrap();
    assert_eq!(names(&recording), ["II"]);
    assert!(recording.leads[0].strip.warnings.iter().any(|warning| warning.code == "lead_left_out"));

    // A single signal that is named otherwise is no ECG.
    let error =
        ecg::read_recording(edf(&[("Pleth", 250, signal())]).as_slice(), &Options::default()).unwrap_err();
    assert!(matches!(error, ecg::ReadError::Edf(ecg::edf::ReadError::NoEcgAmong { .. })), "{error}");
}

#[test]
fn wfdb_record_gives_all_leads() {
    let header = "r 3 250 2500\nr.dat 16 1000(0)/mV 16 0 0 0 0 RESP\nr.dat 16 1000(0)/mV 16 0 0 0 0 V1\n\
                  s.dat 16 1000(0)/mV 16 0 0 0 0 MLII\n";
    let header = ecg::wfdb::Header::parse(header).unwrap();
    let counts = |value: f64| ((value * 1e3) as i16).to_le_bytes();
    let r: Vec<u8> = signal().iter().flat_map(|&value| [counts(0.5), counts(-value)].concat()).collect();
    let s: Vec<u8> = signal().iter().flat_map(|&value| counts(value)).collect();
    let content = |name: &str| match name {
        "r.dat" => Some(r.as_slice()),
        "s.dat" => Some(s.as_slice()),
        _ => None,
    };
    let recording = ecg::wfdb::recording(&header, content).unwrap();
    assert_eq!((names(&recording).as_slice(), recording.selected), (["V1", "MLII"].as_slice(), 1));
    assert_eq!(recording.other_signals, ["RESP"]);
    let [one, two] = recording.leads.as_slice() else { panic!("two leads") };
    assert!(
        one.strip.segments[0]
            .samples
            .iter()
            .zip(&two.strip.segments[0].samples)
            .all(|(one, two)| *one == -two)
    );
    let missing = ecg::wfdb::recording(&header, |_| None);
    assert_eq!(missing, Err(ecg::wfdb::WfdbError::NoFile("r.dat".to_owned())));
    let only = ecg::wfdb::Header::parse("r 1 250\nr.dat 16 1000/mV 16 0 0 0 0 ABP\n").unwrap();
    assert_eq!(ecg::wfdb::recording(&only, content), Err(ecg::wfdb::WfdbError::NoLead));
}
