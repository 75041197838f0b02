//! The connection status, and the technical alarms of this station.

use client::{ConnectionState, FeedMode};
use proto_json::DamagedRecord;
use ui::{ConnectionLevel, ConnectionStatus, SettingsError, format, tr, untranslated};

use super::context::Context;
use crate::alarms::{Severity, StationEventKind};
use crate::messages;
use crate::window::Tone;

/// The reason why no updates arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// The gateway cannot be reached.
    Offline,
    /// The gateway rejects the access token.
    TokenRejected,
}

impl Outage {
    fn of(state: &ConnectionState) -> Option<Outage> {
        match state.mode {
            FeedMode::Offline if state.token_rejected => Some(Outage::TokenRejected),
            FeedMode::Offline => Some(Outage::Offline),
            FeedMode::Nats | FeedMode::ServerSentEvents | FeedMode::Polling => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Outage::Offline => untranslated!("Connection lost"),
            Outage::TokenRejected => untranslated!("Access token rejected"),
        }
    }
}

/// The connection status and the technical alarms of this station.
#[derive(Default)]
pub(super) struct ConnectionController {
    /// The number of the current connection. Events of earlier connections are ignored.
    pub(super) number: u64,
    state: Option<ConnectionState>,
    /// The error of settings from which no client can be created.
    settings_error: Option<String>,
    clock_alarm: Option<String>,
    /// Damaged records that are missing from the list of patients.
    damaged_patients: Vec<DamagedRecord>,
    had_damage: bool,
    lacks_alarms: bool,
    /// The error of this computer's clock that tests simulate.
    clock_error_ms: i64,
}

impl ConnectionController {
    /// Connects with the settings in force.
    pub(super) fn connect(&mut self, context: &mut Context) {
        self.number += 1;
        (self.state, self.settings_error) = (None, None);
        let settings = context.settings.clone();
        context.backend.connect(self.number, settings);
        self.show(context, &[]);
    }

    /// No client can be created from the settings.
    pub(super) fn settings_rejected(&mut self, context: &Context, error: &SettingsError) {
        let reason = format::sentence(&error.to_string());
        context.show_message(Tone::Danger, &reason);
        self.settings_error = Some(reason);
        self.show(context, &[]);
    }

    /// The feed reports another state.
    pub(super) fn set_state(&mut self, context: &mut Context, state: ConnectionState) {
        let (before, after) = (self.state.as_ref().and_then(Outage::of), Outage::of(&state));
        if before != after {
            let events = [(before, StationEventKind::Ended), (after, StationEventKind::Raised)];
            for (outage, event) in events.into_iter().filter_map(|(outage, event)| Some((outage?, event))) {
                context.record(event, outage.title());
            }
            // A lost connection sounds, although the sound of an earlier alarm was paused.
            context.pause.end_station();
        }
        self.state = Some(state);
    }

    /// The list of damaged patients has changed.
    pub(super) fn set_damaged(&mut self, records: Vec<DamagedRecord>) {
        self.damaged_patients = records;
    }

    /// Simulates an error of this computer's clock. For tests.
    pub(super) fn set_clock_error(&mut self, error_ms: i64) {
        self.clock_error_ms = error_ms;
    }

    /// Shows the connection status and the technical alarm. `damaged` are the damaged records of the open patient.
    pub(super) fn show(&self, context: &Context, damaged: &[DamagedRecord]) {
        let api = context.api();
        let mut status = ConnectionStatus::of(self.state.as_ref());
        if let Some(reason) = &self.settings_error {
            let (level, text) = (ConnectionLevel::Bad, tr!("not connected").to_owned());
            status = ConnectionStatus { level, text, detail: reason.clone() };
        }
        let outage = self.state.as_ref().and_then(Outage::of);
        if outage == Some(Outage::TokenRejected) && context.settings.token.is_empty() {
            status.text = tr!("not logged in").to_owned();
        }
        let now = context.now();
        let since = self.state.as_ref().map(|state| format::time_or_date(state.since, now));
        api.set_connection_level(status.level.into());
        api.set_connection(status.text.into());
        api.set_connection_since(
            since.as_ref().map(|since| tr!("since {}", since)).unwrap_or_default().into(),
        );
        api.set_connection_detail(status.detail.into());
        api.set_live(self.state.is_some() && outage.is_none());
        let reason = self.state.as_ref().and_then(|state| state.reason.as_deref());
        let reason = reason.map(format::sentence).unwrap_or_default();
        let since = since.unwrap_or_default();
        let alarm = match (&self.settings_error, outage) {
            (Some(_), _) => tr!("Not connected: the settings are invalid").to_owned(),
            (None, Some(Outage::Offline)) => {
                tr!("Connection lost since {}. The screen may be out of date. {}", since, reason)
            }
            (None, Some(Outage::TokenRejected)) if context.settings.token.is_empty() => {
                tr!("Not logged in since {}. The screen may be out of date.", since)
            }
            (None, Some(Outage::TokenRejected)) => tr!(
                "Access token rejected since {}. The screen may be out of date. Enter another token in the settings. {}",
                since,
                reason
            ),
            (None, None) => context
                .alarms
                .unavailable()
                .map(|reason| {
                    tr!(
                        "No alarms of patients: the server does not provide them. {}",
                        format::sentence(reason)
                    )
                })
                .or_else(|| self.clock_alarm.clone())
                .or_else(|| self.damage_alarm(damaged))
                .unwrap_or_default(),
        };
        api.set_technical_alarm(alarm.into());
    }

    /// The severity of the alarms of this station. Without the server's alarms, nobody is alerted about a patient.
    pub(super) fn severity(&self, context: &Context) -> Option<Severity> {
        let is_cut_off = self.settings_error.is_some()
            || self.state.as_ref().and_then(Outage::of).is_some()
            || context.alarms.unavailable().is_some();
        if is_cut_off {
            Some(Severity::Medium)
        } else {
            (self.clock_alarm.is_some() || self.had_damage).then_some(Severity::Technical)
        }
    }

    /// The server provides its alarms, or does not.
    pub(super) fn alarms_available(&mut self, context: &mut Context) {
        let is_available = context.alarms.unavailable().is_none();
        if is_available != self.lacks_alarms {
            return;
        }
        self.lacks_alarms = !is_available;
        let event = if is_available { StationEventKind::Ended } else { StationEventKind::Raised };
        context.record(event, untranslated!("No alarms of patients"));
        context.pause.end_station();
    }

    fn damage_alarm(&self, damaged: &[DamagedRecord]) -> Option<String> {
        messages::damage_alarm(self.damaged_patients.iter().chain(damaged))
    }

    /// Raises or ends the technical alarm about damaged records. Returns whether the history has changed.
    pub(super) fn check_damage(&mut self, context: &mut Context, damaged: &[DamagedRecord]) -> bool {
        let has_damage = self.damage_alarm(damaged).is_some();
        if has_damage == self.had_damage {
            return false;
        }
        self.had_damage = has_damage;
        let event = if has_damage { StationEventKind::Raised } else { StationEventKind::Ended };
        context.record(event, untranslated!("Stored data damaged"));
        true
    }

    /// Raises or ends the technical alarm about a wrong clock: the clock of the server, or the clock of this computer compared
    /// with it. Returns whether the alarm has changed.
    pub(super) fn check_clocks(&mut self, context: &mut Context) -> bool {
        let Some(time) = &context.server_time else { return false };
        let ahead = time.ahead_of_computer_ms().map(|ahead| ahead - self.clock_error_ms);
        let alarm = messages::clock_alarm(time.problem().as_deref(), ahead);
        if alarm == self.clock_alarm {
            return false;
        }
        if alarm.is_some() != self.clock_alarm.is_some() {
            let event = if alarm.is_some() { StationEventKind::Raised } else { StationEventKind::Ended };
            context.record(event, untranslated!("Clock wrong"));
        }
        self.clock_alarm = alarm;
        true
    }
}
