//! A short run of the fault suite in both ways to run: every fault once, uploads all the while, nothing lost, doubled or
//! left over. `cargo run --release -p benchmarks --bin faults` runs it for long.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use testkit::Mode;
use testkit::faults::{Trial, possible, run};

#[tokio::test(flavor = "multi_thread")]
async fn standalone_keeps_its_promises_through_every_fault() {
    keeps_its_promises(Mode::Standalone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_keep_their_promises_through_every_fault() {
    keeps_its_promises(Mode::Processes).await;
}

async fn keeps_its_promises(mode: Mode) {
    let trial = Trial {
        mode,
        seed: 20_261_122,
        faults: possible(mode).len(),
        uploads: 50,
        clients: 4,
        pause: Duration::from_millis(1_500),
        outage: Duration::from_secs(16),
        ack_wait: Duration::from_secs(1),
        gentle_database: false,
        verbose: false,
    };
    let report = run(&trial).await;
    assert!(report.complaints.is_empty(), "seed {}: {:#?}", trial.seed, report.complaints);
    assert!(report.told[0] > 0, "nothing was stored: {report:?}");
    assert!(report.updates > 0, "nobody saw an update: {report:?}");
}
