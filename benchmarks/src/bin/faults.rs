//! Uploads under faults, by hand and for long: `cargo run --release -p benchmarks --bin faults -- --uploads 10000`.
//! A run that fails says its seed; the same seed makes the same schedule.

use std::process::ExitCode;
use std::time::Duration;

use testkit::Mode;
use testkit::faults::{Trial, possible, run};

const USAGE: &str = "Usage: faults [standalone|processes] [--uploads N] [--faults N] [--seed N] [--clients N] [--quiet]
              [--gentle-database]

Uploads all the while, on a schedule of faults that the seed tells, and then compares what clients were told with what
is stored and what watchers saw. Needs root: it mounts a small disk to fill it.
--gentle-database: the database is told to end instead of being killed, for a stand-in that would lose what it acknowledged.";

fn main() -> ExitCode {
    match trials(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(trials) => run_all(&trials),
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(64)
        }
    }
}

fn trials(args: &[String]) -> Result<Vec<Trial>, String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        std::process::exit(0);
    }
    let (mut modes, mut numbers, mut verbose) = (Vec::new(), [1_000, 0, 1, 8], true);
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
            other => return Err(format!("{other} is no option\n\n{USAGE}")),
        };
        let value = args.next().and_then(|value| value.parse::<u64>().ok());
        numbers[index] = value.ok_or_else(|| format!("{arg} needs a number\n\n{USAGE}"))?;
    }
    if modes.is_empty() {
        modes = vec![Mode::Standalone, Mode::Processes];
    }
    let [uploads, faults, seed, clients] = numbers;
    let trial = |mode| Trial {
        mode,
        seed,
        faults: if faults == 0 { possible(mode).len() } else { faults as usize },
        uploads: uploads as usize,
        clients,
        pause: Duration::from_secs(3),
        outage: Duration::from_secs(20),
        ack_wait: Duration::from_secs(2),
        gentle_database,
        verbose,
    };
    Ok(modes.into_iter().map(trial).collect())
}

fn run_all(trials: &[Trial]) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        eprintln!("no threads");
        return ExitCode::FAILURE;
    };
    let mut code = ExitCode::SUCCESS;
    println!(
        "| way to run | seed | faults | uploads | stored | accepted | refused | no last word | attempts | updates seen | took s | complaints |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for trial in trials {
        let report = runtime.block_on(run(trial));
        let [stored, accepted, refused, nothing] = report.told;
        println!(
            "| {:?} | {} | {} | {} | {stored} | {accepted} | {refused} | {nothing} | {} | {} | {:.0} | {} |",
            trial.mode,
            trial.seed,
            report.faults,
            report.uploads,
            report.attempts,
            report.updates,
            report.took.as_secs_f64(),
            report.complaints.len()
        );
        for complaint in &report.complaints {
            eprintln!("seed {}: {complaint}", trial.seed);
            code = ExitCode::FAILURE;
        }
    }
    code
}
