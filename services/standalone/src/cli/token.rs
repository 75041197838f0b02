//! `bedside token`: makes access tokens.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gateway::{Role, token_line};

use super::{CliError, say};

/// Make access tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token, and the line for the gateway's file of tokens
    #[command(
        after_help = "The first line printed is the token, which is stored nowhere; the second is the line for the file of tokens.

Examples:
  bedside token new bed-12 --role uploader
  bedside token new station-3 --role viewer --file tokens"
    )]
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Name of the holder, for the audit log; no blanks
    name: String,
    /// What the holder may do
    #[arg(long, value_enum)]
    role: Role,
    /// Add the line to this file of tokens instead of printing it; a running gateway notices
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl TokenArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let Command::New(New { name, role, file }) = self.command;
        let token = generate()?;
        let line = token_line(&name, role, &token).map_err(CliError::told)?;
        match file {
            Some(file) => {
                append(&file, &name, &line)?;
                say(token)
            }
            None => {
                say(token)?;
                say(line)
            }
        }
    }
}

/// 256 random bits. The prefix lets scanners of leaked secrets recognise it.
fn generate() -> Result<String, CliError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::told(format!("the system gives no random numbers: {error}")))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("bedside_{hex}"))
}

fn append(file: &Path, name: &str, line: &str) -> Result<(), CliError> {
    let cannot =
        |error: io::Error| CliError::told(format!("the line cannot be added to {}: {error}", file.display()));
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot(error)),
    };
    if before.lines().any(|line| line.split_whitespace().next() == Some(name)) {
        return Err(CliError::told(format!(
            "{} has a token of {name} already; take that line out first, or choose another name",
            file.display()
        )));
    }
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    options.open(file).and_then(|mut file| writeln!(file, "{separator}{line}")).map_err(cannot)
}
