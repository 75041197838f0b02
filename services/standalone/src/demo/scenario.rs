//! The scenario of a demo: patients and timed events.
//!
//! `demo/README.md` describes the file format. A scenario is valid as a whole: every value is in range, names and
//! record numbers are unique, and each event belongs to one patient. Names and record numbers mark the patients
//! as simulated. An error states file, line, the wrong value and what is allowed.

mod file;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

/// Maximum number of patients.
pub(crate) const MAX_PATIENTS: usize = 200;
/// Record numbers of simulated patients.
const RECORD_NUMBERS: std::ops::RangeInclusive<u32> = 900_001..=900_999;
/// Maximum size of a scenario file in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The scenario without `--demo-scenario`.
const BUILT_IN: (&str, &str) = ("ward.toml", include_str!("../../../../demo/ward.toml"));

/// A scenario.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) title: Option<String>,
    /// Interval between two strips of a patient. `None`: [`super::FIRST_INTERVAL`], later
    /// [`super::LATER_INTERVAL`].
    pub(crate) interval: Option<Duration>,
    pub(crate) patients: Vec<Patient>,
}

/// A simulated patient.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Patient {
    /// In [`RECORD_NUMBERS`].
    pub(crate) mrn: u64,
    /// Starts with "Demo ".
    pub(crate) name: String,
    /// State without events.
    pub(crate) base: State,
    /// Variation of the rate of `base`.
    pub(crate) swing: Option<Swing>,
    /// Height of the R wave in millivolts; negative for an inverted lead.
    pub(crate) amplitude_mv: f64,
    /// Whether the patient also sends an image.
    pub(crate) has_image: bool,
    /// In the order of the file.
    pub(crate) events: Vec<Event>,
}

/// The rate rises and falls like a sine wave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Swing {
    /// Beats per minute above and below the rate.
    pub(crate) bpm: f64,
    pub(crate) period: Duration,
}

/// A timed change of a patient's state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: At,
    /// `None`: until the demo ends.
    pub(crate) lasts: Option<Duration>,
    /// Repeats with this period.
    pub(crate) every: Option<Duration>,
    pub(crate) change: Change,
}

/// Start of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum At {
    /// After the start of the demo.
    AfterStart(Duration),
    /// The first such time of day after the start, in the time zone of this machine.
    Clock(jiff::civil::Time),
}

/// What the ECG of a patient shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) rhythm: Rhythm,
    /// Beats per minute. Has no meaning in an asystole.
    pub(crate) rate: f64,
    /// Share of ventricular premature beats.
    pub(crate) ectopy: f64,
    pub(crate) noise: Noise,
    pub(crate) lead_off: bool,
    /// Whether samples are missing.
    pub(crate) gaps: bool,
}

/// The parts of a state that an event changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Change {
    /// Rhythm and its rate.
    pub(crate) rhythm: Option<(Rhythm, f64)>,
    pub(crate) rate: Option<f64>,
    pub(crate) ectopy: Option<f64>,
    pub(crate) noise: Option<Noise>,
    pub(crate) lead_off: Option<bool>,
    pub(crate) gaps: Option<bool>,
}

/// Rhythm of the heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rhythm {
    Sinus,
    Bradycardia,
    Tachycardia,
    AtrialFibrillation,
    VentricularTachycardia,
    /// Sinus rhythm that stops for some seconds in each strip.
    Pause,
    Asystole,
}

/// Strength of the disturbances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Noise {
    None,
    /// Of a good recording.
    Low,
    /// Hides the smaller waves.
    High,
}

/// A scenario that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub(crate) struct ScenarioError {
    /// File and line.
    place: String,
    reason: String,
}

impl Scenario {
    /// Reads a scenario file.
    pub(crate) fn read(path: &Path) -> Result<Self, ScenarioError> {
        let place = path.display().to_string();
        let unreadable = |reason: String| ScenarioError { place: place.clone(), reason };
        let mut text = String::new();
        let file = std::fs::File::open(path)
            .map_err(|error| unreadable(format!("the scenario cannot be opened: {error}")))?;
        // Reads one byte more than allowed, to recognise a larger file. A device has no size.
        file.take(MAX_FILE_BYTES + 1)
            .read_to_string(&mut text)
            .map_err(|error| unreadable(format!("the scenario cannot be read: {error}")))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(unreadable(format!("a scenario has at most {} KB", MAX_FILE_BYTES >> 10)));
        }
        Self::parse(&place, &text)
    }

    /// Returns the scenario that is part of the program.
    pub(crate) fn built_in() -> Result<Self, ScenarioError> {
        Self::parse(BUILT_IN.0, BUILT_IN.1)
    }

    /// Parses the text of a scenario. `name` identifies it in errors.
    fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        file::parse(text).map_err(|file::Wrong { at, reason }| {
            let place = match at {
                Some(at) => format!("{name}, line {}", line_of(text, at)),
                None => name.to_owned(),
            };
            ScenarioError { place, reason }
        })
    }

    /// Keeps the first `count` patients, or adds patients. Added patients repeat those of the scenario under other
    /// names and record numbers, without events.
    pub(crate) fn resize(&mut self, count: usize) {
        let own = self.patients.len();
        self.patients.truncate(count);
        let mut unused = RECORD_NUMBERS;
        for index in own..count.min(MAX_PATIENTS) {
            let model = &self.patients[index % own];
            let is_used = |name: &str, mrn: u64| {
                self.patients.iter().any(|patient| patient.name == name || patient.mrn == mrn)
            };
            let name = |number: usize| format!("{} {number}", model.name);
            let number = (index / own + 1..).find(|number| !is_used(&name(*number), 0));
            let mrn = unused.by_ref().map(u64::from).find(|mrn| !is_used("", *mrn));
            let (Some(number), Some(mrn)) = (number, mrn) else { return };
            let added = Patient { mrn, name: name(number), events: Vec::new(), ..model.clone() };
            self.patients.push(added);
        }
    }
}

impl Rhythm {
    pub(crate) const ALL: [Rhythm; 7] = [
        Rhythm::Sinus,
        Rhythm::Bradycardia,
        Rhythm::Tachycardia,
        Rhythm::AtrialFibrillation,
        Rhythm::VentricularTachycardia,
        Rhythm::Pause,
        Rhythm::Asystole,
    ];

    /// Rates in beats per minute, and the rate if none is given. `None`: the rhythm has no rate.
    pub(crate) fn rates(self) -> Option<(std::ops::RangeInclusive<u32>, u32)> {
        match self {
            Rhythm::Sinus => Some((20..=220, 72)),
            Rhythm::Bradycardia => Some((20..=59, 38)),
            Rhythm::Tachycardia => Some((101..=220, 140)),
            Rhythm::AtrialFibrillation => Some((40..=200, 110)),
            Rhythm::VentricularTachycardia => Some((100..=280, 180)),
            Rhythm::Pause => Some((40..=120, 60)),
            Rhythm::Asystole => None,
        }
    }

    /// Returns the name in a scenario file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rhythm::Sinus => "sinus",
            Rhythm::Bradycardia => "bradycardia",
            Rhythm::Tachycardia => "tachycardia",
            Rhythm::AtrialFibrillation => "atrial-fibrillation",
            Rhythm::VentricularTachycardia => "ventricular-tachycardia",
            Rhythm::Pause => "pause",
            Rhythm::Asystole => "asystole",
        }
    }
}

impl State {
    /// Applies a change.
    pub(crate) fn apply(&mut self, change: &Change) {
        if let Some((rhythm, rate)) = change.rhythm {
            (self.rhythm, self.rate) = (rhythm, rate);
        }
        self.rate = change.rate.unwrap_or(self.rate);
        self.ectopy = change.ectopy.unwrap_or(self.ectopy);
        self.noise = change.noise.unwrap_or(self.noise);
        self.lead_off = change.lead_off.unwrap_or(self.lead_off);
        self.gaps = change.gaps.unwrap_or(self.gaps);
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if let Some((rhythm, rate)) = self.rhythm {
            parts.push(match rhythm.rates() {
                Some(_) => format!("{} {rate:.0} bpm", rhythm.name()),
                None => rhythm.name().to_owned(),
            });
        }
        parts.extend(self.rate.map(|rate| format!("{rate:.0} bpm")));
        parts.extend(self.ectopy.map(|share| format!("{:.0} % premature beats", share * 100.0)));
        parts.extend(self.noise.map(|noise| format!("{noise:?} noise").to_lowercase()));
        parts.extend(self.lead_off.map(|off| if off { "lead off" } else { "lead on" }.to_owned()));
        parts.extend(self.gaps.map(|gaps| if gaps { "gaps" } else { "no gaps" }.to_owned()));
        f.write_str(&parts.join(", "))
    }
}

/// Number of the line with the byte `at`, from 1.
fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
