//! The patient that is looked at: what is known, what is asked for, and which answers still count.
//!
//! Every question carries a [`Ticket`]. An answer whose ticket is no longer good belongs to another patient, or to a
//! choice that was changed since, and is dropped: so nothing of an old patient can come to the screen of a new one.

mod questions;
mod slots;

use proto_json::{
    ChangeKind, Cursor, DamagedRecord, EcgRecord, EcgStatus, HeartRateRecord, ImageRecord, Mrn, Page,
    PatientSummary, PatientUpdated, RecordId, Timestamp,
};
use ui::Picture;
use ui::trace::{TrendPoint, TrendScene};

use crate::pages::Pages;

pub use questions::{Answer, Ask, Content, EcgShown, Side, Ticket};
use slots::Place;
pub use slots::{Changed, Slot};

/// Most heart rates of a trend that are fetched; more is no finer on any screen.
const MOST_RATES: usize = 20_000;

/// The patient that is looked at.
#[derive(Debug)]
pub struct PatientView {
    generation: u64,
    /// Number of the next question.
    next: u64,
    mrn: Mrn,
    summary: Option<PatientSummary>,
    latest: Place<EcgShown>,
    chosen: Place<EcgShown>,
    image: Place<Picture>,
    /// The image that is shown was not chosen: it is the latest.
    follows_image: bool,
    ecgs: Pages<EcgRecord>,
    images: Pages<ImageRecord>,
    /// Records of the lists that are damaged and cannot be shown.
    damaged: Vec<DamagedRecord>,
    trend: TrendScene,
    /// From when on the trend is wanted.
    trend_from: Timestamp,
    rates_next: Option<Cursor>,
    rates_asked: bool,
    failure: Option<String>,
}

impl PatientView {
    /// Opens a patient; the generation must be a new one each time.
    #[must_use]
    pub fn open(
        generation: u64,
        mrn: Mrn,
        summary: Option<PatientSummary>,
        trend_from: Timestamp,
    ) -> (Self, Vec<(Ticket, Ask)>) {
        let mut view = PatientView {
            generation,
            next: 0,
            mrn,
            summary: None,
            latest: Place::default(),
            chosen: Place::default(),
            image: Place::default(),
            follows_image: true,
            ecgs: Pages::default(),
            images: Pages::default(),
            damaged: Vec::new(),
            trend: TrendScene::default(),
            trend_from,
            rates_next: None,
            rates_asked: true,
            failure: None,
        };
        let mut asks = Vec::new();
        if let Some(summary) = summary {
            view.take_summary(summary, true, &mut asks);
        }
        let lists = [view.ecgs.refresh().map(Ask::Ecgs), view.images.refresh().map(Ask::Images)];
        for ask in lists.into_iter().flatten().chain([Ask::Rates(None)]) {
            let ticket = view.ticket();
            asks.push((ticket, ask));
        }
        (view, asks)
    }

    /// Whose view it is.
    #[must_use]
    pub fn mrn(&self) -> Mrn {
        self.mrn
    }

    /// What is known of the patient at one look.
    #[must_use]
    pub fn summary(&self) -> Option<&PatientSummary> {
        self.summary.as_ref()
    }

    /// One of the ECGs.
    #[must_use]
    pub fn ecg(&self, side: Side) -> &Slot<EcgShown> {
        match side {
            Side::Latest => &self.latest.slot,
            Side::Chosen => &self.chosen.slot,
        }
    }

    /// Which ECG is meant to stand there, here or not.
    #[must_use]
    pub fn wanted_ecg(&self, side: Side) -> Option<RecordId> {
        match side {
            Side::Latest => self.latest.wanted,
            Side::Chosen => self.chosen.wanted,
        }
    }

    /// The medical image.
    #[must_use]
    pub fn image(&self) -> &Slot<Picture> {
        &self.image.slot
    }

    /// The record of the medical image that is meant to be shown.
    #[must_use]
    pub fn image_record(&self) -> Option<&ImageRecord> {
        self.images.get(self.image.wanted?)
    }

    /// Records of this patient that are damaged and cannot be shown, as far as lists were loaded.
    #[must_use]
    pub fn damaged(&self) -> &[DamagedRecord] {
        &self.damaged
    }

    fn add_damaged<T>(&mut self, page: &Page<T>) {
        for record in &page.damaged {
            if !self.damaged.contains(record) {
                self.damaged.push(record.clone());
            }
        }
    }

    /// ECGs known so far.
    #[must_use]
    pub fn ecgs(&self) -> &Pages<EcgRecord> {
        &self.ecgs
    }

    /// Images known so far.
    #[must_use]
    pub fn images(&self) -> &Pages<ImageRecord> {
        &self.images
    }

    /// Heart rates known so far.
    #[must_use]
    pub fn trend(&self) -> &TrendScene {
        &self.trend
    }

    /// Why a list did not come; one sentence.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Everything there is was loaded anew: what was missed may be anything.
    pub fn reload(&mut self, summary: Option<PatientSummary>) -> (Changed, Vec<(Ticket, Ask)>) {
        let mut asks = Vec::new();
        let Some(summary) = summary else { return (Changed::default(), asks) };
        let is_known = self.summary.as_ref() == Some(&summary);
        let has_failed = self.failure.take().is_some()
            || [&self.latest, &self.chosen].iter().any(|place| matches!(place.slot, Slot::Failed(_)));
        if is_known && !has_failed {
            return (Changed::default(), asks);
        }
        self.take_summary(summary, true, &mut asks);
        self.ask_lists(true, true, &mut asks);
        self.rates_asked = true;
        let ticket = self.ticket();
        asks.push((ticket, Ask::Rates(None)));
        if let Some(id) = self.chosen.wanted.filter(|_| matches!(self.chosen.slot, Slot::Failed(_))) {
            self.ask_ecg(Side::Chosen, id, &mut asks);
        }
        (Changed::ALL, asks)
    }

    /// The patient has changed.
    pub fn update(&mut self, update: &PatientUpdated) -> (Changed, Vec<(Ticket, Ask)>) {
        let mut asks = Vec::new();
        if update.patient.mrn != self.mrn {
            return (Changed::default(), asks);
        }
        let has = |kinds: &[ChangeKind]| update.changes.iter().any(|change| kinds.contains(&change.kind));
        let ecgs = has(&[ChangeKind::Ecg, ChangeKind::EcgAnalyzed]);
        let analyzed = |id: Option<RecordId>| {
            id.is_some()
                && update
                    .changes
                    .iter()
                    .any(|change| change.kind == ChangeKind::EcgAnalyzed && change.id == id)
        };
        let mut changed = Changed {
            vitals: true,
            ecgs,
            images: has(&[ChangeKind::Image]),
            trend: has(&[ChangeKind::HeartRate, ChangeKind::EcgAnalyzed]),
            ..Changed::default()
        };
        changed.latest = self.take_summary(update.patient.clone(), analyzed(self.latest.wanted), &mut asks);
        if let Some(id) = self.chosen.wanted.filter(|id| analyzed(Some(*id))) {
            self.ask_ecg(Side::Chosen, id, &mut asks);
        }
        self.ask_lists(ecgs, changed.images, &mut asks);
        (changed, asks)
    }

    /// Takes an answer, if it still counts.
    pub fn take(&mut self, ticket: Ticket, answer: Answer) -> (Changed, Vec<(Ticket, Ask)>) {
        let mut asks = Vec::new();
        let mut changed = Changed::default();
        if ticket.generation != self.generation {
            return (changed, asks);
        }
        match answer {
            Answer::Ecgs(wanted, Ok(page)) => {
                self.add_damaged(&page);
                (changed.ecgs, changed.trend) = (true, true);
                self.trend.insert(page.items.iter().filter_map(banded));
                let again = self.ecgs.take(wanted, page).map(Ask::Ecgs);
                self.ask(again, &mut asks);
            }
            Answer::Images(wanted, Ok(page)) => {
                self.add_damaged(&page);
                (changed.images, changed.image) = (true, true);
                let again = self.images.take(wanted, page).map(Ask::Images);
                self.ask(again, &mut asks);
                // Not always the first of the list: that one may be from the future.
                let latest = self.summary.as_ref().and_then(|summary| summary.latest_image.as_ref());
                let latest = latest.and_then(|latest| self.images.get(latest.id));
                if self.follows_image
                    && let Some(newest) = latest.or(self.images.entries().first()).cloned()
                    && self.image.wanted != Some(newest.id)
                {
                    self.ask_image(newest, &mut asks);
                }
            }
            Answer::Rates(Ok(page)) => {
                self.add_damaged(&page);
                changed.trend = true;
                self.take_rates(page, &mut asks);
            }
            Answer::Ecgs(wanted, Err(error)) => {
                self.ecgs.failed(wanted);
                (self.failure, changed.ecgs) = (Some(error.to_string()), true);
            }
            Answer::Images(wanted, Err(error)) => {
                self.images.failed(wanted);
                (self.failure, changed.images) = (Some(error.to_string()), true);
            }
            Answer::Rates(Err(error)) => {
                self.rates_asked = false;
                (self.failure, changed.trend) = (Some(error.to_string()), true);
            }
            Answer::Ecg(side, result) => {
                let place = self.place(side);
                if place.number == ticket.number {
                    place.slot = result.map_or_else(Slot::Failed, |shown| Slot::Here(*shown));
                    match side {
                        Side::Latest => changed.latest = true,
                        Side::Chosen => changed.chosen = true,
                    }
                }
            }
            Answer::Image(result) => {
                if self.image.number == ticket.number {
                    self.image.slot = result.map_or_else(Slot::Failed, Slot::Here);
                    changed.image = true;
                }
            }
        }
        (changed, asks)
    }

    /// An ECG was chosen from the list, or none any more.
    pub fn choose_ecg(&mut self, id: Option<RecordId>) -> Vec<(Ticket, Ask)> {
        let mut asks = Vec::new();
        match id {
            Some(id) if self.chosen.wanted == Some(id) && !matches!(self.chosen.slot, Slot::Failed(_)) => {}
            Some(id) => {
                self.chosen.slot = Slot::Loading;
                self.ask_ecg(Side::Chosen, id, &mut asks);
            }
            None => {
                let number = self.ticket().number;
                self.chosen = Place { number, ..Place::default() };
            }
        }
        asks
    }

    /// An image was chosen from the list.
    pub fn choose_image(&mut self, id: RecordId) -> Vec<(Ticket, Ask)> {
        let mut asks = Vec::new();
        if let Some(record) = self.images.get(id).cloned() {
            self.follows_image = self.images.entries().first().is_some_and(|newest| newest.id == id);
            if self.image.wanted != Some(id) || matches!(self.image.slot, Slot::Failed(_)) {
                self.ask_image(record, &mut asks);
            }
        }
        asks
    }

    /// Somebody looks at the end of the list of ECGs.
    pub fn more_ecgs(&mut self) -> Vec<(Ticket, Ask)> {
        let mut asks = Vec::new();
        let more = self.ecgs.more().map(Ask::Ecgs);
        self.ask(more, &mut asks);
        asks
    }

    /// Somebody looks at the end of the list of images.
    pub fn more_images(&mut self) -> Vec<(Ticket, Ask)> {
        let mut asks = Vec::new();
        let more = self.images.more().map(Ask::Images);
        self.ask(more, &mut asks);
        asks
    }

    /// The trend is wanted from another time on.
    pub fn want_trend(&mut self, from: Timestamp) -> Vec<(Ticket, Ask)> {
        let mut asks = Vec::new();
        self.trend_from = from;
        self.ask_rates(&mut asks);
        asks
    }

    fn place(&mut self, side: Side) -> &mut Place<EcgShown> {
        match side {
            Side::Latest => &mut self.latest,
            Side::Chosen => &mut self.chosen,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket { generation: self.generation, number: self.next }
    }

    fn ask(&mut self, ask: Option<Ask>, asks: &mut Vec<(Ticket, Ask)>) {
        if let Some(ask) = ask {
            let ticket = self.ticket();
            asks.push((ticket, ask));
        }
    }

    fn ask_lists(&mut self, ecgs: bool, images: bool, asks: &mut Vec<(Ticket, Ask)>) {
        let ecgs = ecgs.then(|| self.ecgs.refresh()).flatten().map(Ask::Ecgs);
        let images = images.then(|| self.images.refresh()).flatten().map(Ask::Images);
        self.ask(ecgs, asks);
        self.ask(images, asks);
    }

    fn ask_ecg(&mut self, side: Side, id: RecordId, asks: &mut Vec<(Ticket, Ask)>) {
        let ticket = self.ticket();
        let known = [&self.latest, &self.chosen].into_iter().find_map(|place| match place.slot.get() {
            Some(EcgShown { record, content: Content::Trace(strip, _) }) if record.id == id => {
                Some(strip.clone())
            }
            _ => None,
        });
        let place = self.place(side);
        if place.wanted != Some(id) || !matches!(place.slot, Slot::Here(_)) {
            place.slot = Slot::Loading;
        }
        (place.wanted, place.number) = (Some(id), ticket.number);
        asks.push((ticket, Ask::Ecg(side, id, known)));
    }

    fn ask_image(&mut self, record: ImageRecord, asks: &mut Vec<(Ticket, Ask)>) {
        let ticket = self.ticket();
        self.image = Place { wanted: Some(record.id), number: ticket.number, slot: Slot::Loading };
        asks.push((ticket, Ask::Image(record)));
    }

    /// Takes a summary over, and asks for the latest ECG if it is another one, or the same with news of it.
    fn take_summary(
        &mut self,
        summary: PatientSummary,
        has_news: bool,
        asks: &mut Vec<(Ticket, Ask)>,
    ) -> bool {
        let latest = summary.latest_ecg.as_ref().map(|ecg| (ecg.id, ecg.status));
        let before = self.summary.as_ref().and_then(|before| before.latest_ecg.as_ref());
        let is_same = before.map(|ecg| (ecg.id, ecg.status)) == latest;
        if let Some(rate) = &summary.latest_heart_rate {
            let bpm = f32::from(rate.bpm.get());
            self.trend.insert([TrendPoint { at_ms: rate.at.as_millis(), bpm, low: bpm, high: bpm }]);
        }
        self.summary = Some(summary);
        match latest {
            Some((id, _)) if !is_same || has_news => {
                self.ask_ecg(Side::Latest, id, asks);
                true
            }
            Some(_) => false,
            None => {
                self.latest = Place::default();
                !is_same
            }
        }
    }

    fn take_rates(&mut self, page: Page<HeartRateRecord>, asks: &mut Vec<(Ticket, Ask)>) {
        self.rates_asked = false;
        self.rates_next = page.next;
        let points = page.items.iter().map(|rate| {
            let bpm = f32::from(rate.bpm.get());
            TrendPoint { at_ms: rate.at.as_millis(), bpm, low: bpm, high: bpm }
        });
        self.trend.insert(points);
        self.ask_rates(asks);
    }

    fn ask_rates(&mut self, asks: &mut Vec<(Ticket, Ask)>) {
        let Some(next) = self.rates_next else { return };
        let oldest = match next {
            Cursor::Record(at, _) => at,
            Cursor::Patient(_) => return,
        };
        if !self.rates_asked && oldest > self.trend_from && self.trend.points().len() < MOST_RATES {
            self.rates_asked = true;
            self.ask(Some(Ask::Rates(Some(next))), asks);
        }
    }
}

/// The rate of an ECG with the lowest and highest within it.
fn banded(record: &EcgRecord) -> Option<TrendPoint> {
    let rate = record.analysis.as_ref()?.heart_rate?;
    Some(TrendPoint {
        at_ms: record.at.as_millis(),
        bpm: f32::from(record.heart_rate?.get()),
        low: rate.min_bpm as f32,
        high: rate.max_bpm as f32,
    })
}

/// Whether more can still become known of an ECG by itself.
#[must_use]
pub fn is_waiting(status: EcgStatus) -> bool {
    status == EcgStatus::Pending
}

#[cfg(test)]
mod tests;
