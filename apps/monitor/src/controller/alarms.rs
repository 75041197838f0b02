//! The alarms page: open alarms, the history, and the filter of both.

use std::cmp::Reverse;
use std::rc::Rc;

use alarm_sound::{SoundPriority, SoundStatus, Volume};
use proto_json::alarms::{Alarm, AlarmPage};
use proto_json::{Mrn, RecordId, Timestamp};
use slint::{Model, ModelRc, VecModel};
use ui::{format, tr};

use super::context::Context;
use crate::alarms::{
    Filter, Severity, StateFilter, StationEvent, flashes, needs_attention, paused_ms, sound_priority,
};
use crate::backend::AlarmAction;
use crate::messages;
use crate::window::{AlarmData, HistoryData, Page, Tone};

/// The maximum number of history entries on the page.
const MAX_HISTORY_ROWS: usize = 1000;

/// The controller of the alarms page and of the sound.
#[derive(Default)]
pub(super) struct AlarmsController {
    alarms: Rc<VecModel<AlarmData>>,
    history: Rc<VecModel<HistoryData>>,
    filter: Filter,
    /// The cursor of the next page of ended alarms.
    next: Option<String>,
    /// A page of ended alarms is being loaded.
    is_loading: bool,
    failure: Option<String>,
    /// What sounds at this station.
    sounding: Option<SoundPriority>,
}

impl AlarmsController {
    pub(super) fn bind(&self, context: &Context) {
        let api = context.api();
        api.set_alarms(ModelRc::from(self.alarms.clone()));
        api.set_history(ModelRc::from(self.history.clone()));
        let volume = Volume::of_step(context.saved.volume);
        api.set_volume(volume.step().into());
        context.sound.set_volume(volume);
    }

    /// Shows the number of alarms, their highest severity, and whether any of them flashes.
    pub(super) fn show(&self, context: &Context) {
        let count = context.alarms.iter().count();
        let worst = context.alarms.iter().map(|alarm| Severity::from(alarm.priority)).max();
        let flashes = |severity| {
            context.alarms.iter().any(|alarm| flashes(alarm) && Severity::from(alarm.priority) == severity)
        };
        let text = match count {
            0 => tr!("No alarms").to_owned(),
            count => format::count(count as u64, tr!("alarm"), tr!("alarms")),
        };
        let api = context.api();
        api.set_alarm_count(text.into());
        api.set_worst(messages::severity(worst));
        api.set_any_high_flashes(flashes(Severity::High));
        api.set_any_medium_flashes(flashes(Severity::Medium));
        self.show_lists(context);
    }

    /// The open alarms that the list shows, in its order.
    fn listed<'a>(&self, context: &'a Context) -> Vec<&'a Alarm> {
        let mut alarms: Vec<&Alarm> =
            context.alarms.iter().filter(|alarm| self.filter.includes(alarm)).collect();
        alarms.sort_by_key(|alarm| {
            (Reverse((needs_attention(alarm), Severity::from(alarm.priority), alarm.raised_at)), alarm.id)
        });
        alarms
    }

    /// The open alarms that the list shows and that wait for an acknowledgement.
    pub(super) fn unacknowledged(&self, context: &Context) -> Vec<RecordId> {
        self.listed(context)
            .into_iter()
            .filter(|alarm| needs_attention(alarm))
            .map(|alarm| alarm.id)
            .collect()
    }

    /// Shows the alarms and the history, if the page is visible.
    pub(super) fn show_lists(&self, context: &Context) {
        if context.api().get_page() != Page::Alarms {
            return;
        }
        let now = context.now();
        let listed = self.listed(context);
        let rows: Vec<AlarmData> = listed.iter().map(|alarm| alarm_row(context, alarm, now)).collect();
        if !rows.iter().cloned().eq(self.alarms.iter()) {
            self.alarms.set_vec(rows);
        }
        let rows = self.history_rows(context, now);
        if !rows.iter().cloned().eq(self.history.iter()) {
            self.history.set_vec(rows);
        }
        let total = context.alarms.iter().count();
        let note = match (listed.len(), total) {
            (0, 0) => tr!("There are no alarms.").to_owned(),
            (0, _) => tr!("No alarm matches the filter.").to_owned(),
            (some, total) if some < total => tr!("{} of {} alarms", some, total),
            _ => String::new(),
        };
        let api = context.api();
        api.set_alarms_note(note.into());
        api.set_history_note(self.history_note().into());
        api.set_history_more(self.next.is_some() && !self.is_loading);
        api.set_can_acknowledge_all(listed.iter().any(|alarm| needs_attention(alarm)));
    }

    fn history_note(&self) -> String {
        match &self.failure {
            Some(reason) => format::sentence(&tr!("The history cannot be loaded: {}", reason)),
            None if self.is_loading => tr!("Loading…").to_owned(),
            None => String::new(),
        }
    }

    /// Ended alarms and events of the station, newest first.
    fn history_rows(&self, context: &Context, now: Timestamp) -> Vec<HistoryData> {
        let ended = context.alarms.ended().filter(|alarm| self.filter.includes(alarm));
        // Without the next page, older events of the station would be out of order.
        let oldest =
            self.next.as_ref().and_then(|_| context.alarms.ended().last()).map(|alarm| alarm.raised_at);
        let shows_station =
            self.filter.state == StateFilter::All && self.filter.includes_severity(Severity::Technical);
        let events = context
            .log
            .iter()
            .filter(|event| shows_station && oldest.is_none_or(|oldest| event.at >= oldest));
        let mut rows: Vec<(Timestamp, HistoryData)> = ended
            .map(|alarm| (alarm.raised_at, ended_row(context, alarm, now)))
            .chain(events.map(|event| (event.at, station_row(context, event, now))))
            .collect();
        rows.sort_by_key(|(at, _)| Reverse(*at));
        rows.into_iter().take(MAX_HISTORY_ROWS).map(|(_, row)| row).collect()
    }

    /// Changes the filter. `state` and `severity` are the indices of the options.
    pub(super) fn set_filter(&mut self, context: &Context, state: i32, severity: i32) {
        self.filter = Filter {
            state: match state {
                1 => StateFilter::Unacknowledged,
                2 => StateFilter::Acknowledged,
                _ => StateFilter::All,
            },
            severity: match severity {
                1 => Some(Severity::High),
                2 => Some(Severity::Medium),
                3 => Some(Severity::Low),
                4 => Some(Severity::Technical),
                _ => None,
            },
        };
        self.show_lists(context);
    }

    /// Loads the newest ended alarms. They may have ended while another page was open, or before this app was started.
    pub(super) fn load_history(&mut self, context: &Context) {
        self.next = None;
        self.load(context, None);
    }

    /// Loads older ended alarms.
    pub(super) fn load_more(&mut self, context: &Context) {
        if let Some(next) = self.next.clone() {
            self.load(context, Some(next));
        }
    }

    fn load(&mut self, context: &Context, cursor: Option<String>) {
        if !self.is_loading {
            self.is_loading = context.backend.load_ended_alarms(cursor);
            self.show_lists(context);
        }
    }

    /// A page of ended alarms was loaded, or could not be.
    pub(super) fn history_loaded(&mut self, context: &mut Context, page: Result<AlarmPage, String>) {
        self.is_loading = false;
        match page {
            Ok(page) => {
                self.failure = None;
                self.next = page.next;
                context.alarms.add_history(page.items);
            }
            Err(reason) => self.failure = Some(reason),
        }
        self.show_lists(context);
    }

    /// Another server is connected.
    pub(super) fn clear(&mut self) {
        (self.next, self.is_loading, self.failure) = (None, false, None);
    }

    /// Sends an action on alarms to the server.
    pub(super) fn act(
        &self,
        context: &Context,
        alarms: impl IntoIterator<Item = RecordId>,
        action: impl Fn(&Alarm) -> AlarmAction,
    ) {
        let mut is_connected = true;
        for alarm in alarms.into_iter().filter_map(|id| context.alarms.get(id)) {
            is_connected &= context.backend.change_alarm(alarm.id, action(alarm));
        }
        if !is_connected {
            context.show_message(Tone::Danger, tr!("There is no connection."));
        }
    }

    /// Pauses the sound of alarms: at once here, and at all stations as soon as the server knows. Also pauses the station's own
    /// alarms if `with_station`.
    pub(super) fn pause_sound(&self, context: &mut Context, alarms: Vec<RecordId>, with_station: bool) {
        let (now, seconds) = (context.now(), context.saved.pause_s());
        let until = now.plus_millis(i64::from(seconds) * 1000);
        context.pause.pause(alarms.iter().copied(), until, with_station);
        self.act(context, alarms, |_| AlarmAction::PauseSound(seconds));
    }

    /// The alarms that sound, or would sound if a louder one did not.
    pub(super) fn audible(context: &Context) -> Vec<RecordId> {
        let now = context.now();
        context.alarms.iter().filter(|alarm| is_audible(context, alarm, now)).map(|alarm| alarm.id).collect()
    }

    /// Updates what sounds, and what the window shows about it. `station` is the severity of the alarms of the station.
    pub(super) fn update_sound(&mut self, context: &mut Context, station: Option<Severity>) {
        let now = context.now();
        context.pause.expire(now);
        let of_station = station.filter(|_| context.pause.station_until(now).is_none());
        let of_alarms = context.alarms.iter().filter(|alarm| is_audible(context, alarm, now));
        let loudest = of_alarms.map(|alarm| Severity::from(alarm.priority)).chain(of_station).max();
        let priority = loudest.map(sound_priority);
        if priority != self.sounding {
            self.sounding = priority;
            context.sound.set(priority);
        }
        let paused = context.alarms.iter().filter_map(|alarm| {
            paused_ms(alarm, now)
                .or_else(|| context.pause.left_ms(alarm.id, now).filter(|_| needs_attention(alarm)))
        });
        let of_station =
            station.and_then(|_| context.pause.station_until(now)).map(|until| until.millis_since(now));
        // The sound of the alarm that comes back first.
        let next = paused.chain(of_station).min();
        let api = context.api();
        api.set_sounds(priority.is_some());
        api.set_sound_pause(
            next.filter(|_| priority.is_none()).map(messages::countdown).unwrap_or_default().into(),
        );
    }

    /// What sounds. For tests.
    pub(super) fn sounding(&self) -> Option<SoundPriority> {
        self.sounding
    }

    pub(super) fn set_volume(&self, context: &mut Context, step: i32) {
        let volume = Volume::of_step(u8::try_from(step).unwrap_or(0));
        context.saved.volume = volume.step();
        context.save_settings();
        context.sound.set_volume(volume);
        context.api().set_volume(volume.step().into());
    }

    pub(super) fn test_sound(&self, context: &Context, priority: i32) {
        context.sound.test(match priority {
            0 => SoundPriority::High,
            1 => SoundPriority::Medium,
            _ => SoundPriority::Low,
        });
    }

    /// The sound device is ready, or missing.
    pub(super) fn sound_status(&self, context: &Context, status: &SoundStatus) {
        let api = context.api();
        let reason = match status {
            SoundStatus::Ready => String::new(),
            SoundStatus::Missing(reason) => format::sentence(reason),
        };
        api.set_sound_missing(!reason.is_empty());
        api.set_sound_reason(reason.into());
    }
}

/// Whether an alarm sounds at this station.
fn is_audible(context: &Context, alarm: &Alarm, now: Timestamp) -> bool {
    needs_attention(alarm) && paused_ms(alarm, now).is_none() && !context.pause.includes(alarm.id, now)
}

fn alarm_row(context: &Context, alarm: &Alarm, now: Timestamp) -> AlarmData {
    AlarmData {
        id: alarm.id.to_string().into(),
        mrn: alarm.mrn.to_string().into(),
        patient: context.patient_name(alarm.mrn),
        severity: messages::severity(Some(alarm.priority.into())),
        text: messages::alarm_text(alarm).into(),
        since: tr!("since {}", format::time_or_date(alarm.raised_at, now)).into(),
        state: messages::alarm_state(alarm, now).into(),
        flashes: flashes(alarm),
        acknowledge: messages::acknowledge_label(alarm).into(),
        can_acknowledge: needs_attention(alarm),
        can_pause: is_audible(context, alarm, now),
    }
}

fn ended_row(context: &Context, alarm: &Alarm, now: Timestamp) -> HistoryData {
    HistoryData {
        at: format::time_or_date(alarm.raised_at, now).into(),
        mrn: alarm.mrn.to_string().into(),
        patient: context.patient_name(alarm.mrn),
        severity: messages::severity(Some(alarm.priority.into())),
        event: messages::ended_state(alarm, now).into(),
        text: messages::alarm_text(alarm).into(),
    }
}

fn station_row(context: &Context, event: &StationEvent, now: Timestamp) -> HistoryData {
    let station = || messages::plain_name(tr!("This station"));
    HistoryData {
        at: format::time_or_date(event.at, now).into(),
        mrn: event.mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
        patient: event.mrn.map_or_else(station, |mrn: Mrn| context.patient_name(mrn)),
        severity: messages::severity(Some(Severity::Technical)),
        event: messages::station_event(event.kind).into(),
        text: ui::text::translated(&event.text).into(),
    }
}
