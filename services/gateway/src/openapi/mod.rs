//! The OpenAPI document of all routes, checked in as `openapi.json`. A test regenerates it and compares.
//!
//! `utoipa` and `aide` are not used: both derive operations from handler signatures, but most routes here are
//! forwarded to the query service and have no handler, and streamed bodies are no extractor types. They would
//! also change the published document. Schemas are derived from the types of proto-json.

/// The checked-in document.
pub(crate) const DOCUMENT: &str = include_str!("../../openapi.json");

#[cfg(test)]
mod document;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod waveforms;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::http::routes::{OWN, READS};

    #[test]
    fn checked_in_document_is_current() {
        let made = format!("{:#}\n", super::document::make());
        if std::env::var_os("BEDSIDE_UPDATE").is_some() {
            std::fs::write("openapi.json", &made).unwrap();
        }
        let on_disk = std::fs::read_to_string("openapi.json").unwrap_or_default();
        assert!(
            on_disk == made,
            "openapi.json is not current; run `BEDSIDE_UPDATE=1 cargo test -p bedside-gateway --lib openapi` and review \
             the change"
        );
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
            .chain(OWN.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())))
            .collect();
        assert_eq!(described, routes);
    }

    #[test]
    fn every_reference_resolves() {
        fn references(value: &serde_json::Value, found: &mut BTreeSet<String>) {
            match value {
                serde_json::Value::Object(object) => {
                    for (key, value) in object {
                        match value.as_str() {
                            Some(target) if key == "$ref" => {
                                found.insert(target.to_owned());
                            }
                            _ => references(value, found),
                        }
                    }
                }
                serde_json::Value::Array(list) => list.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = super::document::make();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
    }
}
