//! The binary `bedside`: the whole system in one process, and the commands that talk to a running one.

mod cli;
mod demo;
mod folder;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Bedside, a patient monitoring system in one program. Not a certified medical device: not for clinical use.
///
/// Without a command it starts the system: gateway, queues, ingest, ECG worker, query and store, with all data in one
/// folder. The commands talk to a running one.
#[derive(Debug, Parser)]
#[command(name = "bedside", version, args_conflicts_with_subcommands = true)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send name, images and ECGs of a patient, and wait for the receipt and the analysis
    Upload(cli::UploadArgs),
    /// List the patients with their latest heart rates
    Patients(cli::PatientsArgs),
    /// Print a line for each update as it arrives
    Watch(cli::WatchArgs),
    /// Save everything of a patient as files, with a JSON index
    Export(cli::ExportArgs),
    /// Write a synthetic ECG as CSV to standard output, to try the system with
    Sample(cli::SampleArgs),
    /// See what was given up, why, and send it again or drop it
    DeadLetters(cli::DeadLettersArgs),
    /// Check everything that is stored for damage; 0 if there is none, else 1
    Verify(cli::VerifyArgs),
    /// Copy the data folder, while Bedside runs on it or not
    Backup(cli::BackupArgs),
    /// Put a backup in the place of the data folder
    Restore(cli::RestoreArgs),
    /// Move patients in from the database of the original server
    Import(cli::ImportArgs),
    /// Make access tokens
    Token(cli::TokenArgs),
    /// Find the lines of a patient in the audit log
    Audit(cli::AuditArgs),
    /// Ask whether everything is ready; 0 if it is, else 1
    Healthcheck(cli::HealthcheckArgs),
}

fn main() -> ExitCode {
    let program = Program::parse();
    match program.command {
        None => runtime::run_main("bedside", serve::serve(program.serve)),
        Some(Command::Upload(args)) => cli::run(args.run()),
        Some(Command::Patients(args)) => cli::run(args.run()),
        Some(Command::Watch(args)) => cli::run(args.run()),
        Some(Command::Export(args)) => cli::run(args.run()),
        Some(Command::Sample(args)) => cli::run(args.run()),
        Some(Command::DeadLetters(args)) => cli::run(args.run()),
        Some(Command::Verify(args)) => cli::run(args.run()),
        Some(Command::Backup(args)) => cli::run(args.run()),
        Some(Command::Restore(args)) => cli::run(args.run()),
        Some(Command::Import(args)) => cli::run(args.run()),
        Some(Command::Token(args)) => cli::run(args.run()),
        Some(Command::Audit(args)) => cli::run(args.run()),
        Some(Command::Healthcheck(args)) => cli::run(args.run()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_of_all_parts_fit_together() {
        super::Program::command().debug_assert();
    }
}
