//! Alarms on the screen, and what people do about them.

use proto_json::{Mrn, Timestamp};
use slint::{ComponentHandle, Model};
use ui::format;

use super::Station;
use crate::alarms::{Alarm, Latching, Limits, LimitsError, RawLimits, Remembered, Severity};
use crate::phrases;
use crate::window::{self, AlarmData, Api, HistoryData, LimitsForm, Page, Sheet, Tone};

/// Entries of the history that are shown.
const SHOWN: usize = 500;

/// Why a form of limits cannot be taken.
#[derive(Debug, thiserror::Error)]
enum FormError {
    #[error("“{0}” is not a whole number")]
    Number(String),
    #[error("a value becomes stale after 1 to 86400 seconds")]
    Stale,
    #[error("an alarm is silenced for 1 to 600 seconds")]
    Silence,
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

impl Station {
    /// Shows how many alarms there are, how grave, and what flashes.
    pub(super) fn show_alarms(&self) {
        let now = self.now();
        let count = self.alarms.all().count();
        let worst = self.alarms.all().map(|(_, alarm)| alarm.severity).max();
        let flashes =
            |severity| self.alarms.all().any(|(_, alarm)| alarm.severity == severity && alarm.flashes(now));
        let api = self.window.global::<Api>();
        let text =
            if count == 0 { "No alarms".to_owned() } else { format::count(count as u64, "alarm", "alarms") };
        api.set_alarm_count(text.into());
        api.set_worst(phrases::severity(worst));
        api.set_any_high_flashes(flashes(Severity::High));
        api.set_any_medium_flashes(flashes(Severity::Medium));
        self.list_alarms();
    }

    /// Shows the list of alarms and the history, if they are looked at.
    pub(super) fn list_alarms(&self) {
        if self.window.global::<Api>().get_page() != Page::Alarms {
            return;
        }
        let now = self.now();
        let mut all: Vec<(Mrn, &Alarm)> = self.alarms.all().collect();
        all.sort_by_key(|(mrn, alarm)| (std::cmp::Reverse((alarm.severity, alarm.since)), *mrn));
        let rows: Vec<AlarmData> =
            all.into_iter().map(|(mrn, alarm)| self.alarm_row(mrn, alarm, now)).collect();
        if !rows.iter().cloned().eq(self.models.alarms.iter()) {
            self.models.alarms.set_vec(rows);
        }
        let history: Vec<HistoryData> =
            self.alarms.history().take(SHOWN).map(|entry| self.history_row(entry, now)).collect();
        if !history.iter().cloned().eq(self.models.history.iter()) {
            self.models.history.set_vec(history);
        }
    }

    /// The patient's name; empty if the patient is not known any more.
    fn name_of(&self, mrn: Mrn) -> String {
        self.wall.get(mrn).map_or_else(String::new, |tile| phrases::name(&tile.patient))
    }

    fn whose(&self, mrn: Mrn) -> String {
        match self.wall.get(mrn) {
            Some(tile) => format!("{} · {mrn}", phrases::name(&tile.patient)),
            None => format!("MRN {mrn}"),
        }
    }

    fn alarm_row(&self, mrn: Mrn, alarm: &Alarm, now: Timestamp) -> AlarmData {
        AlarmData {
            mrn: mrn.to_string().into(),
            patient: self.name_of(mrn).into(),
            severity: phrases::severity(Some(alarm.severity)),
            text: alarm.reason().into(),
            since: format!("since {}", format::time_or_date(alarm.since, now)).into(),
            state: phrases::alarm_state(alarm, now).into(),
            flashes: alarm.flashes(now),
            can_acknowledge: !alarm.is_acknowledged,
        }
    }

    fn history_row(&self, entry: &Remembered, now: Timestamp) -> HistoryData {
        HistoryData {
            at: format::time_or_date(entry.at, now).into(),
            mrn: entry.mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
            patient: entry.mrn.map_or_else(|| "This station".to_owned(), |mrn| self.name_of(mrn)).into(),
            severity: phrases::severity(Some(entry.severity)),
            what: entry.happening.word().into(),
            text: entry.text.as_str().into(),
        }
    }

    pub(super) fn acknowledge(&mut self, mrn: &str) {
        if let Ok(mrn) = mrn.parse()
            && self.alarms.acknowledge(mrn, self.now())
        {
            self.alarm_touched(mrn);
        }
    }

    pub(super) fn acknowledge_all(&mut self) {
        let now = self.now();
        let all: Vec<Mrn> = self.alarms.all().map(|(mrn, _)| mrn).collect();
        for mrn in all {
            if self.alarms.acknowledge(mrn, now) {
                self.alarm_touched(mrn);
            }
        }
    }

    pub(super) fn silence(&mut self, mrn: &str) {
        if let Ok(mrn) = mrn.parse()
            && self.alarms.silence(mrn, self.kept.silence(), self.now())
        {
            self.alarm_touched(mrn);
        }
    }

    fn alarm_touched(&mut self, mrn: Mrn) {
        self.show_severity(mrn);
        self.show_alarms();
        self.show_vitals_of(mrn);
    }

    /// A silence goes on, or is over.
    pub(super) fn refresh_silenced(&mut self, now: Timestamp) {
        let over: Vec<Mrn> = self
            .alarms
            .all()
            .filter(|(_, alarm)| alarm.silent_until.is_some() && !alarm.is_acknowledged)
            .map(|(mrn, _)| mrn)
            .collect();
        for mrn in over {
            self.show_severity(mrn);
            self.show_vitals_of(mrn);
        }
        if self.alarms.all().any(|(_, alarm)| alarm.is_silent(now)) {
            self.list_alarms();
        }
        self.show_alarms();
    }

    pub(super) fn edit_limits(&mut self, mrn: &str) {
        let mrn: Option<Mrn> = mrn.parse().ok();
        let limits = mrn.map_or_else(|| self.alarms.defaults(), |mrn| self.alarms.limits(mrn));
        let form = LimitsForm {
            mrn: mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
            title: mrn
                .map_or_else(
                    || "Usual limits and times".to_owned(),
                    |mrn| format!("Alarm limits of {}", self.whose(mrn)),
                )
                .into(),
            low: limits.low().to_string().into(),
            high: limits.high().to_string().into(),
            extreme_low: limits.extreme_low().to_string().into(),
            extreme_high: limits.extreme_high().to_string().into(),
            is_own: mrn.is_some_and(|mrn| self.alarms.has_own_limits(mrn)),
            latching: match self.alarms.latching() {
                Latching::Never => window::Latching::Never,
                Latching::High => window::Latching::High,
                Latching::All => window::Latching::All,
            },
            stale_after: self.stale_after.as_secs().to_string().into(),
            silence: self.kept.silence_s.to_string().into(),
        };
        let api = self.window.global::<Api>();
        api.set_limits(form);
        api.set_limits_error("".into());
        api.set_sheet(Sheet::Limits);
    }

    pub(super) fn save_limits(&mut self, form: &LimitsForm) {
        if let Err(error) = self.take_limits(form) {
            self.window.global::<Api>().set_limits_error(format::sentence(&error.to_string()).into());
            return;
        }
        self.window.global::<Api>().set_sheet(Sheet::None);
        self.judge_all();
        self.say(Tone::Good, "The limits are in force.");
    }

    fn take_limits(&mut self, form: &LimitsForm) -> Result<(), FormError> {
        let number = |text: &str| -> Result<u64, FormError> {
            text.trim().parse().map_err(|_| FormError::Number(text.trim().to_owned()))
        };
        // What is too large for a limit is out of range, whatever it is.
        let limit = |text: &str| Ok::<_, FormError>(u16::try_from(number(text)?).unwrap_or(u16::MAX));
        let limits = Limits::try_from(RawLimits {
            low: limit(&form.low)?,
            high: limit(&form.high)?,
            extreme_low: limit(&form.extreme_low)?,
            extreme_high: limit(&form.extreme_high)?,
        })?;
        if let Ok(mrn) = form.mrn.parse::<Mrn>() {
            self.alarms.set_limits(Some(mrn), Some(limits));
            return Ok(());
        }
        let stale = number(&form.stale_after)?;
        let silence = number(&form.silence)?;
        if !(1..=86_400).contains(&stale) {
            return Err(FormError::Stale);
        }
        if !(1..=600).contains(&silence) {
            return Err(FormError::Silence);
        }
        (self.kept.stale_after_s, self.kept.silence_s) = (stale, silence);
        self.stale_after = self.kept.stale_after();
        self.keeper.settings(&self.kept);
        self.alarms.set_limits(None, Some(limits));
        self.alarms.set_latching(match form.latching {
            window::Latching::Never => Latching::Never,
            window::Latching::High => Latching::High,
            window::Latching::All => Latching::All,
        });
        Ok(())
    }

    pub(super) fn usual_limits(&mut self) {
        let api = self.window.global::<Api>();
        let form = api.get_limits();
        api.set_sheet(Sheet::None);
        if let Ok(mrn) = form.mrn.parse() {
            self.alarms.set_limits(Some(mrn), None);
            self.judge_all();
        }
    }

    /// Judges all last strips by the limits that are in force now.
    fn judge_all(&mut self) {
        let now = self.now();
        let all: Vec<_> = self.wall.iter().map(|tile| tile.patient.clone()).collect();
        for patient in &all {
            self.alarms.judge(patient, now);
        }
        for patient in &all {
            self.show_severity(patient.mrn);
        }
        self.show_alarms();
        self.tick();
        self.show_patient(crate::patient::Changed::ALL);
    }
}
