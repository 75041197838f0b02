//! Measures the latency of a client while other clients attack, and prints a table:
//! `cargo run --release -p bedside-benchmarks --bin attacks`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends when something fails")]

use std::time::Duration;

use benchmarks::quantile;
use testkit::Mode;
use testkit::attacks::{ATTACKS, Attackers, NO_ATTACK, attack, measure, system};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--attack", name, address, token] => runtime.block_on(attack(name, address, token)),
        ["--help" | "-h", ..] => {
            println!(
                "Usage: attacks [standalone|processes] [ATTACK]...\n\nAttacks a full system with one token, measures the latency \
                 of a client with another token, and prints a Markdown table.\n\nAttacks:"
            );
            for (name, what) in ATTACKS {
                println!("  {name:20}  {what}");
            }
        }
        ["processes", ref names @ ..] => runtime.block_on(table(Mode::Processes, names)),
        ["standalone", ref names @ ..] => runtime.block_on(table(Mode::Standalone, names)),
        ref names => runtime.block_on(table(Mode::Standalone, names)),
    }
}

/// How long the baseline and each attack are measured: about 30 uploads per second, so that p99 is not a single value.
const MEASURED: Duration = Duration::from_secs(30);

async fn table(mode: Mode, names: &[&str]) {
    let program = std::env::current_exe().unwrap();
    println!(
        "| attack | upload p50 ms | during | ratio | p99 | during | ratio | read p50 ms | during | ratio | failed | max. resident MB |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (name, what) in ATTACKS.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        let folder = tempfile::tempdir().unwrap();
        let system = system(folder.path(), mode);
        measure(&system, Duration::from_secs(2)).await;
        let baseline = Attackers::start(&program, NO_ATTACK, &system);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = measure(&system, MEASURED).await;
        drop(baseline);
        let mut attackers = Attackers::start(&program, name, &system);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let during = measure(&system, MEASURED).await;
        assert!(attackers.is_running(), "the attack {name} ended by itself");
        drop(attackers);
        let (uploads, reads) = (&during.uploads, &during.reads);
        println!(
            "| {what} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.2} | {} of {} | {:.0} |",
            quantile(&before.uploads, 0.5),
            quantile(uploads, 0.5),
            quantile(uploads, 0.5) / quantile(&before.uploads, 0.5),
            quantile(&before.uploads, 0.99),
            quantile(uploads, 0.99),
            quantile(uploads, 0.99) / quantile(&before.uploads, 0.99),
            quantile(&before.reads, 0.5),
            quantile(reads, 0.5),
            quantile(reads, 0.5) / quantile(&before.reads, 0.5),
            during.failures.len(),
            during.failures.len() + uploads.len() + reads.len(),
            during.resident as f64 / 1e6,
        );
        for failure in during.failures.iter().take(3) {
            eprintln!("   {name}: {failure}");
        }
    }
}
