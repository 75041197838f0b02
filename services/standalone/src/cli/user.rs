//! `bedside user`: accounts of people.
//!
//! The commands talk to a running Bedside as an administrator. With `--data`, they change the data directory of one that is not
//! running: that is how a new site gets its first administrator.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use client::Gateway;
use proto_json::users::{NewUser, Sensitive, User, UserChange, UserName, UserRole};
use proto_json::{Timestamp, WardId};
use serde_json::json;
use store::UserStore;
use store::sqlite::SqliteStore;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::output::OutputArgs;
use crate::data_dir::{self, Purpose};

/// Who changes accounts in a data directory.
const OPERATOR: &str = "bedside user";

/// Add and manage accounts of people.
#[derive(Debug, clap::Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a user; prints a generated password unless one is given
    #[command(after_help = "Examples:
  bedside user add anna --role nurse --ward 0198c0de-0000-7000-8000-000000000001
  bedside user add chief --role admin --data /var/lib/bedside")]
    Add {
        /// Name for login: letters, digits and . _ - @ +
        name: UserName,
        /// Role
        #[arg(long)]
        role: UserRole,
        /// Name of the person
        #[arg(long, value_name = "NAME")]
        display_name: Option<String>,
        /// Id of a ward whose patients the user may access; repeatable. Without it, all wards
        #[arg(long = "ward", value_name = "ID")]
        wards: Vec<WardId>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List users
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Set another password; ends the sessions of the user
    Passwd {
        /// Name of the user
        name: UserName,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Disable a user, or enable one again; ends the sessions of the user
    Disable {
        /// Name of the user
        name: UserName,
        /// Enable the user again
        #[arg(long)]
        enable: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a user; ends the sessions of the user
    Remove {
        /// Name of the user
        name: UserName,
        #[command(flatten)]
        target: Target,
    },
}

/// Where the accounts are.
#[derive(Debug, clap::Args)]
struct Target {
    /// Change the data directory of a Bedside that is not running
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    connection: GatewayArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Accounts of a running Bedside, or in a data directory.
enum Accounts {
    Running(Gateway),
    Stored(Arc<SqliteStore>, #[expect(dead_code, reason = "held, not read")] File),
}

impl Target {
    fn open(&self) -> Result<Accounts, CliError> {
        let Some(data) = &self.data else { return Ok(Accounts::Running(self.connection.connect()?)) };
        if !data.join(data_dir::PATIENTS).is_file() {
            return Err(CliError::usage(format!("{} is not a data directory", data.display())));
        }
        let lock = data_dir::open(data, Purpose::Patients)?;
        let store = SqliteStore::open(&data.join(data_dir::PATIENTS)).map_err(CliError::failed)?;
        Ok(Accounts::Stored(store, lock))
    }
}

fn rejected(error: &http_server::problem::ApiError) -> CliError {
    CliError::failed(error.detail.clone())
}

impl Accounts {
    async fn add(&self, new: NewUser) -> Result<User, CliError> {
        match self {
            Accounts::Running(gateway) => Ok(gateway.add_user(&new).await?),
            Accounts::Stored(store, _) => {
                let stored = ingest::new_user(new, OPERATOR, Timestamp::now())
                    .await
                    .map_err(|error| rejected(&error))?;
                ingest::add_user(&**store, stored).await.map_err(|error| rejected(&error))
            }
        }
    }

    async fn list(&self) -> Result<Vec<User>, CliError> {
        match self {
            Accounts::Running(gateway) => Ok(gateway.users().await?.items),
            Accounts::Stored(store, _) => {
                let users = store.users().await.map_err(CliError::failed)?;
                Ok(users.into_iter().map(|stored| stored.user).collect())
            }
        }
    }

    async fn change(&self, name: &UserName, change: UserChange) -> Result<User, CliError> {
        match self {
            Accounts::Running(gateway) => Ok(gateway.change_user(name, &change).await?),
            Accounts::Stored(store, _) => {
                let changed = ingest::change_user(&**store, name, change, OPERATOR).await;
                changed.map_err(|error| rejected(&error))
            }
        }
    }

    async fn remove(&self, name: &UserName) -> Result<(), CliError> {
        match self {
            Accounts::Running(gateway) => Ok(gateway.remove_user(name).await?),
            Accounts::Stored(store, _) => {
                if store.remove_user(name).await.map_err(CliError::failed)? {
                    Ok(())
                } else {
                    Err(CliError::failed(format!("there is no user {name}")))
                }
            }
        }
    }
}

/// A password from standard input, or a generated one. The second value is printed.
fn password(from_stdin: bool) -> Result<(Sensitive, Option<String>), CliError> {
    if from_stdin {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| CliError::failed(format!("the password cannot be read: {error}")))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        return Ok((Sensitive(text.strip_suffix('\r').unwrap_or(text).to_owned()), None));
    }
    let password = generate()?;
    Ok((Sensitive(password.clone()), Some(password)))
}

/// Returns 100 random bits as 20 letters and digits in groups of five, without those that look alike.
fn generate() -> Result<String, CliError> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::failed(format!("the system provides no random numbers: {error}")))?;
    let letters: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
    let groups: Vec<String> =
        letters.chunks(5).map(|group| group.iter().map(|letter| char::from(*letter)).collect()).collect();
    Ok(groups.join("-"))
}

impl UserArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Add { name, role, display_name, wards, password_stdin, target } => {
                let accounts = target.open()?;
                let (password, generated) = password(password_stdin)?;
                let wards = (!wards.is_empty()).then_some(wards);
                let user = accounts.add(NewUser { name, display_name, role, wards, password }).await?;
                let value = json!({ "user": user, "password": generated });
                target
                    .output
                    .print(generated.unwrap_or_else(|| format!("The user {} is added.", user.name)), &value)
            }
            Command::List { target } => {
                for user in target.open()?.list().await? {
                    let wards = match &user.wards {
                        None => "all wards".to_owned(),
                        Some(wards) => wards.iter().map(WardId::to_string).collect::<Vec<_>>().join(", "),
                    };
                    let disabled = if user.disabled { "  disabled" } else { "" };
                    let line = format!(
                        "{:<24}  {:<10}  {:<24}  {wards}{disabled}",
                        user.name,
                        user.role.name(),
                        user.display_name
                    );
                    target.output.print(line, &json!(user))?;
                }
                Ok(())
            }
            Command::Passwd { name, password_stdin, target } => {
                let accounts = target.open()?;
                let (password, generated) = password(password_stdin)?;
                let change = UserChange { password: Some(password), ..UserChange::default() };
                let user = accounts.change(&name, change).await?;
                let value = json!({ "user": user, "password": generated });
                target
                    .output
                    .print(generated.unwrap_or_else(|| format!("{name} has the new password.")), &value)
            }
            Command::Disable { name, enable, target } => {
                let change = UserChange { disabled: Some(!enable), ..UserChange::default() };
                let user = target.open()?.change(&name, change).await?;
                let state = if enable { "enabled" } else { "disabled" };
                target.output.print(format!("{name} is {state}."), &json!(user))
            }
            Command::Remove { name, target } => {
                target.open()?.remove(&name).await?;
                target.output.print(format!("{name} is removed."), &json!({ "removed": name }))
            }
        }
    }
}
