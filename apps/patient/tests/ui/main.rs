//! The app as a person uses it: driven through its accessibility tree, against a real gateway in standalone mode.
//!
//! Slint has one event loop per process, so that each test runs in a process of its own: [`stage::play`] starts this very
//! program again for the one test.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod files;
mod light;
mod outbox;
mod recording;
mod stage;
mod uploads;
mod window;
