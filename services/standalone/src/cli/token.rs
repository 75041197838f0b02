//! `bedside token`: creates and manages access tokens.
//!
//! A token file has a line `name role sha256 [expiry] [ward=id …] [bed=id]` for each token; `#` starts a comment. It contains no
//! tokens, only hashes. A running gateway reads the file again when it changes. Changes replace the file
//! atomically and keep all other lines.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gateway::{Role, TokenEntry, TokenLimits, token_line};
use proto_json::{BedId, Timestamp, WardId};
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
  bedside token new station-3 --role viewer --days 90 --file tokens
  bedside token new monitor-12 --role device --bed 0198c0de-0000-7000-8000-000000000012"
    )]
    New {
        /// Name of the client, for the audit log; no spaces
        name: String,
        /// Permissions of the client
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        expiry: Expiry,
        /// Id of a ward whose patients are accessible; repeatable. Without it, all wards
        #[arg(long = "ward", value_name = "ID")]
        wards: Vec<WardId>,
        /// Id of the bed that the token is bound to: it writes only to the patient in this bed
        #[arg(long, value_name = "ID")]
        bed: Option<BedId>,
        /// Add the line to this token file instead of printing it
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// List names, roles and expiry times in a token file
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
    /// Replace a token by a new one with the same name, role and expiry; the old token is rejected
    Rotate {
        /// Name of the client
        name: String,
        #[command(flatten)]
        expiry: Expiry,
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

#[derive(Debug, clap::Args)]
struct Expiry {
    /// Days until the token expires
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
}

impl Expiry {
    /// Returns the expiry time, if one is set.
    fn time(&self) -> Option<Timestamp> {
        self.days.map(|days| Timestamp::now().plus_millis(i64::from(days) * 86_400_000))
    }
}

impl TokenArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::New { name, role, expiry, wards, bed, file, output } => {
                let limits = TokenLimits { expires: expiry.time(), wards, bed };
                create(&name, role, &limits, file.as_deref(), output)
            }
            Command::List { file, output } => list(&file.path, output),
            Command::Revoke { name, file, output } => {
                edit(&file.path, &name, |_| Ok(None))?;
                output.print(format!("The token of {name} is revoked."), &json!({ "revoked": name }))
            }
            Command::Rotate { name, expiry, file, output } => {
                let token = generate()?;
                let new_expiry = expiry.time();
                edit(&file.path, &name, |entry| {
                    let expires = new_expiry.or(entry.limits.expires);
                    token_line(&name, entry.role, &token, &TokenLimits { expires, ..entry.limits }).map(Some)
                })?;
                output.print(&token, &json!({ "name": name, "token": token }))
            }
        }
    }
}

fn create(
    name: &str,
    role: Role,
    limits: &TokenLimits,
    file: Option<&Path>,
    output: OutputArgs,
) -> Result<(), CliError> {
    let token = generate()?;
    let line = token_line(name, role, &token, limits).map_err(CliError::usage)?;
    let value = json!({
        "name": name, "role": role.name(), "expires": limits.expires, "wards": limits.wards, "bed": limits.bed,
        "token": token, "line": line
    });
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
    let now = Timestamp::now();
    for (number, line) in (1..).zip(text.lines()) {
        match (name(line), TokenEntry::parse(line)) {
            (_, Some(TokenEntry { name, role, limits })) => {
                let TokenLimits { expires, wards, bed } = limits;
                let mut expiry = match expires {
                    None => "does not expire".to_owned(),
                    Some(at) if at <= now => format!("expired {}", at.local_seconds()),
                    Some(at) => format!("expires {}", at.local_seconds()),
                };
                for ward in &wards {
                    expiry.push_str(&format!("  ward {ward}"));
                }
                if let Some(bed) = bed {
                    expiry.push_str(&format!("  bed {bed}"));
                }
                let value = json!({
                    "name": name, "role": role.name(), "expires": expires, "wards": wards, "bed": bed
                });
                output.print(format!("{name:<32}  {:<10}  {expiry}", role.name()), &value)?;
            }
            (Some(name), None) => eprintln!("line {number} ({name}) is invalid; the gateway skips it"),
            (None, None) => {}
        }
    }
    Ok(())
}

/// Returns the name in a line, or `None` for an empty line or a comment. The rest of the line may be invalid.
fn name(line: &str) -> Option<&str> {
    line.split('#').next().unwrap_or_default().split_whitespace().next()
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
    if before.lines().filter_map(self::name).any(|known| known == name) {
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

/// Replaces or removes the line of a client. `change` receives the old entry and returns the new line.
fn edit(
    file: &Path,
    name: &str,
    change: impl Fn(TokenEntry) -> Result<Option<String>, String>,
) -> Result<(), CliError> {
    let text = fs::read_to_string(file).map_err(cannot_read(file))?;
    let mut found = false;
    let mut lines = String::with_capacity(text.len());
    for line in text.lines() {
        let new = if self::name(line) == Some(name) {
            found = true;
            // An invalid line gives no access. It is removed.
            TokenEntry::parse(line).map_or(Ok(None), &change).map_err(CliError::failed)?
        } else {
            Some(line.to_owned())
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
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let (one, ten) = (format!("bed-1 uploader {hash} # old"), format!("bed-10 viewer {hash}"));
        fs::write(&file, format!("# ward 3\n{one}\n{ten}\nbed-2 root {hash}")).unwrap();
        edit(&file, "bed-1", |entry| Ok(Some(format!("bed-1 {}", entry.role.name())))).unwrap();
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("# ward 3\nbed-1 uploader\n{ten}\nbed-2 root {hash}\n")
        );
        for name in ["bed-1", "bed-2"] {
            edit(&file, name, |_| Ok(None)).unwrap();
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("# ward 3\n{ten}\n"));
        assert!(edit(&file, "bed-3", |_| Ok(None)).is_err());
        assert!(append(&file, "bed-10", "bed-10 viewer ee").is_err());
    }
}
