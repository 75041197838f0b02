//! The query service: the read API of the patient store. Answers every GET route except event streams, under
//! the same paths as the gateway.

mod audit;
mod clock;
mod corrections;
mod drawings;
mod errors;
mod files;
mod legacy;
mod lists;
mod params;
mod records;
mod routes;
mod service;
mod state;
mod wards;
mod waveforms;

pub use routes::router;
pub use service::{Config, checks, run, run_on};
pub use state::Ports;
