//! The HTTP server of the services: listener, connection limits, TLS, graceful shutdown, problem documents,
//! JSON bodies, request metrics, and the health endpoints. It depends on `runtime`; `runtime` does not depend on it.

pub mod admin;
mod connections;
pub mod internal;
pub mod json;
pub mod observe;
pub mod problem;
mod scheduler;
mod server;
mod tls;

pub use connections::{Connection, Network, NoSlot, Proxies, Unauthenticated};
pub use scheduler::{FairScheduler, SchedulingGroup, run_scheduled};
pub use server::{
    DRAIN, Limits, bind, print_address, print_address_with_scheme, require_encryption, serve, serve_over,
};
pub use tls::{Acceptors, ServerTls, TlsArgs};
