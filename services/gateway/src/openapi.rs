//! The OpenAPI document.
/// The checked-in document.
pub(crate) const DOCUMENT: &str = "{}";
