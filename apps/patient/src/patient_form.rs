//! Who the patient is, as typed, and who has that record number already.

use client::{ClientError, Gateway};
use proto_json::{Mrn, MrnError, NameMatch, match_names};
use ui::{Task, format};

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
    /// The access token may not read names. This is how the typed name compares with the stored one.
    Compared(NameMatch),
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

    pub(crate) fn edit_name(&mut self, text: &str, gateway: Option<&Gateway>) {
        text.clone_into(&mut self.name);
        // Only the gateway can compare it with a name that this client may not read.
        if matches!(self.known, Known::Compared(_) | Known::Unclear(_)) {
            self.forget();
            self.look_up(gateway, PAUSE);
        }
        self.refresh();
    }

    /// Asks who has the number, after a pause. The answer comes as [`Message::Known`].
    pub(crate) fn look_up(&mut self, gateway: Option<&Gateway>, pause: std::time::Duration) {
        let (Some(Ok(mrn)), Some(gateway)) = (self.mrn(), gateway.cloned()) else { return };
        self.number += 1;
        let (number, mail) = (self.number, self.link.mail.clone());
        let name = self.name().map(str::to_owned);
        self.asking = self.link.network.spawn(async move {
            tokio::time::sleep(pause).await;
            let answer = match tokio::time::timeout(LIMIT, ask(&gateway, mrn, name)).await {
                Ok(answer) => answer,
                Err(_) => Err(ClientError::TimedOut { gateway: gateway.address().to_owned(), limit: LIMIT }),
            };
            let _ = mail.send(Message::Known { number, mrn, answer });
        });
    }

    /// Whether the answer is to the latest question.
    pub(crate) fn answered(&mut self, number: u64, mrn: Mrn, answer: Result<Known, ClientError>) -> bool {
        if number != self.number || self.mrn() != Some(Ok(mrn)) {
            return false;
        }
        self.known = match answer {
            Ok(known) => known,
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
        let typed = self.name()?;
        let known = match &self.known {
            Known::Patient(known) if match_names(typed, known.as_deref()) == NameMatch::Different => {
                format!("is known as “{}”", known.as_deref().unwrap_or_default())
            }
            Known::Compared(NameMatch::Different) => "has another name".to_owned(),
            _ => return None,
        };
        Some(format!(
            "Record number {} {known}. This upload would rename the patient to “{typed}”. Is it the right patient?",
            self.mrn.trim()
        ))
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
            Some(Err(error)) => format::sentence(&error.to_string()),
            _ => String::new(),
        };
        let hint = match (&self.known, self.name_warning()) {
            (Known::Unasked, _) => String::new(),
            (Known::Nobody, _) => "New: nobody has this number yet.".to_owned(),
            (Known::Patient(None), _) => "Known, without a name.".to_owned(),
            (Known::Patient(Some(name)), _) => format!("Known as {name}."),
            (Known::Compared(NameMatch::Same), _) => "Known under this name.".to_owned(),
            (Known::Compared(NameMatch::Different), _) => "Known under another name.".to_owned(),
            (Known::Compared(NameMatch::Unnamed), _) => "New, or known without a name.".to_owned(),
            (Known::Unclear(reason), _) => format!("Who has it cannot be checked: {reason}."),
        };
        let name_error = match (self.name_problem(), self.name_warning(), &self.known) {
            (Some(problem), _, _) => problem,
            (None, Some(_), Known::Patient(Some(name))) => format!("This number belongs to {name}."),
            (None, Some(_), _) => "The patient with this number has another name.".to_owned(),
            _ => String::new(),
        };
        self.link.api(|api| {
            api.set_mrn_hint(hint.into());
            api.set_mrn_error(error.into());
            api.set_name_error(name_error.into());
        });
    }
}

/// Asks the gateway who has the number. A client that may only upload has its name compared instead.
async fn ask(gateway: &Gateway, mrn: Mrn, name: Option<String>) -> Result<Known, ClientError> {
    match gateway.patient(mrn).await {
        Ok(None) => Ok(Known::Nobody),
        Ok(Some(patient)) => Ok(Known::Patient(patient.name)),
        Err(ClientError::Forbidden(problem)) => match name {
            Some(name) => gateway.check_name(mrn, &name).await.map(Known::Compared),
            None => Err(ClientError::Forbidden(problem)),
        },
        Err(error) => Err(error),
    }
}
