//! The open patient: what is known, which requests are on their way, and which responses are still wanted.

mod requests;
mod slots;
mod view;

pub use requests::{EcgContent, LoadedEcg, Request, RequestId, Response, Side};
pub use slots::{Changes, LoadState};
pub use view::{FrozenEcg, PatientView};

#[cfg(test)]
mod tests;
