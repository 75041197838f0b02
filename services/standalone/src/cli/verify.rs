//! `bedside verify`: compares all stored data with its checksums and hashes.

use std::path::Path;

use serde_json::json;
use store::sqlite::Verifier;
use store::{ScrubPosition, ScrubStep, StoreError};

use super::error::CliError;
use super::output::OutputArgs;
use super::progress::item_bar;
use crate::data_dir::{self, DataArgs};

/// Number of records per step.
const STEP: usize = 1_000;

/// Check all stored data for damage.
///
/// Compares every record with its checksum and every file with its hash, and checks pages and indexes.
/// Changes nothing; Bedside may be running. Prints a line for each damaged item. The exit code is 0 without
/// damage, otherwise 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "The server never returns damaged data. To recover it, restore a backup.

Example:
  bedside verify --data /srv/bedside")]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Check the MongoDB database of the full stack instead of a data directory
    #[cfg(feature = "full-stack")]
    #[arg(long, conflicts_with = "data")]
    full_stack: bool,
    #[cfg(feature = "full-stack")]
    #[command(flatten)]
    mongo: runtime::MongoArgs,
}

impl VerifyArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let output = self.output;
        #[cfg(feature = "full-stack")]
        if self.full_stack {
            use store::Maintenance;
            let store = self.mongo.connect().await?;
            let total = store.scrub_total().await.map_err(CliError::failed)?;
            let step = async |from| store.scrub(from, STEP).await;
            return conclude(check_store(total, step, output).await?, output);
        }
        conclude(check_directory(&self.data.path()?, output).await?, output)
    }
}

/// Numbers of checked and damaged records and files.
struct Counts {
    checked: u64,
    damaged: u64,
}

/// Checks the two files of a data directory. Prints damaged items.
async fn check_directory(data: &Path, output: OutputArgs) -> Result<Counts, CliError> {
    if !data.join(data_dir::PATIENTS).is_file() {
        return Err(CliError::failed(format!(
            "there is no data in {}; set its directory with --data",
            data.display()
        )));
    }
    let mut counts = Counts { checked: 0, damaged: 0 };
    let queues = data.join(data_dir::QUEUES);
    if queues.is_file() {
        let checked = tokio::task::spawn_blocking(move || bus::local::verify(&queues)).await;
        let checked = checked.map_err(CliError::failed)?.map_err(CliError::failed)?;
        checked.damaged.iter().try_for_each(|item| print_damaged(item, output))?;
        counts = Counts { checked: checked.checked, damaged: checked.damaged.len() as u64 };
    }
    let patients = Verifier::open(&data.join(data_dir::PATIENTS)).map_err(CliError::failed)?;
    let total = patients.total().await.map_err(CliError::failed)?;
    let store = check_store(total, async |from| patients.scrub(from, STEP).await, output).await?;
    Ok(Counts { checked: counts.checked + store.checked, damaged: counts.damaged + store.damaged })
}

/// Checks a store step by step. Prints damaged items.
async fn check_store(
    total: u64,
    step: impl AsyncFn(Option<ScrubPosition>) -> Result<ScrubStep, StoreError>,
    output: OutputArgs,
) -> Result<Counts, CliError> {
    let mut counts = Counts { checked: 0, damaged: 0 };
    let bar = item_bar(total, "records and files");
    let mut position = None;
    loop {
        let ScrubStep { checked, damaged, next } = step(position).await.map_err(CliError::failed)?;
        counts.checked += checked;
        counts.damaged += damaged.len() as u64;
        bar.suspend(|| damaged.iter().try_for_each(|item| print_damaged(item, output)))?;
        bar.set_position(counts.checked);
        position = next;
        if position.is_none() {
            bar.finish_and_clear();
            return Ok(counts);
        }
    }
}

fn print_damaged(item: &str, output: OutputArgs) -> Result<(), CliError> {
    output.print(item, &json!({ "damaged": item }))
}

fn conclude(Counts { checked, damaged }: Counts, output: OutputArgs) -> Result<(), CliError> {
    let text = format!("{checked} records and files are intact.");
    let summary = json!({ "checked_count": checked, "damaged_count": damaged });
    if damaged == 0 {
        return output.print(text, &summary);
    }
    if output.is_json() {
        output.print("", &summary)?;
    }
    Err(CliError::failed(format!(
        "damage found: {damaged} of {checked} records and files; see the lines above"
    )))
}
