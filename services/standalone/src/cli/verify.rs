//! `bedside verify`: everything that is stored is compared with its checksums and hashes.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use store::sqlite::Verifier;
use store::{ScrubPosition, ScrubStep, StoreError};

use super::{CliError, say};
use crate::folder;

/// Records that are checked between two looks at the clock.
const STEP: usize = 1_000;

/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Check everything that is stored for damage.
///
/// Every record is compared with its checksum and every file with its hash; pages and indexes are checked, too. Nothing is
/// changed, and Bedside may run meanwhile. Prints a line for each thing that is damaged. The exit code is 0 if nothing is, and
/// 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "What is damaged is in no answer of the server. To get it back, restore a backup.

Example:
  bedside verify --data /srv/bedside")]
pub(crate) struct VerifyArgs {
    /// Folder of all data; by default `bedside` in the user's data folder
    #[arg(long, env = "BEDSIDE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Check the MongoDB database of the full stack instead of a data folder
    #[cfg(feature = "full-stack")]
    #[arg(long, conflicts_with = "data")]
    full_stack: bool,
    #[cfg(feature = "full-stack")]
    #[command(flatten)]
    mongo: runtime::MongoArgs,
}

impl VerifyArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        #[cfg(feature = "full-stack")]
        if self.full_stack {
            use store::Maintenance;
            let store = self.mongo.connect().await.map_err(|error| CliError::told(error.to_string()))?;
            let total = store.scrub_total().await.map_err(failed)?;
            return conclude(check_store(total, async |from| store.scrub(from, STEP).await).await?);
        }
        let data =
            self.data.map_or_else(folder::default, Ok).map_err(|error| CliError::told(error.to_string()))?;
        let found = check_folder(&data).await?;
        conclude(found)
    }
}

/// What was checked, and how much of it is damaged.
struct Found {
    checked: u64,
    damaged: u64,
}

/// Checks the two files of a data folder. Prints what is damaged.
async fn check_folder(data: &Path) -> Result<Found, CliError> {
    if !data.join(folder::PATIENTS).is_file() {
        return Err(CliError::told(format!(
            "there is no data in {}; name its folder with --data",
            data.display()
        )));
    }
    let mut found = Found { checked: 0, damaged: 0 };
    let queues = data.join(folder::QUEUES);
    if queues.is_file() {
        let checked = tokio::task::spawn_blocking(move || bus::local::verify(&queues)).await;
        let checked = checked.map_err(|error| CliError::told(error.to_string()))?;
        let checked = checked.map_err(|error| CliError::told(error.to_string()))?;
        checked.damaged.iter().try_for_each(say)?;
        found = Found { checked: checked.checked, damaged: checked.damaged.len() as u64 };
    }
    let patients = Verifier::open(&data.join(folder::PATIENTS)).map_err(failed)?;
    let total = patients.total().await.map_err(failed)?;
    let store = check_store(total, async |from| patients.scrub(from, STEP).await).await?;
    Ok(Found { checked: found.checked + store.checked, damaged: found.damaged + store.damaged })
}

/// Checks a store step by step. Prints what is damaged, and progress where somebody watches.
async fn check_store(
    total: u64,
    step: impl AsyncFn(Option<ScrubPosition>) -> Result<ScrubStep, StoreError>,
) -> Result<Found, CliError> {
    let mut found = Found { checked: 0, damaged: 0 };
    let (mut position, mut shown) = (None, Instant::now());
    let watched = io::stderr().is_terminal();
    loop {
        let ScrubStep { checked, damaged, next } = step(position).await.map_err(failed)?;
        found.checked += checked;
        found.damaged += damaged.len() as u64;
        damaged.iter().try_for_each(say)?;
        if watched && shown.elapsed() >= PROGRESS_EVERY {
            shown = Instant::now();
            eprintln!("{} of about {total} records and files checked", found.checked);
        }
        position = next;
        if position.is_none() {
            return Ok(found);
        }
    }
}

fn failed(error: StoreError) -> CliError {
    CliError::told(error.to_string())
}

fn conclude(Found { checked, damaged }: Found) -> Result<(), CliError> {
    if damaged == 0 {
        return say(format!("{checked} records and files are intact."));
    }
    Err(CliError::told(format!(
        "damage was found: {damaged} of the lines above, in {checked} records and files"
    )))
}
