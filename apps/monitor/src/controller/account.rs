//! Who is logged in, the lock of the station, and emergency access.
//!
//! Invariants: the secret of a session is only in memory. A locked station shows nothing about patients but the beds with
//! alarms; its alarms sound, and an open form keeps its content for the person who has locked it.

use std::cmp::Reverse;
use std::rc::Rc;
use std::time::{Duration, Instant};

use client::ConnectionState;
use proto_json::users::Session;
use proto_json::{Mrn, PatientSummary};
use slint::{ComponentHandle, ModelRc, VecModel};
use ui::{Login, format, tr};

use super::context::Context;
use crate::alarms::{Severity, flashes};
use crate::messages;
use crate::window::{Account, Dialog, EmergencyForm, LockedAlarm, LoginForm};

/// The number of beds with alarms that a locked station shows.
const MAX_ALARMS: usize = 4;
/// The longest name in the status bar, in characters.
const MAX_NAME: usize = 24;

/// What the app does after a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterLogin {
    /// The login has failed, or the person who had locked the station has unlocked it.
    Nothing,
    /// The same person, or the first one, has a new session.
    Connect,
    /// Another person has a session: nothing of the former one stays on the screen.
    Replace,
}

/// The controller of the login and of the lock.
pub(super) struct AccountController {
    /// Who this client is. `None` until the server has answered.
    session: Option<Box<Session>>,
    /// The person whose session has ended, or who has locked the station.
    owner: Option<String>,
    /// Zero: the station is never locked.
    locks_after: Duration,
    started: Instant,
    /// When the station was used last, since its start.
    used: Duration,
    alarms: Rc<VecModel<LockedAlarm>>,
    waiting: Option<Mrn>,
}

fn account(context: &Context) -> Account<'_> {
    context.window.global::<Account>()
}

impl AccountController {
    pub(super) fn new(locks_after: Duration) -> Self {
        AccountController {
            session: None,
            owner: None,
            locks_after,
            started: Instant::now(),
            used: Duration::ZERO,
            alarms: Rc::default(),
            waiting: None,
        }
    }

    pub(super) fn bind(&self, context: &Context) {
        account(context).set_alarms(ModelRc::from(self.alarms.clone()));
    }

    /// The time since the start, which tests can advance.
    fn elapsed(&self, context: &Context) -> Duration {
        let advanced = u64::try_from(context.advanced_ms).unwrap_or(0);
        self.started.elapsed() + Duration::from_millis(advanced)
    }

    /// The user has pressed a key or moved the pointer.
    pub(super) fn used(&mut self, context: &Context) {
        self.used = self.elapsed(context);
    }

    /// Locks the station if nobody has used it for long enough.
    pub(super) fn tick(&mut self, context: &Context) {
        let idle = self.elapsed(context).saturating_sub(self.used);
        if context.settings.session.is_some() && !self.locks_after.is_zero() && idle >= self.locks_after {
            self.lock(context);
        }
    }

    /// Locks the station of the person who has logged in.
    pub(super) fn lock(&mut self, context: &Context) {
        let account = account(context);
        let Some(session) = self.session.as_ref().filter(|_| !account.get_locked()) else { return };
        let reason = tr!("Locked by {}. Alarms continue.", session.display_name);
        let user = session.name.clone();
        self.show_lock(context, &user, &reason, false);
    }

    fn show_lock(&mut self, context: &Context, user: &str, reason: &str, can_set_up: bool) {
        let account = account(context);
        account.set_form(LoginForm { user: user.into(), ..LoginForm::default() });
        account.set_error("".into());
        account.set_reason(reason.into());
        account.set_can_set_up(can_set_up);
        if matches!(
            context.api().get_dialog(),
            Dialog::Settings | Dialog::Quit | Dialog::About | Dialog::Account | Dialog::Login
        ) {
            context.show_dialog(Dialog::None);
        }
        account.set_locked(true);
        self.owner = (!user.is_empty()).then(|| user.to_owned());
        self.show_alarms(context);
    }

    /// The feed reports whether the gateway rejects this client. Returns whether the app has to connect again: a session has
    /// ended, and the access token of the station applies.
    pub(super) fn set_state(&mut self, context: &mut Context, state: &ConnectionState) -> bool {
        if !state.token_rejected {
            return false;
        }
        let has_token = !context.settings.token.is_empty();
        if context.settings.session.take().is_some() {
            let user = self.session.take().map(|session| session.name).unwrap_or_default();
            self.show(context);
            self.show_lock(context, &user, tr!("The session has ended. Log in again."), false);
            return has_token;
        }
        if !has_token && !account(context).get_locked() {
            self.show_lock(
                context,
                "",
                &tr!("The server at {} needs a login.", context.settings.gateway),
                true,
            );
        }
        false
    }

    /// The server accepts this client without a login.
    pub(super) fn accepted(&self, context: &Context) {
        let account = account(context);
        if account.get_locked() && account.get_can_set_up() {
            account.set_locked(false);
        }
    }

    /// The server has answered who this client is.
    pub(super) fn set_session(&mut self, context: &mut Context, session: Box<Session>) {
        context.is_limited = ui::is_person(&session) && session.wards.is_some();
        self.session = Some(session);
        self.show(context);
    }

    fn show(&self, context: &Context) {
        let session = self.session.as_deref();
        let name = session.filter(|session| !ui::account_title(session).is_empty());
        let name = name.map(|session| shortened(&session.display_name)).unwrap_or_default();
        let account = account(context);
        account.set_name(name.into());
        account.set_title(session.map(ui::account_title).unwrap_or_default().into());
        let access = session.and_then(|session| i64::try_from(session.emergency_access_s?).ok());
        let access = access.map(|seconds| format::age(seconds.saturating_mul(1000))).unwrap_or_default();
        account.set_emergency_duration(access.into());
        account.set_is_person(session.is_some_and(ui::is_person));
    }

    /// Opens the login at a station with an access token.
    pub(super) fn open_login(&self, context: &Context) {
        let account = account(context);
        account.set_form(LoginForm::default());
        account.set_error("".into());
        context.show_dialog(Dialog::Login);
    }

    pub(super) fn log_in(&self, context: &Context, form: &LoginForm) {
        let account = account(context);
        if account.get_busy() {
            return;
        }
        account.set_busy(true);
        account.set_error("".into());
        let user = form.user.trim().to_owned();
        context.backend.log_in(context.settings.clone(), user, form.password.to_string());
    }

    /// A login has succeeded or failed.
    pub(super) fn logged_in(&mut self, context: &mut Context, result: Result<Login, String>) -> AfterLogin {
        let account = account(context);
        account.set_busy(false);
        let mut form = account.get_form();
        form.password = "".into();
        account.set_form(form);
        let (session, secret) = match result {
            Ok(login) => login,
            Err(reason) => {
                account.set_error(reason.into());
                return AfterLogin::Nothing;
            }
        };
        account.set_error("".into());
        account.set_form(LoginForm::default());
        let was_locked = account.get_locked();
        let is_owner = self.owner.as_ref().is_none_or(|owner| *owner == session.name);
        self.owner = None;
        self.used(context);
        let new = ui::Settings { session: Some(secret), ..context.settings.clone() };
        let next = if was_locked && is_owner && context.settings.session.is_some() {
            // The session goes on, so that no alarm is missed. The new one has only proved the password.
            context.backend.log_out(new);
            AfterLogin::Nothing
        } else {
            let before = std::mem::replace(&mut context.settings, new);
            if before.session.is_some() {
                context.backend.log_out(before);
            }
            self.set_session(context, session);
            if is_owner { AfterLogin::Connect } else { AfterLogin::Replace }
        };
        if !was_locked || next == AfterLogin::Replace {
            context.show_dialog(Dialog::None);
        }
        context.window.global::<Account>().set_locked(false);
        next
    }

    /// Ends the session of the person.
    pub(super) fn log_out(&mut self, context: &mut Context) {
        context.show_dialog(Dialog::None);
        context.backend.log_out(context.settings.clone());
        self.forget(context);
        if context.settings.token.is_empty() {
            self.show_lock(context, "", tr!("Nobody is logged in."), true);
        }
    }

    /// The session does not belong to the settings any more.
    pub(super) fn forget(&mut self, context: &mut Context) {
        context.settings.session = None;
        context.is_limited = false;
        self.session = None;
        self.owner = None;
        self.show(context);
    }

    /// Shows the beds with alarms on a locked station.
    pub(super) fn show_alarms(&self, context: &Context) {
        let account = account(context);
        if !account.get_locked() {
            return;
        }
        let mut found: Vec<(Severity, bool, String)> = context
            .alarms
            .patients()
            .filter_map(|mrn| {
                let severity = context.alarms.severity(mrn)?;
                let admission = context.overview.get(mrn).and_then(|tile| tile.patient.admission.as_ref());
                let place =
                    admission.map_or_else(|| tr!("Patient without a bed").to_owned(), messages::place);
                Some((severity, context.alarms.of(mrn).into_iter().any(flashes), place))
            })
            .collect();
        found.sort_by(|one, other| {
            (Reverse(one.0), !one.1, &one.2).cmp(&(Reverse(other.0), !other.1, &other.2))
        });
        let more = found.len().saturating_sub(MAX_ALARMS);
        let more = match more {
            0 => String::new(),
            count => format::count(
                count as u64,
                tr!("further patient with alarms"),
                tr!("further patients with alarms"),
            ),
        };
        let rows = found.into_iter().take(MAX_ALARMS).map(|(severity, flashes, place)| LockedAlarm {
            severity: messages::severity(Some(severity)),
            place: place.into(),
            flashes,
        });
        self.alarms.set_vec(rows.collect::<Vec<_>>());
        account.set_more_alarms(more.into());
    }

    /// Asks for the reason of an emergency access.
    pub(super) fn ask_access(&self, context: &Context, mrn: Mrn) {
        let account = account(context);
        account.set_emergency(EmergencyForm { mrn: mrn.to_string().into(), ..EmergencyForm::default() });
        account.set_emergency_busy(false);
        account.set_emergency_error("".into());
        context.show_dialog(Dialog::Emergency);
    }

    pub(super) fn access(&mut self, context: &Context, form: &EmergencyForm) {
        let Ok(mrn) = form.mrn.parse::<Mrn>() else { return };
        let account = account(context);
        account.set_emergency_error("".into());
        if context.backend.access(mrn, form.reason.trim().to_owned()) {
            self.waiting = Some(mrn);
            account.set_emergency_busy(true);
        } else {
            account.set_emergency_error(tr!("There is no connection to the gateway.").into());
        }
    }

    /// The server has answered an emergency access. Returns the patient to open.
    pub(super) fn accessed(
        &mut self,
        context: &Context,
        mrn: Mrn,
        result: Result<Box<PatientSummary>, String>,
    ) -> Option<PatientSummary> {
        if self.waiting.take() != Some(mrn) {
            return None;
        }
        let account = account(context);
        account.set_emergency_busy(false);
        match result {
            Ok(patient) => {
                if context.api().get_dialog() == Dialog::Emergency {
                    context.show_dialog(Dialog::None);
                }
                Some(*patient)
            }
            Err(reason) => {
                account.set_emergency_error(reason.into());
                None
            }
        }
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", name[..end].trim_end()),
        None => name.to_owned(),
    }
}
