//! The form of the alarm limits, which are stored on the server, and of the times of this station.
//!
//! Invariant: what the user has entered stays in the form until it is saved or the form is closed.

use proto_json::alarms::{AlarmLimits, LimitScope, StoredLimits};
use proto_json::{Mrn, WardId};
use slint::{ModelRc, VecModel};
use ui::{format, tr};

use super::context::Context;
use crate::backend::LimitsFailure;
use crate::messages;
use crate::window::{Dialog, LimitHints, LimitsForm, OptionData, Tone};

/// The reason why the form is rejected before it is sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    #[error("{}", tr!("“{}” is not a whole number", .0))]
    NotANumber(String),
    #[error("{}", tr!("“{}” is not a number of seconds", .0))]
    NotSeconds(String),
    #[error("{}", tr!("a value becomes stale after 1 to 86400 seconds"))]
    StaleAfter,
    #[error("{}", tr!("the sound can be paused for 1 to 600 seconds"))]
    Pause,
    #[error("{}", tr!("there is no connection to the gateway"))]
    NotConnected,
}

/// The times of this station, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    stale_after_s: u64,
    pause_s: u64,
}

/// The controller of the form.
#[derive(Default)]
pub(super) struct LimitsController {
    /// What is edited. `None` if the form is closed.
    scope: Option<LimitScope>,
    /// The limits on which the entries are based. `None` while they are loaded.
    stored: Option<StoredLimits>,
    /// The entries conflict with a change of somebody else, whose limits are being loaded.
    has_conflict: bool,
    /// The times to apply when the limits are saved.
    times: Option<Times>,
}

impl LimitsController {
    /// Opens the form of the limits of a patient, or of the site if `mrn` is empty.
    pub(super) fn open(&mut self, context: &Context, mrn: &str) {
        let mrn: Option<Mrn> = mrn.parse().ok();
        self.open_scope(context, mrn.map_or(LimitScope::Site, |mrn| LimitScope::Patient { mrn }));
    }

    /// Shows the limits of a ward, or of the site if the key is empty.
    pub(super) fn select_scope(&mut self, context: &Context, key: &str) {
        let scope = key.parse::<WardId>().map_or(LimitScope::Site, |ward| LimitScope::Ward { ward });
        self.open_scope(context, scope);
    }

    fn open_scope(&mut self, context: &Context, scope: LimitScope) {
        *self = LimitsController { scope: Some(scope), ..LimitsController::default() };
        let wards = &context.overview.places().wards;
        let ward_name = |id: WardId| {
            wards.iter().find(|ward| ward.id == id).map(|ward| ward.name.to_string()).unwrap_or_default()
        };
        let (title, mrn, ward_key, shown) = match scope {
            LimitScope::Patient { mrn } => (
                tr!("Alarm limits of {}", context.patient_title(mrn)),
                Some(mrn),
                String::new(),
                String::new(),
            ),
            LimitScope::Ward { ward } => {
                let name = ward_name(ward);
                (tr!("Alarm limits of the ward {}", name), None, ward.to_string(), name)
            }
            LimitScope::Site => (
                tr!("Default limits and times").to_owned(),
                None,
                String::new(),
                tr!("The whole site").to_owned(),
            ),
        };
        let option = |key: String, title: &str| OptionData {
            key: key.into(),
            title: messages::plain_name(title),
            ..OptionData::default()
        };
        let mut scopes = vec![option(String::new(), tr!("The whole site"))];
        scopes.extend(wards.iter().map(|ward| option(ward.id.to_string(), ward.name.as_str())));
        let api = context.api();
        api.set_limit_scopes(ModelRc::new(VecModel::from(scopes)));
        api.set_limit_scope(shown.into());
        api.set_limits(LimitsForm {
            mrn: mrn.map(|mrn| mrn.to_string()).unwrap_or_default().into(),
            ward_key: ward_key.into(),
            title: title.into(),
            stale_after: context.stale_after.as_secs().to_string().into(),
            pause: context.saved.pause_s().to_string().into(),
            ..LimitsForm::default()
        });
        api.set_limit_hints(LimitHints::default());
        api.set_limits_error("".into());
        let is_loading = context.backend.load_limits(scope);
        api.set_limits_busy(is_loading);
        api.set_limits_ready(false);
        if !is_loading {
            api.set_limits_error(format::sentence(&FormError::NotConnected.to_string()).into());
        }
        context.show_dialog(Dialog::Limits);
    }

    /// Limits were loaded, or could not be.
    pub(super) fn loaded(
        &mut self,
        context: &Context,
        scope: LimitScope,
        limits: &Result<Box<StoredLimits>, String>,
    ) {
        let api = context.api();
        // Limits that are loaded for the page do not change the form.
        let is_awaited = self.stored.is_none() || self.has_conflict;
        if self.scope != Some(scope) || api.get_dialog() != Dialog::Limits || !is_awaited {
            return;
        }
        api.set_limits_busy(false);
        match limits {
            Ok(stored) => {
                let is_first = self.stored.is_none();
                self.stored = Some((**stored).clone());
                api.set_limit_hints(hints(context, stored));
                api.set_limits_ready(true);
                if is_first {
                    api.set_limits(filled(api.get_limits(), stored));
                } else if std::mem::take(&mut self.has_conflict) {
                    api.set_limits_error(conflict(context, stored).into());
                }
            }
            Err(reason) => api.set_limits_error(format::sentence(reason).into()),
        }
    }

    /// Checks the form and sends it. Nothing is applied if it is rejected.
    pub(super) fn save(&mut self, context: &mut Context, form: &LimitsForm) {
        if let Err(error) = self.submit(context, form) {
            context.api().set_limits_error(format::sentence(&error.to_string()).into());
        }
    }

    fn submit(&mut self, context: &mut Context, form: &LimitsForm) -> Result<(), FormError> {
        let Some((scope, stored)) = self.scope.zip(self.stored.as_ref()) else {
            return Err(FormError::NotConnected);
        };
        let limits = AlarmLimits {
            heart_rate_low: limit(&form.low)?,
            heart_rate_high: limit(&form.high)?,
            heart_rate_extreme_low: limit(&form.critical_low)?,
            heart_rate_extreme_high: limit(&form.critical_high)?,
            heart_rate_delay_s: limit(&form.delay)?,
            asystole_s: seconds(&form.asystole)?,
            pause_s: seconds(&form.heart_pause)?,
            atrial_fibrillation: [None, Some(true), Some(false)]
                .get(form.fibrillation.max(0) as usize)
                .copied()
                .flatten(),
            spo2_low: limit(&form.spo2_low)?,
            respiration_low: limit(&form.resp_low)?,
            respiration_high: limit(&form.resp_high)?,
        };
        self.times = match scope {
            LimitScope::Site => Some(times(form)?),
            LimitScope::Ward { .. } | LimitScope::Patient { .. } => None,
        };
        if limits == stored.limits {
            // Nobody needs a permission to change the times of this station.
            self.applied(context);
            return Ok(());
        }
        self.send(context, limits)
    }

    /// Removes the limits of the patient or the ward in the form, so that those of the ward or of the site apply.
    pub(super) fn reset(&mut self, context: &Context) {
        if let Err(error) = self.send(context, AlarmLimits::default()) {
            context.api().set_limits_error(format::sentence(&error.to_string()).into());
        }
    }

    fn send(&self, context: &Context, limits: AlarmLimits) -> Result<(), FormError> {
        let (Some(scope), Some(stored)) = (self.scope, &self.stored) else {
            return Err(FormError::NotConnected);
        };
        if !context.backend.save_limits(scope, limits, stored.version) {
            return Err(FormError::NotConnected);
        }
        let api = context.api();
        api.set_limits_busy(true);
        api.set_limits_error("".into());
        Ok(())
    }

    /// The limits were saved, or could not be.
    pub(super) fn saved(
        &mut self,
        context: &mut Context,
        scope: LimitScope,
        result: Result<Box<StoredLimits>, LimitsFailure>,
    ) {
        let is_open = self.scope == Some(scope) && context.api().get_dialog() == Dialog::Limits;
        match result {
            Ok(_) if is_open => self.applied(context),
            Ok(_) => context.show_message(Tone::Good, tr!("The limits are saved.")),
            Err(LimitsFailure::Conflict) if is_open => {
                // The form stays busy until the other limits are loaded.
                self.has_conflict = true;
                if !context.backend.load_limits(scope) {
                    context.api().set_limits_busy(false);
                }
            }
            Err(failure) => {
                let reason = match failure {
                    LimitsFailure::Conflict => tr!("somebody else has changed the limits").to_owned(),
                    LimitsFailure::Other(reason) => reason,
                };
                let api = context.api();
                if is_open {
                    api.set_limits_busy(false);
                    api.set_limits_error(format::sentence(&reason).into());
                } else {
                    let text = tr!("The limits are not saved: {}", reason);
                    context.show_message(Tone::Danger, &format::sentence(&text));
                }
            }
        }
    }

    fn applied(&mut self, context: &mut Context) {
        if let Some(times) = self.times {
            (context.saved.stale_after_s, context.saved.pause_s) = (times.stale_after_s, times.pause_s);
            context.stale_after = context.saved.stale_after();
            context.save_settings();
        }
        *self = LimitsController::default();
        context.api().set_limits_busy(false);
        context.show_dialog(Dialog::None);
        context.show_message(Tone::Good, tr!("The limits are saved."));
    }
}

/// A limit. `None` if the field is empty: the value is inherited.
fn limit(text: &str) -> Result<Option<u16>, FormError> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| FormError::NotANumber(text.to_owned())),
    }
}

fn seconds(text: &str) -> Result<Option<f64>, FormError> {
    match text.trim() {
        "" => Ok(None),
        text => match text.replace(',', ".").parse::<f64>() {
            Ok(seconds) if seconds.is_finite() => Ok(Some(seconds)),
            _ => Err(FormError::NotSeconds(text.to_owned())),
        },
    }
}

fn times(form: &LimitsForm) -> Result<Times, FormError> {
    let number = |text: &str| -> Result<u64, FormError> {
        text.trim().parse().map_err(|_| FormError::NotANumber(text.trim().to_owned()))
    };
    let (stale_after_s, pause_s) = (number(&form.stale_after)?, number(&form.pause)?);
    if !(1..=86_400).contains(&stale_after_s) {
        return Err(FormError::StaleAfter);
    }
    if !(1..=600).contains(&pause_s) {
        return Err(FormError::Pause);
    }
    Ok(Times { stale_after_s, pause_s })
}

fn number(value: Option<u16>) -> slint::SharedString {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

fn decimal(value: Option<f64>) -> slint::SharedString {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

/// The form with the stored values. Values that are inherited are empty.
fn filled(form: LimitsForm, stored: &StoredLimits) -> LimitsForm {
    let limits = &stored.limits;
    LimitsForm {
        low: number(limits.heart_rate_low),
        high: number(limits.heart_rate_high),
        critical_low: number(limits.heart_rate_extreme_low),
        critical_high: number(limits.heart_rate_extreme_high),
        delay: number(limits.heart_rate_delay_s),
        asystole: decimal(limits.asystole_s),
        heart_pause: decimal(limits.pause_s),
        fibrillation: match limits.atrial_fibrillation {
            None => 0,
            Some(true) => 1,
            Some(false) => 2,
        },
        spo2_low: number(limits.spo2_low),
        resp_low: number(limits.respiration_low),
        resp_high: number(limits.respiration_high),
        is_own: *limits != AlarmLimits::default(),
        ..form
    }
}

/// The values that apply, which an empty field shows, and who changed them last.
fn hints(context: &Context, stored: &StoredLimits) -> LimitHints {
    let effective = &stored.effective;
    let changed = stored
        .changed
        .as_ref()
        .map(|action| tr!("Changed by {}, {}.", action.by, format::time_or_date(action.at, context.now())));
    LimitHints {
        low: number(effective.heart_rate_low),
        high: number(effective.heart_rate_high),
        critical_low: number(effective.heart_rate_extreme_low),
        critical_high: number(effective.heart_rate_extreme_high),
        delay: number(effective.heart_rate_delay_s),
        asystole: decimal(effective.asystole_s),
        heart_pause: decimal(effective.pause_s),
        fibrillation: effective.atrial_fibrillation.unwrap_or(false),
        spo2_low: number(effective.spo2_low),
        resp_low: number(effective.respiration_low),
        resp_high: number(effective.respiration_high),
        changed: changed.unwrap_or_default().into(),
    }
}

/// The message about a change of somebody else.
fn conflict(context: &Context, stored: &StoredLimits) -> String {
    let by = stored.changed.as_ref().map_or_else(
        || tr!("Somebody else").to_owned(),
        |action| format!("{} ({})", action.by, format::time_or_date(action.at, context.now())),
    );
    let limits = &stored.effective;
    let shown = |value: Option<u16>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    tr!(
        "{} has changed these limits meanwhile: {} to {} bpm, critical below {} or above {}. Your entries are kept. Save again to replace the other limits.",
        by,
        shown(limits.heart_rate_low),
        shown(limits.heart_rate_high),
        shown(limits.heart_rate_extreme_low),
        shown(limits.heart_rate_extreme_high)
    )
}
