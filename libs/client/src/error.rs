//! Errors of calls to the gateway.

use std::error::Error as _;
use std::time::Duration;

use proto_json::{NameConflict, Problem};

/// Why a call has failed. Each variant displays as one sentence for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The settings are invalid.
    #[error("{0}")]
    Settings(String),
    /// A file to upload cannot be read.
    #[error("the file {path} cannot be read: {reason}")]
    File {
        /// Path of the file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The gateway is unreachable, or the connection broke.
    #[error("the gateway at {gateway} cannot be reached: {reason}")]
    Unreachable {
        /// Address of the gateway.
        gateway: String,
        /// Why.
        reason: String,
    },
    /// The gateway did not answer in time.
    #[error("the gateway at {gateway} did not answer within {} s", .limit.as_secs_f32())]
    TimedOut {
        /// Address of the gateway.
        gateway: String,
        /// The time limit.
        limit: Duration,
    },
    /// The gateway requires an access token, or does not know this one.
    #[error("the gateway does not accept the access token{}", detail(.0))]
    Unauthorized(Box<Problem>),
    /// The access token does not allow this call.
    #[error("the access token does not allow this{}", detail(.0))]
    Forbidden(Box<Problem>),
    /// What was requested does not exist.
    #[error("{}", message(.0))]
    NotFound(Box<Problem>),
    /// The gateway cannot handle the call now. It may succeed later.
    #[error("the gateway cannot do this now{}", detail(.problem))]
    Busy {
        /// Problem document of the gateway.
        problem: Box<Problem>,
        /// Wait that the gateway asks for.
        retry_after: Option<Duration>,
    },
    /// The gateway rejects the request. The same request will be rejected again.
    #[error("{}", message(.0))]
    Refused(Box<Problem>),
    /// The gateway has an internal error.
    #[error("the gateway failed{}", detail(.0))]
    Failed(Box<Problem>),
    /// The answer cannot be parsed. The server may not be a Bedside gateway, or have another version.
    #[error("the answer of {gateway} could not be understood: {reason}")]
    BadAnswer {
        /// Address of the gateway.
        gateway: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later without a change of settings or input.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable { .. }
                | ClientError::TimedOut { .. }
                | ClientError::Busy { .. }
                | ClientError::Failed(_)
        )
    }

    /// Whether the gateway did not answer at all.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. } | ClientError::TimedOut { .. })
    }

    /// Both names, if the gateway rejected an upload because its patient has another name.
    #[must_use]
    pub fn name_conflict(&self) -> Option<&NameConflict> {
        match self {
            ClientError::Refused(problem) => problem.names.as_ref(),
            _ => None,
        }
    }

    /// Wait before the next attempt that the gateway asks for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The error for an answer with an error status.
    pub(crate) fn from_problem(problem: Problem, retry_after: Option<Duration>) -> Self {
        let status = problem.status;
        let problem = Box::new(problem);
        match status {
            401 => ClientError::Unauthorized(problem),
            403 => ClientError::Forbidden(problem),
            404 => ClientError::NotFound(problem),
            408 | 429 | 502..=504 => ClientError::Busy { problem, retry_after },
            500..=599 => ClientError::Failed(problem),
            _ => ClientError::Refused(problem),
        }
    }

    /// The error for an error of the HTTP library. `limit` is the time limit of the call.
    pub(crate) fn from_reqwest(error: &reqwest::Error, gateway: &str, limit: Duration) -> Self {
        let gateway = gateway.to_owned();
        if error.is_timeout() {
            ClientError::TimedOut { gateway, limit }
        } else if error.is_decode() {
            ClientError::BadAnswer { gateway, reason: root_cause(error) }
        } else {
            ClientError::Unreachable { gateway, reason: root_cause(error) }
        }
    }
}

/// The innermost cause. The outer ones only say that a request has failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.source().is_none() {
        return "the request could not be sent".to_owned();
    }
    let reason = cause.to_string();
    match tls_advice(&reason) {
        Some(advice) => format!("{advice} ({reason})"),
        None => reason,
    }
}

/// Explains a TLS error. The certificate verifier reports errors of different types, so this compares their texts.
fn tls_advice(reason: &str) -> Option<&'static str> {
    if reason.contains("CaUsedAsEndEntity") {
        Some(
            "its certificate is a CA certificate, which a server must not present; create a CA and a server \
             certificate with `bedside cert`, set the server certificate at the gateway and trust the CA",
        )
    } else if reason.contains("UnknownIssuer") {
        Some("its certificate is not issued by a trusted CA; trust the CA certificate (--ca)")
    } else if reason.contains("not valid for name") || reason.contains("NotValidForName") {
        Some("its certificate is not valid for this host name; create one that contains the name")
    } else if reason.contains("certificate expired") || reason.contains("Expired") {
        Some("its certificate has expired, or the clock of this computer is wrong")
    } else if reason.contains("InvalidContentType") {
        Some("it does not use TLS; use an address that starts with http://")
    } else {
        None
    }
}

fn message(problem: &Problem) -> String {
    problem
        .detail
        .clone()
        .unwrap_or_else(|| format!("the gateway answered {} {}", problem.status, problem.title))
}

fn detail(problem: &Problem) -> String {
    problem.detail.as_ref().map_or_else(|| format!(" ({})", problem.status), |detail| format!(": {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_errors_state_what_to_do() {
        let advice = |reason| tls_advice(reason).unwrap_or_default();
        let ca = "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))";
        assert!(advice(ca).contains("bedside cert"));
        assert!(advice("invalid peer certificate: UnknownIssuer").contains("--ca"));
        assert!(
            advice("invalid peer certificate: certificate not valid for name \"a\"").contains("host name")
        );
        assert!(
            advice("invalid peer certificate: certificate expired: verification time 5").contains("expired")
        );
        assert!(advice("received corrupt message of type InvalidContentType").contains("http://"));
        assert_eq!(tls_advice("connection refused"), None);
    }
}
