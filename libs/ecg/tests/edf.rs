//! The EDF reader on files written byte by byte.

use ecg::csv::LeadChoice;
use ecg::edf::{Options, ReadError, read};
use ecg::synth::{self, Settings};

/// A signal of a test file.
struct Signal<'a> {
    label: &'a str,
    unit: &'a str,
    range: (f64, f64),
    /// Samples per record.
    samples: usize,
    values: Vec<f64>,
}

/// Writes a file with records of one second. `onsets` selects EDF+D.
fn edf(signals: &[Signal<'_>], records: usize, onsets: Option<&[f64]>, bdf: bool) -> Vec<u8> {
    let field = |text: &str, width: usize| format!("{text:<width$}").into_bytes();
    let count = signals.len() + usize::from(onsets.is_some());
    let mut file = if bdf { b"\xffBIOSEMI".to_vec() } else { field("0", 8) };
    file.extend(field("X X X X", 80));
    file.extend(field("Startdate X X X X", 80));
    file.extend(field("01.01.0000.00.00", 16));
    file.extend(field(&((count + 1) * 256).to_string(), 8));
    file.extend(field(if onsets.is_some() { "EDF+D" } else { "" }, 44));
    file.extend(field(&records.to_string(), 8));
    file.extend(field("1", 8));
    file.extend(field(&count.to_string(), 4));
    let (low, high) = if bdf { (-8_388_608, 8_388_607) } else { (-32_768, 32_767) };
    let mut part = |width: usize, of: &dyn Fn(&Signal<'_>) -> String, annotation: &str| {
        signals.iter().for_each(|signal| file.extend(field(&of(signal), width)));
        if onsets.is_some() {
            file.extend(field(annotation, width));
        }
    };
    part(16, &|signal| signal.label.to_owned(), "EDF Annotations");
    part(80, &|_| String::new(), "");
    part(8, &|signal| signal.unit.to_owned(), "");
    part(8, &|signal| signal.range.0.to_string(), "-1");
    part(8, &|signal| signal.range.1.to_string(), "1");
    part(8, &|_| low.to_string(), "-32768");
    part(8, &|_| high.to_string(), "32767");
    part(80, &|_| String::new(), "");
    part(8, &|signal| signal.samples.to_string(), "8");
    part(32, &|_| String::new(), "");
    for record in 0..records {
        for signal in signals {
            let gain = (signal.range.1 - signal.range.0) / f64::from(high - low);
            for value in &signal.values[record * signal.samples..(record + 1) * signal.samples] {
                let digital = ((value - signal.range.0) / gain).round() as i32 + low;
                file.extend_from_slice(&digital.to_le_bytes()[..if bdf { 3 } else { 2 }]);
            }
        }
        if let Some(onsets) = onsets {
            let mut annotation = format!("+{}\x14\x14", onsets[record]).into_bytes();
            annotation.resize(16, 0);
            file.extend(annotation);
        }
    }
    file
}

fn signal(rate_hz: f64, seconds: f64) -> Vec<f64> {
    let settings = Settings { sample_rate_hz: rate_hz, duration_s: seconds, ..Settings::default() };
    let strip = synth::generate(&settings).strip;
    strip.segments[0].samples.iter().map(|&sample| f64::from(sample)).collect()
}

fn ecg<'a>(label: &'a str, unit: &'a str, factor: f64) -> Signal<'a> {
    let values = signal(250.0, 10.0).iter().map(|value| value * factor).collect();
    Signal { label, unit, range: (-5.0 * factor, 5.0 * factor), samples: 250, values }
}

fn other(label: &str) -> Signal<'_> {
    Signal { label, unit: "uV", range: (-100.0, 100.0), samples: 100, values: vec![1.0; 1000] }
}

#[track_caller]
fn assert_is_signal(strip: &ecg::Strip) {
    let expected = signal(250.0, 10.0);
    assert_eq!(strip.sample_rate_hz, 250.0);
    assert_eq!(strip.segments.len(), 1);
    assert_eq!(strip.segments[0].samples.len(), expected.len());
    let off =
        strip.segments[0].samples.iter().zip(&expected).map(|(read, made)| (f64::from(*read) - made).abs());
    assert!(off.fold(0.0, f64::max) < 2e-4);
}

#[test]
fn ecg_signal_is_selected_and_scaled() {
    for (unit, factor) in [("mV", 1.0), ("uV", 1000.0), ("V", 0.001)] {
        let file = edf(&[other("EEG Fpz-Cz"), ecg("ECG V5", unit, factor), other("EMG")], 10, None, false);
        let strip = read(file.as_slice(), &Options::default()).unwrap();
        assert_is_signal(&strip);
        assert_eq!(strip.lead.as_deref(), Some("V5"));
        assert_eq!(strip.warnings.len(), 1);
        assert!(strip.warnings[0].message.contains("EEG Fpz-Cz, EMG"), "{}", strip.warnings[0].message);
    }
}

#[test]
fn bdf_samples_of_three_bytes_are_read() {
    assert_is_signal(
        &read(edf(&[ecg("ECG", "mV", 1.0)], 10, None, true).as_slice(), &Options::default()).unwrap(),
    );
}

#[test]
fn signal_is_selected_by_name_or_index() {
    let file = edf(&[ecg("I", "mV", 2.0), ecg("V5", "mV", 1.0)], 10, None, false);
    for lead in [LeadChoice::Name("v5".to_owned()), LeadChoice::Index(1)] {
        assert_is_signal(
            &read(file.as_slice(), &Options { lead: Some(lead), ..Options::default() }).unwrap(),
        );
    }
    let missing = Options { lead: Some(LeadChoice::Name("aVR".to_owned())), ..Options::default() };
    let error = read(file.as_slice(), &missing).unwrap_err().to_string();
    assert!(error.contains("it has I, V5"), "{error}");
    let error = read(edf(&[other("EEG 1"), other("EEG 2")], 10, None, false).as_slice(), &Options::default());
    assert!(matches!(error, Err(ReadError::NoEcgAmong { .. })));
}

#[test]
fn gaps_between_records_split_the_strip() {
    let onsets = [0.5, 1.5, 2.5, 3.5, 10.5, 11.5, 12.5, 13.5, 14.5, 15.5];
    let file = edf(&[ecg("ECG", "mV", 1.0)], 10, Some(&onsets), false);
    let strip = read(file.as_slice(), &Options::default()).unwrap();
    assert_eq!(strip.segments.iter().map(|segment| segment.samples.len()).collect::<Vec<_>>(), [1000, 1500]);
    let gaps: Vec<_> = strip.gaps().collect();
    assert_eq!((gaps[0].start_s, gaps[0].end_s), (4.0, 10.0));
    assert_eq!(strip.warnings.iter().map(|warning| warning.code).collect::<Vec<_>>(), ["time_gap"]);
}

#[test]
fn truncated_file_is_read_with_a_warning() {
    let file = edf(&[ecg("ECG", "mV", 1.0)], 10, None, false);
    let strip = read(&file[..file.len() - 700], &Options::default()).unwrap();
    assert_eq!(strip.sample_count(), 2000);
    assert_eq!(strip.warnings[0].code, "file_cut");
}

#[test]
fn damaged_headers_are_rejected_with_a_reason() {
    let file = edf(&[ecg("ECG", "mV", 1.0)], 10, None, false);
    for (at, text, part) in [
        (244, "0       ", "no length"),
        (244, "abc     ", "how long a data record is"),
        (252, "9999", "does not start as one"),
        (256 + 104, "x       ", "no physical minimum"),
        (256 + 112, "-5      ", "an empty range"),
        (256 + 216, "-1      ", "no number of samples"),
        (256 + 216, "99999999", "no number of samples"),
        (256 + 216, "1       ", "1.0000 samples per second"),
    ] {
        let mut broken = file.clone();
        broken[at..at + text.len()].copy_from_slice(text.as_bytes());
        let error = read(broken.as_slice(), &Options::default()).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(matches!(read(&file[..400], &Options::default()), Err(ReadError::Header { .. })));
    assert!(matches!(read(b"0,1\n".as_slice(), &Options::default()), Err(ReadError::NotEdf)));
    let flat = Signal { values: vec![1.0; 2500], ..ecg("ECG", "mV", 1.0) };
    let error = read(edf(&[flat], 10, None, false).as_slice(), &Options::default());
    assert!(matches!(error, Err(ReadError::Constant { .. })));
}

#[test]
fn read_selects_the_format() {
    let options = ecg::csv::Options::default();
    let file = edf(&[ecg("ECG", "mV", 1.0)], 10, None, false);
    assert_is_signal(&ecg::read(file.as_slice(), &options).unwrap());
    let text = synth::csv(&ecg::read(file.as_slice(), &options).unwrap());
    assert_is_signal(&ecg::read(text.as_slice(), &options).unwrap());
    let error = ecg::read(b"hello".as_slice(), &options).unwrap_err().to_string();
    assert!(error.starts_with("No line of the file holds numbers"), "{error}");
}
