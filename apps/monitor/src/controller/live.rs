//! Live waveforms on the overview and on the patient page.
//!
//! A timer of the refresh rate of the screen calls [`LiveController::frame`] while a patient streams. The subscription follows what
//! is visible: an overview of each visible tile, or the full waveforms of the open patient.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

use client::{LiveEvent, LiveSubscriber};
use proto_json::{LiveMode, Mrn, Timestamp};
use slint::{ComponentHandle, Image, Model, ModelRc, SharedString, VecModel};
use ui::trace::Size;
use ui::{format, tr};

use super::context::Context;
use crate::live::strip::{self, KeptStrip};
use crate::live::{
    ChannelKind, LivePane, LiveTile, NumericKind, NumericValue, SignalState, Speed, numerics, pane, tile,
};
use crate::messages;
use crate::overview::{MAX_TILES, Slot};
use crate::window::{Live, LiveTab, LiveTileData, NumericData, SignalTone, Theme, TraceData};

/// The refresh interval of the traces.
const REFRESH: Duration = Duration::from_millis(16);

/// What is visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visible {
    /// The overview.
    Tiles,
    /// The page of a patient.
    Patient(Mrn),
    /// A page without waveforms.
    Nothing,
}

/// The controller of live waveforms.
pub(super) struct LiveController {
    subscriber: Option<LiveSubscriber>,
    is_connected: bool,
    visible: Visible,
    /// The first visible row of tiles, and the number of visible rows.
    rows_in_view: (usize, usize),
    tiles: HashMap<Mrn, LiveTile>,
    /// Size and theme of the pictures of the tiles.
    tile_look: Option<(Size, bool)>,
    rows: Rc<VecModel<LiveTileData>>,
    /// The patient of each row.
    row_patients: Vec<Option<Mrn>>,
    pane: LivePane,
    traces: Rc<VecModel<TraceData>>,
    strips: Vec<Rc<VecModel<Image>>>,
    /// State and gain of each trace as they are shown.
    trace_texts: Vec<(SignalState, Option<f64>)>,
    numerics: Rc<VecModel<NumericData>>,
    timer: slint::Timer,
}

impl Default for LiveController {
    fn default() -> Self {
        LiveController {
            subscriber: None,
            is_connected: false,
            visible: Visible::Tiles,
            rows_in_view: (0, MAX_TILES),
            tiles: HashMap::new(),
            tile_look: None,
            rows: Rc::default(),
            row_patients: Vec::new(),
            pane: LivePane::new(Size::new(600.0, 300.0, 1.0), Speed::default(), pane::MAX_TRACES),
            traces: Rc::default(),
            strips: Vec::new(),
            trace_texts: Vec::new(),
            numerics: Rc::default(),
            timer: slint::Timer::default(),
        }
    }
}

fn now_us(context: &Context) -> i64 {
    context.now().as_millis() * 1000
}

impl LiveController {
    pub(super) fn bind(&mut self, context: &Context) {
        let live = context.window.global::<Live>();
        live.set_tiles(ModelRc::from(self.rows.clone()));
        live.set_traces(ModelRc::from(self.traces.clone()));
        live.set_numerics(ModelRc::from(self.numerics.clone()));
        live.set_speed(speed_index(context.saved.live_speed));
        live.set_trace_count(context.saved.live_traces.clamp(1, pane::MAX_TRACES) as i32);
    }

    /// Calls `frame` at the refresh rate while there are streams.
    pub(super) fn set_timer(&self, frame: impl FnMut() + 'static) {
        self.timer.start(slint::TimerMode::Repeated, REFRESH, frame);
        self.timer.stop();
    }

    /// A new connection replaces the subscription.
    pub(super) fn started(&mut self, context: &Context, subscriber: LiveSubscriber) {
        self.subscriber = Some(subscriber);
        self.is_connected = false;
        self.subscribe(context);
    }

    /// Removes all waveforms: another server is selected.
    pub(super) fn clear(&mut self, context: &Context) {
        self.subscriber = None;
        self.tiles.clear();
        self.open_pane(context);
        self.refresh_rows(context);
    }

    /// Another page is visible.
    pub(super) fn show(&mut self, context: &Context, visible: Visible) {
        if visible == self.visible {
            return;
        }
        self.visible = visible;
        self.open_pane(context);
        if let Visible::Patient(mrn) = visible {
            let live = context.window.global::<Live>();
            live.set_tab(if context.saved.live_tab { LiveTab::Live } else { LiveTab::Strips });
            // The page does not change its layout when the first frame arrives.
            live.set_available(self.tiles.get(&mrn).is_some_and(LiveTile::is_shown));
        }
        self.subscribe(context);
    }

    pub(super) fn scrolled(&mut self, context: &Context, first_row: i32, rows: i32) {
        self.rows_in_view = (usize::try_from(first_row).unwrap_or(0), usize::try_from(rows).unwrap_or(0));
        self.subscribe(context);
    }

    /// Subscribes what is visible. Call it when the tiles or the page have changed.
    pub(super) fn subscribe(&mut self, context: &Context) {
        let wanted: BTreeMap<Mrn, LiveMode> = match self.visible {
            Visible::Nothing => BTreeMap::new(),
            Visible::Patient(mrn) => BTreeMap::from([(mrn, LiveMode::Full)]),
            Visible::Tiles => {
                let columns = usize::try_from(context.api().get_columns()).unwrap_or(1).max(1);
                let (first, rows) = self.rows_in_view;
                let slots =
                    context.overview.slots().take(MAX_TILES).skip(first * columns).take(rows * columns);
                let patient = |slot| match slot {
                    Slot::Patient(tile) => Some((tile.patient.mrn, LiveMode::Overview)),
                    Slot::Empty(_) => None,
                };
                slots.filter_map(patient).collect()
            }
        };
        if let Some(subscriber) = &self.subscriber {
            let known = subscriber.subscribed();
            for mrn in known.keys().filter(|mrn| !wanted.contains_key(mrn)) {
                subscriber.unsubscribe(*mrn);
            }
            for (mrn, mode) in wanted.iter().filter(|(mrn, mode)| known.get(mrn) != Some(mode)) {
                subscriber.subscribe(*mrn, *mode);
            }
        }
        // A tile that is not subscribed must not look live.
        if self.visible == Visible::Tiles {
            self.tiles.retain(|mrn, _| wanted.contains_key(mrn));
        }
    }

    /// The subscribed patients.
    pub(super) fn subscribed(&self) -> BTreeMap<Mrn, LiveMode> {
        self.subscriber.as_ref().map(LiveSubscriber::subscribed).unwrap_or_default()
    }

    /// An event of the subscription.
    pub(super) fn event(&mut self, context: &Context, event: LiveEvent) {
        let now = now_us(context);
        match event {
            LiveEvent::Connection(state) => {
                self.is_connected = state.is_connected;
                self.wake();
            }
            LiveEvent::Stream(stream) => {
                if self.is_open(stream.mrn) {
                    if self.pane.patient.describe(&stream) {
                        self.arrange(context);
                    }
                } else if self.visible == Visible::Tiles {
                    let tile = self.tiles.entry(stream.mrn).or_default();
                    if tile.patient.describe(&stream) {
                        tile.reset();
                    }
                }
                self.wake();
            }
            LiveEvent::Frame(frame) => {
                if self.is_open(frame.stream.mrn) {
                    if self.pane.patient.frame(&frame, now) {
                        self.arrange(context);
                    }
                    self.set_available(context);
                    self.wake();
                }
            }
            LiveEvent::Columns(columns) => {
                if self.visible == Visible::Tiles {
                    let tile = self.tiles.entry(columns.stream.mrn).or_default();
                    if tile.patient.columns(&columns, now) {
                        tile.reset();
                    }
                    self.wake();
                }
            }
            LiveEvent::Vitals(vitals) => {
                if self.is_open(vitals.mrn) {
                    self.pane.patient.set_vitals(*vitals);
                    self.show_vitals(context);
                } else if self.visible == Visible::Tiles {
                    let mrn = vitals.mrn;
                    self.tiles.entry(mrn).or_default().patient.set_vitals(*vitals);
                    if let Some(index) = self.row_patients.iter().position(|row| *row == Some(mrn)) {
                        self.show_row(context, index, mrn);
                    }
                }
            }
            // The gap in the trace shows it.
            LiveEvent::Lost { .. } => {}
            // The device has ended its stream. The tile is that of a patient without a device; the page keeps the stopped traces.
            LiveEvent::Closed { mrn } => {
                if self.tiles.remove(&mrn).is_some() {
                    self.refresh_rows(context);
                }
            }
            LiveEvent::Rejected { message } => tracing::warn!(message, "live waveforms are rejected"),
        }
    }

    fn wake(&self) {
        if !self.timer.running() {
            self.timer.restart();
        }
    }

    fn is_open(&self, mrn: Mrn) -> bool {
        self.visible == Visible::Patient(mrn)
    }

    /// Draws what has changed since the last frame.
    pub(super) fn frame(&mut self, context: &Context) {
        match self.visible {
            Visible::Tiles => self.draw_tiles(context),
            Visible::Patient(_) => self.draw_pane(context),
            Visible::Nothing => self.timer.stop(),
        }
    }

    /// Updates everything that changes with time. Runs once a second.
    pub(super) fn tick(&mut self, context: &Context) {
        self.subscribe(context);
        match self.visible {
            Visible::Tiles => self.refresh_rows(context),
            Visible::Patient(_) => self.show_vitals(context),
            Visible::Nothing => {}
        }
    }

    /// Draws all pictures for another theme.
    pub(super) fn redraw(&mut self, context: &Context) {
        self.tile_look = None;
        self.frame(context);
    }

    // ---- The overview.

    fn draw_tiles(&mut self, context: &Context) {
        let now = now_us(context);
        let area = context.api().get_tile_layout().sparkline;
        let zoom = context.window.global::<Theme>().get_zoom();
        let size = context.picture_size(area.width.max(20.0) / zoom, area.height.max(10.0) / zoom);
        let look = Some((size, context.is_dark()));
        if look != self.tile_look {
            self.tile_look = look;
            self.tiles.values_mut().for_each(LiveTile::reset);
        }
        let is_connected = self.is_connected && context.api().get_live();
        let mut any = false;
        for index in 0..context.overview.len().min(MAX_TILES) {
            let Some(mrn) = context.overview.at(index).map(|tile| tile.patient.mrn) else {
                self.clear_row(index);
                continue;
            };
            let mut is_changed = self.row_patients.get(index) != Some(&Some(mrn));
            if let Some(live) = self.tiles.get_mut(&mrn) {
                live.patient.set_connected(is_connected);
                let kind = live.patient.shown_channels().first().and_then(|(stream, channel)| {
                    live.patient
                        .streams()
                        .get(*stream)?
                        .description
                        .channels
                        .get(*channel)
                        .map(ChannelKind::of)
                });
                let style = tile::style(kind.unwrap_or(ChannelKind::Other), context.is_dark());
                is_changed |= live.draw(size, style, now);
                any |= live.is_shown();
            }
            if is_changed {
                self.show_row(context, index, mrn);
            }
        }
        if !any {
            self.timer.stop();
        }
    }

    /// Makes the rows those of the tiles.
    fn refresh_rows(&mut self, context: &Context) {
        let count = context.overview.len().min(MAX_TILES);
        while self.rows.row_count() > count {
            self.rows.remove(self.rows.row_count() - 1);
        }
        self.row_patients.resize(count, None);
        for index in 0..count {
            match context.overview.at(index).map(|tile| tile.patient.mrn) {
                Some(mrn) => self.show_row(context, index, mrn),
                None => self.clear_row(index),
            }
        }
    }

    /// An empty bed has no waveforms.
    fn clear_row(&mut self, index: usize) {
        while self.rows.row_count() <= index {
            self.rows.push(LiveTileData::default());
            self.row_patients.resize(self.rows.row_count(), None);
        }
        if self.rows.row_data(index).is_some_and(|row| row != LiveTileData::default()) {
            self.rows.set_row_data(index, LiveTileData::default());
        }
        if let Some(row) = self.row_patients.get_mut(index) {
            *row = None;
        }
    }

    fn show_row(&mut self, context: &Context, index: usize, mrn: Mrn) {
        let data = self.tiles.get(&mrn).map(|live| tile_data(context, live, mrn)).unwrap_or_default();
        while self.rows.row_count() <= index {
            self.rows.push(LiveTileData::default());
            self.row_patients.resize(self.rows.row_count(), None);
        }
        if let Some(row) = self.row_patients.get_mut(index) {
            *row = Some(mrn);
        }
        if self.rows.row_data(index).as_ref() != Some(&data) {
            self.rows.set_row_data(index, data);
        }
    }

    // ---- The patient page.

    /// An empty pane for another patient.
    fn open_pane(&mut self, context: &Context) {
        let (size, saved) = (self.pane.size(), &context.saved);
        self.pane = LivePane::new(size, saved.live_speed, saved.live_traces);
        self.traces.set_vec(Vec::new());
        self.numerics.set_vec(Vec::new());
        (self.strips, self.trace_texts) = (Vec::new(), Vec::new());
        let live = context.window.global::<Live>();
        live.set_available(false);
        live.set_keeping(false);
        live.set_frozen(SharedString::new());
        live.set_reading(SharedString::new());
        live.set_device(SharedString::new());
        live.set_quality(SharedString::new());
        live.set_rhythm(SharedString::new());
        live.set_diagnostics(SharedString::new());
    }

    fn set_available(&self, context: &Context) {
        let live = context.window.global::<Live>();
        if !live.get_available() && self.pane.patient.has_signal() {
            live.set_available(true);
        }
    }

    pub(super) fn resize(&mut self, context: &Context, width: f32, height: f32) {
        let size = context.picture_size(width, height);
        if size != self.pane.size() {
            self.pane.arrange(size, self.pane.max_traces());
            self.show_traces(context);
        }
    }

    fn arrange(&mut self, context: &Context) {
        self.pane.arrange(self.pane.size(), self.pane.max_traces());
        self.show_traces(context);
    }

    /// Shows all traces with their pictures.
    fn show_traces(&mut self, context: &Context) {
        let width = self.pane.size().width;
        let strips = width.div_ceil(pane::STRIP_WIDTH) as usize;
        let empty = || Rc::new(VecModel::from(vec![Image::default(); strips]));
        self.strips = self.pane.traces().iter().map(|_| empty()).collect();
        self.trace_texts.clear();
        let rows: Vec<TraceData> = self
            .pane
            .traces()
            .iter()
            .zip(&self.strips)
            .map(|(trace, strips)| TraceData { strips: ModelRc::from(strips.clone()), ..trace_data(trace) })
            .collect();
        self.trace_texts.extend(self.pane.traces().iter().map(|trace| (trace.state(), trace.gain())));
        self.traces.set_vec(rows);
        let devices: Vec<String> = self
            .pane
            .patient
            .streams()
            .iter()
            .map(|stream| {
                format!("{} · {}", stream.description.device.name, stream.description.device.serial)
            })
            .collect();
        context.window.global::<Live>().set_device(devices.join(", ").into());
        self.draw_pane(context);
    }

    fn draw_pane(&mut self, context: &Context) {
        self.pane.patient.set_connected(self.is_connected && context.api().get_live());
        for (trace, strip, picture) in self.pane.draw(now_us(context)) {
            if let Some(strips) = self.strips.get(trace).filter(|strips| strip < strips.row_count()) {
                strips.set_row_data(strip, picture);
            }
        }
        for (index, trace) in self.pane.traces().iter().enumerate() {
            let texts = (trace.state(), trace.gain());
            if let Some(shown) = self.trace_texts.get_mut(index).filter(|shown| **shown != texts) {
                *shown = texts;
                if let Some(before) = self.traces.row_data(index) {
                    self.traces.set_row_data(index, TraceData { strips: before.strips, ..trace_data(trace) });
                }
            }
        }
    }

    /// Shows numerics, quality, rhythm and diagnostics.
    fn show_vitals(&self, context: &Context) {
        let (live, now) = (context.window.global::<Live>(), context.now());
        let current = self.pane.patient.live_vitals(now_us(context));
        let vitals = self.pane.patient.vitals();
        let mut rows = vitals.map(|vitals| numerics::rows(vitals, now)).unwrap_or_default();
        if current.is_none() {
            rows.iter_mut().for_each(|row| row.is_stale = true);
        }
        let rows: Vec<NumericData> = rows.into_iter().map(|row| numeric_data(row, now)).collect();
        if rows.len() == self.numerics.row_count() {
            for (index, row) in rows.into_iter().enumerate() {
                if self.numerics.row_data(index).as_ref() != Some(&row) {
                    self.numerics.set_row_data(index, row);
                }
            }
        } else {
            self.numerics.set_vec(rows);
        }
        let quality = current.map(|vitals| {
            let mut text = messages::quality(vitals.quality).to_owned();
            if !vitals.lead_off.is_empty() {
                text.push_str(&format!(" · {}", tr!("lead off: {}", vitals.lead_off.join(", "))));
            }
            text
        });
        live.set_quality(quality.unwrap_or_default().into());
        let rhythm = current.and_then(|vitals| vitals.rhythm.clone());
        let rhythm = rhythm.map(|code| ui::rhythm::code_name(&code).map_or(code, str::to_owned));
        live.set_rhythm(rhythm.map(|rhythm| tr!("Rhythm: {}", rhythm)).unwrap_or_default().into());
        let buffer = self
            .pane
            .buffer_us()
            .map(|(length, delay)| tr!("Jitter buffer {} ms · delay {} ms", length / 1000, delay / 1000));
        live.set_diagnostics(buffer.unwrap_or_default().into());
    }

    /// Changes the tab and saves it.
    pub(super) fn select_tab(&mut self, context: &mut Context, tab: LiveTab) {
        context.window.global::<Live>().set_tab(tab);
        context.saved.live_tab = tab == LiveTab::Live;
        context.save_settings();
        self.wake();
    }

    /// Changes the paper speed and saves it.
    pub(super) fn set_speed(&mut self, context: &mut Context, index: i32) {
        let speed = match index {
            0 => Speed::Slow,
            2 => Speed::Fast,
            _ => Speed::Standard,
        };
        self.pane.set_speed(speed);
        context.saved.live_speed = speed;
        context.save_settings();
        let live = context.window.global::<Live>();
        live.set_speed(speed_index(speed));
        live.set_reading(SharedString::new());
        self.draw_pane(context);
    }

    /// Changes the number of traces and saves it.
    pub(super) fn set_trace_count(&mut self, context: &mut Context, count: i32) {
        let count = usize::try_from(count).unwrap_or(1).clamp(1, pane::MAX_TRACES);
        context.saved.live_traces = count;
        context.save_settings();
        context.window.global::<Live>().set_trace_count(count as i32);
        self.pane.arrange(self.pane.size(), count);
        self.show_traces(context);
    }

    /// Freezes the traces, or continues them.
    pub(super) fn toggle_freeze(&mut self, context: &Context) {
        let is_frozen = !self.pane.is_frozen();
        self.pane.set_frozen(is_frozen, now_us(context));
        let text =
            if is_frozen { tr!("Frozen {}", format::time_of_day(context.now())) } else { String::new() };
        let live = context.window.global::<Live>();
        live.set_frozen(text.into());
        live.set_reading(SharedString::new());
        self.draw_pane(context);
    }

    /// Measures between two points in logical pixels of a window that is not zoomed.
    pub(super) fn measure(&self, context: &Context, from: (f32, f32), to: (f32, f32)) {
        let scale = self.pane.size().scale;
        let pixel = |(x, y): (f32, f32)| (x * scale, y * scale);
        let reading = self.pane.measure(pixel(from), pixel(to)).map(|measured| {
            let time = format!(
                "{:.0} ms · {:+.2} {}",
                measured.seconds * 1000.0,
                measured.difference,
                measured.unit
            );
            let is_interval = (0.15..=6.0).contains(&measured.seconds);
            if is_interval { format!("{time} · {:.0}/min", 60.0 / measured.seconds) } else { time }
        });
        context.window.global::<Live>().set_reading(reading.unwrap_or_default().into());
    }

    /// The last seconds of the ECG, to be stored. `None` if the patient streams no ECG.
    pub(super) fn strip(&self, context: &Context, seconds: i32) -> Option<(Mrn, KeptStrip)> {
        let Visible::Patient(mrn) = self.visible else { return None };
        let seconds = u32::try_from(seconds).unwrap_or(0);
        Some((mrn, strip::cut(&self.pane.patient, now_us(context), seconds)?))
    }
}

fn speed_index(speed: Speed) -> i32 {
    match speed {
        Speed::Slow => 0,
        Speed::Standard => 1,
        Speed::Fast => 2,
    }
}

/// The text about a signal, and how it is shown.
fn note(state: SignalState) -> (SharedString, SignalTone) {
    match state {
        SignalState::Waiting | SignalState::Live => (SharedString::new(), SignalTone::Normal),
        SignalState::LeadOff => (tr!("lead off").into(), SignalTone::LeadOff),
        SignalState::Stopped(since_us) => {
            let since = Timestamp::from_millis(since_us / 1000).map(format::time_of_day).unwrap_or_default();
            (tr!("no signal since {}", since).into(), SignalTone::Stopped)
        }
    }
}

fn tile_data(context: &Context, live: &LiveTile, mrn: Mrn) -> LiveTileData {
    let rate = live.patient.live_vitals(now_us(context)).and_then(numerics::heart_rate);
    let rate = rate.filter(|_| live.is_shown());
    let (note, tone) = note(live.state());
    LiveTileData {
        shown: live.is_shown(),
        picture: live.picture(),
        note,
        tone,
        rate: rate.map(|rate| rate.to_string()).unwrap_or_default().into(),
        rate_severity: messages::severity(context.alarms.rate_severity(mrn)),
    }
}

fn colour(kind: ChannelKind) -> slint::Color {
    let [red, green, blue] = pane::colour(kind).rgb;
    slint::Color::from_rgb_u8(red, green, blue)
}

/// The texts of a trace.
fn trace_data(trace: &pane::Trace) -> TraceData {
    let (note, tone) = note(trace.state());
    TraceData {
        label: trace.channel().label.as_str().into(),
        scale: trace.gain().map(|gain| format!("{gain} mm/mV")).unwrap_or_default().into(),
        note,
        tone,
        ink: colour(trace.kind()),
        strips: ModelRc::default(),
    }
}

fn numeric_data(row: NumericValue, now: Timestamp) -> NumericData {
    let (label, unit, ink) = match row.kind {
        NumericKind::HeartRate => (tr!("HR"), tr!("bpm"), colour(ChannelKind::Ecg)),
        NumericKind::Saturation => ("SpO₂", "%", colour(ChannelKind::Pleth)),
        NumericKind::Respiration => (tr!("Resp"), "/min", colour(ChannelKind::Respiration)),
        NumericKind::Pressure => (tr!("NIBP"), "mmHg", colour(ChannelKind::Pressure)),
        NumericKind::Temperature => (tr!("Temp"), "°C", colour(ChannelKind::Other)),
    };
    let mut accessible = format!("{label} {} {unit}", row.value);
    if row.is_stale {
        accessible.push_str(tr!(", stale"));
    }
    let shows_time = row.kind == NumericKind::Pressure || row.is_stale;
    NumericData {
        label: label.into(),
        value: row.value.into(),
        unit: unit.into(),
        second: row.second.into(),
        time: if shows_time { format::minute_or_date(row.time, now) } else { String::new() }.into(),
        ink,
        stale: row.is_stale,
        accessible_text: accessible.into(),
    }
}
