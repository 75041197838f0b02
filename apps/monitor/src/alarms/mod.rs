//! Alarms about the latest strip of each patient.
//!
//! A strip that was uploaded is not telemetry. An alarm describes the latest strip that arrived. A strip that does not arrive
//! is never an alarm about the heart; the value only becomes stale. Severities and behaviour follow IEC 60601-1-8.

mod alarm;
mod alarm_list;
mod condition;
mod limits;
mod severity;
mod store;

pub use alarm::Alarm;
pub use alarm_list::{AlarmEvent, Alarms, HistoryEntry, Latching};
pub use condition::Cause;
pub use limits::{Limits, LimitsError, UncheckedLimits};
pub use severity::Severity;
pub use store::{StoreError, load, save};

#[cfg(test)]
mod tests;
