//! The samples of a record: signal(5) of the WFDB Applications Guide.

use super::{Header, SignalSpec, WfdbError};
use crate::leads::{self, SignalKind};
use crate::recording::{Lead, Recording};
use crate::strip::Strip;
use crate::units::VoltageUnit;

/// Returns the samples of one signal in millivolts, converted from the unit in the header. Missing samples
/// are NaN.
///
/// `bytes` is the content of the file [`SignalSpec::file`]. An incomplete frame at its end is ignored.
///
/// # Errors
/// Returns an error if there is no such signal or its format is not supported.
pub fn signal(header: &Header, index: usize, bytes: &[u8]) -> Result<Vec<f32>, WfdbError> {
    let count = header.signals.len();
    let spec = header.signals.get(index).ok_or(WfdbError::NoSignal { index, count })?;
    // Signals in the same file are interleaved frame by frame.
    let group: Vec<(usize, &SignalSpec)> =
        header.signals.iter().enumerate().filter(|(_, other)| other.file == spec.file).collect();
    let frame: usize = group.iter().map(|(_, other)| other.samples_per_frame).sum();
    let first: usize =
        group.iter().take_while(|(other, _)| *other < index).map(|(_, other)| other.samples_per_frame).sum();
    let offset = group.iter().map(|(_, other)| other.byte_offset).max().unwrap_or(0);
    let bytes = bytes.get(offset..).unwrap_or_default();

    let to_millivolt = match spec.unit.trim() {
        "V" => 1000.0,
        "uV" | "µV" | "microvolt" => 0.001,
        "nV" => 1e-6,
        _ => 1.0,
    };
    let (scale, baseline) = (to_millivolt / spec.gain, spec.baseline);
    let stored = stored_samples(spec.format, bytes)?;
    let frames = (stored / frame).min(header.frames.map_or(usize::MAX, |frames| frames as usize));
    let mut out = Vec::with_capacity(frames * spec.samples_per_frame);
    let mut take = |value: i32, missing: i32| {
        let millivolt = ((f64::from(value) - baseline) * scale) as f32;
        // An absurd gain or baseline gives values that are not finite.
        out.push(if value == missing || !millivolt.is_finite() { f32::NAN } else { millivolt });
    };
    for start in (0..frames).map(|index| index * frame + first) {
        for at in start..start + spec.samples_per_frame {
            match spec.format {
                16 => take(i32::from(i16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]])), -32768),
                61 => take(i32::from(i16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]])), -32768),
                24 => {
                    let [low, middle, high] = [bytes[3 * at], bytes[3 * at + 1], bytes[3 * at + 2]];
                    take(i32::from_le_bytes([0, low, middle, high]) >> 8, -(1 << 23));
                }
                32 => {
                    let word = [bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]];
                    take(i32::from_le_bytes(word), i32::MIN);
                }
                80 => take(i32::from(bytes[at]) - 128, -128),
                _ => take(sample_212(bytes, at), -2048),
            }
        }
    }
    Ok(out)
}

/// Number of complete samples in `bytes`.
fn stored_samples(format: u32, bytes: &[u8]) -> Result<usize, WfdbError> {
    Ok(match format {
        16 | 61 => bytes.len() / 2,
        24 => bytes.len() / 3,
        32 => bytes.len() / 4,
        80 => bytes.len(),
        // Two samples take three bytes; a single last one takes two.
        212 => bytes.len() / 3 * 2 + usize::from(bytes.len() % 3 == 2),
        other => return Err(WfdbError::Format(other)),
    })
}

/// Format 212: the first and the third byte are the low bytes of two samples; the second contains both high
/// nibbles.
fn sample_212(bytes: &[u8], at: usize) -> i32 {
    let start = at / 2 * 3;
    let nibbles = i32::from(bytes[start + 1]);
    let value = if at.is_multiple_of(2) {
        i32::from(bytes[start]) | (nibbles & 0x0f) << 8
    } else {
        i32::from(bytes[start + 2]) | (nibbles & 0xf0) << 4
    };
    if value >= 2048 { value - 4096 } else { value }
}

/// Returns one signal of a record as a strip, split at gaps ([`Strip::from_samples_with_gaps`]).
///
/// # Errors
/// Returns an error if there is no such signal or its format is not supported.
pub fn strip(header: &Header, index: usize, bytes: &[u8]) -> Result<Strip, WfdbError> {
    let samples = signal(header, index, bytes)?;
    let spec = &header.signals[index];
    let rate = header.sample_rate_hz(spec);
    let mut strip = Strip::from_samples_with_gaps(rate, samples);
    strip.lead = spec.description.clone();
    Ok(strip)
}

/// Returns all leads of a record: the signals that are named like leads of an ECG, or all signals if none is. A
/// signal that is named otherwise, such as `RESP`, is no lead.
///
/// `content` returns the content of a signal file by its name in the header.
///
/// # Errors
/// Returns an error if the record has no lead, if a file is not available, or if a format is not supported.
pub fn recording<'a>(
    header: &Header,
    mut content: impl FnMut(&str) -> Option<&'a [u8]>,
) -> Result<Recording, WfdbError> {
    let kind = |spec: &SignalSpec| spec.description.as_deref().map_or(SignalKind::Unknown, leads::kind_of);
    let is_named = header.signals.iter().any(|spec| kind(spec) < SignalKind::Unknown);
    let last = if is_named { SignalKind::Lead } else { SignalKind::Unknown };
    let (chosen, others): (Vec<_>, Vec<_>) =
        header.signals.iter().enumerate().partition(|(_, spec)| kind(spec) <= last);
    let names = chosen.iter().map(|(_, spec)| spec.description.clone()).collect();
    let mut leads = Vec::with_capacity(chosen.len());
    for ((index, spec), name) in chosen.iter().zip(leads::unique_names(names)) {
        let bytes = content(&spec.file).ok_or_else(|| WfdbError::NoFile(spec.file.clone()))?;
        let strip = Strip { lead: name, ..strip(header, *index, bytes)? };
        leads.push(Lead { strip, file_unit: VoltageUnit::from_symbol(&spec.unit) });
    }
    let preferred = chosen.iter().enumerate().min_by_key(|(_, (_, spec))| kind(spec));
    let selected = preferred.ok_or(WfdbError::NoLead)?.0;
    let other_signals = others.iter().filter_map(|(_, spec)| spec.description.clone()).collect();
    Ok(Recording { leads, selected, is_requested: false, other_signals })
}
