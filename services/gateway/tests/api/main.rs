//! Tests of the public API: the gateway and all services behind it in one process, over real HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod access;
mod alarms;
mod attacks;
mod audit;
mod bad_input;
mod clock;
mod contract;
mod dead_letters;
mod document;
mod drawings;
mod events;
mod fixture;
mod live;
mod names;
mod oidc;
mod permissions;
mod preview;
mod reads;
mod reanalysis;
mod sessions;
mod uploads;
mod ward_access;
mod wards;
mod waveform_reads;
mod waveforms;
mod web;
