//! Writer for WFDB records: a header, and samples in format 16.
//!
//! Samples are written as they are. A missing sample is -32768, as signal(5) defines for format 16. WFDB allows only
//! whole numbers as the sample value of physical zero, so the exact scale and offset of each signal are comments of the
//! header.

use std::fmt::Write;

/// A signal of a record to write. The value of a sample is `sample * scale + offset`.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSignal {
    /// Name, such as `II`.
    pub label: String,
    /// Physical unit, such as `mV`.
    pub unit: String,
    /// Physical units per step.
    pub scale: f64,
    /// Physical value of sample 0.
    pub offset: f64,
}

/// Date and time in UTC, for file headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartTime {
    /// Year, month and day.
    pub date: (u16, u8, u8),
    /// Hour, minute and second.
    pub time: (u8, u8, u8),
    /// Microseconds within the second.
    pub micros: u32,
}

/// First sample, and sum of all samples, of a signal; the header contains both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    initial: Option<i16>,
    sum: i16,
}

impl Checksum {
    /// Adds samples, in order.
    pub fn add(&mut self, samples: &[i16]) {
        self.initial = self.initial.or(samples.first().copied());
        self.sum = samples.iter().fold(self.sum, |sum, sample| sum.wrapping_add(*sample));
    }
}

/// Returns the text of a header.
///
/// `name` is the name of the record; the samples are in the file `name.dat`. It must consist of ASCII letters, digits,
/// hyphens and underscores. `rate` is the sample rate as numerator and denominator in Hz, `samples` the number of
/// samples of each signal. There is one checksum per signal.
#[must_use]
pub fn header(
    name: &str,
    rate: (u32, u32),
    samples: u64,
    start: StartTime,
    signals: &[OutputSignal],
    checksums: &[Checksum],
) -> String {
    let hz = f64::from(rate.0) / f64::from(rate.1.max(1));
    let StartTime { date: (year, month, day), time: (hour, minute, second), micros } = start;
    let mut text = format!(
        "{name} {} {hz} {samples} {hour:02}:{minute:02}:{second:02}.{micros:06} {day:02}/{month:02}/{year:04}\n",
        signals.len()
    );
    for (signal, checksum) in signals.iter().zip(checksums) {
        let OutputSignal { label, unit, scale, offset } = signal;
        let (gain, baseline) = (1.0 / scale, (-offset / scale).round());
        let unit: String = unit.split_whitespace().collect::<Vec<_>>().join("_");
        let (initial, sum) = (checksum.initial.unwrap_or(0), checksum.sum);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}.dat 16 {gain}({baseline})/{unit} 16 0 {initial} {sum} 0 {label}");
    }
    for OutputSignal { label, unit, scale, offset } in signals {
        let _ = writeln!(text, "# {label}: value in {unit} = sample * {scale} + {offset}");
    }
    text
}

/// Returns the bytes of samples: those of all signals of the first frame, then those of the second, and so on. All
/// signals have the same number of samples.
#[must_use]
pub fn samples(signals: &[Vec<i16>]) -> Vec<u8> {
    let frames = signals.iter().map(Vec::len).min().unwrap_or(0);
    let mut bytes = Vec::with_capacity(frames * signals.len() * 2);
    for frame in 0..frames {
        signals.iter().for_each(|signal| bytes.extend(signal[frame].to_le_bytes()));
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{Header, signal};
    use super::*;

    #[test]
    fn written_record_is_read_with_the_same_samples() {
        let lead = |label: &str, scale, offset| OutputSignal {
            label: label.to_owned(),
            unit: "mV".to_owned(),
            scale,
            offset,
        };
        let signals = [lead("II", 0.005, -0.25), lead("V", -0.001, 0.0)];
        let values: [Vec<i16>; 2] = [vec![50, -32_768, 32_767, -32_767, 0, 7], vec![1, 2, 3, -4, 5, -32_768]];
        let mut checksums = [Checksum::default(); 2];
        for (checksum, values) in checksums.iter_mut().zip(&values) {
            checksum.add(&values[..2]);
            checksum.add(&values[2..]);
        }
        let start = StartTime { date: (2026, 3, 14), time: (15, 9, 26), micros: 535_000 };
        let text = header("7-a", (24_989, 400), 6, start, &signals, &checksums);
        assert!(text.starts_with("7-a 2 62.4725 6 15:09:26.535000 14/03/2026\n"), "{text}");
        let read = Header::parse(&text).unwrap();
        assert_eq!((read.frame_rate_hz, read.frames), (62.4725, Some(6)));
        let bytes = samples(&values);
        for ((index, output), values) in signals.iter().enumerate().zip(&values) {
            assert_eq!(read.signals[index].description.as_deref(), Some(output.label.as_str()));
            let found = signal(&read, index, &bytes).unwrap();
            for (found, sample) in found.iter().zip(values) {
                let expected = f64::from(*sample) * output.scale + output.offset;
                assert_eq!(found.is_nan(), *sample == i16::MIN);
                assert!(found.is_nan() || (f64::from(*found) - expected).abs() < 1e-4, "{found} {expected}");
            }
        }
    }
}
