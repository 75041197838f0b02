//! One suite for every adapter of the patient store: whatever is under it, the port behaves alike.

mod analyses;
mod blobs;
mod concurrency;
mod durability;
mod harness;
mod lists;
mod search;
mod uploads;
