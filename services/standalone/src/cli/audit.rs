//! `bedside audit`: what helps to read the audit log.

use std::path::PathBuf;

use proto_json::Mrn;
use runtime::Secret;

use super::{CliError, say};
use crate::folder;

/// Read the audit log.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the pseudonyms by which the audit log names patients
    #[command(after_help = "Example:
  grep $(bedside audit pseudonym 7) ~/.local/share/bedside/audit.log")]
    Pseudonym(Pseudonym),
}

#[derive(Debug, clap::Args)]
struct Pseudonym {
    /// Record numbers
    #[arg(value_name = "MRN", required = true)]
    mrns: Vec<Mrn>,
    /// File of the gateways' secret; by default `key` in the data folder
    #[arg(long, env = "BEDSIDE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let Command::Pseudonym(Pseudonym { mrns, key_file, data }) = self.command;
        let told = |error: runtime::StartError| CliError::told(error.to_string());
        let file = match key_file {
            Some(file) => file,
            None => data.map_or_else(folder::default, Ok).map_err(told)?.join(folder::KEY),
        };
        let key = Secret::read(&file).map_err(told)?;
        mrns.into_iter().try_for_each(|mrn| say(gateway::pseudonym(&key, mrn)))
    }
}
