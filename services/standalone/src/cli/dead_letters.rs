//! `bedside dead-letters`: what was given up, why, and what to do with it.

use client::Gateway;
use proto_json::{DeadLetterSummary, Timestamp};

use super::{CliError, GatewayArgs, say, say_json, words};

/// Entries fetched at a time.
const PAGE: u32 = 200;

/// See what was given up, why, and send it again or drop it.
#[derive(Debug, clap::Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A line for each, oldest first
    List {
        /// A JSON object per line instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// One of them with its message, as JSON
    Show {
        /// Its number
        id: u64,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Put them back on their queues, with all attempts ahead of them
    Retry {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
    /// Forget them: what they say is then lost
    Drop {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        gateway: GatewayArgs,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Their numbers
    ids: Vec<u64>,
    /// All that are there now
    #[arg(long)]
    all: bool,
}

impl DeadLettersArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::List { json, gateway } => list(&gateway.connect()?, json).await,
            Command::Show { id, gateway } => match gateway.connect()?.dead_letter(id).await? {
                Some(letter) => say_json(&letter),
                None => Err(none(id)),
            },
            Command::Retry { which, gateway } => {
                let gateway = gateway.connect()?;
                for id in which.ids(&gateway).await? {
                    if !gateway.retry_dead_letter(id).await? {
                        return Err(none(id));
                    }
                    say(format!("{id} is on its queue again"))?;
                }
                Ok(())
            }
            Command::Drop { which, gateway } => {
                let gateway = gateway.connect()?;
                for id in which.ids(&gateway).await? {
                    if !gateway.drop_dead_letter(id).await? {
                        return Err(none(id));
                    }
                    say(format!("{id} is dropped"))?;
                }
                Ok(())
            }
        }
    }
}

impl Which {
    async fn ids(self, gateway: &Gateway) -> Result<Vec<u64>, CliError> {
        if !self.all {
            return Ok(self.ids);
        }
        Ok(all(gateway).await?.iter().map(|letter| letter.id).collect())
    }
}

/// All that are there now: what dies again while they are dealt with is not among them.
async fn all(gateway: &Gateway) -> Result<Vec<DeadLetterSummary>, CliError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = gateway.dead_letters(after, Some(PAGE)).await?;
        all.extend(page.items);
        match page.next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(all),
        }
    }
}

async fn list(gateway: &Gateway, json: bool) -> Result<(), CliError> {
    let letters = all(gateway).await?;
    if json {
        return letters.iter().try_for_each(say_json);
    }
    if letters.is_empty() {
        return say("No dead letters.");
    }
    say(line("NUMBER", "QUEUE", "MRN", "TRIED", "AGE", "REASON"))?;
    let now = Timestamp::now();
    for letter in &letters {
        say(line(
            &letter.id.to_string(),
            letter.queue.name(),
            &letter.mrn.to_string(),
            &letter.attempts.to_string(),
            &words::age(letter.died_at, now),
            &words::plain(&letter.reason),
        ))?;
    }
    Ok(())
}

fn line(id: &str, queue: &str, mrn: &str, tried: &str, age: &str, reason: &str) -> String {
    format!("{id:>8}  {queue:<11}  {mrn:>16}  {tried:>5}  {age:>7}  {reason}")
}

fn none(id: u64) -> CliError {
    CliError::told(format!("there is no dead letter {id} (any more)"))
}
