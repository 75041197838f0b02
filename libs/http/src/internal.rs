//! Headers from the query service to the gateway that carry audit information about a response. The gateway
//! removes them before it forwards the response.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proto_json::Mrn;

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
