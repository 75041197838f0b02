//! Who the patient is, as typed, and who has that record number already.

use client::{ClientError, Gateway};
use proto_json::{Mrn, MrnError, PatientSummary};
use ui::{Task, words};

use crate::link::Link;
use crate::message::Message;

/// Wait after the last key before the record number is looked up.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(250);
/// How long a look-up may take before the upload goes on without it.
const LIMIT: std::time::Duration = std::time::Duration::from_millis(1500);
/// Longest name a gateway takes, in characters.
const LONGEST_NAME: usize = 500;

/// What is known of the record number in the field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Known {
    /// Nothing yet.
    Unasked,
    /// Nobody has it.
    Nobody,
    /// A patient has it, under this name if one was ever given.
    Patient(Option<String>),
    /// Nobody can say now, and why.
    Unclear(String),
}

/// Who the patient is, as typed.
pub(crate) struct PatientForm {
    link: Link,
    mrn: String,
    name: String,
    known: Known,
    /// Number of the latest look-up.
    number: u64,
    asking: Task,
}

impl PatientForm {
    pub(crate) fn new(link: Link, mrn: String, name: String) -> Self {
        let form = PatientForm { link, mrn, name, known: Known::Unasked, number: 0, asking: Task::default() };
        form.link.api(|api| {
            api.set_mrn((&form.mrn).into());
            api.set_name((&form.name).into());
        });
        form.refresh();
        form
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mrn.trim().is_empty() && self.name.trim().is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.mrn.clear();
        self.name.clear();
        self.forget();
        self.link.api(|api| {
            api.set_mrn("".into());
            api.set_name("".into());
        });
        self.refresh();
    }

    fn forget(&mut self) {
        self.known = Known::Unasked;
        self.number += 1;
        self.asking = Task::default();
    }

    /// The record number; `None` while none is typed.
    pub(crate) fn mrn(&self) -> Option<Result<Mrn, MrnError>> {
        Some(self.mrn.trim()).filter(|text| !text.is_empty()).map(str::parse)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        Some(self.name.trim()).filter(|name| !name.is_empty())
    }

    /// Why the name cannot go as it is.
    pub(crate) fn name_problem(&self) -> Option<String> {
        let name = self.name()?;
        if name.chars().count() > LONGEST_NAME {
            return Some(format!("A name has at most {LONGEST_NAME} letters."));
        }
        name.chars()
            .any(char::is_control)
            .then(|| "The name holds a character that cannot be shown.".to_owned())
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn edit_mrn(&mut self, text: &str, gateway: Option<&Gateway>) {
        text.clone_into(&mut self.mrn);
        self.forget();
        self.look_up(gateway, PAUSE);
        self.refresh();
    }

    pub(crate) fn edit_name(&mut self, text: &str) {
        text.clone_into(&mut self.name);
        self.refresh();
    }

    /// Asks who has the number, after a pause. The answer comes as [`Message::Known`].
    pub(crate) fn look_up(&mut self, gateway: Option<&Gateway>, pause: std::time::Duration) {
        let (Some(Ok(mrn)), Some(gateway)) = (self.mrn(), gateway.cloned()) else { return };
        self.number += 1;
        let (number, mail) = (self.number, self.link.mail.clone());
        self.asking = self.link.network.spawn(async move {
            tokio::time::sleep(pause).await;
            let answer = match tokio::time::timeout(LIMIT, gateway.patient(mrn)).await {
                Ok(answer) => answer.map(|patient| patient.map(Box::new)),
                Err(_) => Err(ClientError::TimedOut { gateway: gateway.address().to_owned(), limit: LIMIT }),
            };
            let _ = mail.send(Message::Known { number, mrn, answer });
        });
    }

    /// Whether the answer is to the latest question.
    pub(crate) fn answered(
        &mut self,
        number: u64,
        mrn: Mrn,
        answer: Result<Option<Box<PatientSummary>>, ClientError>,
    ) -> bool {
        if number != self.number || self.mrn() != Some(Ok(mrn)) {
            return false;
        }
        self.known = match answer {
            Ok(None) => Known::Nobody,
            Ok(Some(patient)) => Known::Patient(patient.name),
            Err(ClientError::Forbidden(_)) => Known::Unclear("the access token does not allow it".to_owned()),
            Err(error) if error.is_unreachable() => {
                Known::Unclear("the gateway cannot be reached".to_owned())
            }
            Err(error) => {
                // It stands in the middle of a sentence.
                Known::Unclear(error.to_string().trim_end_matches('.').to_owned())
            }
        };
        self.refresh();
        true
    }

    /// What a person should be told before this goes under that name.
    pub(crate) fn name_warning(&self) -> Option<String> {
        let (Known::Patient(Some(known)), Some(typed)) = (&self.known, self.name()) else { return None };
        (!same_name(known, typed)).then(|| {
            format!(
                "Record number {} is known as “{known}”. This upload would rename the patient to “{typed}”. \
                 Is it the right patient?",
                self.mrn.trim()
            )
        })
    }

    /// The patient in one line.
    pub(crate) fn spoken(&self) -> String {
        let name = match (self.name(), &self.known) {
            (Some(name), _) => name.to_owned(),
            (None, Known::Patient(Some(name))) => format!("{name} (as known)"),
            (None, _) => "no name given".to_owned(),
        };
        format!("Patient: {name}\nMedical record number: {}", self.mrn.trim())
    }

    fn refresh(&self) {
        let error = match self.mrn() {
            Some(Err(error)) => words::sentence(&error.to_string()),
            _ => String::new(),
        };
        let hint = match (&self.known, self.name_warning()) {
            (Known::Unasked, _) => String::new(),
            (Known::Nobody, _) => "New: nobody has this number yet.".to_owned(),
            (Known::Patient(None), _) => "Known, without a name.".to_owned(),
            (Known::Patient(Some(name)), _) => format!("Known as {name}."),
            (Known::Unclear(reason), _) => format!("Who has it cannot be checked: {reason}."),
        };
        let name_error = match (self.name_problem(), self.name_warning(), &self.known) {
            (Some(problem), _, _) => problem,
            (None, Some(_), Known::Patient(Some(name))) => format!("This number belongs to {name}."),
            _ => String::new(),
        };
        self.link.api(|api| {
            api.set_mrn_hint(hint.into());
            api.set_mrn_error(error.into());
            api.set_name_error(name_error.into());
        });
    }
}

/// Case and blanks do not make another name.
fn same_name(known: &str, typed: &str) -> bool {
    let plain = |name: &str| name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>();
    plain(known) == plain(typed)
}

#[cfg(test)]
mod tests {
    use super::same_name;

    #[test]
    fn case_and_blanks_do_not_make_another_name() {
        assert!(same_name("Ida Noether", " ida  NOETHER"));
        assert!(!same_name("Ida Noether", "Ida Bauer"));
        assert!(!same_name("Ida Noether", "IdaNoether"));
    }
}
