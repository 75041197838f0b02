//! When the ECGs were recorded: as their files state it, as the person types it, or else when they were chosen.

use proto_json::Timestamp;
use ui::format;

use crate::link::Link;

/// What the chosen ECGs say of their recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suggestion {
    /// There are none.
    NoEcg,
    /// All files state this time.
    Stated(Timestamp),
    /// No file states a time; the first one was chosen at this time, by the clock of this computer.
    Chosen(Timestamp),
    /// The files do not agree, or only some of them state a time.
    Several,
}

/// When the ECGs were recorded, as it is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// `None`: not known.
    pub(crate) at: Option<Timestamp>,
    /// It is the time of choosing, by the clock of this computer.
    pub(crate) by_this_computer: bool,
}

/// The field of the form.
pub(crate) struct Recording {
    link: Link,
    /// What was typed; `None` while the suggestion stands.
    typed: Option<String>,
    suggestion: Suggestion,
}

impl Recording {
    pub(crate) fn new(link: Link) -> Self {
        Recording { link, typed: None, suggestion: Suggestion::NoEcg }
    }

    pub(crate) fn edit(&mut self, text: &str) {
        self.typed = Some(text.to_owned());
    }

    pub(crate) fn clear(&mut self) {
        self.typed = None;
    }

    /// What is sent, or why it cannot be. `now` is the time by the clock of the server, if that is known.
    pub(crate) fn value(&self, now: Timestamp) -> Result<Recorded, String> {
        let stated = |at| Ok(Recorded { at: Some(at), by_this_computer: false });
        match (&self.typed, self.suggestion) {
            (_, Suggestion::NoEcg) => Ok(Recorded::default()),
            (None, Suggestion::Stated(at)) => stated(at),
            (None, Suggestion::Chosen(at)) => Ok(Recorded { at: Some(at), by_this_computer: true }),
            (None, Suggestion::Several) => {
                Err("The chosen ECGs were recorded at different times, or not all of them state it. \
                Upload them one after the other, or enter one time for all of them."
                    .to_owned())
            }
            (Some(text), _) if text.trim().is_empty() => Ok(Recorded::default()),
            (Some(text), _) => {
                let at = format::parse_time(text, now)
                    .ok_or("Enter the recording time as 2026-03-14 15:09:26 or 15:09.")?;
                if at.is_in_future_of(now) {
                    return Err("The recording time is in the future.".to_owned());
                }
                stated(at)
            }
        }
    }

    /// In a line, for the question before the upload.
    pub(crate) fn line(&self, now: Timestamp) -> Option<String> {
        let recorded = self.value(now).ok().filter(|_| self.suggestion != Suggestion::NoEcg)?;
        Some(match recorded.at {
            Some(at) => format!("Recorded: {} ({})", at.local_seconds(), self.source()),
            None => "Recorded: not known; stations will show when it was received".to_owned(),
        })
    }

    fn source(&self) -> &'static str {
        match (&self.typed, self.suggestion) {
            (Some(_), _) => "as entered",
            (None, Suggestion::Stated(_)) => "as the file states",
            (None, _) => "when the file was chosen",
        }
    }

    /// Shows the field as the chosen files and the person want it.
    pub(crate) fn show(&mut self, suggestion: Suggestion, now: Timestamp) {
        if suggestion == Suggestion::NoEcg {
            // What was typed was about files that are gone.
            self.typed = None;
        }
        self.suggestion = suggestion;
        let suggested = match suggestion {
            Suggestion::Stated(at) | Suggestion::Chosen(at) => at.local_seconds(),
            Suggestion::NoEcg | Suggestion::Several => String::new(),
        };
        let value = self.value(now);
        let hint = match &value {
            Ok(Recorded { at: None, .. }) => "Not known: stations will show when it was received.".to_owned(),
            _ => format!("Local time, {}.", self.source()),
        };
        let error = value.err().unwrap_or_default();
        let is_typed = self.typed.is_some();
        self.link.api(|api| {
            api.set_asks_recorded(suggestion != Suggestion::NoEcg);
            if !is_typed && api.get_recorded() != suggested.as_str() {
                api.set_recorded(suggested.into());
            }
            api.set_recorded_hint(hint.into());
            api.set_recorded_error(error.into());
        });
    }
}

/// What ECGs say together: of each, when it was chosen and when its file states that it was recorded.
pub(crate) fn suggestion(mut ecgs: impl Iterator<Item = (Timestamp, Option<Timestamp>)>) -> Suggestion {
    let Some((mut chosen, stated)) = ecgs.next() else { return Suggestion::NoEcg };
    for (other_chosen, other_stated) in ecgs {
        if other_stated != stated {
            return Suggestion::Several;
        }
        chosen = chosen.min(other_chosen);
    }
    stated.map_or(Suggestion::Chosen(chosen), Suggestion::Stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_agree_suggest_a_time_and_others_none() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000).unwrap();
        let of = |ecgs: &[(i64, Option<i64>)]| {
            suggestion(ecgs.iter().map(|(chosen, stated)| (at(*chosen), stated.map(at))))
        };
        assert_eq!(of(&[]), Suggestion::NoEcg);
        assert_eq!(of(&[(9, None)]), Suggestion::Chosen(at(9)));
        assert_eq!(
            of(&[(9, None), (8, None)]),
            Suggestion::Chosen(at(8)),
            "the earlier one: a value must not look younger"
        );
        assert_eq!(of(&[(9, Some(1)), (8, Some(1))]), Suggestion::Stated(at(1)));
        assert_eq!(of(&[(9, Some(1)), (8, Some(2))]), Suggestion::Several);
        assert_eq!(of(&[(9, Some(1)), (8, None)]), Suggestion::Several);
    }
}
