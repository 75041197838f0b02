//! Reader for one signal of EDF, EDF+ and BDF files.
//!
//! Formats: B. Kemp, A. Värri, A. C. Rosa, K. D. Nielsen and J. Gade, "A simple format for exchange of
//! digitized polygraphic recordings", Electroencephalography and Clinical Neurophysiology 82, 1992, 391-393;
//! B. Kemp and J. Olivan, "European data format 'plus' (EDF+)", Clinical Neurophysiology 114, 2003,
//! 1755-1761. BDF uses three bytes per sample.
//!
//! The reader is custom because it reads one signal of a stream in bounded memory, splits it at gaps and
//! never reads the patient fields; published crates load whole files. Damaged headers are errors; a truncated
//! file is read up to its last whole record.

mod error;
mod header;

use std::io::Read;

pub use error::ReadError;
use header::{Header, Signal};

use crate::csv::{LeadChoice, MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ};
use crate::strip::{RowCounts, Segment, Strip, Warning};
use crate::units::{self, PLAUSIBLE_SWING_MV, VoltageUnit};

/// Length in seconds of a gap at which the clock runs backwards. The true length is unknown.
const UNKNOWN_GAP_S: f64 = 1.0;
/// Limit in segments, so that a file full of gaps cannot exhaust memory.
const MAX_SEGMENTS: usize = 10_000;

/// Settings of the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The signal to read; if not given, the first that is named like an ECG.
    pub lead: Option<LeadChoice>,
    /// Limit in samples. A sample takes four bytes of memory.
    pub max_samples: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { lead: None, max_samples: 100_000_000 }
    }
}

/// Whether a file with these first 256 bytes is EDF or BDF.
#[must_use]
pub fn is_edf(head: &[u8]) -> bool {
    header::Kind::of(head).is_some()
}

/// Reads one signal of an EDF, EDF+ or BDF file. Gaps of a discontinuous file separate segments.
///
/// # Errors
/// Returns a [`ReadError`] if the file is not a usable ECG.
pub fn read(mut reader: impl Read, options: &Options) -> Result<Strip, ReadError> {
    let header = Header::read(&mut reader)?;
    let (chosen, offset) = choose(&header, options.lead.as_ref())?;
    let signal = header.signals.get(chosen).ok_or(ReadError::NoEcg)?;
    let rate_hz = signal.samples as f64 / header.record_s;
    if !(MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz) {
        return Err(ReadError::ImplausibleRate { rate_hz });
    }
    let mut builder = SegmentBuilder::new(rate_hz, header.record_s);
    let mut record = Vec::new();
    let mut records = 0u64;
    let width = header.kind.width();
    let start = offset * width;
    let end = start + signal.samples * width;
    while header.records.is_none_or(|count| records < count) {
        record.clear();
        // Memory grows with the content of the file, not with the size that its header claims.
        (&mut reader).take(header.record_bytes() as u64).read_to_end(&mut record)?;
        if record.len() < header.record_bytes() {
            break;
        }
        let onset_s = header.onset_s(&record).unwrap_or(records as f64 * header.record_s);
        if builder.count + signal.samples > options.max_samples {
            return Err(ReadError::TooLong { limit: options.max_samples });
        }
        let bytes = record.get(start..end).unwrap_or_default();
        builder.add(onset_s, bytes.chunks_exact(width).map(|sample| signal.value(sample)))?;
        records += 1;
    }
    let cut = (header.records.is_some_and(|count| records < count)
        || !record.is_empty() && record.len() < header.record_bytes())
    .then_some(records);
    finish(&header, chosen, builder, cut)
}

/// Collects records into segments.
struct SegmentBuilder {
    rate_hz: f64,
    record_s: f64,
    segments: Vec<Segment>,
    count: usize,
    /// Expected start of the next record by the clock of the file.
    expected_onset_s: f64,
    /// Offset from file time to strip time.
    shift_s: f64,
    backward: u64,
}

impl SegmentBuilder {
    fn new(rate_hz: f64, record_s: f64) -> Self {
        SegmentBuilder {
            rate_hz,
            record_s,
            segments: Vec::new(),
            count: 0,
            expected_onset_s: 0.0,
            shift_s: 0.0,
            backward: 0,
        }
    }

    fn add(&mut self, onset_s: f64, values: impl Iterator<Item = f32>) -> Result<(), ReadError> {
        let off_s = onset_s - self.expected_onset_s;
        let continues = !self.segments.is_empty() && off_s.abs() < 1.0 / self.rate_hz;
        if !continues {
            if self.segments.len() >= MAX_SEGMENTS {
                return Err(ReadError::TooManyGaps { limit: MAX_SEGMENTS });
            }
            match self.segments.last() {
                None => self.shift_s = -onset_s,
                Some(last) if off_s < 0.0 => {
                    self.backward += 1;
                    let end_s = last.start_s + last.samples.len() as f64 / self.rate_hz;
                    self.shift_s = end_s + UNKNOWN_GAP_S - onset_s;
                }
                Some(_) => {}
            }
            self.segments.push(Segment { start_s: onset_s + self.shift_s, samples: Vec::new() });
        }
        if let Some(segment) = self.segments.last_mut() {
            let before = segment.samples.len();
            segment.samples.extend(values);
            self.count += segment.samples.len() - before;
        }
        self.expected_onset_s = onset_s + self.record_s;
        Ok(())
    }
}

/// Index of the signal to read, and the number of samples before it in a record.
fn choose(header: &Header, choice: Option<&LeadChoice>) -> Result<(usize, usize), ReadError> {
    let ordinary = || header.signals.iter().enumerate().filter(|(_, signal)| !signal.is_annotation());
    let found = match choice {
        Some(LeadChoice::Index(wanted)) => {
            let count = ordinary().count();
            ordinary().nth(*wanted).ok_or(ReadError::NoSignalAt { wanted: *wanted, count })?
        }
        Some(LeadChoice::Name(wanted)) => {
            ordinary().find(|(_, signal)| signal.matches_name(wanted)).ok_or_else(|| {
                ReadError::NoSuchSignal { wanted: wanted.clone(), available: labels(header, usize::MAX) }
            })?
        }
        None => ordinary()
            .find(|(_, signal)| signal.is_ecg())
            .or_else(|| ordinary().next().filter(|_| ordinary().count() == 1))
            .ok_or_else(|| match ordinary().next() {
                Some(_) => ReadError::NoEcgAmong { available: labels(header, usize::MAX) },
                None => ReadError::NoEcg,
            })?,
    };
    let before = header.signals.iter().take(found.0).map(|signal| signal.samples).sum();
    Ok((found.0, before))
}

/// Names of up to 16 signals other than `but`.
fn labels(header: &Header, but: usize) -> String {
    let others =
        header.signals.iter().enumerate().filter(|(index, signal)| *index != but && !signal.is_annotation());
    let names: Vec<&str> = others.map(|(_, signal)| signal.label.as_str()).take(16).collect();
    names.join(", ")
}

fn finish(
    header: &Header,
    chosen: usize,
    builder: SegmentBuilder,
    cut: Option<u64>,
) -> Result<Strip, ReadError> {
    let signal = header.signals.get(chosen).ok_or(ReadError::NoEcg)?;
    let SegmentBuilder { rate_hz, mut segments, count, backward, .. } = builder;
    segments.retain(|segment| !segment.samples.is_empty());
    let duration_s = count as f64 / rate_hz;
    if duration_s < MIN_DURATION_S {
        return Err(ReadError::TooShort { duration_s });
    }
    let (low, high) = segments
        .iter()
        .map(|segment| units::extremes(&segment.samples))
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), (other_low, other_high)| {
            (low.min(other_low), high.max(other_high))
        });
    if low >= high {
        return Err(ReadError::Constant { value: f64::from(low) });
    }
    let mut warnings = Vec::new();
    let mut warn = |code, message| warnings.push(Warning { code, message });
    let window = (2.0 * rate_hz) as usize;
    let swing = units::typical_swing(segments.iter().map(|segment| segment.samples.as_slice()), window);
    let swing = if swing > 0.0 { swing } else { f64::from(high) - f64::from(low) };
    let unit = VoltageUnit::from_symbol(&signal.unit).unwrap_or_else(|| {
        let inferred = VoltageUnit::inferred_from(swing);
        warn(
            "unit_assumed",
            format!(
                "The file names no unit of voltage; for values from {low} to {high}, {} were assumed.",
                inferred.name()
            ),
        );
        inferred
    });
    let factor = unit.to_millivolt() as f32;
    if factor != 1.0 {
        segments
            .iter_mut()
            .flat_map(|segment| segment.samples.iter_mut())
            .for_each(|sample| *sample *= factor);
    }
    if !PLAUSIBLE_SWING_MV.contains(&(swing * unit.to_millivolt())) {
        warn("range_unusual", format!("Values from {low} to {high} {} are unusual for an ECG.", unit.name()));
    }
    if let Some(records) = cut {
        warn("file_cut", format!("The file ends early: only {records} data records are whole."));
    }
    if backward > 0 {
        warn(
            "time_backward",
            "The time goes backwards: the strip is split there, and how much is missing is not known."
                .to_owned(),
        );
    }
    let others = labels(header, chosen);
    if !others.is_empty() {
        warn(
            "other_leads",
            format!("The file has several signals: {} was read, not {others}.", signal.label),
        );
    }
    let mut strip = Strip {
        sample_rate_hz: rate_hz,
        lead: Some(signal.lead_name().to_owned()).filter(|name| !name.is_empty()),
        segments,
        warnings,
        rows: RowCounts { used: count as u64, ..RowCounts::default() },
    };
    let missing_s: f64 = strip.gaps().map(|gap| gap.end_s - gap.start_s).sum();
    if strip.segments.len() > 1 && backward == 0 {
        let message =
            format!("{missing_s:.2} s of the recording are missing at {} places.", strip.segments.len() - 1);
        strip.warnings.push(Warning { code: "time_gap", message });
    }
    Ok(strip)
}

impl Signal {
    /// The value of a sample in the unit of the signal.
    fn value(&self, bytes: &[u8]) -> f32 {
        let digital = match *bytes {
            [low, high] => i32::from(i16::from_le_bytes([low, high])),
            [low, middle, high] => i32::from_le_bytes([0, low, middle, high]) >> 8,
            _ => 0,
        };
        ((f64::from(digital) - self.digital_min) * self.gain + self.physical_min) as f32
    }
}
