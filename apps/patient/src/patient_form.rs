//! Record number and name in the form, and what the gateway knows about the record number.

use std::time::Duration;

use client::{ClientError, Gateway};
use proto_json::{Mrn, MrnError, NameMatch, match_names};
use ui::{Task, tr};

use crate::backend::Backend;
use crate::message::Message;
use crate::messages;
use crate::model::PatientLookup;

/// Pause after the last key before the gateway is asked.
const TYPING_PAUSE: Duration = Duration::from_millis(250);
/// Longest duration of a request. The upload continues without the answer afterwards.
const LOOKUP_LIMIT: Duration = Duration::from_millis(1500);
/// Longest name that a gateway accepts, in characters.
const MAX_NAME_CHARS: usize = 500;

/// The fields of the form about the patient.
pub(crate) struct PatientController {
    backend: Backend,
    mrn: String,
    name: String,
    lookup: PatientLookup,
    /// Number of the latest request.
    number: u64,
    request: Task,
}

impl PatientController {
    pub(crate) fn new(backend: Backend, mrn: String, name: String) -> Self {
        let controller = PatientController {
            backend,
            mrn,
            name,
            lookup: PatientLookup::Unknown,
            number: 0,
            request: Task::default(),
        };
        controller.backend.api(|api| {
            api.set_mrn((&controller.mrn).into());
            api.set_name((&controller.name).into());
        });
        controller.refresh();
        controller
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.mrn.trim().is_empty() && self.name.trim().is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.mrn.clear();
        self.name.clear();
        self.forget_lookup();
        self.backend.api(|api| {
            api.set_mrn("".into());
            api.set_name("".into());
        });
        self.refresh();
    }

    fn forget_lookup(&mut self) {
        self.lookup = PatientLookup::Unknown;
        self.number += 1;
        self.request = Task::default();
    }

    /// The record number; `None` while the field is empty.
    pub(crate) fn mrn(&self) -> Option<Result<Mrn, MrnError>> {
        Some(self.mrn.trim()).filter(|text| !text.is_empty()).map(str::parse)
    }

    /// The name; `None` while the field is empty.
    pub(crate) fn name(&self) -> Option<&str> {
        Some(self.name.trim()).filter(|name| !name.is_empty())
    }

    /// Why the fields do not allow an upload.
    pub(crate) fn problem(&self) -> Option<String> {
        match self.mrn() {
            None => Some(tr!("Enter the medical record number to upload.").to_owned()),
            Some(Err(error)) => Some(messages::mrn_error(&error)),
            Some(Ok(_)) => self.name_problem(),
        }
    }

    fn name_problem(&self) -> Option<String> {
        let name = self.name()?;
        if name.chars().count() > MAX_NAME_CHARS {
            return Some(tr!("A name has at most {} characters.", MAX_NAME_CHARS));
        }
        name.chars()
            .any(char::is_control)
            .then(|| tr!("The name contains a character that cannot be shown.").to_owned())
    }

    pub(crate) fn lookup(&self) -> &PatientLookup {
        &self.lookup
    }

    pub(crate) fn edit_mrn(&mut self, text: &str, gateway: Option<&Gateway>) {
        text.clone_into(&mut self.mrn);
        self.forget_lookup();
        self.look_up(gateway, TYPING_PAUSE);
        self.refresh();
    }

    pub(crate) fn edit_name(&mut self, text: &str, gateway: Option<&Gateway>) {
        text.clone_into(&mut self.name);
        // If this client may not read names, only the gateway can compare the entered one.
        if matches!(self.lookup, PatientLookup::Compared(_) | PatientLookup::Unavailable(_)) {
            self.forget_lookup();
            self.look_up(gateway, TYPING_PAUSE);
        }
        self.refresh();
    }

    /// Asks the gateway who has the record number, after a pause. The answer is [`Message::PatientLookedUp`].
    pub(crate) fn look_up(&mut self, gateway: Option<&Gateway>, pause: Duration) {
        let (Some(Ok(mrn)), Some(gateway)) = (self.mrn(), gateway.cloned()) else { return };
        self.number += 1;
        let (number, sender) = (self.number, self.backend.sender.clone());
        let name = self.name().map(str::to_owned);
        self.request = self.backend.background.spawn(async move {
            tokio::time::sleep(pause).await;
            let result = match tokio::time::timeout(LOOKUP_LIMIT, request(&gateway, mrn, name)).await {
                Ok(result) => result,
                Err(_) => {
                    Err(ClientError::TimedOut { gateway: gateway.address().to_owned(), limit: LOOKUP_LIMIT })
                }
            };
            sender.send(Message::PatientLookedUp { number, mrn, result });
        });
    }

    /// Takes the answer of the gateway. Returns whether it answers the latest request.
    pub(crate) fn looked_up(
        &mut self,
        number: u64,
        mrn: Mrn,
        result: Result<PatientLookup, ClientError>,
    ) -> bool {
        if number != self.number || self.mrn() != Some(Ok(mrn)) {
            return false;
        }
        self.lookup = match result {
            Ok(lookup) => lookup,
            Err(ClientError::Forbidden(_)) => {
                PatientLookup::Unavailable(tr!("the access token does not allow it").to_owned())
            }
            Err(error) if error.is_unreachable() => {
                PatientLookup::Unavailable(tr!("the gateway cannot be reached").to_owned())
            }
            Err(error) => {
                // The reason is shown in the middle of a sentence.
                PatientLookup::Unavailable(error.to_string().trim_end_matches('.').to_owned())
            }
        };
        self.refresh();
        true
    }

    /// Whether the upload would change the name of a known patient.
    pub(crate) fn renames(&self) -> bool {
        match (self.name(), &self.lookup) {
            (Some(name), PatientLookup::Found(stored)) => {
                match_names(name, stored.as_deref()) == NameMatch::Different
            }
            (Some(_), PatientLookup::Compared(NameMatch::Different)) => true,
            _ => false,
        }
    }

    /// The question to confirm before an upload that would change the name of a known patient.
    pub(crate) fn rename_warning(&self) -> Option<String> {
        let name = self.name().filter(|_| self.renames())?;
        let stored = match &self.lookup {
            PatientLookup::Found(Some(stored)) => tr!("belongs to “{}”", stored),
            _ => tr!("belongs to a patient with another name").to_owned(),
        };
        Some(tr!(
            "Record number {} {}. This upload would rename the patient to “{}”. Is it the right patient?",
            self.mrn.trim(),
            stored,
            name
        ))
    }

    /// Name and record number as two lines for the confirmation.
    pub(crate) fn lines(&self) -> String {
        let name = match (self.name(), &self.lookup) {
            (Some(name), _) => name.to_owned(),
            (None, PatientLookup::Found(Some(name))) => tr!("{} (stored name)", name),
            (None, _) => tr!("no name entered").to_owned(),
        };
        tr!("Patient: {}\nMedical record number: {}", name, self.mrn.trim())
    }

    fn refresh(&self) {
        let mrn_error = match self.mrn() {
            Some(Err(error)) => messages::mrn_error(&error),
            _ => String::new(),
        };
        let hint = match &self.lookup {
            PatientLookup::Unknown => String::new(),
            PatientLookup::NotFound => tr!("New patient: no patient has this number.").to_owned(),
            PatientLookup::Found(None) => tr!("Known patient without a name.").to_owned(),
            PatientLookup::Found(Some(name)) => tr!("Known as {}.", name),
            PatientLookup::Compared(NameMatch::Same) => tr!("Known patient with this name.").to_owned(),
            PatientLookup::Compared(NameMatch::Different) => {
                tr!("Known patient with another name.").to_owned()
            }
            PatientLookup::Compared(NameMatch::Unnamed) => {
                tr!("New patient, or known patient without a name.").to_owned()
            }
            PatientLookup::Unavailable(reason) => tr!("The number cannot be checked: {}.", reason),
        };
        let name_error = match (self.name_problem(), self.renames(), &self.lookup) {
            (Some(problem), _, _) => problem,
            (None, true, PatientLookup::Found(Some(name))) => tr!("This number belongs to {}.", name),
            (None, true, _) => tr!("The patient with this number has another name.").to_owned(),
            (None, false, _) => String::new(),
        };
        self.backend.api(|api| {
            api.set_mrn_hint(hint.into());
            api.set_mrn_error(mrn_error.into());
            api.set_name_error(name_error.into());
        });
    }
}

/// Asks who has the record number. If the access token does not allow reading names, has the entered name compared instead.
async fn request(gateway: &Gateway, mrn: Mrn, name: Option<String>) -> Result<PatientLookup, ClientError> {
    match gateway.patient(mrn).await {
        Ok(None) => Ok(PatientLookup::NotFound),
        Ok(Some(patient)) => Ok(PatientLookup::Found(patient.name)),
        Err(ClientError::Forbidden(problem)) => match name {
            Some(name) => gateway.check_name(mrn, &name).await.map(PatientLookup::Compared),
            None => Err(ClientError::Forbidden(problem)),
        },
        Err(error) => Err(error),
    }
}
