//! `bedside backup`: a copy of the data folder, while Bedside runs on it.

use std::fs;
use std::path::PathBuf;

use store::sqlite::snapshot;

use super::{CliError, say};
use crate::folder;

/// Copy the data folder, while Bedside runs on it or not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The copy is a data folder itself. To restore, end Bedside, and start it with --data on the copy or on a folder with its files.

Example:
  bedside backup --to /backups/2026-03-14"
)]
pub(crate) struct BackupArgs {
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for the copy; made if need be, and empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// The order matters: an upload leaves the queues only when it is stored. So one that has left them in the copy is among the
/// patients in the copy; one that is in both is stored once all the same when the copy is started.
const FILES: [&str; 2] = [folder::QUEUES, folder::PATIENTS];

impl BackupArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let data =
            self.data.map_or_else(folder::default, Ok).map_err(|error| CliError::told(error.to_string()))?;
        if !data.join(folder::PATIENTS).is_file() {
            return Err(CliError::told(format!(
                "there is no data in {}; name its folder with --data",
                data.display()
            )));
        }
        let cannot =
            |error: std::io::Error| CliError::told(format!("{} cannot be used: {error}", self.to.display()));
        folder::make(&self.to).map_err(cannot)?;
        if fs::read_dir(&self.to).map_err(cannot)?.next().is_some() {
            return Err(CliError::told(format!("{} is not empty; choose another folder", self.to.display())));
        }
        for name in FILES {
            snapshot(&data.join(name), &self.to.join(name))
                .map_err(|error| CliError::told(error.to_string()))?;
        }
        let key = data.join(folder::KEY);
        if key.is_file() {
            // With it, uploads that clients send again to the copy have the ids that they had.
            fs::copy(&key, self.to.join(folder::KEY)).map_err(cannot)?;
        }
        say(format!("{} is copied to {}.", data.display(), self.to.display()))
    }
}
