//! Users, sessions and logins: bodies of the public API, and the calls between gateway and ingest.
//!
//! A session is identified by a random secret that only the client has. Everyone else knows its SHA-256.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::ids::{BedId, BlobHash, Mrn, WardId};
use crate::schemas::TEXT;
use crate::time::Timestamp;

/// Largest number of users of a site.
pub const MAX_USERS: usize = 10_000;
/// Shortest and longest password, in characters.
pub const PASSWORD_LENGTH: (usize, usize) = (12, 128);
/// Longest display name, in characters.
const MAX_DISPLAY_NAME: usize = 100;
/// Largest number of wards of a user.
const MAX_WARDS: usize = 100;
/// Largest number of emergency accesses that a session has at the same time.
pub const MAX_GRANTS: usize = 50;

/// Name of a user for login, audit and records: 1 to 64 lower-case letters, digits and `.`, `_`, `-`, `@`, `+`. In requests,
/// upper-case letters are accepted and become lower-case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"))]
pub struct UserName(String);

/// The text is not the name of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a user is 1 to 64 of a-z, 0-9 and . _ - @ +, and begins with a letter or digit")]
pub struct UserNameError;

impl UserName {
    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = UserNameError;
    /// Upper-case letters become lower-case, because people capitalise their names.
    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let name = text.to_ascii_lowercase();
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = name.bytes().next().is_some_and(is_plain);
        let rest = name.bytes().all(|byte| is_plain(byte) || b"._-@+".contains(&byte));
        if first && rest && name.len() <= 64 { Ok(UserName(name)) } else { Err(UserNameError) }
    }
}

impl TryFrom<String> for UserName {
    type Error = UserNameError;
    fn try_from(text: String) -> Result<Self, UserNameError> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> String {
        name.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The role of a person. Devices and programs have tokens instead, whose roles are more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// May only read and subscribe to events.
    Viewer,
    /// May read and upload, act on alarms, admit, transfer, discharge and correct.
    Nurse,
    /// May do the same as a nurse, and change the limits of a ward.
    Physician,
    /// May see the state of the system and manage dead letters, without access to patients.
    Technician,
    /// May only read the audit.
    Auditor,
    /// May do all of this, and administer wards, users and retention.
    Admin,
}

impl UserRole {
    /// All roles.
    pub const ALL: [UserRole; 6] = [
        UserRole::Viewer,
        UserRole::Nurse,
        UserRole::Physician,
        UserRole::Technician,
        UserRole::Auditor,
        UserRole::Admin,
    ];

    /// Returns the name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            UserRole::Viewer => "viewer",
            UserRole::Nurse => "nurse",
            UserRole::Physician => "physician",
            UserRole::Technician => "technician",
            UserRole::Auditor => "auditor",
            UserRole::Admin => "admin",
        }
    }
}

impl FromStr for UserRole {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        UserRole::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "a role is viewer, nurse, physician, technician, auditor or admin".to_owned())
    }
}

/// A secret in a request: a password or a token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Sensitive(pub String);

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive")
    }
}

/// A user with an account at this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Name for login.
    pub name: UserName,
    /// Name of the person.
    pub display_name: String,
    /// Role.
    pub role: UserRole,
    /// The wards whose patients the user may access; `null` for all.
    pub wards: Option<Vec<WardId>>,
    /// A disabled user cannot log in.
    pub disabled: bool,
    /// Each change increases the version.
    pub version: u64,
    /// When the account was created.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub changed_at: Timestamp,
    /// Who changed it last.
    pub changed_by: String,
}

/// All users, ascending by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserList {
    /// Users.
    pub items: Vec<User>,
}

/// Body of `POST /api/v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Name for login.
    pub name: UserName,
    /// Name of the person; the name for login if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), extend("pattern" = TEXT))]
    pub display_name: Option<String>,
    /// Role.
    pub role: UserRole,
    /// The wards whose patients the user may access; `null` for all.
    #[schemars(length(max = 100))]
    pub wards: Option<Vec<WardId>>,
    /// Password, 12 to 128 characters.
    #[schemars(with = "String", length(min = 12, max = 128))]
    pub password: Sensitive,
}

/// Body of `PATCH /api/v1/users/{name}`. Absent fields stay as they are. A change of role, wards, password or `disabled` ends
/// the sessions of the user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// The version that the administrator saw; 409 if the user has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maximum" = u64::MAX))]
    pub version: Option<u64>,
    /// Name of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), extend("pattern" = TEXT))]
    pub display_name: Option<String>,
    /// Role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
    /// The wards whose patients the user may access; `null` for all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<WardId>>", length(max = 100))]
    pub wards: Option<Option<Vec<WardId>>>,
    /// Whether the user is disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Password, 12 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(min = 12, max = 128))]
    pub password: Option<Sensitive>,
}

/// Distinguishes `null` from an absent field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Body of `POST /api/v1/users/{name}/password`: a user changes the own password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The current password.
    #[schemars(with = "String", length(max = 128))]
    pub current: Sensitive,
    /// The new password, 12 to 128 characters.
    #[schemars(with = "String", length(min = 12, max = 128))]
    pub new: Sensitive,
}

/// Checks the length of a new password.
///
/// # Errors
/// What is wrong, as the predicate of a sentence.
pub fn check_password(password: &Sensitive, name: &UserName) -> Result<(), String> {
    let (min, max) = PASSWORD_LENGTH;
    let length = password.0.chars().count();
    if length < min || length > max {
        return Err(format!("has {min} to {max} characters"));
    }
    if password.0.to_lowercase().contains(name.as_str()) && name.as_str().len() > 3 {
        return Err("must not contain the name of the user".to_owned());
    }
    Ok(())
}

/// Checks the display name of a user, and removes surrounding white space.
///
/// # Errors
/// What is wrong, as the predicate of a sentence.
pub fn check_display_name(name: &str) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        return Err(format!("has 1 to {MAX_DISPLAY_NAME} characters and no control characters"));
    }
    Ok(name.to_owned())
}

/// Sorts wards and removes repetitions.
///
/// # Errors
/// What is wrong, as the predicate of a sentence.
pub fn check_wards(wards: Option<Vec<WardId>>) -> Result<Option<Vec<WardId>>, String> {
    let Some(mut wards) = wards else { return Ok(None) };
    wards.sort_unstable();
    wards.dedup();
    if wards.len() > MAX_WARDS {
        return Err(format!("has at most {MAX_WARDS} wards"));
    }
    Ok(Some(wards))
}

/// Body of `POST /api/v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LoginRequest {
    /// With an access token.
    Token {
        /// The token.
        #[schemars(with = "String")]
        token: Sensitive,
    },
    /// With a local account.
    Account {
        /// Name of the user.
        user: String,
        /// Password.
        #[schemars(with = "String")]
        password: Sensitive,
    },
}

/// How a client can log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginMethods {
    /// With the OpenID Connect provider of the site: `GET /api/v1/session/oidc`.
    pub oidc: bool,
    /// With the name and password of a local account.
    pub local: bool,
    /// With an access token.
    pub token: bool,
}

/// How a client has logged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginMethod {
    /// No login is configured.
    None,
    /// With an access token.
    Token,
    /// With a local account.
    Local,
    /// With an OpenID Connect provider.
    Oidc,
}

/// Response of `GET` and `POST /api/v1/session`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Name of the user, or of the client of the token.
    pub name: String,
    /// Name of the person.
    pub display_name: String,
    /// Role.
    pub role: String,
    /// The wards whose patients are accessible; `null` for all.
    pub wards: Option<Vec<WardId>>,
    /// How the client has logged in.
    pub via: LoginMethod,
    /// When the session ends at the latest; `null` without a session.
    pub expires_at: Option<Timestamp>,
    /// Seconds without a request after which the session ends; `null` without a session.
    pub idle_s: Option<u64>,
    /// Value of the header `X-Bedside-CSRF` of requests that change something; `null` without a session.
    pub csrf: Option<String>,
    /// Patients of other wards that the session may access for now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emergency: Vec<Grant>,
    /// Seconds for which an emergency access to a patient of another ward lasts. A server of an earlier version does not state
    /// it.
    #[serde(default)]
    pub emergency_access_s: Option<u64>,
    /// How a client can log in.
    pub login: LoginMethods,
}

/// Emergency access to a patient of another ward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Grant {
    /// The patient.
    pub mrn: Mrn,
    /// When the access ends.
    pub until: Timestamp,
}

/// Body of `POST /api/v1/patients/{mrn}/break-glass`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Why the access is necessary, 5 to 500 characters.
    #[schemars(length(min = 5, max = 500), extend("pattern" = TEXT))]
    pub reason: String,
}

/// A stored user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUser {
    /// The user.
    pub user: User,
    /// Hash of the password as a PHC string.
    pub password_hash: Sensitive,
    /// Sessions of another epoch are invalid. Each change that ends the sessions increases it; that of a new account is its
    /// time of creation, so that it has no session of an earlier account with this name.
    pub epoch: u64,
}

/// A stored session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSession {
    /// SHA-256 of the secret.
    pub key: BlobHash,
    /// Name of the user, or of the client of the token.
    pub name: String,
    /// Name of the person.
    pub display_name: String,
    /// Name of the role.
    pub role: String,
    /// The wards whose patients are accessible; `None` for all.
    pub wards: Option<Vec<WardId>>,
    /// The bed that the token is bound to.
    pub bed: Option<BedId>,
    /// How the client has logged in.
    pub via: LoginMethod,
    /// SHA-256 of the token, if the client has logged in with one.
    pub token: Option<BlobHash>,
    /// [`StoredUser::epoch`] of the account, if the client has logged in with one.
    pub epoch: Option<u64>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was used last, with the precision of [`StoredSession::USE_PRECISION`].
    pub used_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// Time without a request after which it ends.
    pub idle: Duration,
    /// Emergency accesses.
    pub grants: Vec<Grant>,
}

impl StoredSession {
    /// A use is stored if the last stored one is older.
    pub const USE_PRECISION: Duration = Duration::from_secs(20);

    /// Returns when the session ends if it is not used any more.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        let idle = i64::try_from(self.idle.as_millis()).unwrap_or(i64::MAX / 4);
        self.expires_at.min(self.used_at.plus_millis(idle))
    }

    /// Returns whether the session is valid at this time.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        now < self.ends_at()
    }
}

/// gateway -> ingest: log in with a local account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AccountLogin {
    /// Name of the user, as it was entered.
    pub user: String,
    /// Password.
    pub password: Sensitive,
    /// The network of the client, for the limit of failed logins.
    pub network: String,
    /// SHA-256 of the secret of the new session.
    pub key: BlobHash,
    /// Longest duration of the session.
    pub lifetime: Duration,
    /// Time without a request after which the session ends.
    pub idle: Duration,
}

/// gateway -> ingest: the sessions that this gateway knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionCheck {
    /// Their keys, and when they were used last.
    pub sessions: Vec<(BlobHash, Timestamp)>,
}

/// Response to a [`SessionCheck`]: the sessions that are valid.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ValidSessions {
    /// The sessions.
    pub sessions: Vec<StoredSession>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_are_lower_case_and_plain() {
        assert_eq!("Anna.Berg@Ward-3".parse::<UserName>().unwrap().as_str(), "anna.berg@ward-3");
        for wrong in ["", " anna", "anna berg", "änna", ".anna", "-a", "a/b", "a\0", &"a".repeat(65)] {
            assert!(wrong.parse::<UserName>().is_err(), "{wrong:?}");
        }
        "a".repeat(64).parse::<UserName>().unwrap();
    }

    #[test]
    fn absent_wards_differ_from_null() {
        let change = |text: &str| serde_json::from_str::<UserChange>(text).unwrap().wards;
        assert_eq!(change("{}"), None);
        assert_eq!(change(r#"{"wards": null}"#), Some(None));
        assert_eq!(change(r#"{"wards": []}"#), Some(Some(Vec::new())));
        let back = serde_json::to_string(&UserChange { wards: Some(None), ..UserChange::default() });
        assert_eq!(back.unwrap(), r#"{"wards":null}"#);
    }

    #[test]
    fn short_passwords_and_those_with_the_name_are_rejected() {
        let name: UserName = "anna".parse().unwrap();
        let check = |text: &str| check_password(&Sensitive(text.to_owned()), &name);
        check("correct horse").unwrap();
        check(&"é".repeat(128)).unwrap();
        for wrong in ["", "elevenchars", &"é".repeat(129), "my name is Anna!"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_not_in_debug_output() {
        let login: LoginRequest =
            serde_json::from_str(r#"{"user": "anna", "password": "opensesame"}"#).unwrap();
        assert!(!format!("{login:?}").contains("opensesame"));
        assert!(matches!(login, LoginRequest::Account { .. }));
        let token: LoginRequest = serde_json::from_str(r#"{"token": "opensesame"}"#).unwrap();
        assert!(!format!("{token:?}").contains("opensesame"));
    }

    #[test]
    fn session_ends_when_idle_or_expired() {
        let at = |seconds: i64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000).unwrap();
        let mut session = StoredSession {
            key: BlobHash::of(b"x"),
            name: "anna".into(),
            display_name: "Anna".into(),
            role: "nurse".into(),
            wards: None,
            bed: None,
            via: LoginMethod::Local,
            token: None,
            epoch: None,
            created_at: at(0),
            used_at: at(100),
            expires_at: at(1_000),
            idle: Duration::from_secs(60),
            grants: Vec::new(),
        };
        assert!(session.is_valid(at(159)) && !session.is_valid(at(160)));
        session.used_at = at(990);
        assert!(session.is_valid(at(999)) && !session.is_valid(at(1_000)));
    }
}
