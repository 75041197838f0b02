//! The client against the real services: gateway, query, ingest and ECG worker on a store of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod calls;
mod feed;
mod nats;
mod outbox;
mod proxy;
mod system;
mod uploads;
