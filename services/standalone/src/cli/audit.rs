//! `bedside audit`: lists and verifies the audit, and computes the pseudonyms of the audit log.

use std::path::{Path, PathBuf};

use proto_json::audit::{AuditEntry, AuditHead, AuditVerdict};
use proto_json::{Mrn, Timestamp};
use runtime::Secret;
use serde_json::json;
use store::sqlite::AuditFile;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::format;
use super::output::OutputArgs;
use crate::data_dir::{self, DataArgs};

/// Entries of one request.
const PAGE: u32 = 500;

/// List accesses and changes, newest first; verify the audit.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(
    after_help = "The audit is a chain: an entry that is changed, removed or inserted is found by `bedside audit verify`.

Examples:
  bedside audit --mrn 7
  bedside audit --client ward-nurse --limit 20 --json
  bedside audit verify --anchor 1200:9f2c…"
)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only entries about this patient
    #[arg(long, value_name = "MRN")]
    mrn: Option<Mrn>,
    /// Only entries of this user or client
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Maximum number of entries
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check that no entry was changed, removed or inserted
    ///
    /// Prints the number and the hash of the last entry. Keep them elsewhere: with --anchor, a later check also finds entries
    /// that were removed at the end, and a chain that was written anew. The exit code is 0 if the chain is intact, otherwise 1.
    Verify {
        /// An earlier last entry: its number, a colon, and its hash
        #[arg(long, value_name = "NUMBER:HASH")]
        anchor: Option<AuditHead>,
        /// Check the audit in this data directory, without a server
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Print the pseudonyms of patients in the audit log
    #[command(after_help = "Example:
  grep $(bedside audit pseudonym 7) ~/.local/share/bedside/audit.log")]
    Pseudonym(Pseudonym),
}

#[derive(Debug, clap::Args)]
struct Pseudonym {
    /// Medical record numbers
    #[arg(value_name = "MRN", required = true)]
    mrns: Vec<Mrn>,
    /// File of the gateway's secret; default: `key` in the data directory
    #[arg(long, env = "BEDSIDE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            None => self.list().await,
            Some(Command::Verify { anchor, directory, output, gateway }) => {
                let verdict = match directory {
                    Some(data) => verify_directory(&data, anchor)?,
                    None => gateway.connect()?.verify_audit(anchor).await?,
                };
                conclude(&verdict, output)
            }
            Some(Command::Pseudonym(pseudonym)) => pseudonym.run(),
        }
    }

    async fn list(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let mut left = self.limit;
        let mut before = None;
        let mut is_empty = true;
        let now = Timestamp::now();
        while left > 0 {
            let limit = PAGE.min(u32::try_from(left).unwrap_or(PAGE));
            let page = gateway.audit(self.mrn, self.client.as_deref(), before, limit).await?;
            if is_empty && !page.items.is_empty() {
                let header = line("NUMBER", "AGE", "STATUS", "CLIENT", "ROLE", "PATIENT", "REQUEST");
                self.output.print_text(header)?;
                is_empty = false;
            }
            for entry in &page.items {
                self.output.print(of(entry, now), entry)?;
            }
            left = left.saturating_sub(page.items.len() as u64);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        if is_empty { self.output.print_text("No entries.") } else { Ok(()) }
    }
}

fn of(entry: &AuditEntry, now: Timestamp) -> String {
    let event = &entry.event;
    line(
        &entry.number.to_string(),
        &format::age(event.at, now),
        &event.status.to_string(),
        &format::plain(&event.client),
        &event.role,
        &event.mrn.map(|mrn| mrn.to_string()).unwrap_or_default(),
        &format!("{} {}", event.method, event.route),
    )
}

fn line(
    number: &str,
    age: &str,
    status: &str,
    client: &str,
    role: &str,
    patient: &str,
    request: &str,
) -> String {
    format!("{number:>9}  {age:>7}  {status:>6}  {client:<16}  {role:<10}  {patient:>16}  {request}")
}

fn verify_directory(data: &Path, anchor: Option<AuditHead>) -> Result<AuditVerdict, CliError> {
    let file = data.join(data_dir::AUDIT);
    if !file.is_file() {
        return Err(CliError::failed(format!("there is no audit in {}", data.display())));
    }
    AuditFile::verify(&file, anchor).map_err(CliError::failed)
}

fn conclude(verdict: &AuditVerdict, output: OutputArgs) -> Result<(), CliError> {
    if let Some(defect) = &verdict.defect {
        if output.is_json() {
            output.print("", verdict)?;
        }
        return Err(CliError::failed(format!("the audit is not intact: {defect}")));
    }
    let text = match verdict.head {
        Some(head) => format!("{} entries are intact. Last entry: {head}", verdict.verified),
        None => "The audit is empty.".to_owned(),
    };
    output.print(text, verdict)
}

impl Pseudonym {
    fn run(self) -> Result<(), CliError> {
        let file = match self.key_file {
            Some(file) => file,
            None => self.data.path()?.join(data_dir::KEY),
        };
        let key = Secret::read(&file)?;
        self.mrns.into_iter().try_for_each(|mrn| {
            let pseudonym = gateway::pseudonym(&key, mrn);
            self.output.print(&pseudonym, &json!({ "mrn": mrn, "pseudonym": pseudonym }))
        })
    }
}
