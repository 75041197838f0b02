//! `bedside audit`: computes the pseudonyms of the audit log.

use std::path::PathBuf;

use proto_json::Mrn;
use runtime::Secret;
use serde_json::json;

use super::error::CliError;
use super::output::OutputArgs;
use crate::data_dir::{self, DataArgs};

/// Read the audit log.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
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
        let Command::Pseudonym(Pseudonym { mrns, key_file, data, output }) = self.command;
        let file = match key_file {
            Some(file) => file,
            None => data.path()?.join(data_dir::KEY),
        };
        let key = Secret::read(&file)?;
        mrns.into_iter().try_for_each(|mrn| {
            let pseudonym = gateway::pseudonym(&key, mrn);
            output.print(&pseudonym, &json!({ "mrn": mrn, "pseudonym": pseudonym }))
        })
    }
}
