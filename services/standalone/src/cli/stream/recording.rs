//! A recorded ECG as a source of waveforms: all leads of a WFDB record, an EDF, EDF+ or BDF file, or a CSV file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ecg::wfdb::{self, Header};
use proto_json::waveform::MAX_CHANNELS;
use proto_json::{Channel, DeviceNumeric, MISSING_SAMPLE, SampleRate, Segment};

use super::super::error::{CliError, cannot_read};
use crate::playback::{WaveformSource, indices};
use crate::simulator::step;

/// Millivolts per step, if the recording fits: 1 µV.
const SCALE: f64 = 0.001;
/// Largest denominator of a sample rate.
const MAX_DENOMINATOR: u32 = 10_000;
/// Longest label, in characters. The protocol permits 32.
const MAX_LABEL: usize = 28;

/// The leads of a recording.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) channels: Vec<Channel>,
    /// Samples of each lead; all have about the same duration.
    samples: Vec<Vec<i16>>,
    /// Names of the signals that are not sent.
    pub(super) others: Vec<String>,
}

impl Recording {
    /// Reads a file. A WFDB record is named by its header, or by a file with the same name and another extension.
    pub(super) fn read(path: &Path, sample_rate_hz: Option<f64>) -> Result<Self, CliError> {
        let recording = match header_of(path) {
            Some(header) => read_wfdb(&header)?,
            None => {
                let file = File::open(path).map_err(cannot_read(path))?;
                let options = ecg::csv::Options { sample_rate_hz, ..ecg::csv::Options::default() };
                ecg::read_recording(file, &options).map_err(|error| cannot_stream(path, &error))?
            }
        };
        Self::from_leads(&recording).map_err(|reason| cannot_stream(path, &reason))
    }

    fn from_leads(recording: &ecg::Recording) -> Result<Self, String> {
        if recording.leads.len() > MAX_CHANNELS {
            return Err(format!("it has {} leads, more than {MAX_CHANNELS}", recording.leads.len()));
        }
        let (mut channels, mut samples) = (Vec::new(), Vec::new());
        for (number, lead) in recording.leads.iter().enumerate() {
            let strip = &lead.strip;
            let rate = fraction(strip.sample_rate_hz)
                .ok_or_else(|| format!("its sample rate of {} Hz is not supported", strip.sample_rate_hz))?;
            let all = strip.segments.iter().flat_map(|segment| &segment.samples);
            let largest = all.fold(0.0_f64, |largest, value| largest.max(f64::from(value.abs())));
            // A larger value takes a larger step.
            let scale = SCALE.max(largest / f64::from(i16::MAX));
            let label = label(number, strip.lead.as_deref(), &channels);
            channels.push(Channel {
                code: code(&label).to_owned(),
                label,
                unit: "mV".to_owned(),
                rate,
                scale,
                offset: 0.0,
            });
            samples.push(steps(strip, scale));
        }
        if samples.iter().all(Vec::is_empty) {
            return Err("it has no samples".to_owned());
        }
        Ok(Recording { channels, samples, others: recording.other_signals.clone() })
    }

    /// Length in seconds.
    pub(super) fn duration_s(&self) -> f64 {
        let durations = self.channels.iter().zip(&self.samples);
        durations.map(|(channel, samples)| samples.len() as f64 / channel.rate.hz()).fold(0.0, f64::max)
    }
}

/// The header of the WFDB record that a path names. `None` if it names none.
fn header_of(path: &Path) -> Option<PathBuf> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "hea" => Some(path.to_owned()),
        "dat" => Some(path.with_extension("hea")),
        _ if path.is_file() => None,
        // `100` names the record of `100.hea`.
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(".hea");
            Some(PathBuf::from(name)).filter(|header| header.is_file())
        }
    }
}

fn read_wfdb(path: &Path) -> Result<ecg::Recording, CliError> {
    let text = fs::read_to_string(path).map_err(cannot_read(path))?;
    let header = Header::parse(&text).map_err(|error| cannot_stream(path, &error))?;
    let mut files = HashMap::new();
    for signal in &header.signals {
        // Signal files are next to the header. A path in the header must not lead elsewhere.
        let name = Path::new(&signal.file).file_name().unwrap_or_default();
        let file = path.with_file_name(name);
        if !files.contains_key(&signal.file) {
            files.insert(signal.file.clone(), fs::read(&file).map_err(cannot_read(&file))?);
        }
    }
    wfdb::recording(&header, |name| files.get(name).map(Vec::as_slice))
        .map_err(|error| cannot_stream(path, &error))
}

fn cannot_stream(path: &Path, reason: &dyn std::fmt::Display) -> CliError {
    CliError::failed(format!("{} cannot be streamed: {reason}", path.display()))
}

/// The samples of a strip from its start; missing where it has gaps.
fn steps(strip: &ecg::Strip, scale: f64) -> Vec<i16> {
    let mut steps = Vec::new();
    for segment in &strip.segments {
        let start = (segment.start_s * strip.sample_rate_hz).round().max(0.0) as usize;
        steps.resize(steps.len().max(start), MISSING_SAMPLE);
        steps.extend(segment.samples.iter().map(|value| {
            let value = f64::from(*value);
            if value.is_finite() { step(value, scale) } else { MISSING_SAMPLE }
        }));
    }
    steps
}

/// A rate as a fraction with the smallest denominator. `None` if it is not a rate of a channel.
fn fraction(hz: f64) -> Option<SampleRate> {
    let numerator = |denominator: u32| (hz * f64::from(denominator)).round();
    let is_exact =
        |denominator: &u32| (numerator(*denominator) / f64::from(*denominator) / hz - 1.0).abs() < 1e-9;
    let denominator = (1..=MAX_DENOMINATOR).find(is_exact).unwrap_or(MAX_DENOMINATOR);
    let numerator = numerator(denominator);
    if !(1.0..=f64::from(u32::MAX)).contains(&numerator) {
        return None;
    }
    SampleRate::new(numerator as u32, denominator).ok()
}

/// The label of a lead, which is unique in the stream.
fn label(number: usize, name: Option<&str>, channels: &[Channel]) -> String {
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_LABEL)
        .collect();
    let name = if name.trim().is_empty() { "ECG".to_owned() } else { name.trim().to_owned() };
    let is_used = channels.iter().any(|channel| channel.label == name);
    if is_used { format!("{name} {}", number + 1) } else { name }
}

/// The code of ISO/IEEE 11073-10101 of a lead; that of an ECG potential if its name is not the one of a lead.
fn code(label: &str) -> &'static str {
    match label.to_ascii_uppercase().trim_start_matches("LEAD ").trim_start_matches("ECG ") {
        "I" | "MLI" => "MDC_ECG_LEAD_I",
        "II" | "MLII" => "MDC_ECG_LEAD_II",
        "III" | "MLIII" => "MDC_ECG_LEAD_III",
        "AVR" => "MDC_ECG_LEAD_AVR",
        "AVL" => "MDC_ECG_LEAD_AVL",
        "AVF" => "MDC_ECG_LEAD_AVF",
        "V1" => "MDC_ECG_LEAD_V1",
        "V2" => "MDC_ECG_LEAD_V2",
        "V3" => "MDC_ECG_LEAD_V3",
        "V4" => "MDC_ECG_LEAD_V4",
        "V5" => "MDC_ECG_LEAD_V5",
        "V6" => "MDC_ECG_LEAD_V6",
        _ => "MDC_ECG_ELEC_POTL",
    }
}

/// Plays a recording once, or again and again for a number of frames.
pub(super) struct Replay {
    recording: Arc<Recording>,
    frame: u64,
    frames: u64,
}

impl Replay {
    pub(super) fn new(recording: Arc<Recording>, frames: u64) -> Self {
        Replay { recording, frame: 0, frames }
    }
}

impl WaveformSource for Replay {
    fn channels(&self) -> &[Channel] {
        &self.recording.channels
    }

    fn next_frame(&mut self) -> Option<Vec<Segment>> {
        if self.frame >= self.frames {
            return None;
        }
        let duration_s = self.recording.duration_s();
        let mut segments = Vec::new();
        for (number, (channel, samples)) in
            (0..).zip(self.recording.channels.iter().zip(&self.recording.samples))
        {
            // All leads start again at the same time, even if some of them are shorter.
            let length = ((duration_s * channel.rate.hz()).round() as u64).max(1);
            let range = indices(channel.rate, self.frame);
            let first = range.start;
            let at = |index: u64| samples.get((index % length) as usize).copied().unwrap_or(MISSING_SAMPLE);
            let samples: Vec<i16> = range.map(at).collect();
            if samples.iter().any(|sample| *sample != MISSING_SAMPLE) {
                segments.push(Segment { channel: number, first, lead_off: false, samples });
            }
        }
        self.frame += 1;
        Some(segments)
    }

    fn numerics(&mut self, _: i64) -> Vec<DeviceNumeric> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_fractions() {
        let of = |hz| fraction(hz).map(|rate| (rate.numerator, rate.denominator));
        assert_eq!(of(250.0), Some((250, 1)));
        assert_eq!(of(62.4725), Some((24_989, 400)));
        assert_eq!(of(128.0 / 3.0), Some((128, 3)));
        assert_eq!(of(0.001), None);
    }

    #[test]
    fn leads_have_codes_and_unique_labels() {
        assert_eq!(code("MLII"), "MDC_ECG_LEAD_II");
        assert_eq!(code("aVF"), "MDC_ECG_LEAD_AVF");
        assert_eq!(code("ECG V5"), "MDC_ECG_LEAD_V5");
        assert_eq!(code("chest"), "MDC_ECG_ELEC_POTL");
        let one = ecg::Lead {
            strip: ecg::Strip {
                lead: Some("x".repeat(40)),
                ..ecg::Strip::from_samples(250.0, vec![0.5, -0.25, 40.0])
            },
            file_unit: None,
        };
        let leads = vec![one.clone(), one];
        let recording = ecg::Recording { leads, selected: 0, is_requested: false, other_signals: Vec::new() };
        let recording = Recording::from_leads(&recording).unwrap();
        assert_eq!(proto_json::check_channels(&recording.channels), Ok(()));
        let scale = recording.channels[0].scale;
        assert!(scale > SCALE, "40 mV do not fit into steps of 1 µV");
        assert!((f64::from(recording.samples[0][0]) * scale - 0.5).abs() < scale);
    }

    #[test]
    fn gap_of_a_recording_is_not_sent_and_leads_repeat_together() {
        let mut strip = ecg::Strip::from_samples(100.0, vec![0.1; 100]);
        strip.segments.push(ecg::Segment { start_s: 2.0, samples: vec![0.2; 50] });
        let short = ecg::Lead { strip: ecg::Strip::from_samples(50.0, vec![0.3; 50]), file_unit: None };
        let leads = vec![ecg::Lead { strip, file_unit: None }, short];
        let recording = ecg::Recording { leads, selected: 0, is_requested: false, other_signals: Vec::new() };
        let recording = Arc::new(Recording::from_leads(&recording).unwrap());
        assert_eq!(recording.duration_s(), 2.5);
        let mut replay = Replay::new(recording, 25);
        let frames: Vec<Vec<Segment>> = std::iter::from_fn(|| replay.next_frame()).collect();
        assert_eq!(frames.len(), 25);
        assert_eq!(frames[0].len(), 2);
        assert!(frames[5].is_empty(), "from 1.0 s to 2.0 s there are no samples");
        assert_eq!((frames[10].len(), frames[10][0].samples[0]), (1, 200));
        // The second round starts after 2.5 s, in the middle of frame 12.
        assert_eq!(frames[12][0].samples, [[200; 10], [100; 10]].concat());
        assert_eq!(frames[12][1].samples[..5], [MISSING_SAMPLE; 5]);
        assert_eq!(frames[12][1].samples[5..], [300; 5]);
    }

    #[test]
    fn wfdb_record_is_found_by_header_signal_file_or_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a.hea"), "a 2 250 4\na.dat 16 200 16 0 0 0 0 II\na.dat 16 200 16 0 0 0 0 V1\n")
            .unwrap();
        let bytes: Vec<u8> =
            [1_i16, -2, 3, -4, 5, -6, 7, -8].iter().flat_map(|value| value.to_le_bytes()).collect();
        fs::write(path("a.dat"), bytes).unwrap();
        for name in ["a", "a.hea", "a.dat"] {
            let recording = Recording::read(&path(name), None).unwrap();
            let labels: Vec<&str> = recording.channels.iter().map(|channel| channel.label.as_str()).collect();
            assert_eq!(labels, ["II", "V1"], "{name}");
            // 200 steps per mV are 5 µV per step.
            assert_eq!(recording.samples, [vec![5, 15, 25, 35], vec![-10, -20, -30, -40]]);
        }
        let missing = Recording::read(&path("b.hea"), None).unwrap_err().to_string();
        assert!(missing.contains("b.hea cannot be read"), "{missing}");
        fs::write(path("c.csv"), "no numbers\n").unwrap();
        let wrong = Recording::read(&path("c.csv"), None).unwrap_err().to_string();
        assert!(wrong.contains("c.csv cannot be streamed: "), "{wrong}");
    }
}
