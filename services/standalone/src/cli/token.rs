//! `bedside token`: creates and manages access tokens.
//!
//! A token file has a line `name role sha256` for each token; `#` starts a comment. It contains no tokens,
//! only hashes. A running gateway reads the file again when it changes. Changes replace the file atomically
//! and keep all other lines.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use gateway::{Role, token_line};
use serde_json::json;

use super::error::{CliError, cannot_read, cannot_write};
use super::output::OutputArgs;

/// Create and manage access tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a token and the line for the gateway's token file
    #[command(
        after_help = "The first line of the output is the token, which is not stored anywhere. The second line is the line for the token file.

Examples:
  bedside token new bed-12 --role uploader
  bedside token new station-3 --role viewer --file tokens"
    )]
    New {
        /// Name of the client, for the audit log; no spaces
        name: String,
        /// Permissions of the client
        #[arg(long, value_enum)]
        role: Role,
        /// Add the line to this token file instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List names and roles in a token file
    List {
        #[command(flatten)]
        file: TokenFile,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Remove a token from a token file; open event streams of the client end
    Revoke {
        /// Name of the client
        name: String,
        #[command(flatten)]
        file: TokenFile,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Replace a token by a new one with the same name and role; the old token is rejected at once
    Rotate {
        /// Name of the client
        name: String,
        #[command(flatten)]
        file: TokenFile,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Debug, clap::Args)]
struct TokenFile {
    /// Token file of the gateway
    #[arg(long = "file", env = "BEDSIDE_TOKENS", value_name = "FILE")]
    path: PathBuf,
}

impl TokenArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::New { name, role, file, output } => create(&name, role, file.as_deref(), output),
            Command::List { file, output } => list(&file.path, output),
            Command::Revoke { name, file, output } => {
                edit(&file.path, &name, |_| Ok(None))?;
                output.print(format!("The token of {name} is revoked."), &json!({ "revoked": name }))
            }
            Command::Rotate { name, file, output } => {
                let token = generate()?;
                edit(&file.path, &name, |role| token_line(&name, role, &token).map(Some))?;
                output.print(&token, &json!({ "name": name, "token": token }))
            }
        }
    }
}

fn create(name: &str, role: Role, file: Option<&Path>, output: OutputArgs) -> Result<(), CliError> {
    let token = generate()?;
    let line = token_line(name, role, &token).map_err(CliError::usage)?;
    let value = json!({ "name": name, "role": role.name(), "token": token, "line": line });
    match file {
        Some(file) => {
            append(file, name, &line)?;
            output.print(&token, &value)
        }
        None => output.print(format!("{token}\n{line}"), &value),
    }
}

fn list(file: &Path, output: OutputArgs) -> Result<(), CliError> {
    let text = fs::read_to_string(file).map_err(cannot_read(file))?;
    for (number, line) in (1..).zip(text.lines()) {
        match entry(line) {
            Some((name, Some(role))) => {
                let value = json!({ "name": name, "role": role.name() });
                output.print(format!("{name:<32}  {}", role.name()), &value)?;
            }
            Some((name, None)) => eprintln!("line {number} ({name}) is invalid; the gateway skips it"),
            None => {}
        }
    }
    Ok(())
}

/// Returns name and role of a line, or `None` for an empty line or a comment. The role is `None` if the line
/// is invalid.
fn entry(line: &str) -> Option<(&str, Option<Role>)> {
    let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
    let name = words.next()?;
    let role = words.next().and_then(|role| Role::from_str(role, false).ok());
    // The hash.
    Some((name, role.filter(|_| words.next().is_some())))
}

/// Returns 256 random bits in hexadecimal digits. The prefix lets secret scanners recognise a token.
fn generate() -> Result<String, CliError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::failed(format!("the system provides no random numbers: {error}")))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("bedside_{hex}"))
}

/// Adds a line. Rejects a name that the file contains.
fn append(file: &Path, name: &str, line: &str) -> Result<(), CliError> {
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(cannot_read(file)(error)),
    };
    if before.lines().filter_map(entry).any(|(known, _)| known == name) {
        return Err(CliError::failed(format!(
            "{} already contains a token of {name}; revoke or rotate it, or choose another name",
            file.display()
        )));
    }
    let separator = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    set_private(&mut options);
    options.open(file).and_then(|mut file| writeln!(file, "{separator}{line}")).map_err(cannot_write(file))
}

/// Replaces or removes the line of a client. `change` receives its role and returns the new line.
fn edit(
    file: &Path,
    name: &str,
    change: impl Fn(Role) -> Result<Option<String>, String>,
) -> Result<(), CliError> {
    let text = fs::read_to_string(file).map_err(cannot_read(file))?;
    let mut found = false;
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let new = match entry(line) {
            Some((known, role)) if known == name => {
                found = true;
                // An invalid line has no role. It can be removed, but not replaced.
                role.map_or(Ok(None), &change).map_err(CliError::failed)?
            }
            _ => Some(line.to_owned()),
        };
        if let Some(new) = new {
            lines.push_str(&new);
            lines.push('\n');
        }
    }
    if !found {
        return Err(CliError::failed(format!("{} contains no token of {name}", file.display())));
    }
    replace(file, &lines).map_err(cannot_write(file))
}

/// Replaces the content of a file atomically. The mode stays.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let file = fs::canonicalize(file)?;
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    set_private(&mut options);
    let mut written = options.open(&part)?;
    written.write_all(text.as_bytes())?;
    written.set_permissions(fs::metadata(&file)?.permissions())?;
    written.sync_all()?;
    fs::rename(part, file)
}

fn set_private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_keep_all_other_lines() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        fs::write(&file, "# ward 3\nbed-1 uploader aa # old\nbed-10 viewer bb\nbed-2 root cc").unwrap();
        edit(&file, "bed-1", |role| Ok(Some(format!("bed-1 {} dd", role.name())))).unwrap();
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            "# ward 3\nbed-1 uploader dd\nbed-10 viewer bb\nbed-2 root cc\n"
        );
        for name in ["bed-1", "bed-2"] {
            edit(&file, name, |_| Ok(None)).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "# ward 3\nbed-10 viewer bb\n");
        assert!(edit(&file, "bed-3", |_| Ok(None)).is_err());
        assert!(append(&file, "bed-10", "bed-10 viewer ee").is_err());
    }
}
