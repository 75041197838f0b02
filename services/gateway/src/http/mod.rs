//! The HTTP layer that all routes share: routing table, request bodies, multipart forms, response headers and
//! server time.

pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod format;
pub(crate) mod headers;
pub(crate) mod multipart;
pub(crate) mod params;
pub(crate) mod routes;
