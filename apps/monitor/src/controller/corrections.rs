//! The dialogs of corrections.
//!
//! Invariant: nothing is corrected without a reason and a confirmation that names the patients.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use proto_json::{CorrectionAction, CorrectionId, HeartRateSource, Mrn, RecordId, Timestamp, UploadId};
use slint::{ComponentHandle, Model, ModelRc, VecModel};
use ui::{format, tr};

use super::context::Context;
use crate::backend::{Correctable, CorrectionRequest};
use crate::messages;
use crate::window::{Correct, CorrectionForm, CorrectionKind, Dialog, OptionData, Tone};

/// The maximum number of patients in the drop-down list.
const MAX_PATIENTS: usize = 200;

/// The controller of the dialogs of corrections.
#[derive(Default)]
pub(super) struct CorrectionsController {
    items: Rc<VecModel<OptionData>>,
    patients: Rc<VecModel<OptionData>>,
    /// What can be corrected. `None` while it is loaded.
    found: Option<Box<Correctable>>,
    /// The correction that waits for the confirmation.
    request: Option<CorrectionRequest>,
    /// The patient whose correction waits for the server.
    waiting: Option<Mrn>,
}

fn correct(context: &Context) -> Correct<'_> {
    context.window.global::<Correct>()
}

fn change(context: &Context, change: impl FnOnce(&mut CorrectionForm)) {
    let correct = correct(context);
    let mut form = correct.get_form();
    change(&mut form);
    correct.set_form(form);
}

impl CorrectionsController {
    pub(super) fn bind(&self, context: &Context) {
        let correct = correct(context);
        correct.set_items(ModelRc::from(self.items.clone()));
        correct.set_patients(ModelRc::from(self.patients.clone()));
    }

    /// Opens the dialog for a patient.
    pub(super) fn open(&mut self, context: &Context, mrn: Mrn) {
        let Some(tile) = context.overview.get(mrn) else { return };
        let correct = correct(context);
        correct.set_form(CorrectionForm {
            mrn: mrn.to_string().into(),
            title: context.patient_title(mrn).into(),
            name: tile.patient.name.clone().unwrap_or_default().into(),
            ..CorrectionForm::default()
        });
        self.found = None;
        self.request = None;
        correct.set_busy(self.waiting.is_some());
        correct.set_error("".into());
        if !context.backend.load_correctable(mrn) {
            correct.set_error(tr!("There is no connection to the gateway.").into());
        }
        self.show_items(context);
        self.search(context, "");
        context.show_dialog(Dialog::Correction);
    }

    /// What can be corrected was loaded, or could not be.
    pub(super) fn loaded(&mut self, context: &Context, mrn: Mrn, result: Result<Box<Correctable>, String>) {
        let correct = correct(context);
        if correct.get_form().mrn != mrn.to_string().as_str() {
            return;
        }
        match result {
            Ok(found) => self.found = Some(found),
            Err(reason) => correct.set_error(reason.into()),
        }
        self.show_items(context);
    }

    pub(super) fn select_kind(&self, context: &Context, kind: CorrectionKind) {
        change(context, |form| form.kind = kind);
        correct(context).set_error("".into());
        self.show_items(context);
        self.search(context, "");
    }

    /// Lists what the selected kind of correction can concern, and selects the newest one.
    fn show_items(&self, context: &Context) {
        let now = context.now();
        let kind = correct(context).get_form().kind;
        let items = self.found.as_ref().map(|found| match kind {
            CorrectionKind::EnteredInError => records(found, now),
            CorrectionKind::Move => uploads(found, now),
            CorrectionKind::Undo => undoable(found, now),
            CorrectionKind::Name | CorrectionKind::Merge => Vec::new(),
        });
        let note = match items.as_ref().map(Vec::len) {
            None => tr!("Loading…").to_owned(),
            Some(0) => tr!("There is nothing to correct.").to_owned(),
            Some(count) => format::count(count as u64, tr!("entry"), tr!("entries")),
        };
        let items = items.unwrap_or_default();
        change(context, |form| {
            let first = items.first();
            form.item_key = first.map(|item| item.key.clone()).unwrap_or_default();
            form.item = first.map(title).unwrap_or_default().into();
        });
        correct(context).set_items_note(note.into());
        self.items.set_vec(items);
    }

    pub(super) fn select_item(&self, context: &Context, key: &str) {
        if let Some(item) = self.items.iter().find(|item| item.key == key) {
            change(context, |form| (form.item_key, form.item) = (key.into(), title(&item).into()));
        }
    }

    /// Lists the other patients whose name or number contains a text. An upload can also be moved to a new number.
    pub(super) fn search(&self, context: &Context, text: &str) {
        let text = text.trim().to_lowercase();
        let form = correct(context).get_form();
        let mut found: Vec<_> = context
            .overview
            .all()
            .filter(|tile| form.mrn != tile.patient.mrn.to_string().as_str())
            .filter(|tile| {
                tile.patient.mrn.to_string().contains(&text)
                    || messages::name(&tile.patient).to_lowercase().contains(&text)
            })
            .collect();
        found.sort_by_cached_key(|tile| messages::name(&tile.patient).to_lowercase());
        let mut options: Vec<OptionData> = found
            .iter()
            .take(MAX_PATIENTS)
            .map(|tile| {
                let split = context.overview.split_name(tile.patient.mrn);
                messages::patient_option(&tile.patient, split, None)
            })
            .collect();
        if form.kind == CorrectionKind::Move
            && let Ok(mrn) = text.parse::<Mrn>()
            && context.overview.get(mrn).is_none()
        {
            let title = messages::plain_name(&tr!("New patient {}", mrn));
            options.push(OptionData { key: mrn.to_string().into(), title, ..OptionData::default() });
        }
        let note = match options.len() {
            0 => tr!("No patient has this name or number.").to_owned(),
            count => format::count(count as u64, tr!("patient"), tr!("patients")),
        };
        correct(context).set_patients_note(note.into());
        self.patients.set_vec(options);
    }

    pub(super) fn select_patient(&self, context: &Context, key: &str) {
        let Ok(mrn) = key.parse::<Mrn>() else { return };
        let target = patient(context, mrn);
        change(context, |form| (form.target_key, form.target) = (key.into(), target.into()));
    }

    /// Checks the form and asks for the confirmation.
    pub(super) fn check(&mut self, context: &Context) {
        let correct = correct(context);
        let form = correct.get_form();
        let Some((request, text)) = request(context, &form) else { return };
        self.request = Some(request);
        let reason = tr!("Reason: {}", form.reason.trim());
        correct.set_summary(format!("{text}\n{reason}").into());
        correct.set_error("".into());
        context.show_dialog(Dialog::CorrectionConfirmation);
    }

    /// Sends the correction.
    pub(super) fn confirm(&mut self, context: &Context) {
        let correct = correct(context);
        let form = correct.get_form();
        let (Ok(mrn), Some(request)) = (form.mrn.parse::<Mrn>(), self.request.clone()) else { return };
        if context.backend.correct(mrn, request, form.reason.trim().to_owned()) {
            self.waiting = Some(mrn);
            correct.set_busy(true);
            correct.set_error("".into());
        } else {
            correct.set_error(tr!("There is no connection to the gateway.").into());
        }
    }

    /// The server has answered. Returns the patient to open, because the number of the corrected one is no longer used.
    pub(super) fn corrected(
        &mut self,
        context: &Context,
        mrn: Mrn,
        request: &CorrectionRequest,
        result: Result<(), String>,
    ) -> Option<Mrn> {
        self.waiting = None;
        let correct = correct(context);
        let is_open =
            matches!(context.api().get_dialog(), Dialog::Correction | Dialog::CorrectionConfirmation)
                && correct.get_form().mrn == mrn.to_string().as_str();
        if result.is_err() || !is_open {
            correct.set_busy(false);
        }
        match result {
            Ok(()) => {
                if is_open {
                    // Its button stays disabled: a button that is enabled takes the focus, and would take it along.
                    context.show_dialog(Dialog::None);
                }
                context.show_message(Tone::Good, tr!("The correction is stored."));
                match request {
                    CorrectionRequest::Merge(_, into) => Some(*into),
                    _ => None,
                }
            }
            Err(reason) => {
                if is_open {
                    correct.set_error(reason.into());
                } else {
                    context.show_message(Tone::Danger, &tr!("Nothing is corrected. {}", reason));
                }
                None
            }
        }
    }
}

/// The name and the number of a patient, also of a new one.
fn patient(context: &Context, mrn: Mrn) -> String {
    match context.overview.get(mrn) {
        Some(_) => context.patient_title(mrn),
        None => tr!("New patient {}", mrn),
    }
}

/// The correction that a form stands for, and what it does, as a sentence. `None` if the form is incomplete.
fn request(context: &Context, form: &CorrectionForm) -> Option<(CorrectionRequest, String)> {
    let mrn: Mrn = form.mrn.parse().ok()?;
    let target = form.target_key.parse::<Mrn>();
    Some(match form.kind {
        CorrectionKind::EnteredInError => (
            CorrectionRequest::MarkError(form.item_key.parse::<RecordId>().ok()?),
            tr!("{} of {} is hidden at all stations.", form.item, form.title),
        ),
        CorrectionKind::Move => {
            let to = target.ok()?;
            let create = context.overview.get(to).is_none();
            let upload = form.item_key.parse::<UploadId>().ok()?;
            let text = tr!("{} is moved from {} to {}.", form.item, form.title, form.target);
            (CorrectionRequest::Move(upload, to, create), text)
        }
        CorrectionKind::Name => {
            let name = form.name.trim().to_owned();
            let text = tr!("{} gets the name {}.", form.title, name);
            (CorrectionRequest::Name(mrn, name), text)
        }
        CorrectionKind::Merge => (
            CorrectionRequest::Merge(mrn, target.ok()?),
            tr!(
                "All records of {} are moved to {}. The number {} is no longer used.",
                form.title,
                form.target,
                mrn
            ),
        ),
        CorrectionKind::Undo => {
            let text = tr!("This is undone: {}.", form.item);
            match form.item_key.split_once(':')? {
                ("merge", id) => (CorrectionRequest::UndoMerge(id.parse::<CorrectionId>().ok()?), text),
                (_, record) => (CorrectionRequest::UnmarkError(record.parse::<RecordId>().ok()?), text),
            }
        }
    })
}

/// An item in one line.
fn title(item: &OptionData) -> String {
    match item.detail.as_str() {
        "" => item.title.full.to_string(),
        detail => format!("{} · {detail}", item.title.full),
    }
}

fn item(key: String, at: Timestamp, now: Timestamp, detail: String) -> (Timestamp, OptionData) {
    let title = messages::plain_name(&format::time_or_date(at, now));
    (at, OptionData { key: key.into(), title, detail: detail.into(), ..OptionData::default() })
}

fn newest_first(mut items: Vec<(Timestamp, OptionData)>) -> Vec<OptionData> {
    items.sort_by_key(|(at, _)| Reverse(*at));
    items.into_iter().map(|(_, item)| item).collect()
}

/// The records of a patient. An ECG includes its heart rate.
fn records(found: &Correctable, now: Timestamp) -> Vec<OptionData> {
    let rates = found
        .rates
        .iter()
        .filter(|rate| rate.ecg_id.is_none() || rate.source == HeartRateSource::Reported)
        .map(|rate| item(rate.id.to_string(), rate.at, now, tr!("heart rate {} bpm", rate.bpm)));
    let ecgs = found.ecgs.iter().map(|ecg| {
        let rate = ecg.heart_rate.map(|rate| tr!("ECG, {} bpm", rate));
        item(ecg.id.to_string(), ecg.at, now, rate.unwrap_or_else(|| tr!("ECG").to_owned()))
    });
    let images =
        found.images.iter().map(|image| item(image.id.to_string(), image.at, now, tr!("image").to_owned()));
    newest_first(rates.chain(ecgs).chain(images).collect())
}

/// The uploads with ECGs or images.
fn uploads(found: &Correctable, now: Timestamp) -> Vec<OptionData> {
    let mut uploads: BTreeMap<UploadId, (Timestamp, u64, u64)> = BTreeMap::new();
    for ecg in &found.ecgs {
        uploads.entry(ecg.upload_id).or_insert((ecg.received_at, 0, 0)).1 += 1;
    }
    for image in &found.images {
        uploads.entry(image.upload_id).or_insert((image.at, 0, 0)).2 += 1;
    }
    let items = uploads.into_iter().map(|(id, (at, ecgs, images))| {
        let mut parts = Vec::new();
        if ecgs > 0 {
            parts.push(format::count(ecgs, tr!("ECG"), tr!("ECGs")));
        }
        if images > 0 {
            parts.push(format::count(images, tr!("image"), tr!("images")));
        }
        item(id.to_string(), at, now, parts.join(", "))
    });
    newest_first(items.collect())
}

/// The corrections that can be undone.
fn undoable(found: &Correctable, now: Timestamp) -> Vec<OptionData> {
    let open = found.corrections.iter().filter(|correction| correction.undone_by.is_none());
    let items = open.filter_map(|correction| {
        let (key, detail) = match &correction.action {
            CorrectionAction::Merged { from, into } => {
                (format!("merge:{}", correction.id), tr!("merge of {} into {}", from, into))
            }
            CorrectionAction::EnteredInError { record } => {
                (format!("error:{record}"), tr!("entered in error, by {}", correction.by))
            }
            _ => return None,
        };
        Some(item(key, correction.at, now, detail))
    });
    newest_first(items.collect())
}
