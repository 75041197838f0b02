//! While a client attacks, another client is served, and the memory of the server stays bounded.
//! `cargo run --release -p bedside-benchmarks --bin attacks` measures the latency of the other client.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use testkit::attacks::{ATTACKS, Attackers, measure, system};
use testkit::{Mode, program};

/// Twice the default of `--upload-memory`.
const MAX_RESIDENT: u64 = 512_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn other_clients_are_served_and_memory_is_bounded_under_every_attack() {
    let folder = tempfile::tempdir().unwrap();
    let system = system(folder.path(), Mode::Standalone);
    for (name, _) in ATTACKS {
        let mut attackers = Attackers::start(&program("attacks"), name, &system);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let measured = measure(&system, Duration::from_millis(2_500)).await;
        assert!(attackers.is_running(), "the attack {name} ended by itself");
        assert!(measured.failures.is_empty(), "{name}: {:?}", measured.failures);
        assert!(!measured.uploads.is_empty(), "{name}: no upload succeeded");
        assert!(measured.resident < MAX_RESIDENT, "{name}: {} bytes resident", measured.resident);
    }
}
