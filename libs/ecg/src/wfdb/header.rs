//! Record headers: header(5) of the WFDB Applications Guide.

use super::WfdbError;

/// Header of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Name of the record.
    pub name: String,
    /// Frames per second: the clock of the annotations.
    pub frame_rate_hz: f64,
    /// Number of frames, if stated.
    pub frames: Option<u64>,
    /// The signals, in order.
    pub signals: Vec<SignalSpec>,
}

/// Header of one signal.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalSpec {
    /// Name of the file that contains the samples.
    pub file: String,
    /// Storage format, such as 16 or 212.
    pub format: u32,
    /// Samples of this signal per frame.
    pub samples_per_frame: usize,
    /// Bytes to skip at the start of the file.
    pub byte_offset: usize,
    /// Converter steps per physical unit.
    pub gain: f64,
    /// Converter value at zero.
    pub baseline: f64,
    /// Physical unit; `mV` if not stated.
    pub unit: String,
    /// Description, usually the name of the lead.
    pub description: Option<String>,
}

/// Steps per millivolt if the gain is missing or zero (WFDB's `WFDB_DEFGAIN`).
const DEFAULT_GAIN: f64 = 200.0;
/// Frames per second if the rate is missing (WFDB's `WFDB_DEFFREQ`).
const DEFAULT_FRAME_RATE_HZ: f64 = 250.0;
/// Limits on frame rate and samples per frame, so that their sums and products cannot overflow.
const MAX_FRAMES_PER_S: f64 = 1e9;
const MAX_SAMPLES_PER_FRAME: usize = 1 << 16;

impl Header {
    /// Parses the text of a header.
    ///
    /// # Errors
    /// Returns an error if a line does not conform to header(5), or if the record has several segments.
    pub fn parse(text: &str) -> Result<Header, WfdbError> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let (_, record) = lines.next().ok_or_else(|| WfdbError::NoRecordLine(String::new()))?;
        let mut fields = record.split_whitespace();
        let name = fields.next().unwrap_or_default();
        if name.contains('/') {
            return Err(WfdbError::MultiSegment);
        }
        let count: usize = fields
            .next()
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| WfdbError::NoRecordLine(record.to_owned()))?;
        let frame_rate_hz = match fields.next() {
            None => DEFAULT_FRAME_RATE_HZ,
            Some(field) => field
                .split(['/', '('])
                .next()
                .and_then(|rate| rate.parse::<f64>().ok())
                .filter(|rate| *rate > 0.0 && *rate <= MAX_FRAMES_PER_S)
                .ok_or_else(|| WfdbError::NoRecordLine(record.to_owned()))?,
        };
        let frames = fields.next().and_then(|field| field.parse().ok()).filter(|frames| *frames > 0);
        // A damaged count must not reserve memory, so signals are parsed one by one.
        let mut signals = Vec::new();
        for (line, text) in lines.take(count) {
            signals
                .push(signal_line(text).ok_or_else(|| WfdbError::BadLine { line, text: text.to_owned() })?);
        }
        Ok(Header { name: name.to_owned(), frame_rate_hz, frames, signals })
    }

    /// Samples per second of a signal.
    #[must_use]
    pub fn sample_rate_hz(&self, signal: &SignalSpec) -> f64 {
        self.frame_rate_hz * signal.samples_per_frame as f64
    }
}

fn signal_line(text: &str) -> Option<SignalSpec> {
    let mut rest = text;
    let mut next = || {
        rest = rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (field, tail) = rest.split_at(end);
        rest = tail;
        (!field.is_empty()).then_some(field)
    };
    let file = next()?.to_owned();
    let (format, samples_per_frame, byte_offset) = format_field(next()?)?;
    let gain_field = next();
    let _resolution = next();
    let adc_zero: f64 = next().and_then(|field| field.parse().ok()).unwrap_or(0.0);
    let _initial = next();
    let _checksum = next();
    let _block = next();
    let description = Some(rest.trim()).filter(|words| !words.is_empty()).map(str::to_owned);
    let (gain, baseline, unit) = match gain_field {
        None => (DEFAULT_GAIN, None, None),
        Some(field) => {
            let (numbers, unit) =
                field.split_once('/').map_or((field, None), |(left, right)| (left, Some(right)));
            let (gain, baseline) = match numbers.split_once('(') {
                Some((gain, baseline)) => (gain, baseline.trim_end_matches(')').parse::<f64>().ok()),
                None => (numbers, None),
            };
            (gain.parse::<f64>().ok()?, baseline, unit)
        }
    };
    Some(SignalSpec {
        file,
        format,
        samples_per_frame,
        byte_offset,
        gain: if gain.is_finite() && gain != 0.0 { gain } else { DEFAULT_GAIN },
        baseline: baseline.unwrap_or(adc_zero),
        unit: unit.unwrap_or("mV").to_owned(),
        description,
    })
}

/// `212x4:5+24` means format 212, 4 samples per frame, skew 5 (not corrected), 24 bytes to skip.
fn format_field(field: &str) -> Option<(u32, usize, usize)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let end = digits(field);
    let format = field[..end].parse().ok()?;
    let mut rest = &field[end..];
    let (mut per_frame, mut offset) = (1, 0);
    while let Some(mark) = rest.chars().next() {
        let tail = &rest[mark.len_utf8()..];
        let end = digits(tail);
        let value: usize = tail[..end].parse().ok()?;
        match mark {
            'x' => per_frame = value,
            '+' => offset = value,
            ':' => {}
            _ => return None,
        }
        rest = &tail[end..];
    }
    (1..=MAX_SAMPLES_PER_FRAME).contains(&per_frame).then_some((format, per_frame, offset))
}
