//! Writer for EDF+ files.
//!
//! Samples are written as they are. EDF+ has no missing samples: they are written as -32768, the lowest digital value,
//! and an annotation states where they are. A data record without any sample is left out; the file is then
//! discontinuous (EDF+D). Format: B. Kemp and J. Olivan, "European data format 'plus' (EDF+)", Clinical Neurophysiology
//! 114, 2003, 1755-1761.

use std::fmt::Write;

use crate::wfdb::writer::{OutputSignal, StartTime};

/// Samples of two bytes of the annotations of a data record.
const ANNOTATION_SAMPLES: usize = 60;
/// Largest size of a data record, in bytes. A program reads a whole record at once.
const MAX_RECORD_BYTES: usize = 10 << 20;
/// The digital value of a missing sample.
const MISSING: i16 = i16::MIN;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The sample rate cannot be written: a data record must have a whole number of samples, in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "EDF+ cannot represent {0}/{1} Hz exactly: a data record would have more than {MAX_RECORD_BYTES} bytes"
)]
pub struct RateError(u32, u32);

/// An EDF+ file. All signals have the same sample rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Writer {
    signals: Vec<OutputSignal>,
    start: StartTime,
    record_s: u32,
    record_samples: usize,
}

impl Writer {
    /// Starts a file. `rate` is the sample rate as numerator and denominator in Hz.
    ///
    /// # Errors
    /// When the rate has no data records of a reasonable size.
    pub fn new(signals: Vec<OutputSignal>, rate: (u32, u32), start: StartTime) -> Result<Self, RateError> {
        let (mut divisor, mut rest) = rate;
        while rest != 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        let divisor = divisor.max(1);
        let (record_samples, record_s) = ((rate.0 / divisor) as usize, (rate.1 / divisor).max(1));
        let bytes = record_samples.checked_mul(2 * signals.len().max(1));
        if bytes.is_none_or(|bytes| bytes > MAX_RECORD_BYTES) || record_samples == 0 {
            return Err(RateError(rate.0, rate.1));
        }
        Ok(Writer { signals, start, record_s, record_samples })
    }

    /// Samples of a signal in a data record.
    #[must_use]
    pub fn record_samples(&self) -> usize {
        self.record_samples
    }

    /// Returns the header. `patient` and `device` identify the recording; `records` is the number of data records, and
    /// `is_continuous` whether none is left out.
    #[must_use]
    pub fn header(&self, patient: &str, device: &str, records: u64, is_continuous: bool) -> Vec<u8> {
        let StartTime { date: (year, month, day), time: (hour, minute, second), .. } = self.start;
        let month_name = MONTHS[usize::from(month.clamp(1, 12)) - 1];
        let count = self.signals.len() + 1;
        let mut out = Vec::with_capacity((count + 1) * 256);
        let mut put = |width: usize, text: &str| field(&mut out, width, text);
        put(8, "0");
        put(80, &format!("{} X X X", subfield(patient)));
        put(80, &format!("Startdate {day:02}-{month_name}-{year:04} X X {}", subfield(device)));
        put(8, &format!("{day:02}.{month:02}.{:02}", year % 100));
        put(8, &format!("{hour:02}.{minute:02}.{second:02}"));
        put(8, &((count + 1) * 256).to_string());
        put(44, if is_continuous { "EDF+C" } else { "EDF+D" });
        put(8, &records.to_string());
        put(8, &self.record_s.to_string());
        put(4, &count.to_string());
        let mut each = |width: usize, of: &dyn Fn(&OutputSignal) -> String, of_annotations: &str| {
            self.signals.iter().for_each(|signal| put(width, &of(signal)));
            put(width, of_annotations);
        };
        let physical =
            |signal: &OutputSignal, digital: i16| number(f64::from(digital) * signal.scale + signal.offset);
        each(16, &|signal| signal.label.clone(), "EDF Annotations");
        each(80, &|_| String::new(), "");
        each(8, &|signal| signal.unit.clone(), "");
        each(8, &|signal| physical(signal, i16::MIN), "-1");
        each(8, &|signal| physical(signal, i16::MAX), "1");
        each(8, &|_| i16::MIN.to_string(), "-32768");
        each(8, &|_| i16::MAX.to_string(), "32767");
        each(80, &|_| String::new(), "");
        each(8, &|_| self.record_samples.to_string(), &ANNOTATION_SAMPLES.to_string());
        each(32, &|_| String::new(), "");
        out
    }

    /// Returns a data record. `number` is its position in time, starting at 0. Each signal has
    /// [`Writer::record_samples`] samples.
    #[must_use]
    pub fn record(&self, number: u64, signals: &[&[i16]]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.record_samples * 2 * signals.len() + ANNOTATION_SAMPLES * 2);
        for signal in signals {
            signal.iter().for_each(|sample| bytes.extend(sample.to_le_bytes()));
        }
        let onset_us = number * u64::from(self.record_s) * 1_000_000 + u64::from(self.start.micros);
        let mut notes = format!("+{}\u{14}\u{14}\0", seconds(onset_us));
        let missing = |signal: &&[i16]| {
            let first = signal.iter().position(|sample| *sample == MISSING)?;
            Some((first, signal.iter().rposition(|sample| *sample == MISSING)? + 1))
        };
        let all = signals.iter().filter_map(missing);
        if let Some((first, end)) = all.reduce(|all, next| (all.0.min(next.0), all.1.max(next.1))) {
            let micros = |index: usize| {
                index as u64 * u64::from(self.record_s) * 1_000_000 / self.record_samples as u64
            };
            let (from, length) = (seconds(onset_us + micros(first)), seconds(micros(end) - micros(first)));
            // Writing to a string does not fail.
            let _ = write!(notes, "+{from}\u{15}{length}\u{14}Samples missing (-32768)\u{14}\0");
        }
        let mut notes = notes.into_bytes();
        notes.resize(ANNOTATION_SAMPLES * 2, 0);
        bytes.extend(notes);
        bytes
    }
}

fn seconds(micros: u64) -> String {
    let (whole, part) = (micros / 1_000_000, micros % 1_000_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:06}").trim_end_matches('0').to_owned() }
}

/// A header field: printable ASCII, filled with spaces.
fn field(out: &mut Vec<u8>, width: usize, text: &str) {
    let letters = text.chars().map(|letter| match letter {
        ' '..='~' => letter as u8,
        'µ' | 'μ' => b'u',
        _ => b'_',
    });
    let end = out.len() + width;
    out.extend(letters.take(width));
    out.resize(end, b' ');
}

/// Subfields are separated by spaces, so they have none.
fn subfield(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join("_");
    if text.is_empty() { "X".to_owned() } else { text }
}

/// A number in eight characters, as exactly as they allow.
fn number(value: f64) -> String {
    (0..8).rev().map(|digits| format!("{value:.digits$}")).find(|text| text.len() <= 8).unwrap_or_else(|| {
        // Beyond eight digits.
        if value < 0.0 { "-9999999".to_owned() } else { "99999999".to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Options, read};
    use super::*;

    fn writer(rate: (u32, u32)) -> Writer {
        let start = StartTime { date: (2026, 3, 14), time: (15, 9, 26), micros: 250_000 };
        let signal =
            OutputSignal { label: "ECG II".to_owned(), unit: "mV".to_owned(), scale: 0.001, offset: 0.5 };
        Writer::new(vec![signal], rate, start).unwrap()
    }

    #[test]
    fn written_file_is_read_with_the_same_samples() {
        let writer = writer((250, 1));
        let samples: Vec<i16> = (0..2_500).map(|index| (index * 7919 % 3_000 - 1_500) as i16).collect();
        let mut file = writer.header("7", "Simulator 3000", 10, true);
        assert_eq!(file.len(), 768);
        for (number, part) in (0..).zip(samples.chunks(writer.record_samples())) {
            file.extend(writer.record(number, &[part]));
        }
        let strip = read(&mut file.as_slice(), &Options::default()).unwrap();
        assert_eq!((strip.sample_rate_hz, strip.segments.len()), (250.0, 1));
        let steps = strip.segments[0].samples.iter().map(|value| ((f64::from(*value) - 0.5) / 0.001).round());
        assert_eq!(steps.map(|step| step as i16).collect::<Vec<_>>(), samples);
    }

    #[test]
    fn missing_samples_are_annotated_and_empty_records_left_out() {
        let writer = writer((4, 1));
        let record = writer.record(3, &[&[1, MISSING, MISSING, 4]]);
        assert_eq!(&record[..8], [1, 0, 0, 128, 0, 128, 4, 0]);
        let notes = "+3.25\u{14}\u{14}\0+3.5\u{15}0.5\u{14}Samples missing (-32768)\u{14}\0";
        assert!(record[8..].starts_with(notes.as_bytes()));
        assert!(String::from_utf8_lossy(&writer.header("7", "", 1, false)).contains("EDF+D"));
    }

    #[test]
    fn rate_that_is_a_fraction_has_records_of_whole_seconds() {
        let writer = writer((24_989, 400));
        assert_eq!((writer.record_samples(), writer.record_s), (24_989, 400));
        let signal = OutputSignal { label: String::new(), unit: String::new(), scale: 1.0, offset: 0.0 };
        let start = StartTime { date: (2026, 1, 1), time: (0, 0, 0), micros: 0 };
        assert!(Writer::new(vec![signal], (99_999_999, 1_000_000), start).is_err());
    }

    #[test]
    fn numbers_fit_into_eight_characters() {
        for (value, text) in
            [(-32.768, "-32.7680"), (0.5, "0.500000"), (-163_840.0, "-163840"), (1e9, "99999999")]
        {
            let found = number(value);
            assert!(found.len() <= 8, "{found}");
            assert!(
                (found.parse::<f64>().unwrap() - text.parse::<f64>().unwrap()).abs() < 1e-9,
                "{found} {text}"
            );
        }
    }
}
