//! Reads, analyses and draws one raw ECG file. Runs on background threads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::limits;
use ecg::csv::LeadChoice;
use ecg::{Analysis, Quality, Strip};
use proto_json::{SignalOptions, Timestamp};
use ui::{Picture, format, tr};

use crate::model::FileStamp;

/// Shortest interval between two progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(60);
/// Most rows of ten seconds each. A longer ECG is drawn as an overview.
const ROWS: usize = 4;
/// Longest part of a lead's name that is shown, in characters.
const MAX_LEAD_CHARS: usize = 16;

/// Why a file gives no ECG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EcgFileError {
    /// The file was removed or is read again.
    Cancelled,
    /// The file can be read once the user enters a sampling rate or a lead. One sentence says which.
    NeedsOptions(String),
    /// The file cannot be used. One sentence says why.
    Rejected(String),
}

/// A raw ECG and its analysis.
pub(crate) struct Reading {
    strip: Strip,
    analysis: Analysis,
    recorded_at: Option<Timestamp>,
}

/// Reads and analyses a file. `report` receives the share that is read, from 0 to 1, then a number below 0 while beats are
/// detected.
///
/// # Errors
/// [`EcgFileError`].
pub(crate) fn read(
    path: &Path,
    options: &SignalOptions,
    report: &dyn Fn(f32, String),
    cancelled: &AtomicBool,
) -> Result<(Reading, FileStamp), EcgFileError> {
    let unreadable = |error: io::Error| EcgFileError::Rejected(tr!("The file cannot be read: {}.", error));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(EcgFileError::Rejected(tr!("This is not a file.").to_owned()));
    }
    if metadata.len() > limits::MAX_FILE_BYTES {
        return Err(EcgFileError::Rejected(tr!(
            "The file has {}, but an ECG may have at most {}.",
            format::bytes(metadata.len()),
            format::bytes(limits::MAX_FILE_BYTES)
        )));
    }
    let recorded_at = recorded_at(path).map_err(unreadable)?;
    let source = ProgressReader {
        file,
        read: 0,
        total: metadata.len(),
        reported_at: Instant::now(),
        report,
        cancelled,
    };
    let recording = ecg::read_recording(source, &reader_options(options));
    if cancelled.load(Ordering::Relaxed) {
        return Err(EcgFileError::Cancelled);
    }
    let recording = recording.map_err(|error| {
        let message = error.to_string();
        if error.needs_options() {
            EcgFileError::NeedsOptions(message)
        } else {
            EcgFileError::Rejected(message)
        }
    })?;
    let samples: usize = recording.leads.iter().map(|lead| lead.strip.sample_count()).sum();
    let samples = format::count(samples as u64, tr!("sample"), tr!("samples"));
    report(-1.0, tr!("Detecting beats in {}…", samples));
    let (strip, analysis) = recording.into_best();
    if cancelled.load(Ordering::Relaxed) {
        return Err(EcgFileError::Cancelled);
    }
    Ok((Reading { strip, analysis, recorded_at }, FileStamp::of(&metadata)))
}

/// The same options that the server's worker derives from an upload. A number selects a lead by its position, from 1.
fn reader_options(options: &SignalOptions) -> ecg::csv::Options {
    let lead = options.lead.as_deref().map(|text| match text.trim().parse::<usize>() {
        Ok(position) if position > 0 => LeadChoice::Index(position - 1),
        _ => LeadChoice::Name(text.trim().to_owned()),
    });
    ecg::csv::Options { sample_rate_hz: options.sample_rate_hz, lead, ..ecg::csv::Options::default() }
}

/// Start of the recording, if the file states it. A time without a zone is local time.
fn recorded_at(path: &Path) -> io::Result<Option<Timestamp>> {
    let mut head = Vec::new();
    File::open(path)?.take(ecg::START_BYTES as u64).read_to_end(&mut head)?;
    Ok(ecg::start_of(&head).and_then(|start| {
        let date = (start.year, start.month, start.day);
        let time = (start.hour, start.minute, start.second, start.millisecond);
        Timestamp::from_calendar(date, time, start.offset_s).ok()
    }))
}

/// Reads a file, reports progress and stops when it is cancelled.
struct ProgressReader<'a> {
    file: File,
    read: u64,
    total: u64,
    reported_at: Instant,
    report: &'a dyn Fn(f32, String),
    cancelled: &'a AtomicBool,
}

impl Read for ProgressReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("cancelled"));
        }
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        if self.reported_at.elapsed() >= PROGRESS_INTERVAL {
            self.reported_at = Instant::now();
            let share = self.read as f32 / self.total.max(1) as f32;
            let (read, total) = (format::bytes(self.read), format::bytes(self.total));
            (self.report)(share.min(1.0), tr!("Read {} of {}", read, total));
        }
        Ok(read)
    }
}

impl Reading {
    /// Mean heart rate in beats per minute.
    pub(crate) fn mean_bpm(&self) -> Option<f64> {
        self.analysis.heart_rate.map(|rate| rate.mean_bpm)
    }

    /// Start of the recording, if the file states it.
    pub(crate) fn recorded_at(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// Lowest to highest heart rate.
    pub(crate) fn range(&self) -> String {
        self.analysis.heart_rate.map_or(String::new(), |rate| {
            tr!("{} to {}", format::bpm(Some(rate.min_bpm)), format::bpm(Some(rate.max_bpm)))
        })
    }

    pub(crate) fn quality(&self) -> Quality {
        self.analysis.quality
    }

    /// Duration, sampling rate, lead and number of beats.
    pub(crate) fn detail(&self) -> String {
        let rate = self.strip.sample_rate_hz;
        let rate =
            if (rate - rate.round()).abs() < 0.05 { format!("{rate:.0}") } else { format!("{rate:.1}") };
        let mut detail = tr!("{} · {} Hz", format::duration(self.strip.duration_s()), rate);
        if let Some(lead) = &self.strip.lead {
            detail.push_str(tr!(" · lead "));
            detail.extend(lead.chars().take(MAX_LEAD_CHARS));
        }
        let beats = format::count(self.analysis.beats.len() as u64, tr!("beat"), tr!("beats"));
        format!("{detail} · {beats}")
    }

    /// One sentence each: why there is no heart rate, findings, and warnings with the skipped rows.
    pub(crate) fn notes(&self) -> Vec<String> {
        let reason = self.analysis.no_heart_rate_reason.iter().cloned();
        let findings = self.analysis.rhythm_notes.iter().map(|note| note.message.clone());
        // This warning comes with every file of several leads and needs no action.
        let warnings = self.analysis.warnings.iter().filter(|warning| warning.code != "other_leads");
        reason.chain(findings).chain(warnings.map(|warning| warning.message.clone())).collect()
    }

    /// Draws the strip on ECG paper for a pane of this size in pixels.
    pub(crate) fn draw(&self, pane: (u32, u32)) -> Option<Picture> {
        let options = ecg::plot::Options { captions: false, rows: ROWS, ..Default::default() };
        let pixels = ecg::plot::pixels(&self.strip, &self.analysis, &options, pane).ok()?;
        Picture::from_rgba(pixels.width, pixels.height, &pixels.rgba)
    }
}

/// The name of a signal quality.
pub(crate) fn quality_name(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => tr!("good"),
        Quality::Poor => tr!("poor"),
        Quality::Unusable => tr!("unusable"),
    }
}
