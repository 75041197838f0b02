//! The choice of the ward on the overview, and the dialogs of admissions and details.

use std::rc::Rc;

use client::new_stay_id;
use proto_json::wards::{
    Admission, AdmitRequest, BirthDate, DetailsUpdate, DischargeRequest, Notes, Sex, TransferRequest, Ward,
};
use proto_json::{BedId, Mrn, PatientSummary};
use slint::{ComponentHandle, ModelRc, VecModel};
use ui::{format, tr};

use super::context::Context;
use crate::backend::{CareChange, CareResult};
use crate::messages;
use crate::wards::{PlaceFilter, Places};
use crate::window::{AdmissionForm, Care, DetailsForm, Dialog, OptionData, Tone};

/// The maximum number of beds in the drop-down list.
const MAX_BEDS_SHOWN: usize = 500;

/// Keys of the choices that are no wards.
const ALL: &str = "all";
const ADMITTED: &str = "admitted";
const NOT_ADMITTED: &str = "not-admitted";

/// The controller of wards and of the dialogs about them.
#[derive(Default)]
pub(super) struct WardsController {
    wards: Rc<VecModel<OptionData>>,
    beds: Rc<VecModel<OptionData>>,
    /// The patient whose dialog waits for the server.
    waiting: Option<Mrn>,
}

fn care(context: &Context) -> Care<'_> {
    context.window.global::<Care>()
}

impl WardsController {
    pub(super) fn bind(&self, context: &mut Context) {
        let care = care(context);
        care.set_wards(ModelRc::from(self.wards.clone()));
        care.set_beds(ModelRc::from(self.beds.clone()));
        let chosen = context.saved.place;
        context.overview.set_places(Places { wards: Vec::new(), chosen });
    }

    /// Wards were loaded. Returns whether the overview changes.
    pub(super) fn loaded(&self, context: &mut Context, wards: Result<Vec<Ward>, String>) -> bool {
        match wards {
            Ok(wards) if wards != context.overview.places().wards => {
                context.overview.set_places(Places { wards, chosen: context.saved.place });
                self.show(context);
                true
            }
            Ok(_) => false,
            Err(reason) => {
                tracing::warn!(reason, "the wards cannot be loaded");
                false
            }
        }
    }

    /// Another server is selected.
    pub(super) fn clear(&mut self, context: &mut Context) {
        self.waiting = None;
        context.overview.set_places(Places { wards: Vec::new(), chosen: context.saved.place });
        self.show(context);
    }

    /// The user has chosen what the overview shows.
    pub(super) fn select(&self, context: &mut Context, key: &str) {
        let chosen = match key {
            ALL => PlaceFilter::All,
            ADMITTED => PlaceFilter::Admitted,
            NOT_ADMITTED => PlaceFilter::NotAdmitted,
            ward => match ward.parse() {
                Ok(ward) => PlaceFilter::Ward(ward),
                Err(_) => return,
            },
        };
        context.saved.place = chosen;
        context.save_settings();
        let wards = context.overview.places().wards.clone();
        context.overview.set_places(Places { wards, chosen });
        self.show(context);
    }

    /// Shows the choices and the current one.
    fn show(&self, context: &Context) {
        let places = context.overview.places();
        let option = |key: String, title: &str, detail: String| OptionData {
            key: key.into(),
            title: messages::plain_name(title),
            detail: detail.into(),
            ..OptionData::default()
        };
        let mut options = Vec::new();
        if !places.wards.is_empty() {
            options.push(option(ADMITTED.to_owned(), tr!("All wards"), String::new()));
            for ward in &places.wards {
                let beds = format::count(ward.beds.len() as u64, tr!("bed"), tr!("beds"));
                options.push(option(ward.id.to_string(), ward.name.as_str(), beds));
            }
            options.push(option(NOT_ADMITTED.to_owned(), tr!("Not admitted"), String::new()));
            options.push(option(ALL.to_owned(), tr!("All patients"), String::new()));
        }
        let current = match places.filter() {
            PlaceFilter::Ward(ward) => ward.to_string(),
            PlaceFilter::Admitted => ADMITTED.to_owned(),
            PlaceFilter::NotAdmitted => NOT_ADMITTED.to_owned(),
            PlaceFilter::All | PlaceFilter::Automatic => ALL.to_owned(),
        };
        let care = care(context);
        let title = options.iter().find(|option| option.key == current.as_str());
        care.set_ward(title.map(|option| option.title.full.clone()).unwrap_or_default());
        care.set_ward_key(current.into());
        care.set_has_wards(!options.is_empty());
        self.wards.set_vec(options);
    }

    /// Opens the dialog that admits, transfers or discharges a patient.
    pub(super) fn open_admission(&self, context: &Context, mrn: Mrn) {
        let Some(form) = patient_form(context, mrn) else { return };
        care(context).set_admission(form);
        self.search_beds(context, "");
        self.open(context, Dialog::Admission);
    }

    /// Opens the dialog that admits a patient to an empty bed.
    pub(super) fn open_bed(&self, context: &Context, key: &str) {
        let Some(bed) = bed_title(&context.overview.places().wards, key) else { return };
        let (bed_key, bed, picks_patient) = (key.into(), bed.into(), true);
        care(context).set_admission(AdmissionForm {
            bed_key,
            bed,
            picks_patient,
            ..AdmissionForm::default()
        });
        self.open(context, Dialog::Admission);
    }

    fn open(&self, context: &Context, dialog: Dialog) {
        let care = care(context);
        care.set_error("".into());
        care.set_busy(self.waiting.is_some());
        context.show_dialog(dialog);
    }

    /// Lists the empty beds whose ward or name contains a text.
    pub(super) fn search_beds(&self, context: &Context, text: &str) {
        let text = text.trim().to_lowercase();
        let wards = &context.overview.places().wards;
        let occupied: Vec<BedId> = context
            .overview
            .all()
            .filter_map(|tile| tile.patient.admission.as_ref())
            .map(|admission| admission.bed)
            .collect();
        let mut found = Vec::new();
        for ward in wards {
            for bed in ward.beds.iter().filter(|bed| !occupied.contains(&bed.id)) {
                let title = messages::bed(ward.name.as_str(), bed.name.as_str());
                if text.is_empty() || title.to_lowercase().contains(&text) {
                    let (key, title) = (bed.id.to_string().into(), messages::plain_name(&title));
                    found.push(OptionData { key, title, ..OptionData::default() });
                }
            }
        }
        let note = match found.len() {
            0 if text.is_empty() => tr!("All beds are occupied.").to_owned(),
            0 => tr!("No empty bed has this name.").to_owned(),
            count => format::count(count as u64, tr!("empty bed"), tr!("empty beds")),
        };
        found.truncate(MAX_BEDS_SHOWN);
        care(context).set_beds_note(note.into());
        self.beds.set_vec(found);
    }

    pub(super) fn select_bed(&self, context: &Context, key: &str) {
        let care = care(context);
        let mut form = care.get_admission();
        if let Some(bed) = bed_title(&context.overview.places().wards, key) {
            (form.bed_key, form.bed) = (key.into(), bed.into());
            care.set_admission(form);
            care.set_error("".into());
        }
    }

    pub(super) fn select_patient(&self, context: &Context, mrn: Mrn) {
        let care = care(context);
        let Some(patient) = patient_form(context, mrn) else { return };
        let form = care.get_admission();
        care.set_admission(AdmissionForm {
            bed_key: form.bed_key,
            bed: form.bed,
            picks_patient: form.picks_patient,
            ..patient
        });
        care.set_error("".into());
    }

    /// Admits or transfers the patient in the form.
    pub(super) fn admit(&mut self, context: &Context) {
        let form = care(context).get_admission();
        let (Ok(mrn), Ok(bed)) = (form.mrn.parse::<Mrn>(), form.bed_key.parse::<BedId>()) else { return };
        let id = Some(new_stay_id());
        let change = match admission(context, mrn) {
            None => CareChange::Admit(AdmitRequest { bed, id }),
            Some(now) => CareChange::Transfer(TransferRequest { bed, from: Some(now.id), id }),
        };
        self.send(context, mrn, change);
    }

    /// Discharges the patient in the form.
    pub(super) fn discharge(&mut self, context: &Context) {
        let Ok(mrn) = care(context).get_admission().mrn.parse::<Mrn>() else { return };
        let from = admission(context, mrn).map(|admission| admission.id);
        self.send(context, mrn, CareChange::Discharge(DischargeRequest { from }));
    }

    /// Opens the dialog with the details of a patient.
    pub(super) fn open_details(&self, context: &Context, mrn: Mrn) {
        let Some(tile) = context.overview.get(mrn) else { return };
        let details = tile.patient.details.clone().unwrap_or_default();
        care(context).set_details(DetailsForm {
            mrn: mrn.to_string().into(),
            title: context.patient_title(mrn).into(),
            birth_date: details.birth_date.map(|date| date.to_string()).unwrap_or_default().into(),
            sex: match details.sex {
                None => 0,
                Some(Sex::Female) => 1,
                Some(Sex::Male) => 2,
                Some(Sex::Other) => 3,
                Some(Sex::Unknown) => 4,
            },
            notes: details.notes.map(String::from).unwrap_or_default().into(),
        });
        self.open(context, Dialog::Details);
    }

    pub(super) fn save_details(&mut self, context: &Context, form: &DetailsForm) {
        let Ok(mrn) = form.mrn.parse::<Mrn>() else { return };
        let version = context
            .overview
            .get(mrn)
            .and_then(|tile| tile.patient.details.as_ref())
            .map_or(0, |details| details.version);
        match update(form, version) {
            Ok(update) => self.send(context, mrn, CareChange::Details(update)),
            Err(reason) => care(context).set_error(format::sentence(&reason).into()),
        }
    }

    fn send(&mut self, context: &Context, mrn: Mrn, change: CareChange) {
        let care = care(context);
        care.set_error("".into());
        if context.backend.change_care(mrn, change) {
            self.waiting = Some(mrn);
            care.set_busy(true);
        } else {
            care.set_error(tr!("There is no connection to the gateway.").into());
        }
    }

    /// The server has answered a change. Returns the patient after it.
    pub(super) fn changed(
        &mut self,
        context: &Context,
        mrn: Mrn,
        change: &CareChange,
        result: CareResult,
    ) -> Option<PatientSummary> {
        let is_open = self.waiting.take() == Some(mrn);
        let care = care(context);
        if result.is_err() || !is_open {
            care.set_busy(false);
        }
        match result {
            Ok(patient) => {
                if is_open {
                    // Its button stays disabled: a button that is enabled takes the focus, and would take it along.
                    context.show_dialog(Dialog::None);
                }
                let text = match (change, &patient.admission) {
                    (CareChange::Details(_), _) => tr!("The details are saved.").to_owned(),
                    (_, Some(now)) => tr!("{} is in {}.", context.patient_title(mrn), messages::place(now)),
                    (_, None) => tr!("{} is discharged.", context.patient_title(mrn)),
                };
                context.show_message(Tone::Good, &text);
                Some(*patient)
            }
            Err(reason) => {
                let reason = format::sentence(&reason);
                if context.api().get_dialog() == Dialog::None {
                    context.show_message(Tone::Danger, &reason);
                } else {
                    care.set_error(reason.into());
                }
                None
            }
        }
    }
}

fn admission(context: &Context, mrn: Mrn) -> Option<&Admission> {
    context.overview.get(mrn)?.patient.admission.as_ref()
}

/// The part of the form about the patient. `None` if the patient is not known.
fn patient_form(context: &Context, mrn: Mrn) -> Option<AdmissionForm> {
    context.overview.get(mrn)?;
    Some(AdmissionForm {
        mrn: mrn.to_string().into(),
        patient: context.patient_title(mrn).into(),
        current: admission(context, mrn).map(messages::place).unwrap_or_default().into(),
        ..AdmissionForm::default()
    })
}

fn bed_title(wards: &[Ward], key: &str) -> Option<String> {
    let id: BedId = key.parse().ok()?;
    wards.iter().find_map(|ward| {
        let bed = ward.bed(id)?;
        Some(messages::bed(ward.name.as_str(), bed.name.as_str()))
    })
}

/// The update that a form stands for, or what is wrong with it.
fn update(form: &DetailsForm, version: u64) -> Result<DetailsUpdate, String> {
    let birth_date = match form.birth_date.trim() {
        "" => None,
        text => Some(text.parse::<BirthDate>().map_err(|_| {
            tr!("A date of birth is written as in 1957-03-14, and the year is 1850 or later.").to_owned()
        })?),
    };
    let notes = match form.notes.trim() {
        "" => None,
        text => Some(
            text.parse::<Notes>().map_err(|_| tr!("Notes have at most {} characters.", Notes::MAX_CHARS))?,
        ),
    };
    let sex = match form.sex {
        1 => Some(Sex::Female),
        2 => Some(Sex::Male),
        3 => Some(Sex::Other),
        4 => Some(Sex::Unknown),
        _ => None,
    };
    Ok(DetailsUpdate { birth_date: Some(birth_date), sex: Some(sex), notes: Some(notes), version })
}
