//! `bedside dead-letters`: lists, shows, retries and drops dead-lettered messages.

use client::Gateway;
use proto_json::{DeadLetterSummary, Timestamp};
use serde_json::json;

use super::connection::{GatewayArgs, PAGE_SIZE};
use super::error::CliError;
use super::format;
use super::output::{OutputArgs, print_json};

/// List, show, retry or drop dead-lettered messages.
#[derive(Debug, clap::Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a line for each dead letter, oldest first
    List {
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Print a dead letter with its message, always as JSON
    Show {
        /// Number of the dead letter
        id: u64,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Put dead letters back on their queues, with all attempts left
    Retry {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Delete dead letters; their content is lost
    Drop {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        output: OutputArgs,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Selection {
    /// Numbers of the dead letters
    ids: Vec<u64>,
    /// All current dead letters
    #[arg(long)]
    all: bool,
}

impl DeadLettersArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::List { output, gateway } => list(&gateway.connect()?, output).await,
            Command::Show { id, output: _, gateway } => match gateway.connect()?.dead_letter(id).await? {
                Some(letter) => print_json(&letter),
                None => Err(missing(id)),
            },
            Command::Retry { selection, output, gateway } => {
                let gateway = gateway.connect()?;
                for id in selection.ids(&gateway).await? {
                    if !gateway.retry_dead_letter(id).await? {
                        return Err(missing(id));
                    }
                    output.print(
                        format!("{id} is on its queue again"),
                        &json!({ "id": id, "action": "retried" }),
                    )?;
                }
                Ok(())
            }
            Command::Drop { selection, output, gateway } => {
                let gateway = gateway.connect()?;
                for id in selection.ids(&gateway).await? {
                    if !gateway.drop_dead_letter(id).await? {
                        return Err(missing(id));
                    }
                    output.print(format!("{id} is dropped"), &json!({ "id": id, "action": "dropped" }))?;
                }
                Ok(())
            }
        }
    }
}

impl Selection {
    async fn ids(self, gateway: &Gateway) -> Result<Vec<u64>, CliError> {
        if !self.all {
            return Ok(self.ids);
        }
        Ok(all(gateway).await?.iter().map(|letter| letter.id).collect())
    }
}

/// Fetches all dead letters before the first is processed, so that a message that fails again is not
/// processed twice.
async fn all(gateway: &Gateway) -> Result<Vec<DeadLetterSummary>, CliError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = gateway.dead_letters(after, Some(PAGE_SIZE)).await?;
        all.extend(page.items);
        match page.next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(all),
        }
    }
}

async fn list(gateway: &Gateway, output: OutputArgs) -> Result<(), CliError> {
    let letters = all(gateway).await?;
    if letters.is_empty() {
        return output.print_text("No dead letters.");
    }
    output.print_text(line("NUMBER", "QUEUE", "MRN", "TRIED", "AGE", "REASON"))?;
    let now = Timestamp::now();
    for letter in &letters {
        let text = line(
            &letter.id.to_string(),
            letter.queue.name(),
            &letter.mrn.to_string(),
            &letter.attempts.to_string(),
            &format::age(letter.died_at, now),
            &format::plain(&letter.reason),
        );
        output.print(text, letter)?;
    }
    Ok(())
}

fn line(id: &str, queue: &str, mrn: &str, tried: &str, age: &str, reason: &str) -> String {
    format!("{id:>8}  {queue:<11}  {mrn:>16}  {tried:>5}  {age:>7}  {reason}")
}

fn missing(id: u64) -> CliError {
    CliError::failed(format!("there is no dead letter {id}"))
}
