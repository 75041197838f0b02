//! Tests the client against the services: gateway, query, ingest and ECG worker with a store of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]

mod alarms;
mod calls;
mod devices;
mod feed;
mod fixture;
mod live;
mod nats;
mod outbox;
mod proxy;
mod uploads;
