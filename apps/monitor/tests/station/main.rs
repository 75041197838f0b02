//! The monitor driven through its accessibility tree, against a real gateway.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

mod alarms;
#[path = "../beside/mod.rs"]
mod beside;
mod clocks;
mod connection;
mod damage;
mod dialogs;
mod keyboard;
mod patient;
mod screen;
mod traces;
mod wall;
