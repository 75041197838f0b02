//! Reader for the leads of EDF, EDF+ and BDF files.
//!
//! Formats: B. Kemp, A. Värri, A. C. Rosa, K. D. Nielsen and J. Gade, "A simple format for exchange of
//! digitized polygraphic recordings", Electroencephalography and Clinical Neurophysiology 82, 1992, 391-393;
//! B. Kemp and J. Olivan, "European data format 'plus' (EDF+)", Clinical Neurophysiology 114, 2003,
//! 1755-1761. BDF uses three bytes per sample.
//!
//! The reader is custom because it reads signals of a stream in bounded memory, splits them at gaps and never
//! reads the patient fields; published crates load whole files. Damaged headers are errors; a truncated
//! file is read up to its last whole record.

mod error;
mod header;
pub mod writer;

use std::io::Read;

pub use error::ReadError;
use header::{Header, Signal};

use crate::csv::{LeadChoice, MAX_RATE_HZ, MIN_DURATION_S, MIN_RATE_HZ};
use crate::leads::{self, SignalKind};
use crate::recording::{Lead, Recording};
use crate::strip::{RowCounts, Segment, Strip, Warning};
use crate::units::{self, PLAUSIBLE_SWING_MV, VoltageUnit};

/// Length in seconds of a gap at which the clock runs backwards. The true length is unknown.
const UNKNOWN_GAP_S: f64 = 1.0;
/// Limit in segments, so that a file full of gaps cannot exhaust memory.
const MAX_SEGMENTS: usize = 10_000;

/// Settings of the reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The signal to read; if not given, the first that is named like an ECG, and I and II before others.
    pub lead: Option<LeadChoice>,
    /// Limit in samples. A sample takes four bytes of memory. If the leads have more samples than this in total,
    /// only the selected one is kept.
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
pub fn read(reader: impl Read, options: &Options) -> Result<Strip, ReadError> {
    Ok(read_leads(reader, options, false)?.into_selected())
}

/// Reads all leads of an EDF, EDF+ or BDF file: the signals that are named like an ECG, and the requested one.
/// Leads without a signal are left out with a warning.
///
/// # Errors
/// Returns a [`ReadError`] if the file is not a usable ECG, or if a requested lead is not usable.
pub fn read_recording(reader: impl Read, options: &Options) -> Result<Recording, ReadError> {
    read_leads(reader, options, true)
}

fn read_leads(mut reader: impl Read, options: &Options, all: bool) -> Result<Recording, ReadError> {
    let header = Header::read(&mut reader)?;
    let selected = choose(&header, options.lead.as_ref())?;
    let is_lead = |index: usize| {
        index == selected
            || all
                && header.signals.get(index).is_some_and(|signal| {
                    signal.kind() < SignalKind::Unknown && is_plausible(header.rate_hz(signal))
                })
    };
    let indices: Vec<usize> = (0..header.signals.len()).filter(|&index| is_lead(index)).collect();
    let names = indices.iter().map(|&index| header.signals.get(index).and_then(Signal::name)).collect();
    let mut leads = Vec::with_capacity(indices.len());
    for (&index, name) in indices.iter().zip(leads::unique_names(names)) {
        let signal = header.signals.get(index).ok_or(ReadError::NoEcg)?;
        let rate_hz = header.rate_hz(signal);
        if !is_plausible(rate_hz) {
            return Err(ReadError::ImplausibleRate { rate_hz });
        }
        let before: usize = header.signals.iter().take(index).map(|signal| signal.samples).sum();
        let width = header.kind.width();
        leads.push(LeadReader {
            signal,
            name,
            is_selected: index == selected,
            start: before * width,
            end: (before + signal.samples) * width,
            builder: SegmentBuilder::new(rate_hz, header.record_s),
        });
    }
    let mut left_out = Vec::new();
    let mut record = Vec::new();
    let mut records = 0u64;
    while header.records.is_none_or(|count| records < count) {
        record.clear();
        // Memory grows with the content of the file, not with the size that its header claims.
        (&mut reader).take(header.record_bytes() as u64).read_to_end(&mut record)?;
        if record.len() < header.record_bytes() {
            break;
        }
        let onset_s = header.onset_s(&record).unwrap_or(records as f64 * header.record_s);
        let total = |leads: &[LeadReader<'_>]| -> usize {
            leads.iter().map(|lead| lead.builder.count + lead.signal.samples).sum()
        };
        if leads.len() > 1 && total(&leads) > options.max_samples {
            left_out = leads.extract_if(.., |lead| !lead.is_selected).filter_map(|lead| lead.name).collect();
        }
        if total(&leads) > options.max_samples {
            return Err(ReadError::TooLong { limit: options.max_samples });
        }
        for LeadReader { signal, start, end, builder, .. } in &mut leads {
            let bytes = record.get(*start..*end).unwrap_or_default();
            let samples = bytes.chunks_exact(header.kind.width());
            builder.add(onset_s, samples.map(|sample| signal.value(sample)))?;
        }
        records += 1;
    }
    let cut = (header.records.is_some_and(|count| records < count)
        || !record.is_empty() && record.len() < header.record_bytes())
    .then_some(records);
    finish(&header, leads, options, &left_out, cut)
}

fn is_plausible(rate_hz: f64) -> bool {
    (MIN_RATE_HZ..=MAX_RATE_HZ).contains(&rate_hz)
}

/// A lead while it is read.
struct LeadReader<'a> {
    signal: &'a Signal,
    name: Option<String>,
    is_selected: bool,
    /// Position of the samples in a record, in bytes.
    start: usize,
    end: usize,
    builder: SegmentBuilder,
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

/// Index of the signal to read.
fn choose(header: &Header, choice: Option<&LeadChoice>) -> Result<usize, ReadError> {
    let ordinary = || header.signals.iter().enumerate().filter(|(_, signal)| !signal.is_annotation());
    let (index, _) = match choice {
        Some(LeadChoice::Index(wanted)) => {
            let count = ordinary().count();
            ordinary().nth(*wanted).ok_or(ReadError::NoSignalAt { wanted: *wanted, count })?
        }
        Some(LeadChoice::Name(wanted)) => named(header, wanted).ok_or_else(|| ReadError::NoSuchSignal {
            wanted: wanted.clone(),
            available: labels(header, &[]).join(", "),
        })?,
        None => ordinary()
            .filter(|(_, signal)| signal.kind() < SignalKind::Unknown)
            .min_by_key(|(_, signal)| signal.kind())
            .or_else(|| {
                let only = ordinary().next().filter(|_| ordinary().count() == 1);
                only.filter(|(_, signal)| signal.kind() == SignalKind::Unknown)
            })
            .ok_or_else(|| match ordinary().next() {
                Some(_) => ReadError::NoEcgAmong { available: labels(header, &[]).join(", ") },
                None => ReadError::NoEcg,
            })?,
    };
    Ok(index)
}

/// The signal of a name: the name in the file, or the one that makes leads of the same name unique.
fn named<'a>(header: &'a Header, wanted: &str) -> Option<(usize, &'a Signal)> {
    let ordinary = || header.signals.iter().enumerate().filter(|(_, signal)| !signal.is_annotation());
    let by_label = ordinary().find(|(_, signal)| signal.matches_name(wanted));
    by_label.or_else(|| {
        let leads = || ordinary().filter(|(_, signal)| signal.kind() < SignalKind::Unknown);
        let names = leads::unique_names(leads().map(|(_, signal)| signal.name()).collect());
        let same = |name: &Option<String>| {
            name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(wanted.trim()))
        };
        let at = names.iter().position(same)?;
        leads().nth(at)
    })
}

/// Names of up to 16 signals that are not among `but`.
fn labels(header: &Header, but: &[&Signal]) -> Vec<String> {
    let is_other =
        |signal: &&Signal| !signal.is_annotation() && !but.iter().any(|read| std::ptr::eq(*read, *signal));
    header.signals.iter().filter(is_other).map(|signal| signal.label.clone()).take(16).collect()
}

fn finish(
    header: &Header,
    readers: Vec<LeadReader<'_>>,
    options: &Options,
    left_out: &[String],
    cut: Option<u64>,
) -> Result<Recording, ReadError> {
    let mut shared = Vec::new();
    let mut warn = |code, message| shared.push(Warning { code, message });
    if let Some(records) = cut {
        warn("file_cut", format!("The file ends early: only {records} data records are whole."));
    }
    if readers.iter().any(|reader| reader.builder.backward > 0) {
        warn(
            "time_backward",
            "The time goes backwards: the strip is split there, and how much is missing is not known."
                .to_owned(),
        );
    }
    let read: Vec<&Signal> = readers.iter().map(|reader| reader.signal).collect();
    let mut other_signals = labels(header, &read);
    if !other_signals.is_empty() {
        let names: Vec<&str> = read.iter().map(|signal| signal.label.as_str()).take(16).collect();
        let was = if names.len() == 1 { "was" } else { "were" };
        warn(
            "other_leads",
            format!(
                "The file has several signals: {} {was} read, not {}.",
                names.join(", "),
                other_signals.join(", ")
            ),
        );
    }
    if !left_out.is_empty() {
        warn(
            "lead_left_out",
            format!(
                "The leads have more than {} samples in total, so {} {} left out.",
                options.max_samples,
                left_out.join(", "),
                if left_out.len() == 1 { "is" } else { "are" }
            ),
        );
    }
    let is_requested = options.lead.is_some();
    let mut leads: Vec<Lead> = Vec::with_capacity(readers.len());
    let (mut selected, mut selected_error) = (None, None);
    for reader in readers {
        let (is_selected, name) = (reader.is_selected, reader.name.clone().unwrap_or_default());
        match lead(reader) {
            Ok(lead) => {
                if is_selected {
                    selected = Some(leads.len());
                }
                leads.push(lead);
            }
            Err(error) if is_selected && is_requested => return Err(error),
            Err(error) => {
                let message = format!("Lead {name} is left out. {error}");
                shared.push(Warning { code: "lead_left_out", message });
                other_signals.push(name);
                if is_selected {
                    selected_error = Some(error);
                }
            }
        }
    }
    if leads.is_empty() {
        return Err(selected_error.unwrap_or(ReadError::NoEcg));
    }
    for lead in &mut leads {
        let own = std::mem::take(&mut lead.strip.warnings);
        lead.strip.warnings = own.into_iter().chain(shared.iter().cloned()).collect();
        let strip = &mut lead.strip;
        let missing_s: f64 = strip.gaps().map(|gap| gap.end_s - gap.start_s).sum();
        if strip.segments.len() > 1 && !strip.warnings.iter().any(|warning| warning.code == "time_backward") {
            let places = strip.segments.len() - 1;
            let message = format!("{missing_s:.2} s of the recording are missing at {places} places.");
            strip.warnings.push(Warning { code: "time_gap", message });
        }
    }
    Ok(Recording { leads, selected: selected.unwrap_or(0), is_requested, other_signals })
}

/// Builds a lead. Its warnings are those of the lead alone.
fn lead(reader: LeadReader<'_>) -> Result<Lead, ReadError> {
    let LeadReader { signal, name, builder, .. } = reader;
    let SegmentBuilder { rate_hz, mut segments, count, .. } = builder;
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
    let file_unit = VoltageUnit::from_symbol(&signal.unit);
    let unit = file_unit.unwrap_or_else(|| {
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
    let rows = RowCounts { used: count as u64, ..RowCounts::default() };
    Ok(Lead { strip: Strip { sample_rate_hz: rate_hz, lead: name, segments, warnings, rows }, file_unit })
}

impl Signal {
    /// Name of the lead, if the signal has one.
    fn name(&self) -> Option<String> {
        Some(self.lead_name().to_owned()).filter(|name| !name.is_empty())
    }

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
