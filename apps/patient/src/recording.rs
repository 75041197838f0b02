//! What the form says about the recording of the ECGs: its time, the sampling rate and the lead.
//!
//! The time comes from the user, else from the files, else it is the time at which the files were selected. Sampling rate and
//! lead are needed only for files that do not state them.

use std::time::Duration;

use proto_json::{SignalOptions, Timestamp};
use ui::{Task, format, tr};

use crate::backend::Backend;
use crate::message::Message;

/// Pause after the last key before the ECGs are read again with other options.
const TYPING_PAUSE: Duration = Duration::from_millis(300);
/// Longest name of a lead that the gateway accepts, in characters.
const MAX_LEAD_CHARS: usize = 100;

/// The recording time that the selected ECGs suggest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suggestion {
    /// No ECG is selected.
    NoEcg,
    /// All files state this time.
    Stated(Timestamp),
    /// No file states a time. The first one was selected at this time, by the clock of this computer.
    Selected(Timestamp),
    /// The files state different times, or only some of them state one.
    Conflicting,
}

/// The recording time that is sent with an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RecordingTime {
    /// `None` if it is not known.
    pub(crate) at: Option<Timestamp>,
    /// Whether it is the time of selection by the clock of this computer.
    pub(crate) by_this_computer: bool,
}

/// The fields of the form about the recording.
pub(crate) struct RecordingController {
    backend: Backend,
    /// `None` while the suggestion is used.
    entered_time: Option<String>,
    suggestion: Suggestion,
    sample_rate: String,
    lead: String,
    /// Number of the latest change of sampling rate or lead.
    number: u64,
    settling: Task,
    is_settling: bool,
}

impl RecordingController {
    pub(crate) fn new(backend: Backend) -> Self {
        RecordingController {
            backend,
            entered_time: None,
            suggestion: Suggestion::NoEcg,
            sample_rate: String::new(),
            lead: String::new(),
            number: 0,
            settling: Task::default(),
            is_settling: false,
        }
    }

    pub(crate) fn edit_time(&mut self, text: &str) {
        self.entered_time = Some(text.to_owned());
    }

    pub(crate) fn edit_sample_rate(&mut self, text: &str) {
        text.trim().clone_into(&mut self.sample_rate);
        self.settle();
    }

    pub(crate) fn edit_lead(&mut self, text: &str) {
        text.trim().clone_into(&mut self.lead);
        self.settle();
    }

    /// Sends [`Message::SignalOptionsSettled`] after a pause.
    fn settle(&mut self) {
        self.number += 1;
        self.is_settling = true;
        let (number, sender) = (self.number, self.backend.sender.clone());
        self.settling = self.backend.background.spawn(async move {
            tokio::time::sleep(TYPING_PAUSE).await;
            sender.send(Message::SignalOptionsSettled { number });
        });
    }

    /// The options to read the ECGs with, if the latest change is the one of this number and the fields are valid.
    pub(crate) fn settled(&mut self, number: u64) -> Option<SignalOptions> {
        if number != self.number {
            return None;
        }
        self.is_settling = false;
        self.signal_options().ok()
    }

    pub(crate) fn clear(&mut self) {
        self.entered_time = None;
        self.sample_rate.clear();
        self.lead.clear();
        self.number += 1;
        self.is_settling = false;
        self.settling = Task::default();
        self.backend.api(|api| {
            api.set_sample_rate("".into());
            api.set_lead("".into());
        });
    }

    /// Sampling rate and lead as entered.
    ///
    /// # Errors
    /// One sentence that says which field is invalid.
    pub(crate) fn signal_options(&self) -> Result<SignalOptions, String> {
        let sample_rate_hz = match self.sample_rate.as_str() {
            "" => None,
            text => {
                let range = ecg::csv::MIN_RATE_HZ..=ecg::csv::MAX_RATE_HZ;
                let rate = text.replace(',', ".").parse::<f64>().ok().filter(|rate| range.contains(rate));
                Some(rate.ok_or_else(|| {
                    tr!(
                        "Enter the sampling rate as samples per second, from {} to {}.",
                        range.start(),
                        range.end()
                    )
                })?)
            }
        };
        if self.lead.chars().count() > MAX_LEAD_CHARS || self.lead.chars().any(char::is_control) {
            return Err(tr!(
                "Enter the name or the number of the lead, with at most {} characters.",
                MAX_LEAD_CHARS
            ));
        }
        Ok(SignalOptions { sample_rate_hz, lead: Some(self.lead.clone()).filter(|lead| !lead.is_empty()) })
    }

    /// Why the fields do not allow an upload. `now` is the time by the server's clock, if that is known.
    pub(crate) fn problem(&self, now: Timestamp) -> Option<String> {
        if self.suggestion == Suggestion::NoEcg {
            return None;
        }
        if let Err(problem) = self.signal_options() {
            return Some(problem);
        }
        if self.is_settling {
            return Some(tr!("Reading the ECGs again…").to_owned());
        }
        self.time(now).err()
    }

    /// The recording time to send. `now` is the time by the server's clock, if that is known.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the entered time.
    pub(crate) fn time(&self, now: Timestamp) -> Result<RecordingTime, String> {
        let stated = |at| Ok(RecordingTime { at: Some(at), by_this_computer: false });
        match (&self.entered_time, self.suggestion) {
            (_, Suggestion::NoEcg) => Ok(RecordingTime::default()),
            (None, Suggestion::Stated(at)) => stated(at),
            (None, Suggestion::Selected(at)) => Ok(RecordingTime { at: Some(at), by_this_computer: true }),
            (None, Suggestion::Conflicting) => Err(tr!(
                "The selected ECGs were recorded at different times, or not all of them state a time. \
                Upload them separately, or enter one time for all of them."
            )
            .to_owned()),
            (Some(text), _) if text.trim().is_empty() => Ok(RecordingTime::default()),
            (Some(text), _) => {
                let at = format::parse_time(text, now)
                    .ok_or(tr!("Enter the recording time as 2026-03-14 15:09:26 or 15:09."))?;
                if at.is_in_future_of(now) {
                    return Err(tr!("The recording time is in the future.").to_owned());
                }
                stated(at)
            }
        }
    }

    /// The recording time as one line for the confirmation.
    pub(crate) fn line(&self, now: Timestamp) -> Option<String> {
        let recorded = self.time(now).ok().filter(|_| self.suggestion != Suggestion::NoEcg)?;
        Some(match recorded.at {
            Some(at) => tr!("Recorded: {} ({})", at.local_seconds(), self.source()),
            None => tr!("Recorded: not known. Stations show the time of receipt").to_owned(),
        })
    }

    fn source(&self) -> &'static str {
        match (&self.entered_time, self.suggestion) {
            (Some(_), _) => tr!("as entered"),
            (None, Suggestion::Stated(_)) => tr!("as the file states"),
            (None, _) => tr!("when the file was selected"),
        }
    }

    /// Shows the fields for the selected files. `needs_options` is the reason why an ECG cannot be read with the entered
    /// sampling rate and lead.
    pub(crate) fn show(&mut self, suggestion: Suggestion, needs_options: Option<&str>, now: Timestamp) {
        if suggestion == Suggestion::NoEcg {
            // An entered time does not apply to files that are selected later.
            self.entered_time = None;
        }
        self.suggestion = suggestion;
        let suggested = match suggestion {
            Suggestion::Stated(at) | Suggestion::Selected(at) => at.local_seconds(),
            Suggestion::NoEcg | Suggestion::Conflicting => String::new(),
        };
        let time = self.time(now);
        let options = self.signal_options();
        let hint = match &time {
            Ok(RecordingTime { at: None, .. }) => {
                tr!("Not known. Stations show the time of receipt.").to_owned()
            }
            _ => tr!("Local time, {}.", self.source()),
        };
        let time_error = time.err().unwrap_or_default();
        let options_error = options.err().or_else(|| needs_options.map(str::to_owned)).unwrap_or_default();
        let is_entered = self.entered_time.is_some();
        self.backend.api(|api| {
            api.set_has_ecgs(suggestion != Suggestion::NoEcg);
            if !is_entered && api.get_recorded() != suggested.as_str() {
                api.set_recorded(suggested.into());
            }
            api.set_recorded_hint(hint.into());
            api.set_recorded_error(time_error.into());
            api.set_signal_error(options_error.into());
        });
    }
}

/// The recording time that several ECGs suggest. For each ECG: when it was selected, and when it was recorded according to its
/// file.
pub(crate) fn suggestion(mut ecgs: impl Iterator<Item = (Timestamp, Option<Timestamp>)>) -> Suggestion {
    let Some((mut selected, stated)) = ecgs.next() else { return Suggestion::NoEcg };
    for (other_selected, other_stated) in ecgs {
        if other_stated != stated {
            return Suggestion::Conflicting;
        }
        selected = selected.min(other_selected);
    }
    stated.map_or(Suggestion::Selected(selected), Suggestion::Stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_state_the_same_time_suggest_it() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000).unwrap();
        let of = |ecgs: &[(i64, Option<i64>)]| {
            suggestion(ecgs.iter().map(|(selected, stated)| (at(*selected), stated.map(at))))
        };
        assert_eq!(of(&[]), Suggestion::NoEcg);
        assert_eq!(of(&[(9, None)]), Suggestion::Selected(at(9)));
        assert_eq!(
            of(&[(9, None), (8, None)]),
            Suggestion::Selected(at(8)),
            "the earlier time: a value must not look younger than it is"
        );
        assert_eq!(of(&[(9, Some(1)), (8, Some(1))]), Suggestion::Stated(at(1)));
        assert_eq!(of(&[(9, Some(1)), (8, Some(2))]), Suggestion::Conflicting);
        assert_eq!(of(&[(9, Some(1)), (8, None)]), Suggestion::Conflicting);
    }
}
