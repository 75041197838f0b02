//! One round of the fault suite per way to run: every fault once, during uploads and live waveforms. Nothing is lost, stored
//! twice or left over.
//! `cargo run --release -p bedside-benchmarks --bin faults` runs it longer.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use testkit::Mode;
use testkit::faults::{FaultRun, possible, run};

#[tokio::test(flavor = "multi_thread")]
async fn standalone_keeps_its_guarantees_under_every_fault() {
    keeps_its_guarantees(Mode::Standalone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_stack_keeps_its_guarantees_under_every_fault() {
    keeps_its_guarantees(Mode::Processes).await;
}

async fn keeps_its_guarantees(mode: Mode) {
    let settings = FaultRun {
        mode,
        seed: 20_261_122,
        faults: possible(mode).len(),
        uploads: 50,
        clients: 4,
        streams: 4,
        pause: Duration::from_millis(1_500),
        outage: Duration::from_secs(16),
        ack_wait: Duration::from_secs(1),
        gentle_database: false,
        verbose: false,
    };
    let report = run(&settings).await;
    assert!(report.violations.is_empty(), "seed {}: {:#?}", settings.seed, report.violations);
    assert!(report.answers[0] > 0, "nothing was stored: {report:?}");
    assert!(report.samples > 0, "no waveforms were acknowledged: {report:?}");
    assert!(report.updates > 0, "no watcher received an update: {report:?}");
}
