//! One suite for every adapter of the patient store: whatever is under it, the port behaves alike.

#![allow(clippy::unwrap_used, reason = "in a test, an error is a failure")]

mod abandoned;
mod analyses;
mod blobs;
mod clock;
mod concurrency;
mod damage;
mod durability;
mod files;
mod harness;
mod lists;
mod search;
mod uploads;
