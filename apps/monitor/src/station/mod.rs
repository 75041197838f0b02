//! The one place that knows everything: takes messages and what people do, changes the models, and shows what changed.

mod alarms;
mod connection;
mod dialogs;
mod patients;
mod traces;
mod wall;
mod wire;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use client::{ConnectionState, ServerTime};
use proto_json::{DamagedRecord, Mrn, RecordId, Timestamp};
use slint::{ComponentHandle, ModelRc, SharedString, VecModel};
use ui::{ConnectionArgs, Settings, SettingsFile, format};

use crate::alarms::Alarms;
use crate::ecg_pane::EcgPane;
use crate::keeper::Keeper;
use crate::kept::Kept;
use crate::link::{Inbox, Link, Message};
use crate::patient::PatientView;
use crate::save::What;
use crate::trend_pane::{RANGES, TrendPane};
use crate::wall::Wall;
use crate::window::{AlarmData, Api, ChoiceData, HistoryData, Main, Page, TileData, Tone};

/// How often ages go on.
const TICK: Duration = Duration::from_secs(1);
/// Tiles on the wall; of more patients, those who need somebody first.
const MOST_TILES: usize = 400;

/// What a station starts with.
#[derive(Debug)]
pub(crate) struct Start {
    /// What runs beside the window.
    pub(crate) link: Link,
    /// Writes what is remembered.
    pub(crate) keeper: Keeper,
    /// What the command line says of the connection.
    pub(crate) connection: ConnectionArgs,
    /// Where settings are kept.
    pub(crate) settings: SettingsFile,
    /// Where alarms are kept.
    pub(crate) alarms: PathBuf,
    /// Age past which a value is stale, if the command line says so.
    pub(crate) stale_after: Option<Duration>,
    /// Whom to open at once.
    pub(crate) patient: Option<Mrn>,
}

/// Lists the window shows; changed row by row, so that only what changed is drawn.
#[derive(Default)]
struct Models {
    tiles: Rc<VecModel<TileData>>,
    ages: Rc<VecModel<SharedString>>,
    patients: Rc<VecModel<ChoiceData>>,
    ecgs: Rc<VecModel<ChoiceData>>,
    images: Rc<VecModel<ChoiceData>>,
    alarms: Rc<VecModel<AlarmData>>,
    history: Rc<VecModel<HistoryData>>,
}

/// The patient that is looked at.
struct Looked {
    view: PatientView,
}

/// Everything behind the window.
pub(crate) struct Station {
    window: Main,
    inbox: Inbox,
    link: Link,
    keeper: Keeper,
    settings_file: SettingsFile,
    kept: Kept,
    /// Settings in force: those kept, with the command line over them.
    settings: Settings,
    stale_after: Duration,
    alarms: Alarms,
    alarms_kept: u64,
    /// Number of the connection whose messages count.
    connection: u64,
    state: Option<ConnectionState>,
    has_snapshot: bool,
    wall: Wall,
    /// ECGs whose small strips are on their way, and those wanted after them.
    sparks: HashMap<Mrn, (RecordId, Option<RecordId>)>,
    models: Models,
    /// Width and height of the wall in logical pixels.
    wall_room: (f32, f32),
    search: String,
    looked: Option<Looked>,
    latest: EcgPane,
    chosen: EcgPane,
    /// Number of the opening of a patient.
    opening: u64,
    opens_at_start: Option<Mrn>,
    trend: TrendPane,
    saves: Option<What>,
    has_quit: bool,
    /// The time by the clock of the server; `None` before the first connection.
    server_time: Option<ServerTime>,
    /// What is wrong with a clock, if anything is.
    clock_alarm: Option<String>,
    /// Damaged records that are missing from the list of patients.
    damaged_patients: Vec<DamagedRecord>,
    had_damage: bool,
    /// Tests let time pass.
    ahead_ms: i64,
    /// Tests set the clock of this computer wrong.
    clock_off_ms: i64,
    ticks: slint::Timer,
}

impl Station {
    /// Builds it and ties it to the window. What cannot be read is said in the window, and the usual is in force.
    pub(crate) fn start(start: Start, window: Main, inbox: Inbox) -> Rc<RefCell<Station>> {
        let mut complaint = None;
        let kept = start.settings.load::<Kept>().unwrap_or_else(|error| {
            complaint = Some(error.to_string());
            Kept::default()
        });
        let settings = start.connection.apply_to(&kept.connection).unwrap_or_else(|error| {
            complaint = Some(error.to_string());
            kept.connection.clone()
        });
        let alarms = crate::alarms::load(&start.alarms).unwrap_or_else(|error| {
            complaint = Some(error.to_string());
            Alarms::default()
        });
        let station = Station {
            inbox,
            link: start.link,
            keeper: start.keeper,
            settings_file: start.settings,
            stale_after: start.stale_after.unwrap_or_else(|| kept.stale_after()),
            trend: TrendPane::new(kept.range),
            settings,
            kept,
            alarms_kept: alarms.changes(),
            alarms,
            connection: 0,
            state: None,
            has_snapshot: false,
            wall: Wall::default(),
            sparks: HashMap::new(),
            models: Models::default(),
            wall_room: (0.0, 0.0),
            search: String::new(),
            looked: None,
            opening: 0,
            opens_at_start: start.patient,
            latest: EcgPane::default(),
            chosen: EcgPane::default(),
            saves: None,
            has_quit: false,
            server_time: None,
            clock_alarm: None,
            damaged_patients: Vec::new(),
            had_damage: false,
            ahead_ms: 0,
            clock_off_ms: 0,
            ticks: slint::Timer::default(),
            window,
        };
        let station = Rc::new(RefCell::new(station));
        wire::connect(&station);
        {
            let mut station = station.borrow_mut();
            station.show_models();
            station.show_connection();
            station.show_alarms();
            station.tick();
            if let Some(complaint) = complaint {
                station.say(Tone::Danger, &format::sentence(&complaint));
            }
            station.connect();
        }
        let weak = Rc::downgrade(&station);
        station.borrow().ticks.start(slint::TimerMode::Repeated, TICK, move || {
            if let Some(station) = weak.upgrade() {
                station.borrow_mut().tick();
            }
        });
        station
    }

    fn show_models(&self) {
        let api = self.window.global::<Api>();
        let models = &self.models;
        api.set_tiles(ModelRc::from(models.tiles.clone()));
        api.set_ages(ModelRc::from(models.ages.clone()));
        api.set_patients(ModelRc::from(models.patients.clone()));
        api.set_ecgs(ModelRc::from(models.ecgs.clone()));
        api.set_images(ModelRc::from(models.images.clone()));
        api.set_alarms(ModelRc::from(models.alarms.clone()));
        api.set_history(ModelRc::from(models.history.clone()));
        let ranges: Vec<SharedString> = RANGES.iter().map(|range| range.0.into()).collect();
        api.set_ranges(ModelRc::new(VecModel::from(ranges)));
        api.set_range(self.trend.range() as i32);
        api.set_paper(self.kept.paper);
        api.set_version(env!("CARGO_PKG_VERSION").into());
        api.set_settings_file(self.settings_file.path().display().to_string().into());
        self.show_theme();
    }

    pub(crate) fn window(&self) -> &Main {
        &self.window
    }

    /// The time by the clock of the server, by which values have their times; the clock of this computer may be wrong, and is
    /// used only as long as the server has not told.
    fn now(&self) -> Timestamp {
        let now = self.server_time.as_ref().and_then(ServerTime::now).unwrap_or_else(Timestamp::now);
        now.plus_millis(self.ahead_ms)
    }

    /// Sets the clock of this computer wrong, for tests of what that does.
    pub(crate) fn set_clock_wrong(&mut self, by_ms: i64) {
        self.clock_off_ms = by_ms;
        self.tick();
    }

    /// Lets time pass, for tests of what age does.
    pub(crate) fn turn_clock(&mut self, by: Duration) {
        self.ahead_ms += i64::try_from(by.as_millis()).unwrap_or(0);
        self.tick();
    }

    /// Takes back what [`Station::turn_clock`] did.
    pub(crate) fn turn_clock_back(&mut self) {
        self.ahead_ms = 0;
        self.tick();
    }

    /// Takes all messages that are here.
    pub(crate) fn deliver(&mut self) {
        while let Some(message) = self.inbox.next() {
            self.take(message);
        }
    }

    /// Waits for a message and takes it; `false` if none came.
    pub(crate) fn wait(&mut self, limit: Duration) -> bool {
        match self.inbox.wait(limit) {
            Some(message) => {
                self.take(message);
                true
            }
            None => false,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Connected(number, made) if number == self.connection => self.take_connected(made),
            Message::Feed(number, event) if number == self.connection => self.take_event(event),
            Message::Connected(..) | Message::Feed(..) => {}
            Message::Spark(mrn, id, spark) => self.take_spark(mrn, id, spark),
            Message::Answer(ticket, answer) => self.take_answer(ticket, answer),
            Message::Saved(path, saved) => self.take_saved(&path, saved),
            Message::Tested(tested) => self.take_tested(tested),
            Message::NotKept(reason) => self.say(Tone::Danger, &format::sentence(&reason)),
            Message::Place(path) => self.take_place(&path),
        }
    }

    /// A second has passed.
    fn tick(&mut self) {
        let now = self.now();
        let api = self.window.global::<Api>();
        api.set_clock(format::time_of_day(now).into());
        self.check_clocks();
        self.age_tiles(now);
        self.age_patient(now);
        if self.alarms.all().any(|(_, alarm)| alarm.silent_until.is_some()) {
            self.refresh_silenced(now);
        }
        self.keep_alarms();
    }

    fn keep_alarms(&mut self) {
        if self.alarms.changes() != self.alarms_kept {
            self.alarms_kept = self.alarms.changes();
            self.keeper.alarms(&self.alarms);
        }
    }

    /// Says something at the lower edge.
    fn say(&self, tone: Tone, text: &str) {
        let api = self.window.global::<Api>();
        api.set_message_tone(tone);
        api.set_message(text.into());
    }

    fn show_page(&self, page: Page) {
        self.window.global::<Api>().set_page(page);
    }

    /// What must be on disk before the app ends.
    pub(crate) fn end(&mut self) {
        self.keep_alarms();
        self.keeper.finish();
    }

    pub(crate) fn has_quit(&self) -> bool {
        self.has_quit
    }
}
