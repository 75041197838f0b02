//! The patient that is looked at, on the screen.

use proto_json::{EcgRecord, Mrn, PatientSummary, PatientUpdated, RecordId, Timestamp};
use slint::{ComponentHandle, Model, VecModel};
use ui::format;

use super::{Looked, Station};
use crate::alarms::Alarm;
use crate::pages::Pages;
use crate::patient::{Answer, Ask, Changed, Content, PatientView, Side, Slot, Ticket, is_waiting};
use crate::phrases;
use crate::window::{Api, ChoiceData, ImageData, Page, PaneState, VitalsData};

impl Station {
    pub(super) fn open_named(&mut self, mrn: &str) {
        if let Ok(mrn) = mrn.parse() {
            self.open(mrn);
        }
    }

    /// Opens a patient; nothing of the one before stays.
    pub(super) fn open(&mut self, mrn: Mrn) {
        self.link.forget_questions();
        self.opening += 1;
        self.latest.clear();
        self.chosen.clear();
        let summary = self.wall.get(mrn).map(|tile| tile.patient.clone());
        let from = self.trend.from(self.now());
        let (view, asks) = PatientView::open(self.opening, mrn, summary, from);
        self.looked = Some(Looked { view });
        self.trend.point(None);
        self.show_patient(Changed::ALL);
        self.show_page(Page::Patient);
        self.link.ask(mrn, asks);
    }

    /// Leaves the patient for another page.
    pub(super) fn close_patient(&mut self, page: Page) {
        if self.looked.take().is_some() {
            self.link.forget_questions();
            self.latest.clear();
            self.chosen.clear();
            self.models.ecgs.set_vec(Vec::new());
            self.models.images.set_vec(Vec::new());
            self.show_damage();
        }
        self.show_page(page);
    }

    pub(super) fn update_patient(&mut self, update: &PatientUpdated) {
        self.with_view(|view| view.update(update));
    }

    pub(super) fn reload_patient(&mut self, summary: Option<PatientSummary>) {
        self.with_view(|view| view.reload(summary));
    }

    pub(super) fn take_answer(&mut self, ticket: Ticket, answer: Answer) {
        self.with_view(|view| view.take(ticket, answer));
        self.show_damage();
    }

    pub(super) fn choose_ecg(&mut self, key: &str) {
        let id = key.parse::<RecordId>().ok();
        self.with_view(|view| {
            let asks = view.choose_ecg(id);
            (Changed { chosen: true, ..Changed::default() }, asks)
        });
    }

    pub(super) fn more_ecgs(&mut self) {
        self.with_view(|view| (Changed::default(), view.more_ecgs()));
    }

    pub(super) fn choose_image(&mut self, key: &str) {
        let Ok(id) = key.parse::<RecordId>() else { return };
        self.with_view(|view| {
            let asks = view.choose_image(id);
            (Changed { image: true, ..Changed::default() }, asks)
        });
    }

    pub(super) fn more_images(&mut self) {
        self.with_view(|view| (Changed::default(), view.more_images()));
    }

    /// Changes the view, asks what it wants to know, and shows what changed.
    pub(super) fn with_view(&mut self, act: impl FnOnce(&mut PatientView) -> (Changed, Vec<(Ticket, Ask)>)) {
        let Some(looked) = &mut self.looked else { return };
        let mrn = looked.view.mrn();
        let (changed, asks) = act(&mut looked.view);
        self.link.ask(mrn, asks);
        self.show_patient(changed);
    }

    /// Shows parts of the patient.
    pub(super) fn show_patient(&mut self, changed: Changed) {
        if self.looked.is_none() {
            return;
        }
        if changed.latest {
            self.show_ecg(Side::Latest);
        }
        if changed.chosen {
            self.show_ecg(Side::Chosen);
        }
        if changed.vitals || changed.latest {
            self.show_vitals();
        }
        if changed.ecgs || changed.chosen {
            self.show_ecgs();
        }
        if changed.images {
            self.show_images();
        }
        if changed.image {
            self.show_image();
        }
        if changed.trend || changed.vitals {
            self.show_trend();
        }
    }

    /// Shows name, heart rate and alarm, if it is this patient that is looked at.
    pub(super) fn show_vitals_of(&self, mrn: Mrn) {
        if self.looked.as_ref().is_some_and(|looked| looked.view.mrn() == mrn) {
            self.show_vitals();
        }
    }

    fn show_vitals(&self) {
        let Some(Looked { view }) = &self.looked else { return };
        let (now, mrn) = (self.now(), view.mrn());
        let alarm = self.alarms.of(mrn);
        let api = self.window.global::<Api>();
        let findings = view
            .ecg(Side::Latest)
            .get()
            .and_then(|shown| shown.record.analysis.as_ref())
            .map(phrases::findings)
            .unwrap_or_default();
        let empty = VitalsData {
            mrn: mrn.to_string().into(),
            name: "Not known".into(),
            rate: "–".into(),
            source: "This patient is not known to the system (yet).".into(),
            ..VitalsData::default()
        };
        let data = view.summary().map_or(empty, |patient| VitalsData {
            known: true,
            name: phrases::name(patient).into(),
            mrn: mrn.to_string().into(),
            rate: phrases::rate(patient).into(),
            rate_severity: phrases::rate_severity(patient, self.alarms.limits(mrn)),
            time: phrases::value_time(patient, now)
                .map(|time| phrases::when(time, now))
                .unwrap_or_default()
                .into(),
            source: phrases::source(patient).into(),
            stale: phrases::is_stale(patient, now, self.stale_after),
            severity: phrases::severity(alarm.map(|alarm| alarm.severity)),
            alarm: alarm.map(Alarm::reason).unwrap_or_default().into(),
            alarm_state: alarm.map(|alarm| phrases::alarm_state(alarm, now)).unwrap_or_default().into(),
            flashes: alarm.is_some_and(|alarm| alarm.flashes(now)),
            can_acknowledge: alarm.is_some_and(|alarm| !alarm.is_acknowledged),
            can_silence: alarm.is_some_and(|alarm| alarm.flashes(now)),
            limits: phrases::limits(self.alarms.limits(mrn), self.alarms.has_own_limits(mrn)).into(),
            findings: findings.into(),
            notice: phrases::rename_notice(patient, now).into(),
        });
        if api.get_vitals() != data {
            api.set_vitals(data);
        }
        let age = view.summary().map(|patient| phrases::long_age(patient, now, self.stale_after));
        api.set_age(age.unwrap_or_default().into());
    }

    /// Ages of the patient go on.
    pub(super) fn age_patient(&mut self, now: Timestamp) {
        let Some(Looked { view }) = &self.looked else { return };
        let Some(patient) = view.summary() else { return };
        let api = self.window.global::<Api>();
        let age = phrases::long_age(patient, now, self.stale_after);
        if api.get_age() != age.as_str() {
            api.set_age(age.into());
        }
        if api.get_vitals().stale != phrases::is_stale(patient, now, self.stale_after) {
            self.show_vitals();
        }
        if self.trend.is_behind(now) {
            self.show_trend();
        }
    }

    fn show_ecgs(&self) {
        let Some(Looked { view }) = &self.looked else { return };
        let (now, limits) = (self.now(), self.alarms.limits(view.mrn()));
        let choices = view.ecgs().entries().iter().map(|record| phrases::ecg_choice(record, limits, now));
        set_rows(&self.models.ecgs, choices);
        let api = self.window.global::<Api>();
        api.set_ecgs_note(list_note(view.ecgs(), view.failure(), "ECG", "ECGs").into());
        let chosen = view.wanted_ecg(Side::Chosen).map(|id| id.to_string());
        api.set_chosen_ecg(chosen.unwrap_or_default().into());
    }

    fn show_images(&self) {
        let Some(Looked { view }) = &self.looked else { return };
        let now = self.now();
        let choices = view.images().entries().iter().map(|record| phrases::image_choice(record, now));
        set_rows(&self.models.images, choices);
        let note = list_note(view.images(), view.failure(), "image", "images");
        self.window.global::<Api>().set_images_note(note.into());
    }

    fn show_image(&self) {
        let Some(Looked { view }) = &self.looked else { return };
        let now = self.now();
        let record = view.image_record();
        let caption = record.map(|record| {
            let name = record.file.file_name.as_deref().unwrap_or("no name");
            let name = format::elided(name, phrases::LONGEST_FILE_NAME);
            format!("{} · {name}", phrases::when(record.time(now), now))
        });
        let (state, message) = match view.image() {
            Slot::Empty if view.images().is_complete() => (PaneState::Empty, "No medical images".to_owned()),
            Slot::Empty => (PaneState::Empty, String::new()),
            Slot::Loading => (PaneState::Loading, "Loading…".to_owned()),
            Slot::Here(_) => (PaneState::Shown, String::new()),
            Slot::Failed(reason) => (PaneState::Failed, format::sentence(reason)),
        };
        let picture = view.image().get().cloned().map(ui::Picture::into_image).unwrap_or_default();
        let api = self.window.global::<Api>();
        api.set_image(ImageData {
            state,
            message: message.into(),
            caption_lines: caption.as_deref().map(phrases::two_lines).unwrap_or_default().into(),
            caption: caption.unwrap_or_default().into(),
            picture,
        });
        let chosen = record.map(|record| record.id.to_string());
        api.set_chosen_image(chosen.unwrap_or_default().into());
    }

    /// What stands above an ECG: its time, heart rate or state, and quality.
    pub(super) fn ecg_caption(&self, record: &EcgRecord) -> (String, &'static str) {
        let caption = format!(
            "{} · {}",
            phrases::when(record.time(self.now()), self.now()),
            phrases::ecg_state(record)
        );
        (caption, record.analysis.as_ref().map_or("", |analysis| phrases::quality(analysis.quality)))
    }

    /// Why there is no ECG to see.
    pub(super) fn ecg_message(view: &PatientView, side: Side) -> (PaneState, String) {
        match (view.ecg(side), side) {
            (Slot::Empty, Side::Latest) => (PaneState::Empty, "No ECG yet".to_owned()),
            (Slot::Empty, Side::Chosen) => {
                (PaneState::Empty, "Choose an ECG of another time to see it beside the latest.".to_owned())
            }
            (Slot::Loading, _) => (PaneState::Loading, "Loading…".to_owned()),
            (Slot::Failed(reason), _) => (PaneState::Failed, format::sentence(reason)),
            (Slot::Here(shown), _) => match &shown.content {
                Content::Trace(..) => (PaneState::Shown, String::new()),
                Content::Picture(_, why) if is_waiting(shown.record.status) => {
                    (PaneState::Shown, why.clone())
                }
                Content::Picture(..) => (PaneState::Shown, String::new()),
            },
        }
    }
}

fn list_note<T: crate::pages::Entry>(
    pages: &Pages<T>,
    failure: Option<&str>,
    one: &str,
    many: &str,
) -> String {
    let count = format::count(pages.entries().len() as u64, one, many);
    match failure {
        Some(reason) => format::sentence(reason),
        None if pages.is_complete() => count,
        None if pages.entries().is_empty() => "Loading…".to_owned(),
        None => format!("{count}, more as you scroll"),
    }
}

/// Makes a list show these rows, touching only those that differ.
fn set_rows(model: &VecModel<ChoiceData>, rows: impl ExactSizeIterator<Item = ChoiceData>) {
    let wanted = rows.len();
    while model.row_count() > wanted {
        model.remove(model.row_count() - 1);
    }
    for (at, row) in rows.enumerate() {
        if at >= model.row_count() {
            model.push(row);
        } else if model.row_data(at).as_ref() != Some(&row) {
            model.set_row_data(at, row);
        }
    }
}
