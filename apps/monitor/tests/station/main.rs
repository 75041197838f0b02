//! Drives the monitor through its accessibility tree, with a real gateway.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod account;
mod alarms;
mod clocks;
mod connection;
mod corrections;
mod damage;
mod dialogs;
#[path = "../fixture/mod.rs"]
mod fixture;
mod harness;
mod keyboard;
mod live;
mod overview;
mod patient;
mod plots;
mod sound;
mod stations;
mod wards;
