//! One suite for all adapters of the patient store.

#![allow(clippy::unwrap_used, reason = "in a test, an error is a failure")]

mod alarms;
mod analyses;
mod blobs;
mod clock;
mod concurrency;
mod damage;
mod durability;
mod files;
mod harness;
mod lists;
mod orphans;
mod search;
mod uploads;
mod waveforms;
