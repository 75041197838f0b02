//! EDF headers, and the record times of EDF+.

use std::io::Read;

use super::ReadError;
use crate::leads::{self, SignalKind};

/// Size in bytes of the fixed part, and of the part of each signal.
const PART_BYTES: usize = 256;
/// Limit in signals. The largest recordings have a few hundred.
const MAX_SIGNALS: usize = 4096;
/// Limit in bytes per record. The format recommends at most 61,440.
const MAX_RECORD_BYTES: usize = 64 << 20;
/// File format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Edf,
    Bdf,
}

impl Kind {
    /// Detects the format from the first bytes: the version, and a header size that fits the number of
    /// signals.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let kind = match head.get(..8)? {
            b"0       " => Kind::Edf,
            b"\xffBIOSEMI" => Kind::Bdf,
            _ => return None,
        };
        let size: usize = ascii(head.get(184..192)?).parse().ok()?;
        let signals: usize = ascii(head.get(252..256)?).parse().ok()?;
        (size == signals.checked_add(1)?.checked_mul(PART_BYTES)?).then_some(kind)
    }

    /// Bytes per sample.
    pub(super) fn width(self) -> usize {
        match self {
            Kind::Edf => 2,
            Kind::Bdf => 3,
        }
    }
}

/// Contents of the header except for the patient fields.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Number of records, if the recorder wrote it.
    pub(super) records: Option<u64>,
    /// Duration of a record in seconds.
    pub(super) record_s: f64,
    pub(super) signals: Vec<Signal>,
    /// Whether there may be gaps between records.
    discontinuous: bool,
}

/// Header of one signal.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) label: String,
    pub(super) unit: String,
    pub(super) physical_min: f64,
    pub(super) digital_min: f64,
    /// Physical units per digital step.
    pub(super) gain: f64,
    /// Samples per record.
    pub(super) samples: usize,
}

impl Header {
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, ReadError> {
        let mut fixed = Vec::with_capacity(PART_BYTES);
        reader.take(PART_BYTES as u64).read_to_end(&mut fixed)?;
        let kind = Kind::of(&fixed).ok_or(ReadError::NotEdf)?;
        let field = |from: usize, to: usize| ascii(fixed.get(from..to).unwrap_or_default());
        let count: usize =
            field(252, 256).parse().map_err(|_| damaged("it does not say how many signals there are"))?;
        if count > MAX_SIGNALS {
            return Err(damaged("it states more than 4096 signals"));
        }
        let record_s: f64 =
            field(244, 252).parse().map_err(|_| damaged("it does not say how long a data record is"))?;
        if !record_s.is_finite() || record_s <= 0.0 {
            return Err(damaged("it gives the data records no length"));
        }
        let mut rest = Vec::new();
        reader.take((count * PART_BYTES) as u64).read_to_end(&mut rest)?;
        if rest.len() < count * PART_BYTES {
            return Err(damaged("it ends before its last signal"));
        }
        let signals =
            (0..count).map(|index| Signal::of(&rest, index, count)).collect::<Result<Vec<_>, _>>()?;
        let header = Header {
            kind,
            records: field(236, 244).parse().ok(),
            record_s,
            signals,
            discontinuous: field(192, 236).starts_with("EDF+D") || field(192, 236).starts_with("BDF+D"),
        };
        if header.record_bytes() == 0 || header.record_bytes() > MAX_RECORD_BYTES {
            return Err(damaged("its data records have an impossible size"));
        }
        Ok(header)
    }

    /// Samples per second of a signal.
    pub(super) fn rate_hz(&self, signal: &Signal) -> f64 {
        signal.samples as f64 / self.record_s
    }

    pub(super) fn record_bytes(&self) -> usize {
        self.signals.iter().map(|signal| signal.samples * self.kind.width()).sum()
    }

    /// Start time of a record of a discontinuous file: the first time in its annotations.
    pub(super) fn onset_s(&self, record: &[u8]) -> Option<f64> {
        if !self.discontinuous {
            return None;
        }
        let index = self.signals.iter().position(Signal::is_annotation)?;
        let width = self.kind.width();
        let start: usize = self.signals.iter().take(index).map(|signal| signal.samples * width).sum();
        let bytes = record.get(start..start + self.signals.get(index)?.samples * width)?;
        // A time-keeping annotation has a time, no duration and no text: `+12.5` 0x14 0x14 0x00.
        let end = bytes.iter().position(|&byte| byte == 0x14)?;
        let onset: f64 = ascii(bytes.get(..end)?).parse().ok()?;
        onset.is_finite().then_some(onset)
    }
}

impl Signal {
    /// Fields are interleaved: the labels of all signals, then all transducers, and so on.
    fn of(rest: &[u8], index: usize, count: usize) -> Result<Self, ReadError> {
        let field = |before: usize, width: usize| {
            let start = before * count + index * width;
            ascii(rest.get(start..start + width).unwrap_or_default())
        };
        let label = field(0, 16);
        let number = |before: usize, what: &str| -> Result<f64, ReadError> {
            let text = field(before, 8);
            // Some writers use a decimal comma.
            let value: Option<f64> =
                text.replace(',', ".").parse().ok().filter(|value: &f64| value.is_finite());
            value.ok_or_else(|| damaged(&format!("signal {label:?} has no {what}")))
        };
        let (physical_min, physical_max) =
            (number(104, "physical minimum")?, number(112, "physical maximum")?);
        let (digital_min, digital_max) = (number(120, "digital minimum")?, number(128, "digital maximum")?);
        let samples: usize = field(216, 8)
            .parse()
            .ok()
            .filter(|&samples| samples <= MAX_RECORD_BYTES)
            .ok_or_else(|| damaged(&format!("signal {label:?} has no number of samples")))?;
        let signal = Signal {
            unit: field(96, 8),
            gain: (physical_max - physical_min) / (digital_max - digital_min),
            label,
            physical_min,
            digital_min,
            samples,
        };
        if !signal.is_annotation() && (!signal.gain.is_finite() || signal.gain == 0.0) {
            return Err(damaged(&format!("signal {:?} has an empty range", signal.label)));
        }
        Ok(signal)
    }

    pub(super) fn is_annotation(&self) -> bool {
        self.label == "EDF Annotations" || self.label == "BDF Annotations" || self.label == "Status"
    }

    /// `MLII` for `ECG MLII`.
    pub(super) fn lead_name(&self) -> &str {
        self.label
            .strip_prefix("ECG ")
            .or_else(|| self.label.strip_prefix("EKG "))
            .unwrap_or(&self.label)
            .trim()
    }

    pub(super) fn matches_name(&self, name: &str) -> bool {
        let name = name.trim();
        self.label.eq_ignore_ascii_case(name) || self.lead_name().eq_ignore_ascii_case(name)
    }

    pub(super) fn kind(&self) -> SignalKind {
        leads::kind_of(&self.label)
    }
}

fn damaged(what: &str) -> ReadError {
    ReadError::Header { what: what.to_owned() }
}

/// Text of a field. Bytes that are not ASCII are read as Latin-1, in which the micro sign is 0xB5.
fn ascii(bytes: &[u8]) -> String {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0').to_owned()
}
