//! The HTTP layer that all routes share: the routing table, request bodies, multipart forms, and the server's time.

pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod multipart;
pub(crate) mod params;
pub(crate) mod routes;
