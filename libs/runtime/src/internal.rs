//! What query tells the gateway about an answer, in headers that never reach a client.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proto_json::Mrn;

const PATIENT: HeaderName = HeaderName::from_static("bedside-patient");
const UPLOADED_BY: HeaderName = HeaderName::from_static("bedside-uploaded-by");

/// The header that names the patient whose data an answer holds, for the audit log.
#[must_use]
pub fn about_patient(mrn: Mrn) -> (HeaderName, HeaderValue) {
    (PATIENT, HeaderValue::from(mrn.get()))
}

/// The header that names the client whose upload an answer is about; `None` if its name cannot stand in a header.
#[must_use]
pub fn uploaded_by(client: &str) -> Option<(HeaderName, HeaderValue)> {
    HeaderValue::from_bytes(client.as_bytes()).ok().map(|value| (UPLOADED_BY, value))
}

/// What the headers of an answer said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerAbout {
    /// The patient whose data it holds.
    pub patient: Option<Mrn>,
    uploaded_by: Option<HeaderValue>,
}

impl AnswerAbout {
    /// Takes the headers out of an answer.
    pub fn take(headers: &mut HeaderMap) -> Self {
        let patient = headers.remove(PATIENT).and_then(|value| value.to_str().ok()?.parse().ok());
        AnswerAbout { patient, uploaded_by: headers.remove(UPLOADED_BY) }
    }

    /// Whether this client sent the upload that it is about.
    #[must_use]
    pub fn is_of_upload_by(&self, client: &str) -> bool {
        self.uploaded_by.as_ref().is_some_and(|name| name.as_bytes() == client.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_taken_out() {
        let mrn = Mrn::new(7).unwrap();
        let headers = [about_patient(mrn), uploaded_by("bett-é").unwrap()];
        let mut headers = HeaderMap::from_iter(headers);
        let about = AnswerAbout::take(&mut headers);
        assert_eq!((about.patient, headers.len()), (Some(mrn), 0));
        assert!(about.is_of_upload_by("bett-é") && !about.is_of_upload_by("bett"));
        assert!(!AnswerAbout::take(&mut headers).is_of_upload_by(""));
    }
}
