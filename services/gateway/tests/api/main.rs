//! The gateway with everything behind it, in one process, over real HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod access;
mod attacks;
mod bad_input;
mod clock;
mod contract;
mod dead_letters;
mod events;
mod fixture;
mod names;
mod reads;
mod uploads;
