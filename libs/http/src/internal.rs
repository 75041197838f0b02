//! Calls between the gateway and the services behind it.
//!
//! A service accepts only requests that carry its token, and serves plain HTTP in a private network. The gateway states in
//! headers for whom it acts ([`Actor`]). The headers of a response carry information for the audit, and the gateway removes
//! them before it forwards the response.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use proto_json::{Mrn, WardId};
use runtime::{Secret, Shutdown, StartError};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::problem::{ApiError, ProblemType};
use crate::server::{Limits, require_encryption, serve};

/// Checks the configuration of a service behind the gateway: another address than loopback requires a token.
///
/// # Errors
/// If the address needs a token and there is none.
pub fn require_token(service: &str, listen: SocketAddr, token: Option<&Secret>) -> Result<(), StartError> {
    if token.is_some() || listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    Err(StartError::config(format!(
        "without --token-file {service} accepts only a loopback address, because anyone who can reach {listen} \
         could read all patients"
    )))
}

/// Reads the token that gateways authenticate with, and rejects an unsafe configuration of `service`.
///
/// # Errors
/// The setting to change.
pub fn read_token(
    service: &str,
    listen: SocketAddr,
    file: Option<&Path>,
    insecure: bool,
) -> Result<Option<Secret>, StartError> {
    let token = file.map(Secret::read).transpose()?;
    require_token(service, listen, token.as_ref())?;
    require_encryption(listen, false, insecure, &format!("keep {service} on a loopback address"))?;
    Ok(token)
}

/// Serves calls of gateways that carry `token` until the shutdown begins.
///
/// # Errors
/// If serving fails.
pub async fn serve_calls(
    service: &'static str,
    listener: TcpListener,
    router: Router,
    token: Option<Secret>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let router = require_token_header(service, router, token);
    let served = serve(listener, router, Limits::of(service), shutdown).await;
    served.map_err(|error| StartError::failed(format!("{service} stopped serving calls: {error}")))
}

/// Rejects requests without the token. Without a token, all requests are accepted.
pub fn require_token_header(service: &'static str, router: Router, token: Option<Secret>) -> Router {
    let Some(token) = token else { return router };
    router.layer(from_fn(move |request: Request, next: Next| {
        let accepted = token.is_carried_by(request.headers().get(header::AUTHORIZATION));
        async move {
            if accepted {
                return next.run(request).await;
            }
            let detail = format!("Only gateways that carry {service}'s token are answered here.");
            ApiError::new(ProblemType::UNAUTHENTICATED, detail)
                .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
                .into_response()
        }
    }))
}

const ACTOR: HeaderName = HeaderName::from_static("bedside-actor");

/// For whom the gateway acts. The gateway has checked the permission of the role for the route; the service checks the ward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Name of the user, or of the client of a token.
    pub name: String,
    /// Name of the role.
    pub role: String,
    /// The wards that the client may access; `None` for all.
    pub wards: Option<Vec<WardId>>,
    /// Patients of other wards whom the client may access for now: those of its emergency accesses.
    #[serde(default)]
    pub granted: Vec<Mrn>,
    /// Address of the client.
    pub address: Option<std::net::IpAddr>,
}

impl Actor {
    /// Returns the header that states the actor: JSON in ASCII.
    #[must_use]
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        let json = serde_json::to_string(self).ok()?;
        let mut ascii = String::with_capacity(json.len());
        for character in json.chars() {
            if character.is_ascii() {
                ascii.push(character);
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
        HeaderValue::from_str(&ascii).ok().map(|value| (ACTOR, value))
    }

    /// Whether the actor may access a ward.
    #[must_use]
    pub fn may_access_ward(&self, ward: WardId) -> bool {
        self.wards.as_ref().is_none_or(|wards| wards.contains(&ward))
    }

    /// Whether the actor may access a patient in any ward.
    #[must_use]
    pub fn may_access_anywhere(&self, mrn: Mrn) -> bool {
        self.wards.is_none() || self.granted.contains(&mrn)
    }

    /// Whether the actor may access a patient in a ward. A patient outside of all wards (`None`) is accessible to everyone.
    #[must_use]
    pub fn may_access(&self, mrn: Mrn, ward: Option<WardId>) -> bool {
        self.may_access_anywhere(mrn) || ward.is_none_or(|ward| self.may_access_ward(ward))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let value = parts.headers.get(ACTOR).and_then(|value| value.to_str().ok());
        let actor = value.and_then(|value| serde_json::from_str(value).ok());
        actor.ok_or_else(|| ApiError::invalid("The gateway did not state for whom it acts."))
    }
}

const PATIENT: HeaderName = HeaderName::from_static("bedside-patient");
const UPLOADED_BY: HeaderName = HeaderName::from_static("bedside-uploaded-by");

/// Returns the header that names the patient whose data the response contains.
#[must_use]
pub fn patient_header(mrn: Mrn) -> (HeaderName, HeaderValue) {
    (PATIENT, HeaderValue::from(mrn.get()))
}

/// Returns the header that names the client that sent the upload in the response, or `None` if the name
/// cannot be a header value.
#[must_use]
pub fn uploaded_by_header(client: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_bytes(client.as_bytes()).ok().map(|value| (UPLOADED_BY, value))
}

/// Audit information taken from the headers of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditHeaders {
    /// The patient whose data the response contains.
    pub patient: Option<Mrn>,
    uploaded_by: Option<HeaderValue>,
}

impl AuditHeaders {
    /// Removes the headers from a response and returns their values.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let patient = headers.remove(PATIENT).and_then(|value| value.to_str().ok()?.parse().ok());
        AuditHeaders { patient, uploaded_by: headers.remove(UPLOADED_BY) }
    }

    /// Returns whether this client sent the upload in the response.
    #[must_use]
    pub fn is_uploaded_by(&self, client: &str) -> bool {
        self.uploaded_by.as_ref().is_some_and(|name| name.as_bytes() == client.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn actor_survives_the_header() {
        let actor = Actor {
            name: "Zoë 王".to_owned(),
            role: "nurse".to_owned(),
            wards: Some(vec!["67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap()]),
            granted: vec![Mrn::new(8).unwrap()],
            address: Some([192, 0, 2, 1].into()),
        };
        let mut request = Request::new(axum::body::Body::empty());
        request.headers_mut().extend([actor.header().unwrap()].map(|(name, value)| (Some(name), value)));
        let mut parts = request.into_parts().0;
        assert_eq!(Actor::from_request_parts(&mut parts, &()).await.unwrap(), actor);
        parts.headers.clear();
        assert!(Actor::from_request_parts(&mut parts, &()).await.is_err());
    }

    #[test]
    fn granted_patient_does_not_open_the_ward() {
        let ward = |number: u8| -> WardId {
            format!("67e55044-10b1-426f-9247-bb680e5fe0c{number}").parse().unwrap()
        };
        let mrn = |number| Mrn::new(number).unwrap();
        // A gateway of an earlier version does not state the granted patients.
        let earlier =
            format!(r#"{{"name": "anna", "role": "nurse", "wards": ["{}"], "address": null}}"#, ward(1));
        let mut actor: Actor = serde_json::from_str(&earlier).unwrap();
        assert!(!actor.may_access(mrn(8), Some(ward(2))));
        actor.granted = vec![mrn(8)];
        assert!(actor.may_access(mrn(8), Some(ward(2))) && actor.may_access_anywhere(mrn(8)));
        assert!(!actor.may_access(mrn(88), Some(ward(2))) && !actor.may_access_anywhere(mrn(88)));
        assert!(!actor.may_access_ward(ward(2)) && actor.may_access_ward(ward(1)));
        assert!(actor.may_access(mrn(7), Some(ward(1))) && actor.may_access(mrn(9), None));
    }

    #[test]
    fn audit_headers_are_parsed_and_removed() {
        let mrn = Mrn::new(7).unwrap();
        let headers = [patient_header(mrn), uploaded_by_header("bett-é").unwrap()];
        let mut headers = HeaderMap::from_iter(headers);
        let about = AuditHeaders::take(&mut headers);
        assert_eq!((about.patient, headers.len()), (Some(mrn), 0));
        assert!(about.is_uploaded_by("bett-é") && !about.is_uploaded_by("bett"));
        assert!(!AuditHeaders::take(&mut headers).is_uploaded_by(""));
    }
}
