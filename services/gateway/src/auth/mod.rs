//! Authentication, authorisation and the audit log.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod audit_chain;
pub(crate) mod audit_line;
pub(crate) mod local;
pub(crate) mod proxies;
pub(crate) mod tokens;
pub(crate) mod wards;
