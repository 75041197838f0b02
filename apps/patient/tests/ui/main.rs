//! The app as a user operates it: driven through its accessibility tree, against a real gateway in standalone mode.
//!
//! Slint has one event loop per process. Each test therefore runs in a process of its own: [`fixture::run_isolated`] starts
//! this program again for one test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod connection;
mod files;
mod fixture;
mod outbox;
mod recording;
mod uploads;
mod window;
