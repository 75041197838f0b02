//! Long runs of uploads under faults: `cargo run --release -p bedside-benchmarks --bin faults -- --uploads 10000`.
//! A failed run prints its seed. The same seed gives the same schedule.

use std::process::ExitCode;
use std::time::Duration;

use testkit::Mode;
use testkit::faults::{FaultRun, possible, run};

const USAGE: &str = "Usage: faults [standalone|processes] [--uploads N] [--faults N] [--seed N] [--clients N]
              [--streams N] [--quiet] [--gentle-database]

Uploads and streams waveforms of some devices (8) while faults are injected on a schedule that the seed determines. Then compares the answers to clients with the
stored data and with the updates that watchers received. Needs root, because it mounts a small disk to fill it.
--gentle-database: stop the database with SIGTERM instead of SIGKILL, for a stand-in that would lose acknowledged writes.";

fn main() -> ExitCode {
    match parse(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(runs) => run_all(&runs),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(64)
        }
    }
}

fn parse(args: &[String]) -> Result<Vec<FaultRun>, String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        std::process::exit(0);
    }
    let (mut modes, mut numbers, mut verbose) = (Vec::new(), [1_000, 0, 1, 8, 8], true);
    let mut gentle_database = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let index = match arg.as_str() {
            "standalone" => {
                modes.push(Mode::Standalone);
                continue;
            }
            "processes" => {
                modes.push(Mode::Processes);
                continue;
            }
            "--quiet" => {
                verbose = false;
                continue;
            }
            "--gentle-database" => {
                gentle_database = true;
                continue;
            }
            "--uploads" => 0,
            "--faults" => 1,
            "--seed" => 2,
            "--clients" => 3,
            "--streams" => 4,
            other => return Err(format!("unknown option {other}\n\n{USAGE}")),
        };
        let value = args.next().and_then(|value| value.parse::<u64>().ok());
        numbers[index] = value.ok_or_else(|| format!("{arg} needs a number\n\n{USAGE}"))?;
    }
    if modes.is_empty() {
        modes = vec![Mode::Standalone, Mode::Processes];
    }
    let [uploads, faults, seed, clients, streams] = numbers;
    let in_mode = |mode| FaultRun {
        mode,
        seed,
        faults: if faults == 0 { possible(mode).len() } else { faults as usize },
        uploads: uploads as usize,
        clients,
        streams,
        pause: Duration::from_secs(3),
        outage: Duration::from_secs(20),
        ack_wait: Duration::from_secs(2),
        gentle_database,
        verbose,
    };
    Ok(modes.into_iter().map(in_mode).collect())
}

fn run_all(runs: &[FaultRun]) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        eprintln!("the async runtime cannot start");
        return ExitCode::FAILURE;
    };
    let mut code = ExitCode::SUCCESS;
    println!(
        "| way to run | seed | faults | uploads | stored | accepted | refused | no answer | attempts | samples | updates seen | took s | violations |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for settings in runs {
        let report = runtime.block_on(run(settings));
        let [stored, accepted, refused, nothing] = report.answers;
        println!(
            "| {:?} | {} | {} | {} | {stored} | {accepted} | {refused} | {nothing} | {} | {} | {} | {:.0} | {} |",
            settings.mode,
            settings.seed,
            report.faults,
            report.uploads,
            report.attempts,
            report.samples,
            report.updates,
            report.took.as_secs_f64(),
            report.violations.len()
        );
        for violation in &report.violations {
            eprintln!("seed {}: {violation}", settings.seed);
            code = ExitCode::FAILURE;
        }
    }
    code
}
