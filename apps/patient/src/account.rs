//! Who is logged in, and the login.
//!
//! The form, the selected files and the outbox do not change while nobody is logged in. The secret of the session is only in
//! memory.

use client::{Gateway, Token};
use proto_json::users::Session;
use ui::{Settings, tr};

use crate::backend::Backend;
use crate::message::Message;
use crate::window::LoginForm;

/// The longest name in the header, in characters.
const MAX_NAME: usize = 24;

/// The login of the app.
pub(crate) struct AccountController {
    backend: Backend,
    session: Option<Box<Session>>,
    /// Number of the latest question who this client is.
    number: u64,
    /// The user was asked to log in. The user is asked once, and again after the next login or connection.
    has_asked: bool,
}

impl AccountController {
    pub(crate) fn new(backend: Backend) -> Self {
        AccountController { backend, session: None, number: 0, has_asked: false }
    }

    /// Asks the gateway who this client is. The answer arrives as [`Message::SessionLoaded`].
    pub(crate) fn load(&mut self, gateway: Gateway) {
        self.number += 1;
        self.has_asked = false;
        let (number, sender) = (self.number, self.backend.sender.clone());
        self.backend.background.spawn_detached(async move {
            // The feed reports a rejected client.
            if let Ok(session) = gateway.session().await {
                sender.send(Message::SessionLoaded { number, session: Box::new(session) });
            }
        });
    }

    pub(crate) fn loaded(&mut self, number: u64, session: Box<Session>) {
        if number == self.number {
            self.session = Some(session);
            self.show();
        }
    }

    fn show(&self) {
        let title = self.session.as_deref().map(ui::account_title).unwrap_or_default();
        let name = self.session.as_ref().filter(|_| !title.is_empty());
        let name: String =
            name.map(|session| session.display_name.chars().take(MAX_NAME).collect()).unwrap_or_default();
        let is_person = self.session.as_deref().is_some_and(ui::is_person);
        self.backend.api(|api| {
            api.set_account(name.into());
            api.set_account_title(title.into());
            api.set_is_person(is_person);
        });
    }

    /// The gateway rejects this client. `had_session`: the session of the person has ended.
    pub(crate) fn rejected(&mut self, had_session: bool) {
        let user = self.session.take().filter(|_| had_session).map(|session| session.name);
        self.show();
        // What the user has typed into an open login stays.
        let mut is_open = false;
        self.backend.api(|api| is_open = api.get_asks_login());
        let was_asked = std::mem::replace(&mut self.has_asked, true);
        if (was_asked || is_open) && !had_session {
            return;
        }
        let text = match had_session {
            true => tr!("The session has ended. What you have entered and the waiting uploads are kept."),
            false => tr!("The gateway needs a login, or an access token in the settings."),
        };
        self.ask(user.unwrap_or_default(), text);
    }

    /// Opens the login.
    pub(crate) fn ask(&self, user: String, text: &str) {
        self.backend.api(|api| {
            api.set_login_form(LoginForm { user: user.into(), ..LoginForm::default() });
            api.set_login_text(text.into());
            api.set_login_error("".into());
            api.set_login_busy(false);
            api.set_asks_login(true);
        });
    }

    pub(crate) fn close(&self) {
        self.backend.api(|api| {
            api.set_login_form(LoginForm::default());
            api.set_asks_login(false);
        });
    }

    /// Logs in at the gateway of these settings. The result arrives as [`Message::LoggedIn`].
    pub(crate) fn log_in(&self, settings: Settings, form: &LoginForm) {
        self.backend.api(|api| {
            api.set_login_busy(true);
            api.set_login_error("".into());
        });
        let sender = self.backend.sender.clone();
        let (user, password) = (form.user.trim().to_owned(), form.password.to_string());
        self.backend.background.spawn_detached(async move {
            sender.send(Message::LoggedIn(ui::log_in(settings, user, password).await));
        });
    }

    /// A login has succeeded or failed. Returns the secret of the session.
    pub(crate) fn logged_in(&mut self, result: Result<ui::Login, String>) -> Option<Token> {
        self.backend.api(|api| {
            api.set_login_busy(false);
            let form = api.get_login_form();
            api.set_login_form(LoginForm { password: "".into(), ..form });
        });
        match result {
            Ok((session, secret)) => {
                self.session = Some(session);
                self.show();
                self.close();
                Some(secret)
            }
            Err(reason) => {
                self.backend.api(|api| api.set_login_error(reason.into()));
                None
            }
        }
    }

    /// Ends the session of these settings: the person logs out.
    pub(crate) fn log_out(&mut self, settings: Settings) {
        self.session = None;
        self.show();
        self.end(settings);
    }

    /// Ends the session of these settings, which another one has replaced.
    pub(crate) fn end(&self, settings: Settings) {
        self.backend.background.spawn_detached(ui::log_out(settings));
    }
}
