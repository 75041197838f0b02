//! While a client with a token attacks, by whatever means, another one goes on to be served, and the server's memory stays
//! within what docs/SECURITY.md says. `cargo run --release -p benchmarks --bin attacks` measures how much the other one notices.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use testkit::attacks::{ATTACKS, Attackers, notice, system};
use testkit::{Mode, program};

/// `--upload-memory` by default, and as much again for everything else.
const MOST_RESIDENT: u64 = 512_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn under_every_attack_others_are_served_and_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let system = system(folder.path(), Mode::Standalone);
    for (name, _) in ATTACKS {
        let mut attackers = Attackers::start(&program("attacks"), name, &system);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let noticed = notice(&system, Duration::from_millis(2_500)).await;
        assert!(attackers.go_on(), "the attack {name} ended by itself");
        assert!(noticed.failures.is_empty(), "{name}: {:?}", noticed.failures);
        assert!(!noticed.uploads.is_empty(), "{name}: no upload was answered");
        assert!(noticed.resident < MOST_RESIDENT, "{name}: {} bytes resident", noticed.resident);
    }
}
