//! `bedside retention`: removes old data by kind and age, and places legal holds.

use client::Gateway;
use proto_json::{Mrn, RetentionBody, RetentionKind, RetentionReport, Timestamp};
use serde_json::json;

use super::connection::GatewayArgs;
use super::correct::confirm;
use super::error::CliError;
use super::output::OutputArgs;

/// Remove old data of one kind, or protect a patient from that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside retention apply --kind images --older-than-days 3650 --dry-run
  bedside retention apply --kind images --older-than-days 3650
  bedside retention hold 7 --reason \"case 12/2026\"
  bedside retention release 7

Requires the admin role. Patients with a legal hold are left out, and cannot be erased.")]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: Command,
}

/// Kinds of data.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    HeartRates,
    Ecgs,
    Images,
    Waveforms,
    Alarms,
    Admissions,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::HeartRates => "heart rates",
            Kind::Ecgs => "ECGs",
            Kind::Images => "images",
            Kind::Waveforms => "parts of waveforms",
            Kind::Alarms => "alarms",
            Kind::Admissions => "stays in beds",
        }
    }
}

impl From<Kind> for RetentionKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::HeartRates => RetentionKind::HeartRates,
            Kind::Ecgs => RetentionKind::Ecgs,
            Kind::Images => RetentionKind::Images,
            Kind::Waveforms => RetentionKind::Waveforms,
            Kind::Alarms => RetentionKind::Alarms,
            Kind::Admissions => RetentionKind::Admissions,
        }
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Remove data of one kind that are older than a number of days
    Apply {
        /// Kind of data
        #[arg(long, value_enum)]
        kind: Kind,
        /// Age in days, by time of recording, or of receipt if that is unknown
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        older_than_days: u32,
        /// Only count what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Do not ask for a confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Protect a patient from erasure and retention
    Hold {
        /// Number of the patient
        mrn: Mrn,
        /// Why, in one sentence
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// End the protection of a patient
    Release {
        /// Number of the patient
        mrn: Mrn,
        /// Why, in one sentence
        #[arg(long, value_name = "TEXT", default_value = "The hold has ended.")]
        reason: String,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

const DAY_MS: i64 = 86_400_000;

impl RetentionArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Apply { kind, older_than_days, dry_run, yes, output, gateway } => {
                let gateway = gateway.connect()?;
                // The server's clock decides about ages.
                gateway.check(std::time::Duration::from_secs(10)).await?;
                let before = gateway.now().plus_millis(-i64::from(older_than_days) * DAY_MS);
                let what = format!("{} older than {older_than_days} days", kind.name());
                if !dry_run {
                    confirm(&format!("All {what} will be removed for ever."), yes)?;
                }
                let report = apply(&gateway, kind.into(), before, dry_run).await?;
                let RetentionReport { records, patients, held, .. } = report;
                let verb = if dry_run { "would be removed" } else { "were removed" };
                let text = format!(
                    "{records} {what} of {patients} patients {verb}; {held} patients are left out by a legal hold."
                );
                let value = json!({
                    "records": records, "patients": patients, "held": held, "before": before, "dry_run": dry_run
                });
                output.print(text, &value)
            }
            Command::Hold { mrn, reason, output, gateway } => {
                let done = gateway.connect()?.hold(mrn, true, &reason).await?;
                output.print(format!("A legal hold protects patient {mrn}."), &done)
            }
            Command::Release { mrn, reason, output, gateway } => {
                let done = gateway.connect()?.hold(mrn, false, &reason).await?;
                output.print(format!("The legal hold of patient {mrn} has ended."), &done)
            }
        }
    }
}

/// Applies the rule to all patients, some at a time.
async fn apply(
    gateway: &Gateway,
    kind: RetentionKind,
    before: Timestamp,
    dry_run: bool,
) -> Result<RetentionReport, CliError> {
    let mut total = RetentionReport { records: 0, patients: 0, held: 0, next: None };
    let mut after = None;
    loop {
        let report = gateway.retain(&RetentionBody { kind, before, dry_run, after }).await?;
        total.records += report.records;
        total.patients += report.patients;
        total.held += report.held;
        match report.next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(total),
        }
    }
}
