//! A raw ECG from its file to words and pixels. Runs off the thread of the window.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ecg::{Analysis, Quality, Strip};
use proto_json::Timestamp;
use ui::{Picture, format};

use crate::staging::Stamp;

/// Steps of the progress of reading are no closer than this.
const STEP: Duration = Duration::from_millis(60);
/// Rows of ten seconds, at most; what is longer is drawn as an overview.
const ROWS: usize = 4;

/// A raw ECG and what was found in it.
pub(crate) struct Reading {
    strip: Strip,
    analysis: Analysis,
    recorded_at: Option<Timestamp>,
}

/// Reads and analyses a file. `tell` gets the share read so far, then a number below 0 while beats are found.
///
/// Err: one sentence; empty if it was cancelled.
pub(crate) fn read(
    path: &Path,
    tell: &dyn Fn(f32, String),
    cancelled: &AtomicBool,
) -> Result<(Reading, Stamp), String> {
    let unreadable = |error: io::Error| format!("The file cannot be read: {error}.");
    let file = File::open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if !facts.is_file() {
        return Err("This is not a file.".to_owned());
    }
    let recorded_at = recorded_at(path).map_err(unreadable)?;
    let source = Watched { file, read: 0, total: facts.len(), told: Instant::now(), tell, cancelled };
    let strip = ecg::read(source, &ecg::csv::Options::default());
    if cancelled.load(Ordering::Relaxed) {
        return Err(String::new());
    }
    let strip = strip.map_err(|error| error.to_string())?;
    let samples = format::count(strip.sample_count() as u64, "sample", "samples");
    tell(-1.0, format!("Finding the beats in {samples}…"));
    let analysis = ecg::analyze(&strip);
    if cancelled.load(Ordering::Relaxed) {
        return Err(String::new());
    }
    Ok((Reading { strip, analysis, recorded_at }, Stamp::of(&facts)))
}

/// When the recording began, if the file states it. A time without a zone is local.
fn recorded_at(path: &Path) -> io::Result<Option<Timestamp>> {
    let mut head = Vec::new();
    File::open(path)?.take(ecg::START_BYTES as u64).read_to_end(&mut head)?;
    Ok(ecg::start_of(&head).and_then(|start| {
        let date = (start.year, start.month, start.day);
        let time = (start.hour, start.minute, start.second, start.millisecond);
        Timestamp::from_calendar(date, time, start.offset_s).ok()
    }))
}

/// A file that says how far it has been read, and stops when told to.
struct Watched<'a> {
    file: File,
    read: u64,
    total: u64,
    told: Instant,
    tell: &'a dyn Fn(f32, String),
    cancelled: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::other("no longer wanted"));
        }
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        if self.told.elapsed() >= STEP {
            self.told = Instant::now();
            let share = self.read as f32 / self.total.max(1) as f32;
            let (read, total) = (format::bytes(self.read), format::bytes(self.total));
            (self.tell)(share.min(1.0), format!("Read {read} of {total}"));
        }
        Ok(read)
    }
}

impl Reading {
    /// Mean heart rate.
    pub(crate) fn mean_bpm(&self) -> Option<f64> {
        self.analysis.heart_rate.map(|rate| rate.mean_bpm)
    }

    /// When it was recorded, if the file states it.
    pub(crate) fn recorded_at(&self) -> Option<Timestamp> {
        self.recorded_at
    }

    /// Lowest to highest rate.
    pub(crate) fn range(&self) -> String {
        self.analysis.heart_rate.map_or(String::new(), |rate| {
            format!("{} to {}", format::bpm(Some(rate.min_bpm)), format::bpm(Some(rate.max_bpm)))
        })
    }

    pub(crate) fn quality(&self) -> Quality {
        self.analysis.quality
    }

    /// Length, sampling rate, lead, beats.
    pub(crate) fn detail(&self) -> String {
        let rate = self.strip.sample_rate_hz;
        let rate =
            if (rate - rate.round()).abs() < 0.05 { format!("{rate:.0}") } else { format!("{rate:.1}") };
        let mut detail = format!("{} · {rate} Hz", format::duration(self.strip.duration_s()));
        if let Some(lead) = &self.strip.lead {
            detail.push_str(" · lead ");
            detail.extend(lead.chars().take(16));
        }
        let beats = format::count(self.analysis.beats.len() as u64, "beat", "beats");
        format!("{detail} · {beats}")
    }

    /// One sentence each: why there is no rate, findings, warnings with the rows left out.
    pub(crate) fn notes(&self) -> Vec<String> {
        let reason = self.analysis.no_heart_rate_reason.iter().cloned();
        let findings = self.analysis.rhythm_notes.iter().map(|note| note.message.clone());
        // Told with every file of several leads, and nothing to worry about.
        let warnings = self.analysis.warnings.iter().filter(|warning| warning.code != "other_leads");
        reason.chain(findings).chain(warnings.map(|warning| warning.message.clone())).collect()
    }

    /// The strip on paper, to fill a pane of this size in pixels.
    pub(crate) fn draw(&self, pane: (u32, u32)) -> Option<Picture> {
        let options = ecg::plot::Options { captions: false, rows: ROWS, ..Default::default() };
        let pixels = ecg::plot::pixels(&self.strip, &self.analysis, &options, pane).ok()?;
        Picture::from_rgba(pixels.width, pixels.height, &pixels.rgba)
    }
}

/// A quality in a word.
pub(crate) fn quality_word(quality: Quality) -> &'static str {
    match quality {
        Quality::Good => "good",
        Quality::Poor => "poor",
        Quality::Unusable => "unusable",
    }
}
