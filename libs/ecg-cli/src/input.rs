//! Reading of a recording from a path: text (CSV), EDF, EDF+, BDF, or a WFDB header with its signal files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _};
use std::path::Path;

use ecg::csv::{LeadChoice, Options};
use ecg::wfdb::{self, Header};
use ecg::{Recording, START_BYTES, Start};

use crate::wfdb_files::read;

/// A recording and the time at which it began, if the file states it.
#[derive(Debug)]
pub struct Input {
    /// The recording, with at least one lead.
    pub recording: Recording,
    /// Local time of the recorder.
    pub start: Option<Start>,
}

/// Reads all leads of a file. The name of a lead, ignoring case, or its number from 1 selects the one that gives the heart rate.
/// `sample_rate_hz` is for text files without times.
///
/// # Errors
/// Returns a sentence if the file cannot be read, is no ECG, or has no such lead.
pub fn open(path: &Path, lead: Option<&str>, sample_rate_hz: Option<f64>) -> Result<Input, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    match extension.as_str() {
        "hea" => return open_wfdb(path, lead),
        "dat" | "atr" => {
            return Err(fail(&"a WFDB record is opened by its header, the file that ends in .hea"));
        }
        _ => {}
    }
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let mut file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(fail(
            &"this is a directory; give a file, or use `bedside-ecg evaluate` for annotated records",
        ));
    }
    let mut head = Vec::new();
    (&mut file).take(START_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let lead = lead.map(|name| match name.parse::<usize>() {
        Ok(number @ 1..) => LeadChoice::Index(number - 1),
        _ => LeadChoice::Name(name.to_owned()),
    });
    let options = Options { sample_rate_hz, lead, ..Options::default() };
    let recording = ecg::read_recording(BufReader::new(file), &options).map_err(|error| fail(&error))?;
    Ok(Input { recording, start: ecg::start_of(&head) })
}

fn open_wfdb(path: &Path, lead: Option<&str>) -> Result<Input, String> {
    let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = String::from_utf8_lossy(&read(path)?).into_owned();
    let header = Header::parse(&text).map_err(|error| fail(&error))?;
    let mut files = HashMap::new();
    for signal in &header.signals {
        if !files.contains_key(signal.file.as_str()) {
            files.insert(signal.file.as_str(), read(&path.with_file_name(&signal.file))?);
        }
    }
    let mut recording =
        wfdb::recording(&header, |name| files.get(name).map(Vec::as_slice)).map_err(|error| fail(&error))?;
    if let Some(name) = lead {
        recording.selected = select(&recording, name).ok_or_else(|| {
            let names: Vec<&str> =
                recording.leads.iter().filter_map(|lead| lead.strip.lead.as_deref()).collect();
            fail(&format!("there is no lead {name:?}; the leads are {}", names.join(", ")))
        })?;
        recording.is_requested = true;
    }
    Ok(Input { recording, start: ecg::start_of_wfdb(&text) })
}

/// Index of a lead by its name or its number from 1.
fn select(recording: &Recording, name: &str) -> Option<usize> {
    let is = |lead: &ecg::Lead| lead.strip.lead.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(name));
    let by_number = || name.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < recording.leads.len());
    recording.leads.iter().position(is).or_else(by_number)
}
