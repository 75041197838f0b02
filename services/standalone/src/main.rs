//! The binary `bedside`: the whole system in one process, and the commands that talk to a running system.

mod cli;
mod data_dir;
mod demo;
mod playback;
mod serve;
mod simulator;

use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Bedside, a patient monitoring system in one program. Not a certified medical device: not for clinical use.
///
/// Without a command, it starts the whole system: gateway, queues, ingest, ECG worker, query and store, with
/// all data in one directory. The commands talk to a running system.
#[derive(Debug, Parser)]
#[command(
    name = "bedside",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes:
   0  success; `verify` found no damage, `healthcheck` found everything ready
   1  failure, rejected request, damage, or not ready; one sentence on standard error states the reason
   2  the command line cannot be parsed
  64  the settings or arguments cannot work; nothing was opened, sent or changed"
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Upload name, images and ECGs of a patient, and wait for the receipt and the analysis
    Upload(cli::UploadArgs),
    /// List the patients with their latest heart rates
    Patients(cli::PatientsArgs),
    /// List, add, rename or remove wards
    Ward(cli::WardArgs),
    /// Add, rename or remove beds
    Bed(cli::BedArgs),
    /// Admit a patient to an empty bed
    Admit(cli::AdmitArgs),
    /// Move an admitted patient to an empty bed
    Transfer(cli::TransferArgs),
    /// Discharge a patient
    Discharge(cli::DischargeArgs),
    /// Show a patient, or edit the details
    Patient(cli::PatientArgs),
    /// Print a line for each update
    Watch(cli::WatchArgs),
    /// Save all data of a patient as files, with a page to read; or de-identified data
    Export(cli::ExportArgs),
    /// Write a synthetic ECG as CSV to standard output
    Sample(cli::SampleArgs),
    /// Send a recording or a simulated patient as live waveforms
    Stream(cli::StreamArgs),
    /// List, show, retry or drop dead-lettered messages
    DeadLetters(cli::DeadLettersArgs),
    /// Mark records as entered in error, move uploads, correct names, list corrections
    Correct(cli::CorrectArgs),
    /// Merge a patient into another one, or undo a merge
    Merge(cli::MergeArgs),
    /// Delete everything about a patient
    Erase(cli::EraseArgs),
    /// Remove old data by kind and age, and place legal holds
    Retention(cli::RetentionArgs),
    /// Analyse stored ECGs again with the current version of the analysis, and report what changed
    Reanalyse(cli::ReanalyseArgs),
    /// Check all stored data for damage
    Verify(cli::VerifyArgs),
    /// Copy the data directory; Bedside may be running
    Backup(cli::BackupArgs),
    /// Replace the data directory by a backup
    Restore(cli::RestoreArgs),
    /// Import patients from the database of the original server
    Import(cli::ImportArgs),
    /// Create and manage access tokens
    Token(cli::TokenArgs),
    /// Add and manage accounts of people
    User(cli::UserArgs),
    /// Create a certificate authority and a server certificate
    Cert(cli::CertArgs),
    /// Find the lines of a patient in the audit log
    Audit(cli::AuditArgs),
    /// Check whether a running Bedside is ready
    Healthcheck(cli::HealthcheckArgs),
}

fn main() -> ExitCode {
    let matches = Program::command().get_matches();
    let program = match Program::from_arg_matches(&matches) {
        Ok(program) => program,
        Err(error) => error.format(&mut Program::command()).exit(),
    };
    match program.command {
        None => {
            let log_is_default = matches.value_source("log") == Some(ValueSource::DefaultValue);
            runtime::run_main("bedside", serve::serve(program.serve, log_is_default))
        }
        Some(Command::Upload(args)) => cli::run(args.run()),
        Some(Command::Patients(args)) => cli::run(args.run()),
        Some(Command::Ward(args)) => cli::run(args.run()),
        Some(Command::Bed(args)) => cli::run(args.run()),
        Some(Command::Admit(args)) => cli::run(args.run()),
        Some(Command::Transfer(args)) => cli::run(args.run()),
        Some(Command::Discharge(args)) => cli::run(args.run()),
        Some(Command::Patient(args)) => cli::run(args.run()),
        Some(Command::Watch(args)) => cli::run(args.run()),
        Some(Command::Export(args)) => cli::run(args.run()),
        Some(Command::Sample(args)) => cli::run(args.run()),
        Some(Command::Stream(args)) => cli::run(args.run()),
        Some(Command::DeadLetters(args)) => cli::run(args.run()),
        Some(Command::Correct(args)) => cli::run(args.run()),
        Some(Command::Merge(args)) => cli::run(args.run()),
        Some(Command::Erase(args)) => cli::run(args.run()),
        Some(Command::Retention(args)) => cli::run(args.run()),
        Some(Command::Reanalyse(args)) => cli::run(args.run()),
        Some(Command::Verify(args)) => cli::run(args.run()),
        Some(Command::Backup(args)) => cli::run(args.run()),
        Some(Command::Restore(args)) => cli::run(args.run()),
        Some(Command::Import(args)) => cli::run(args.run()),
        Some(Command::Token(args)) => cli::run(args.run()),
        Some(Command::User(args)) => cli::run(args.run()),
        Some(Command::Cert(args)) => cli::run(args.run()),
        Some(Command::Audit(args)) => cli::run(args.run()),
        Some(Command::Healthcheck(args)) => cli::run(args.run()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_of_all_parts_are_compatible() {
        super::Program::command().debug_assert();
    }
}
