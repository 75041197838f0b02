//! Login, and accounts of people.

use proto_json::Mrn;
use proto_json::users::{
    BreakGlass, Grant, LoginRequest, NewUser, PasswordChange, Session, User, UserChange, UserList, UserName,
};
use reqwest::RequestBuilder;
use reqwest::header::{CONTENT_TYPE, SET_COOKIE};
use serde::Serialize;

use crate::gateway::Gateway;
use crate::{ClientError, Token};

/// Name of the cookie with the secret of a session.
const COOKIE: &str = "bedside_session=";

impl Gateway {
    /// Logs in. Returns the session and its secret, which is a token for [`Settings::with_token`]. It ends with the session, so
    /// do not store it.
    ///
    /// [`Settings::with_token`]: crate::Settings::with_token
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_in(&self, login: &LoginRequest) -> Result<(Session, Token), ClientError> {
        let limit = self.timeouts().answer;
        let request = self.with_json(self.post(self.api(&["session"])), login);
        let response = self.answer(request.timeout(limit), limit).await?;
        let secret = response
            .headers()
            .get_all(SET_COOKIE)
            .iter()
            .filter_map(|cookie| cookie.to_str().ok()?.strip_prefix(COOKIE)?.split(';').next())
            .find_map(|secret| secret.parse().ok());
        let secret = secret.ok_or_else(|| ClientError::BadAnswer {
            gateway: self.address().to_owned(),
            reason: "it opened no session".to_owned(),
        })?;
        Ok((self.parsed(response).await?, secret))
    }

    /// Ends the session of this client.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_out(&self) -> Result<(), ClientError> {
        let limit = self.timeouts().answer;
        let request = self.delete(self.api(&["session"])).timeout(limit);
        self.answer(request, limit).await.map(drop)
    }

    /// Who this client is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn session(&self) -> Result<Session, ClientError> {
        self.json(self.api(&["session"])).await
    }

    /// All users. Requires the role admin, as the next three calls do.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self) -> Result<UserList, ClientError> {
        self.json(self.api(&["users"])).await
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`ClientError`]. After a transient error the user may exist.
    pub async fn add_user(&self, new: &NewUser) -> Result<User, ClientError> {
        self.user(self.with_json(self.post(self.api(&["users"])), new)).await
    }

    /// Changes a user.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_user(&self, name: &UserName, change: &UserChange) -> Result<User, ClientError> {
        self.user(self.with_json(self.patch(self.api(&["users", name.as_str()])), change)).await
    }

    /// Removes a user.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_user(&self, name: &UserName) -> Result<(), ClientError> {
        let limit = self.timeouts().answer;
        let request = self.delete(self.api(&["users", name.as_str()])).timeout(limit);
        self.answer(request, limit).await.map(drop)
    }

    /// Changes the password of the user who has logged in. All sessions of the user end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_password(&self, name: &UserName, change: &PasswordChange) -> Result<(), ClientError> {
        let limit = self.timeouts().answer;
        let request = self.with_json(self.post(self.api(&["users", name.as_str(), "password"])), change);
        self.answer(request.timeout(limit), limit).await.map(drop)
    }

    /// Accesses a patient of another ward in an emergency. Only the session of this client gets access, until the time in the
    /// answer. The reason is written to the audit log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn break_glass(&self, mrn: Mrn, reason: &str) -> Result<Grant, ClientError> {
        let limit = self.timeouts().answer;
        let body = BreakGlass { reason: reason.to_owned() };
        let request =
            self.with_json(self.post(self.api(&["patients", &mrn.to_string(), "break-glass"])), &body);
        let response = self.answer(request.timeout(limit), limit).await?;
        self.parsed(response).await
    }

    async fn user(&self, request: RequestBuilder) -> Result<User, ClientError> {
        let limit = self.timeouts().answer;
        let response = self.answer(request.timeout(limit), limit).await?;
        self.parsed(response).await
    }

    fn with_json(&self, request: RequestBuilder, value: &impl Serialize) -> RequestBuilder {
        // Text, numbers and lists always have a JSON form.
        let body = serde_json::to_vec(value).unwrap_or_default();
        request.header(CONTENT_TYPE, "application/json").body(body)
    }
}
