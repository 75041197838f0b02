//! The patient page.

use std::rc::Rc;

use proto_json::alarms::{Alarm, LimitScope, StoredLimits};
use proto_json::{DamagedRecord, MediaType, Mrn, PatientSummary, PatientUpdated, RecordId, Timestamp};
use slint::{Model, ModelRc, SharedString, VecModel};
use ui::trace::{EcgStyle, TrendStyle};
use ui::{format, tr};

use super::context::Context;
use crate::alarms::{Severity, flashes, needs_attention, paused_ms};
use crate::ecg_pane::EcgPane;
use crate::messages;
use crate::patient::{Changes, EcgContent, LoadState, PatientView, Request, RequestId, Response, Side};
use crate::save::{SaveItem, suggested_name};
use crate::trend_pane::{RANGES, TrendPane};
use crate::window::{EcgData, ImageData, OptionData, OtherAlarmData, PaneState, VitalsData};

/// The controller of the patient page.
pub(super) struct PatientController {
    view: Option<PatientView>,
    /// The generation of the view.
    generation: u64,
    latest: EcgPane,
    selected: EcgPane,
    trend: TrendPane,
    ecgs: Rc<VecModel<OptionData>>,
    images: Rc<VecModel<OptionData>>,
}

/// A stored file that the user wants to save.
pub(super) struct SaveOffer {
    pub(super) item: SaveItem,
    pub(super) media_type: MediaType,
    pub(super) title: &'static str,
    pub(super) file_name: String,
}

impl PatientController {
    pub(super) fn new(range: usize) -> Self {
        PatientController {
            view: None,
            generation: 0,
            latest: EcgPane::default(),
            selected: EcgPane::default(),
            trend: TrendPane::new(range),
            ecgs: Rc::default(),
            images: Rc::default(),
        }
    }

    pub(super) fn bind(&self, context: &Context) {
        let api = context.api();
        api.set_ecgs(ModelRc::from(self.ecgs.clone()));
        api.set_images(ModelRc::from(self.images.clone()));
        let ranges: Vec<SharedString> = RANGES.iter().map(|range| range.0.into()).collect();
        api.set_ranges(ModelRc::new(VecModel::from(ranges)));
        api.set_range(self.trend.range() as i32);
        api.set_paper(context.saved.paper);
    }

    /// The number of the open patient.
    pub(super) fn mrn(&self) -> Option<Mrn> {
        self.view.as_ref().map(PatientView::mrn)
    }

    /// The damaged records of the open patient.
    pub(super) fn damaged(&self) -> &[DamagedRecord] {
        self.view.as_ref().map(PatientView::damaged).unwrap_or_default()
    }

    /// Opens a patient. Nothing of the previous patient stays on the page.
    pub(super) fn open(&mut self, context: &mut Context, mrn: Mrn) {
        context.backend.abort_requests();
        self.generation += 1;
        self.latest.reset();
        self.selected.reset();
        let summary = context.overview.get(mrn).map(|tile| tile.patient.clone());
        let from = self.trend.start(context.now());
        let (view, requests) = PatientView::open(self.generation, mrn, summary, from);
        self.view = Some(view);
        self.trend.set_pointer(None);
        context.limits = None;
        context.backend.load_limits(LimitScope::Patient { mrn });
        self.show(context, Changes::ALL);
        self.show_other_alarm(context);
        context.backend.send(mrn, requests);
    }

    /// Closes the patient. Returns whether one was open.
    pub(super) fn close(&mut self, context: &mut Context) -> bool {
        if self.view.take().is_none() {
            return false;
        }
        context.backend.abort_requests();
        self.latest.reset();
        self.selected.reset();
        self.ecgs.set_vec(Vec::new());
        self.images.set_vec(Vec::new());
        true
    }

    pub(super) fn update(&mut self, context: &mut Context, update: &PatientUpdated) {
        self.change(context, |view| view.update(update));
    }

    /// Limits were loaded or saved.
    pub(super) fn limits_loaded(&mut self, context: &mut Context, scope: LimitScope, stored: &StoredLimits) {
        let Some(mrn) = self.mrn() else { return };
        let is_newer =
            context.limits.as_ref().is_none_or(|(of, known)| *of != mrn || known.version <= stored.version);
        if scope == (LimitScope::Patient { mrn }) && is_newer {
            context.limits = Some((mrn, stored.clone()));
            self.show(context, Changes { vitals: true, ecgs: true, trend: true, ..Changes::default() });
        }
    }

    pub(super) fn reload(&mut self, context: &mut Context, summary: Option<PatientSummary>) {
        self.change(context, |view| view.reload(summary));
    }

    pub(super) fn apply(&mut self, context: &mut Context, id: RequestId, response: Response) {
        self.change(context, |view| view.apply(id, response));
    }

    pub(super) fn select_ecg(&mut self, context: &mut Context, key: &str) {
        let id = key.parse::<RecordId>().ok();
        let changes = Changes { selected: true, ..Changes::default() };
        self.change(context, |view| (changes, view.select_ecg(id)));
    }

    pub(super) fn more_ecgs(&mut self, context: &mut Context) {
        self.change(context, |view| (Changes::default(), view.more_ecgs()));
    }

    pub(super) fn select_image(&mut self, context: &mut Context, key: &str) {
        let Ok(id) = key.parse::<RecordId>() else { return };
        let changes = Changes { image: true, ..Changes::default() };
        self.change(context, |view| (changes, view.select_image(id)));
    }

    pub(super) fn more_images(&mut self, context: &mut Context) {
        self.change(context, |view| (Changes::default(), view.more_images()));
    }

    /// Freezes the latest ECG, or ends the freeze.
    pub(super) fn toggle_freeze(&mut self, context: &mut Context) {
        let now = context.now();
        self.change(context, |view| {
            if view.frozen().is_some() {
                return view.unfreeze();
            }
            view.freeze(now);
            (Changes { latest: true, ..Changes::default() }, Vec::new())
        });
    }

    /// Changes the view, sends its requests, and shows what has changed.
    fn change(
        &mut self,
        context: &mut Context,
        act: impl FnOnce(&mut PatientView) -> (Changes, Vec<(RequestId, Request)>),
    ) {
        let Some(view) = &mut self.view else { return };
        let mrn = view.mrn();
        let (changes, requests) = act(view);
        context.backend.send(mrn, requests);
        self.show(context, changes);
    }

    /// Shows the parts of the page that have changed.
    pub(super) fn show(&mut self, context: &Context, changes: Changes) {
        if changes.latest {
            self.show_ecg(context, Side::Latest);
        }
        if changes.selected {
            self.show_ecg(context, Side::Selected);
        }
        if changes.vitals || changes.latest {
            self.show_vitals(context);
        }
        if changes.ecgs || changes.selected {
            self.show_ecg_list(context);
        }
        if changes.images {
            self.show_image_list(context);
        }
        if changes.image {
            self.show_image(context);
        }
        if changes.trend || changes.vitals {
            self.show_trend(context);
        }
    }

    /// Shows name, heart rate and alarm.
    pub(super) fn show_vitals(&self, context: &Context) {
        let Some(view) = &self.view else { return };
        let (now, mrn) = (context.now(), view.mrn());
        let alarms = context.alarms.of(mrn);
        let alarm = alarms.first().copied();
        let others: Vec<String> = alarms.iter().skip(1).map(|alarm| alarm_line(alarm, now)).collect();
        let stored = context.limits.as_ref().filter(|(of, _)| *of == mrn).map(|(_, stored)| stored);
        let findings = view
            .ecg(Side::Latest)
            .get()
            .and_then(|ecg| ecg.record.analysis.as_ref())
            .map(messages::findings)
            .unwrap_or_default();
        let unknown = VitalsData {
            mrn: mrn.to_string().into(),
            name: tr!("Unknown patient").into(),
            rate: "–".into(),
            source: tr!("No patient with this number is stored.").into(),
            ..VitalsData::default()
        };
        let data = view.summary().map_or(unknown, |patient| VitalsData {
            known: true,
            name: messages::name(patient).into(),
            mrn: mrn.to_string().into(),
            rate: messages::rate(patient).into(),
            rate_severity: messages::severity(context.alarms.rate_severity(mrn)),
            time: messages::value_time(patient, now)
                .map(|time| messages::when(time, now))
                .unwrap_or_default()
                .into(),
            source: messages::source(patient).into(),
            stale: messages::is_stale(patient, now, context.stale_after),
            severity: messages::severity(context.alarms.severity(mrn)),
            alarm_severity: messages::severity(alarm.map(|alarm| alarm.priority.into())),
            alarm: alarm.map(messages::alarm_text).unwrap_or_default().into(),
            alarm_state: alarm.map(|alarm| messages::alarm_state(alarm, now)).unwrap_or_default().into(),
            other_alarms: others.join("\n").into(),
            acknowledge: alarm.map(messages::acknowledge_label).unwrap_or_default().into(),
            flashes: alarm.is_some_and(flashes),
            can_acknowledge: alarms.iter().any(|alarm| needs_attention(alarm)),
            can_pause: alarms.iter().any(|alarm| needs_attention(alarm) && paused_ms(alarm, now).is_none()),
            limits: messages::limits(stored).into(),
            place: patient.admission.as_ref().map(messages::place).unwrap_or_default().into(),
            details: messages::details(patient, now).into(),
            notes: patient
                .details
                .as_ref()
                .and_then(|details| details.notes.as_ref())
                .map(|notes| notes.as_str())
                .unwrap_or_default()
                .into(),
            findings: findings.into(),
            notice: messages::rename_notice(patient, now).into(),
        });
        let api = context.api();
        if api.get_vitals() != data {
            api.set_vitals(data);
        }
        let age = view.summary().map(|patient| messages::long_age(patient, now, context.stale_after));
        api.set_age(age.unwrap_or_default().into());
    }

    /// Shows the most recent unacknowledged alarm of high severity of another patient.
    pub(super) fn show_other_alarm(&self, context: &Context) {
        let Some(open) = self.mrn() else { return };
        let mut others: Vec<&Alarm> = context
            .alarms
            .patients()
            .filter(|mrn| *mrn != open)
            .filter_map(|mrn| context.alarms.first(mrn))
            .filter(|alarm| Severity::from(alarm.priority) == Severity::High && needs_attention(alarm))
            .collect();
        others.sort_by_key(|alarm| (std::cmp::Reverse(alarm.raised_at), alarm.mrn));
        let data = others.first().map_or_else(OtherAlarmData::default, |alarm| OtherAlarmData {
            mrn: alarm.mrn.to_string().into(),
            patient: context.patient_name(alarm.mrn),
            severity: messages::severity(Some(alarm.priority.into())),
            text: messages::alarm_text(alarm).into(),
            flashes: flashes(alarm),
            more: match others.len() - 1 {
                0 => String::new(),
                more => {
                    tr!("and {}", format::count(more as u64, tr!("other patient"), tr!("other patients")))
                }
            }
            .into(),
        });
        let api = context.api();
        if api.get_other_alarm() != data {
            api.set_other_alarm(data);
        }
    }

    /// Updates the age of the value, and everything else that changes with time.
    pub(super) fn update_age(&mut self, context: &Context, now: Timestamp) {
        let Some(patient) = self.view.as_ref().and_then(PatientView::summary) else { return };
        let api = context.api();
        let age = messages::long_age(patient, now, context.stale_after);
        if api.get_age() != age.as_str() {
            api.set_age(age.into());
        }
        if api.get_vitals().stale != messages::is_stale(patient, now, context.stale_after) {
            self.show_vitals(context);
        }
        if self.trend.is_outdated(now) {
            self.show_trend(context);
        }
    }

    fn show_ecg_list(&self, context: &Context) {
        let Some(view) = &self.view else { return };
        let (now, limits) = (context.now(), context.limits(view.mrn()));
        let rows = view.ecgs().entries().iter().map(|record| messages::ecg_option(record, limits, now));
        set_rows(&self.ecgs, rows);
        let api = context.api();
        api.set_ecgs_note(messages::list_note(view.ecgs(), view.failure(), tr!("ECG"), tr!("ECGs")).into());
        let selected = view.ecg_id(Side::Selected).map(|id| id.to_string());
        api.set_selected_ecg_key(selected.unwrap_or_default().into());
    }

    fn show_image_list(&self, context: &Context) {
        let Some(view) = &self.view else { return };
        let now = context.now();
        let rows = view.images().entries().iter().map(|record| messages::image_option(record, now));
        set_rows(&self.images, rows);
        let note = messages::list_note(view.images(), view.failure(), tr!("image"), tr!("images"));
        context.api().set_images_note(note.into());
    }

    fn show_image(&self, context: &Context) {
        let Some(view) = &self.view else { return };
        let record = view.image_record();
        let caption = record.map(|record| messages::image_caption(record, context.now()));
        let (state, message) = match view.image() {
            LoadState::Empty if view.images().is_complete() => {
                (PaneState::Empty, tr!("No medical images").to_owned())
            }
            LoadState::Empty => (PaneState::Empty, String::new()),
            LoadState::Loading => (PaneState::Loading, tr!("Loading…").to_owned()),
            LoadState::Loaded(_) => (PaneState::Shown, String::new()),
            LoadState::Failed(reason) => (PaneState::Failed, format::sentence(reason)),
        };
        let picture = view.image().get().cloned().map(ui::Picture::into_image).unwrap_or_default();
        let api = context.api();
        api.set_image(ImageData {
            state,
            message: message.into(),
            caption_lines: caption.as_deref().map(messages::two_lines).unwrap_or_default().into(),
            caption: caption.unwrap_or_default().into(),
            picture,
        });
        let selected = record.map(|record| record.id.to_string());
        api.set_selected_image_key(selected.unwrap_or_default().into());
    }

    fn pane(&mut self, side: Side) -> &mut EcgPane {
        match side {
            Side::Latest => &mut self.latest,
            Side::Selected => &mut self.selected,
        }
    }

    /// Changes the plot of an ECG and draws it.
    pub(super) fn change_plot(&mut self, context: &Context, side: Side, act: impl FnOnce(&mut EcgPane)) {
        act(self.pane(side));
        self.draw_ecg(context, side);
    }

    pub(super) fn resize_plot(&mut self, context: &Context, side: Side, width: f32, height: f32) {
        if self.pane(side).resize(context.picture_size(width, height)) {
            self.draw_ecg(context, side);
        }
    }

    fn show_ecg(&mut self, context: &Context, side: Side) {
        let Some(view) = &self.view else { return };
        let scene = view.ecg(side).get().and_then(|ecg| match &ecg.content {
            EcgContent::Signal(_, scene) => Some((ecg.record.id, scene.clone())),
            EcgContent::Picture(..) => None,
        });
        self.pane(side).show(scene);
        self.draw_ecg(context, side);
    }

    fn draw_ecg(&self, context: &Context, side: Side) {
        let Some(view) = &self.view else { return };
        let pane = match side {
            Side::Latest => &self.latest,
            Side::Selected => &self.selected,
        };
        let (now, paper) = (context.now(), context.saved.paper);
        let style = if paper { EcgStyle::PAPER } else { EcgStyle::MONITOR };
        let [red, green, blue] = style.label();
        let (state, message) = ecg_state(view, side);
        let frozen = view.frozen().filter(|_| side == Side::Latest);
        let [beat_red, beat_green, beat_blue] = style.beat_label();
        let mut data = EcgData {
            state,
            message: message.into(),
            label: slint::Color::from_rgb_u8(red, green, blue),
            beat_label: slint::Color::from_rgb_u8(beat_red, beat_green, beat_blue),
            measures: pane.measures(),
            marks_beats: pane.marks_beats(),
            frozen: frozen.map(|frozen| messages::frozen_mark(frozen, now)).unwrap_or_default().into(),
            ticks: ModelRc::new(VecModel::default()),
            beats: ModelRc::new(VecModel::default()),
            ..EcgData::default()
        };
        if let Some(ecg) = view.ecg(side).get() {
            let caption = messages::ecg_caption(&ecg.record, now);
            data.caption_lines = match side {
                Side::Latest => messages::short_lines(&ecg.record, now),
                Side::Selected => messages::two_lines(&caption),
            }
            .into();
            data.caption = caption.into();
            let analysis = ecg.record.analysis.as_ref();
            data.quality = analysis.map_or("", |analysis| messages::quality(analysis.quality)).into();
            data.rhythm = analysis.map(ui::rhythm::rhythm_line).unwrap_or_default().into();
            data.can_save_picture = ecg.record.plot.is_some();
            data.can_save_signal = ecg.record.signal.is_some();
            if let EcgContent::Picture(picture, reason) = &ecg.content {
                data.picture = picture.clone().into_image();
                data.description = reason.as_str().into();
                data.scale = reason.as_str().into();
            }
        }
        if let (PaneState::Shown, Some(plot)) = (state, pane.draw(&style)) {
            data.is_plot = true;
            data.picture = plot.picture;
            (data.scale, data.reading) = (plot.scale, plot.reading);
            (data.description, data.ticks, data.beats) = (plot.description, plot.ticks, plot.beats);
        }
        let api = context.api();
        match side {
            Side::Latest => api.set_latest(data),
            Side::Selected => api.set_selected(data),
        }
    }

    pub(super) fn set_paper(&mut self, context: &mut Context, on: bool) {
        context.saved.paper = on;
        context.api().set_paper(on);
        context.save_settings();
        self.draw_ecg(context, Side::Latest);
        self.draw_ecg(context, Side::Selected);
    }

    pub(super) fn resize_trend(&mut self, context: &Context, width: f32, height: f32) {
        if self.trend.resize(context.picture_size(width, height)) {
            self.show_trend(context);
        }
    }

    pub(super) fn point_at_trend(&mut self, context: &Context, x: Option<f32>) {
        self.trend.set_pointer(x);
        self.show_trend(context);
    }

    /// Changes the time range of the trend and saves it.
    pub(super) fn set_range(&mut self, context: &mut Context, range: i32) {
        self.trend.set_range(usize::try_from(range).unwrap_or(0));
        context.saved.range = self.trend.range();
        context.save_settings();
        context.api().set_range(self.trend.range() as i32);
        let from = self.trend.start(context.now());
        let changes = Changes { trend: true, ..Changes::default() };
        self.change(context, |view| (changes, view.set_trend_from(from)));
    }

    fn show_trend(&mut self, context: &Context) {
        let Some(view) = &self.view else { return };
        let limits = context.limits(view.mrn());
        let style = if context.is_dark() { TrendStyle::DARK } else { TrendStyle::LIGHT };
        let data = self.trend.draw(view.trend(), limits, context.now(), &style);
        context.api().set_trend(data);
    }

    /// The picture or the signal of an ECG, to be saved.
    pub(super) fn ecg_to_save(&self, context: &Context, side: Side, is_picture: bool) -> Option<SaveOffer> {
        let view = self.view.as_ref()?;
        let record = &view.ecg(side).get()?.record;
        let (item, media_type, title) = if is_picture {
            record.plot.as_ref()?;
            let caption = messages::picture_caption(view.summary(), record, context.now());
            // A picture with a caption is always a PNG file.
            (SaveItem::Plot(record.id, caption), MediaType::Png, tr!("Save the picture of the ECG"))
        } else {
            let media_type = record.signal.as_ref()?.media_type;
            (SaveItem::Signal(record.id), media_type, tr!("Save the signal of the ECG"))
        };
        let file_name = suggested_name(record.mrn, "ecg", record.at, media_type);
        Some(SaveOffer { item, media_type, title, file_name })
    }

    /// The medical image, to be saved.
    pub(super) fn image_to_save(&self) -> Option<SaveOffer> {
        let record = self.view.as_ref()?.image_record()?;
        let media_type = record.file.media_type;
        let file_name = suggested_name(record.mrn, "image", record.at, media_type);
        let item = SaveItem::Image(record.id);
        Some(SaveOffer { item, media_type, title: tr!("Save the medical image"), file_name })
    }
}

/// An alarm of the open patient in one line, with its state.
fn alarm_line(alarm: &Alarm, now: Timestamp) -> String {
    let (text, state) = (messages::alarm_text(alarm), messages::alarm_state(alarm, now));
    if state.is_empty() { text } else { format!("{text} · {state}") }
}

/// The state of an ECG pane, and its message if no ECG is shown.
fn ecg_state(view: &PatientView, side: Side) -> (PaneState, String) {
    match (view.ecg(side), side) {
        (LoadState::Empty, Side::Latest) => (PaneState::Empty, tr!("No ECG yet").to_owned()),
        (LoadState::Empty, Side::Selected) => {
            (PaneState::Empty, tr!("Select an ECG to compare it with the latest one.").to_owned())
        }
        (LoadState::Loading, _) => (PaneState::Loading, tr!("Loading…").to_owned()),
        (LoadState::Failed(reason), _) => (PaneState::Failed, format::sentence(reason)),
        (LoadState::Loaded(_), _) => (PaneState::Shown, String::new()),
    }
}

/// Replaces the rows of a list. Only rows that differ are changed.
fn set_rows(model: &VecModel<OptionData>, rows: impl ExactSizeIterator<Item = OptionData>) {
    let count = rows.len();
    while model.row_count() > count {
        model.remove(model.row_count() - 1);
    }
    for (index, row) in rows.enumerate() {
        if index >= model.row_count() {
            model.push(row);
        } else if model.row_data(index).as_ref() != Some(&row) {
            model.set_row_data(index, row);
        }
    }
}
