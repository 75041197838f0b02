//! Login with a local account.

use client::{ClientError, Token};
use proto_json::users::{LoginMethod, LoginRequest, Sensitive, Session};

use crate::{Settings, format, tr};

/// A login: who has logged in, and the secret of the session.
pub type Login = (Box<Session>, Token);

/// Logs in with name and password at the gateway of these settings.
///
/// # Errors
/// Why not, as a sentence for the user.
pub async fn log_in(settings: Settings, user: String, password: String) -> Result<Login, String> {
    // Reads files.
    let gateway = tokio::task::spawn_blocking(move || settings.anonymous().gateway_client()).await;
    let gateway = gateway.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let request = LoginRequest::Account { user, password: Sensitive(password) };
    match gateway.log_in(&request).await {
        Ok((session, secret)) => Ok((Box::new(session), secret)),
        Err(ClientError::Unauthorized(_)) => {
            Err(tr!("The name or the password is wrong, or the account is disabled.").to_owned())
        }
        Err(error) => Err(format::sentence(&error.to_string())),
    }
}

/// Ends the session of these settings. A session that cannot be ended, because there is no connection, ends by itself.
pub async fn log_out(settings: Settings) {
    let gateway = tokio::task::spawn_blocking(move || settings.gateway_client()).await;
    if let Ok(Ok(gateway)) = gateway {
        let _ = gateway.log_out().await;
    }
}

/// Whether a person has logged in. Otherwise the client is a station with an access token, or needs no login.
#[must_use]
pub fn is_person(session: &Session) -> bool {
    matches!(session.via, LoginMethod::Local | LoginMethod::Oidc)
}

/// Name and role of a person or a station. Empty if the server needs no login.
#[must_use]
pub fn account_title(session: &Session) -> String {
    match session.via {
        LoginMethod::None => String::new(),
        LoginMethod::Token | LoginMethod::Local | LoginMethod::Oidc => {
            format!("{} · {}", session.display_name, role(&session.role))
        }
    }
}

fn role(name: &str) -> &str {
    match name {
        "viewer" => tr!("viewer"),
        "nurse" => tr!("nurse"),
        "physician" => tr!("physician"),
        "technician" => tr!("technician"),
        "auditor" => tr!("auditor"),
        "admin" => tr!("administrator"),
        other => other,
    }
}
