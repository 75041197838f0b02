//! The alarms page and the form of the limits.

use std::cmp::Reverse;
use std::rc::Rc;

use proto_json::{Mrn, Timestamp};
use slint::{Model, ModelRc, VecModel};
use ui::{format, tr};

use super::context::Context;
use crate::alarms::{Alarm, HistoryEntry, Latching, Limits, LimitsError, Severity, UncheckedLimits};
use crate::messages;
use crate::window::{self, AlarmData, Dialog, HistoryData, LimitsForm, Page};

/// The maximum number of history entries on the page.
const MAX_HISTORY_ROWS: usize = 500;

/// The reason why the form of the limits is rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    #[error("{}", tr!("“{}” is not a whole number", .0))]
    NotANumber(String),
    #[error("{}", tr!("a value becomes stale after 1 to 86400 seconds"))]
    StaleAfter,
    #[error("{}", tr!("flashing can be paused for 1 to 600 seconds"))]
    Pause,
    #[error(transparent)]
    Limits(#[from] LimitsError),
}

/// The controller of the alarms page.
#[derive(Default)]
pub(super) struct AlarmsController {
    alarms: Rc<VecModel<AlarmData>>,
    history: Rc<VecModel<HistoryData>>,
}

impl AlarmsController {
    pub(super) fn bind(&self, context: &Context) {
        let api = context.api();
        api.set_alarms(ModelRc::from(self.alarms.clone()));
        api.set_history(ModelRc::from(self.history.clone()));
    }

    /// Shows the number of alarms, their highest severity, and whether any of them flashes.
    pub(super) fn show(&self, context: &Context) {
        let now = context.now();
        let count = context.alarms.iter().count();
        let worst = context.alarms.iter().map(|(_, alarm)| alarm.severity).max();
        let flashes = |severity| {
            context.alarms.iter().any(|(_, alarm)| alarm.severity == severity && alarm.flashes(now))
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

    /// Shows the alarms and the history, if the page is visible.
    pub(super) fn show_lists(&self, context: &Context) {
        if context.api().get_page() != Page::Alarms {
            return;
        }
        let now = context.now();
        let mut alarms: Vec<(Mrn, &Alarm)> = context.alarms.iter().collect();
        alarms.sort_by_key(|(mrn, alarm)| (Reverse((alarm.severity, alarm.since)), *mrn));
        let rows: Vec<AlarmData> =
            alarms.into_iter().map(|(mrn, alarm)| alarm_row(context, mrn, alarm, now)).collect();
        if !rows.iter().cloned().eq(self.alarms.iter()) {
            self.alarms.set_vec(rows);
        }
        let history = context.alarms.history().take(MAX_HISTORY_ROWS);
        let rows: Vec<HistoryData> = history.map(|entry| history_row(context, entry, now)).collect();
        if !rows.iter().cloned().eq(self.history.iter()) {
            self.history.set_vec(rows);
        }
    }

    /// Opens the form of the limits of a patient, or of the default limits if `mrn` is empty.
    pub(super) fn edit_limits(&self, context: &Context, mrn: &str) {
        let mrn: Option<Mrn> = mrn.parse().ok();
        let limits = mrn.map_or_else(|| context.alarms.defaults(), |mrn| context.alarms.limits(mrn));
        let title = match mrn {
            Some(mrn) => tr!("Alarm limits of {}", context.patient_title(mrn)),
            None => tr!("Default limits and times").to_owned(),
        };
        let api = context.api();
        api.set_limits(LimitsForm {
            mrn: mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
            title: title.into(),
            low: limits.low().to_string().into(),
            high: limits.high().to_string().into(),
            critical_low: limits.critical_low().to_string().into(),
            critical_high: limits.critical_high().to_string().into(),
            is_own: mrn.is_some_and(|mrn| context.alarms.has_own_limits(mrn)),
            latching: match context.alarms.latching() {
                Latching::Never => window::Latching::Never,
                Latching::High => window::Latching::High,
                Latching::All => window::Latching::All,
            },
            stale_after: context.stale_after.as_secs().to_string().into(),
            pause: context.saved.pause_s.to_string().into(),
        });
        api.set_limits_error("".into());
        context.show_dialog(Dialog::Limits);
    }

    /// Checks the form of the limits and applies it. Nothing is applied if the form is rejected.
    pub(super) fn apply_limits(&self, context: &mut Context, form: &LimitsForm) -> Result<(), FormError> {
        let number = |text: &str| -> Result<u64, FormError> {
            text.trim().parse().map_err(|_| FormError::NotANumber(text.trim().to_owned()))
        };
        // A number that is too large for a limit is out of range.
        let limit = |text: &str| Ok::<_, FormError>(u16::try_from(number(text)?).unwrap_or(u16::MAX));
        let limits = Limits::try_from(UncheckedLimits {
            low: limit(&form.low)?,
            high: limit(&form.high)?,
            critical_low: limit(&form.critical_low)?,
            critical_high: limit(&form.critical_high)?,
        })?;
        if let Ok(mrn) = form.mrn.parse::<Mrn>() {
            context.alarms.set_limits(Some(mrn), Some(limits));
            return Ok(());
        }
        let (stale_after_s, pause_s) = (number(&form.stale_after)?, number(&form.pause)?);
        if !(1..=86_400).contains(&stale_after_s) {
            return Err(FormError::StaleAfter);
        }
        if !(1..=600).contains(&pause_s) {
            return Err(FormError::Pause);
        }
        (context.saved.stale_after_s, context.saved.pause_s) = (stale_after_s, pause_s);
        context.stale_after = context.saved.stale_after();
        context.save_settings();
        context.alarms.set_limits(None, Some(limits));
        context.alarms.set_latching(match form.latching {
            window::Latching::Never => Latching::Never,
            window::Latching::High => Latching::High,
            window::Latching::All => Latching::All,
        });
        Ok(())
    }
}

fn alarm_row(context: &Context, mrn: Mrn, alarm: &Alarm, now: Timestamp) -> AlarmData {
    AlarmData {
        mrn: mrn.to_string().into(),
        patient: context.patient_name(mrn),
        severity: messages::severity(Some(alarm.severity)),
        text: messages::alarm_text(alarm.reason()).into(),
        since: tr!("since {}", format::time_or_date(alarm.since, now)).into(),
        state: messages::alarm_state(alarm, now).into(),
        flashes: alarm.flashes(now),
        can_acknowledge: !alarm.is_acknowledged,
    }
}

fn history_row(context: &Context, entry: &HistoryEntry, now: Timestamp) -> HistoryData {
    let station = || messages::plain_name(tr!("This station"));
    let patient = entry.mrn.map_or_else(station, |mrn| context.patient_name(mrn));
    HistoryData {
        at: format::time_or_date(entry.at, now).into(),
        mrn: entry.mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
        patient,
        severity: messages::severity(Some(entry.severity)),
        event: messages::alarm_event(entry.event).into(),
        text: messages::alarm_text(&entry.text).into(),
    }
}
