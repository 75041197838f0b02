//! The state of the patient page.
//!
//! Every request has a [`RequestId`]. A response is dropped if its id belongs to another view or if the slot has been
//! requested again since. No data of one patient can therefore appear on the page of another patient.

use std::collections::HashSet;

use proto_json::{
    ChangeKind, Cursor, DamagedRecord, EcgRecord, HeartRateRecord, ImageRecord, Mrn, Page, PatientSummary,
    PatientUpdated, RecordId, Timestamp,
};
use ui::Picture;
use ui::trace::{TrendPoint, TrendScene};

use super::requests::{EcgContent, LoadedEcg, Request, RequestId, Response, Side};
use super::slots::{Changes, LoadState, Slot};
use crate::paged_list::PagedList;

/// The maximum number of heart rates that are loaded for a trend. More than this is not visible on any screen.
const MAX_RATES: usize = 20_000;

/// The requests to send after a change of the view.
type Requests = Vec<(RequestId, Request)>;

/// The latest ECG is frozen: newer ECGs do not replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrozenEcg {
    /// When it was frozen, by the clock of the server.
    pub at: Timestamp,
    /// The ECGs that have arrived since.
    newer: HashSet<RecordId>,
}

impl FrozenEcg {
    /// The number of ECGs that have arrived since the ECG was frozen.
    #[must_use]
    pub fn newer_count(&self) -> usize {
        self.newer.len()
    }
}

/// The state of the patient page.
#[derive(Debug)]
pub struct PatientView {
    generation: u64,
    /// The number of the last request.
    last_request: u64,
    mrn: Mrn,
    summary: Option<PatientSummary>,
    latest: Slot<LoadedEcg>,
    frozen: Option<FrozenEcg>,
    selected: Slot<LoadedEcg>,
    image: Slot<Picture>,
    /// The page shows the latest image, because the user has not selected an older one.
    follows_latest_image: bool,
    ecgs: PagedList<EcgRecord>,
    images: PagedList<ImageRecord>,
    /// Records of the loaded lists that are damaged and cannot be shown.
    damaged: Vec<DamagedRecord>,
    trend: TrendScene,
    /// The start of the time range of the trend.
    trend_from: Timestamp,
    next_rates: Option<Cursor>,
    is_loading_rates: bool,
    failure: Option<String>,
}

impl PatientView {
    /// Opens a patient. The generation has to be different for each view.
    #[must_use]
    pub fn open(
        generation: u64,
        mrn: Mrn,
        summary: Option<PatientSummary>,
        trend_from: Timestamp,
    ) -> (Self, Requests) {
        let mut view = PatientView {
            generation,
            last_request: 0,
            mrn,
            summary: None,
            latest: Slot::default(),
            frozen: None,
            selected: Slot::default(),
            image: Slot::default(),
            follows_latest_image: true,
            ecgs: PagedList::default(),
            images: PagedList::default(),
            damaged: Vec::new(),
            trend: TrendScene::default(),
            trend_from,
            next_rates: None,
            is_loading_rates: true,
            failure: None,
        };
        let mut requests = Vec::new();
        if let Some(summary) = summary {
            view.set_summary(summary, true, &mut requests);
        }
        view.refresh_lists(true, true, &mut requests);
        view.request(Some(Request::Rates(None)), &mut requests);
        (view, requests)
    }

    /// The number of the patient.
    #[must_use]
    pub fn mrn(&self) -> Mrn {
        self.mrn
    }

    /// The summary of the patient, if the patient is known.
    #[must_use]
    pub fn summary(&self) -> Option<&PatientSummary> {
        self.summary.as_ref()
    }

    /// One of the two ECGs.
    #[must_use]
    pub fn ecg(&self, side: Side) -> &LoadState<LoadedEcg> {
        match side {
            Side::Latest => &self.latest.state,
            Side::Selected => &self.selected.state,
        }
    }

    /// The id of one of the two ECGs, loaded or not.
    #[must_use]
    pub fn ecg_id(&self, side: Side) -> Option<RecordId> {
        match side {
            Side::Latest => self.latest.id,
            Side::Selected => self.selected.id,
        }
    }

    /// The medical image.
    #[must_use]
    pub fn image(&self) -> &LoadState<Picture> {
        &self.image.state
    }

    /// The record of the medical image.
    #[must_use]
    pub fn image_record(&self) -> Option<&ImageRecord> {
        self.images.get(self.image.id?)
    }

    /// The damaged records in the lists that have been loaded.
    #[must_use]
    pub fn damaged(&self) -> &[DamagedRecord] {
        &self.damaged
    }

    /// The ECGs that have been loaded.
    #[must_use]
    pub fn ecgs(&self) -> &PagedList<EcgRecord> {
        &self.ecgs
    }

    /// The images that have been loaded.
    #[must_use]
    pub fn images(&self) -> &PagedList<ImageRecord> {
        &self.images
    }

    /// The heart rates that have been loaded.
    #[must_use]
    pub fn trend(&self) -> &TrendScene {
        &self.trend
    }

    /// The reason why a list could not be loaded: one sentence.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the latest ECG is frozen.
    #[must_use]
    pub fn frozen(&self) -> Option<&FrozenEcg> {
        self.frozen.as_ref()
    }

    /// Freezes the latest ECG. Newer ECGs are counted, but do not replace it. Does nothing if no ECG is loaded.
    pub fn freeze(&mut self, now: Timestamp) {
        if self.frozen.is_none() && self.latest.state.get().is_some() {
            self.frozen = Some(FrozenEcg { at: now, newer: HashSet::new() });
        }
    }

    /// Ends the freeze and requests the latest ECG if there is a newer one.
    pub fn unfreeze(&mut self) -> (Changes, Requests) {
        let mut requests = Vec::new();
        if self.frozen.take().is_none() {
            return (Changes::default(), requests);
        }
        let latest = self.summary.as_ref().and_then(|summary| summary.latest_ecg.as_ref()).map(|ecg| ecg.id);
        if let Some(id) = latest.filter(|id| self.latest.id != Some(*id)) {
            self.request_ecg(Side::Latest, id, &mut requests);
        }
        (Changes { latest: true, ..Changes::default() }, requests)
    }

    /// Applies a summary after a reconnect. Updates may have been missed, so everything is requested again.
    pub fn reload(&mut self, summary: Option<PatientSummary>) -> (Changes, Requests) {
        let mut requests = Vec::new();
        let Some(summary) = summary else { return (Changes::default(), requests) };
        let is_known = self.summary.as_ref() == Some(&summary);
        let has_failed = self.failure.take().is_some()
            || self.latest.state.has_failed()
            || self.selected.state.has_failed();
        if is_known && !has_failed {
            return (Changes::default(), requests);
        }
        self.set_summary(summary, true, &mut requests);
        self.refresh_lists(true, true, &mut requests);
        self.is_loading_rates = true;
        self.request(Some(Request::Rates(None)), &mut requests);
        if let Some(id) = self.selected.id.filter(|_| self.selected.state.has_failed()) {
            self.request_ecg(Side::Selected, id, &mut requests);
        }
        (Changes::ALL, requests)
    }

    /// Loads everything again after a correction: records may be gone. Responses to earlier requests are ignored. Does nothing
    /// if the summary is not newer.
    fn reopen(&mut self, patient: &PatientSummary) -> (Changes, Requests) {
        if self.summary.as_ref().is_some_and(|known| known.version >= patient.version) {
            return (Changes::default(), Vec::new());
        }
        // The controller increments the generation by one for each view.
        let generation = self.generation.wrapping_add(1 << 32);
        let (view, requests) =
            PatientView::open(generation, self.mrn, Some(patient.clone()), self.trend_from);
        *self = view;
        (Changes::ALL, requests)
    }

    /// Applies an update. An update of another patient is ignored.
    pub fn update(&mut self, update: &PatientUpdated) -> (Changes, Requests) {
        let mut requests = Vec::new();
        if update.patient.mrn != self.mrn {
            return (Changes::default(), requests);
        }
        if update.changes.iter().any(|change| change.kind == ChangeKind::Corrected) {
            return self.reopen(&update.patient);
        }
        let has = |kinds: &[ChangeKind]| update.changes.iter().any(|change| kinds.contains(&change.kind));
        let ecgs = has(&[ChangeKind::Ecg, ChangeKind::EcgAnalyzed]);
        let is_analyzed = |id: Option<RecordId>| {
            id.is_some()
                && update
                    .changes
                    .iter()
                    .any(|change| change.kind == ChangeKind::EcgAnalyzed && change.id == id)
        };
        let mut changes = Changes {
            vitals: true,
            ecgs,
            images: has(&[ChangeKind::Image]),
            trend: has(&[ChangeKind::HeartRate, ChangeKind::EcgAnalyzed]),
            ..Changes::default()
        };
        changes.latest = self.set_summary(update.patient.clone(), is_analyzed(self.latest.id), &mut requests);
        if let Some(id) = self.selected.id.filter(|id| is_analyzed(Some(*id))) {
            self.request_ecg(Side::Selected, id, &mut requests);
        }
        self.refresh_lists(ecgs, changes.images, &mut requests);
        (changes, requests)
    }

    /// Applies a response. An outdated response is ignored.
    pub fn apply(&mut self, id: RequestId, response: Response) -> (Changes, Requests) {
        let mut requests = Vec::new();
        let mut changes = Changes::default();
        if id.generation != self.generation {
            return (changes, requests);
        }
        match response {
            Response::Ecgs(request, Ok(page)) => {
                self.add_damaged(&page);
                (changes.ecgs, changes.trend) = (true, true);
                self.trend.insert(page.items.iter().filter_map(trend_point));
                let next = self.ecgs.add(request, page).map(Request::Ecgs);
                self.request(next, &mut requests);
            }
            Response::Images(request, Ok(page)) => {
                self.add_damaged(&page);
                (changes.images, changes.image) = (true, true);
                let next = self.images.add(request, page).map(Request::Images);
                self.request(next, &mut requests);
                self.follow_latest_image(&mut requests);
            }
            Response::Rates(Ok(page)) => {
                self.add_damaged(&page);
                changes.trend = true;
                self.add_rates(page, &mut requests);
            }
            Response::Ecgs(request, Err(error)) => {
                self.ecgs.failed(request);
                (self.failure, changes.ecgs) = (Some(error.to_string()), true);
            }
            Response::Images(request, Err(error)) => {
                self.images.failed(request);
                (self.failure, changes.images) = (Some(error.to_string()), true);
            }
            Response::Rates(Err(error)) => {
                self.is_loading_rates = false;
                (self.failure, changes.trend) = (Some(error.to_string()), true);
            }
            Response::Ecg(side, result) => {
                let slot = self.slot(side);
                if slot.request == id.number {
                    slot.state = result.map_or_else(LoadState::Failed, |ecg| LoadState::Loaded(*ecg));
                    match side {
                        Side::Latest => changes.latest = true,
                        Side::Selected => changes.selected = true,
                    }
                }
            }
            Response::Image(result) => {
                if self.image.request == id.number {
                    self.image.state = result.map_or_else(LoadState::Failed, LoadState::Loaded);
                    changes.image = true;
                }
            }
        }
        (changes, requests)
    }

    /// Selects an ECG from the list. `None` clears the selection.
    pub fn select_ecg(&mut self, id: Option<RecordId>) -> Requests {
        let mut requests = Vec::new();
        match id {
            Some(id) if self.selected.id == Some(id) && !self.selected.state.has_failed() => {}
            Some(id) => {
                self.selected.state = LoadState::Loading;
                self.request_ecg(Side::Selected, id, &mut requests);
            }
            None => {
                let request = self.next_id().number;
                self.selected = Slot { request, ..Slot::default() };
            }
        }
        requests
    }

    /// Selects an image from the list.
    pub fn select_image(&mut self, id: RecordId) -> Requests {
        let mut requests = Vec::new();
        if let Some(record) = self.images.get(id).cloned() {
            self.follows_latest_image = self.images.entries().first().is_some_and(|newest| newest.id == id);
            if self.image.id != Some(id) || self.image.state.has_failed() {
                self.request_image(record, &mut requests);
            }
        }
        requests
    }

    /// Requests the next page of the list of ECGs.
    pub fn more_ecgs(&mut self) -> Requests {
        let mut requests = Vec::new();
        let next = self.ecgs.more().map(Request::Ecgs);
        self.request(next, &mut requests);
        requests
    }

    /// Requests the next page of the list of images.
    pub fn more_images(&mut self) -> Requests {
        let mut requests = Vec::new();
        let next = self.images.more().map(Request::Images);
        self.request(next, &mut requests);
        requests
    }

    /// Changes the start of the time range of the trend.
    pub fn set_trend_from(&mut self, from: Timestamp) -> Requests {
        let mut requests = Vec::new();
        self.trend_from = from;
        self.request_rates(&mut requests);
        requests
    }

    fn slot(&mut self, side: Side) -> &mut Slot<LoadedEcg> {
        match side {
            Side::Latest => &mut self.latest,
            Side::Selected => &mut self.selected,
        }
    }

    fn next_id(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId { generation: self.generation, number: self.last_request }
    }

    fn request(&mut self, request: Option<Request>, requests: &mut Requests) {
        if let Some(request) = request {
            requests.push((self.next_id(), request));
        }
    }

    fn refresh_lists(&mut self, ecgs: bool, images: bool, requests: &mut Requests) {
        let ecgs = ecgs.then(|| self.ecgs.refresh()).flatten().map(Request::Ecgs);
        let images = images.then(|| self.images.refresh()).flatten().map(Request::Images);
        self.request(ecgs, requests);
        self.request(images, requests);
    }

    fn request_ecg(&mut self, side: Side, id: RecordId, requests: &mut Requests) {
        let request = self.next_id();
        let loaded_strip =
            [&self.latest, &self.selected].into_iter().find_map(|slot| match slot.state.get() {
                Some(LoadedEcg { record, content: EcgContent::Signal(strip, _) }) if record.id == id => {
                    Some(strip.clone())
                }
                _ => None,
            });
        let slot = self.slot(side);
        if slot.id != Some(id) || slot.state.get().is_none() {
            slot.state = LoadState::Loading;
        }
        (slot.id, slot.request) = (Some(id), request.number);
        requests.push((request, Request::Ecg(side, id, loaded_strip)));
    }

    fn request_image(&mut self, record: ImageRecord, requests: &mut Requests) {
        let request = self.next_id();
        self.image = Slot { id: Some(record.id), request: request.number, state: LoadState::Loading };
        requests.push((request, Request::Image(record)));
    }

    fn follow_latest_image(&mut self, requests: &mut Requests) {
        if !self.follows_latest_image {
            return;
        }
        // The latest image is not always the first of the list: the first one may have a time in the future.
        let latest = self.summary.as_ref().and_then(|summary| summary.latest_image.as_ref());
        let latest = latest.and_then(|latest| self.images.get(latest.id));
        let newest = latest.or(self.images.entries().first()).cloned();
        if let Some(newest) = newest.filter(|newest| self.image.id != Some(newest.id)) {
            self.request_image(newest, requests);
        }
    }

    fn add_damaged<T>(&mut self, page: &Page<T>) {
        for record in &page.damaged {
            if !self.damaged.contains(record) {
                self.damaged.push(record.clone());
            }
        }
    }

    /// Replaces the summary. Requests the latest ECG if it is another one, or if `reload` is set. Returns whether the slot of
    /// the latest ECG has changed. While the ECG is frozen, newer ECGs are only counted.
    fn set_summary(&mut self, summary: PatientSummary, reload: bool, requests: &mut Requests) -> bool {
        let latest = summary.latest_ecg.as_ref().map(|ecg| (ecg.id, ecg.status));
        let before = self.summary.as_ref().and_then(|before| before.latest_ecg.as_ref());
        let is_same = before.map(|ecg| (ecg.id, ecg.status)) == latest;
        if let Some(rate) = &summary.latest_heart_rate {
            let bpm = f32::from(rate.bpm.get());
            self.trend.insert([TrendPoint { at_ms: rate.at.as_millis(), bpm, low: bpm, high: bpm }]);
        }
        self.summary = Some(summary);
        if let Some(frozen) = &mut self.frozen {
            let frozen_id = self.latest.id;
            let is_new = latest
                .filter(|(id, _)| frozen_id != Some(*id))
                .is_some_and(|(id, _)| frozen.newer.insert(id));
            if let Some(id) = frozen_id.filter(|_| reload) {
                self.request_ecg(Side::Latest, id, requests);
            }
            return is_new || reload;
        }
        match latest {
            Some((id, _)) if !is_same || reload => {
                self.request_ecg(Side::Latest, id, requests);
                true
            }
            Some(_) => false,
            None => {
                self.latest = Slot::default();
                !is_same
            }
        }
    }

    fn add_rates(&mut self, page: Page<HeartRateRecord>, requests: &mut Requests) {
        self.is_loading_rates = false;
        self.next_rates = page.next;
        let points = page.items.iter().map(|rate| {
            let bpm = f32::from(rate.bpm.get());
            TrendPoint { at_ms: rate.at.as_millis(), bpm, low: bpm, high: bpm }
        });
        self.trend.insert(points);
        self.request_rates(requests);
    }

    fn request_rates(&mut self, requests: &mut Requests) {
        let Some(next) = self.next_rates else { return };
        let Cursor::Record(oldest, _) = next else { return };
        if !self.is_loading_rates && oldest > self.trend_from && self.trend.points().len() < MAX_RATES {
            self.is_loading_rates = true;
            self.request(Some(Request::Rates(Some(next))), requests);
        }
    }
}

/// The heart rate of an ECG with the lowest and the highest rate within it.
fn trend_point(record: &EcgRecord) -> Option<TrendPoint> {
    let rate = record.analysis.as_ref()?.heart_rate?;
    Some(TrendPoint {
        at_ms: record.at.as_millis(),
        bpm: f32::from(record.heart_rate?.get()),
        low: rate.min_bpm as f32,
        high: rate.max_bpm as f32,
    })
}
