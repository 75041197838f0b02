//! The OpenAPI document of all routes, checked in as `openapi.json`. A test regenerates it and compares.
//!
//! `utoipa` and `aide` are not used: both derive operations from handler signatures, but most routes here are
//! forwarded to the query service and have no handler, and streamed bodies are no extractor types. They would
//! also change the published document. Schemas are derived from the types of proto-json.

/// The checked-in document.
pub(crate) const DOCUMENT: &str = include_str!("../../openapi.json");

#[cfg(test)]
mod alarms;
#[cfg(test)]
mod corrections;
#[cfg(test)]
mod document;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod users;
#[cfg(test)]
mod wards;
#[cfg(test)]
mod waveforms;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::alarms::{ACTIONS, CHANGES, READS as ALARMS};
    use crate::http::routes::{OWN, READS};
    use crate::wards;
    use crate::{corrections, documents};

    #[test]
    fn checked_in_document_is_current() {
        documents::assert_current("openapi", &super::document::make());
    }

    #[test]
    fn document_describes_exactly_the_routes() {
        let document = super::document::make();
        let described: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let methods = item.as_object().unwrap().keys().filter(|key| *key != "parameters");
                methods.map(|method| (method.clone(), path.clone()))
            })
            .collect();
        let routes: BTreeSet<(String, String)> = READS
            .iter()
            .map(|(path, _)| ("get".to_owned(), (*path).to_owned()))
            .chain(ALARMS.iter().map(|(path, _)| ("get".to_owned(), (*path).to_owned())))
            .chain(ACTIONS.iter().map(|(path, _)| ("post".to_owned(), (*path).to_owned())))
            .chain(CHANGES.iter().map(|(path, _)| ("put".to_owned(), (*path).to_owned())))
            .chain(
                OWN.iter()
                    .chain(&wards::ROUTES)
                    .map(|(method, path)| ((*method).to_owned(), (*path).to_owned())),
            )
            .chain(corrections::ROUTES.map(|(method, path, _)| (method.to_owned(), path.to_owned())))
            .collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_resolves() {
        let found = documents::resolved_references(&super::document::make());
        assert!(found.len() > 20, "{found:?}");
    }
}
