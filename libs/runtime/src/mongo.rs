//! How a service is told to reach MongoDB.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use store::StoreError;
use store::mongo::{MongoConfig, MongoStore, PrepareError};

use crate::{Backoff, Shutdown, StartError};

/// How to reach MongoDB.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "MongoDB")]
pub struct MongoArgs {
    /// Connection string, with credentials and TLS options where there are any
    #[arg(
        long = "mongodb",
        env = "BEDSIDE_MONGODB",
        value_name = "URI",
        default_value = "mongodb://127.0.0.1:27017",
        hide_env_values = true
    )]
    pub uri: String,
    /// File that holds the connection string and nothing else; wins over --mongodb
    #[arg(long = "mongodb-file", env = "BEDSIDE_MONGODB_FILE", value_name = "FILE")]
    pub uri_file: Option<PathBuf>,
    /// PEM file of the authorities that vouch for the servers; switches TLS on
    #[arg(id = "mongodb_ca", long = "mongodb-ca", env = "BEDSIDE_MONGODB_CA", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of this service's certificate and its key, where the servers ask for one; switches TLS on
    #[arg(id = "mongodb_cert", long = "mongodb-cert", env = "BEDSIDE_MONGODB_CERT", value_name = "FILE")]
    pub certificate_file: Option<PathBuf>,
    /// Name of the database
    #[arg(long, env = "BEDSIDE_DATABASE", default_value = "bedside")]
    pub database: String,
}

/// Who creates the collections and indexes.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "MongoDB")]
pub struct ProvisionArgs {
    /// Collections and indexes are created by `ingest provision`; this service creates none and needs no right to do so
    #[arg(long = "mongodb-provisioned", env = "BEDSIDE_MONGODB_PROVISIONED")]
    pub mongodb_provisioned: bool,
}

/// Without the connection string: it may hold a password.
impl std::fmt::Debug for MongoArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoArgs").field("database", &self.database).finish_non_exhaustive()
    }
}

impl MongoArgs {
    /// Prepares the connection.
    ///
    /// # Errors
    /// When the connection string is wrong.
    pub async fn connect(&self) -> Result<Arc<MongoStore>, StartError> {
        let uri = match &self.uri_file {
            None => self.uri.clone(),
            Some(file) => {
                std::fs::read_to_string(file).map(|text| text.trim().to_owned()).map_err(|error| {
                    StartError::config(format!("the file {} cannot be read: {error}", file.display()))
                })?
            }
        };
        let config = MongoConfig {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            ..MongoConfig::new(uri, self.database.clone())
        };
        MongoStore::connect(config).await.map_err(|error| match error {
            // A name that cannot be resolved now may be later, but the driver needs it to know the servers.
            error @ StoreError::Unavailable(_) => StartError::failed(error),
            error => StartError::config(error),
        })
    }
}

/// Creates the indexes, and tries again while the store cannot be reached, until they exist or the shutdown begins. Returns
/// whether they exist.
///
/// # Errors
/// When the store refuses: trying again would not help.
pub async fn prepare_mongo(store: &MongoStore, shutdown: &Shutdown) -> Result<bool, StartError> {
    until_done(shutdown, || store.ensure_indexes()).await
}

/// Waits until the store can be read with this user, or the shutdown begins. Returns whether it can.
///
/// # Errors
/// When the store refuses the user: trying again would not help.
pub async fn wait_for_mongo(store: &MongoStore, shutdown: &Shutdown) -> Result<bool, StartError> {
    until_done(shutdown, || store.verify_access()).await
}

/// Looks once whether the store refuses this user. A store that cannot be reached is no error.
///
/// # Errors
/// When the store refuses the user.
pub async fn refuse_wrong_login(store: &MongoStore) -> Result<(), StartError> {
    match store.verify_access().await {
        Err(error @ (PrepareError::Refused(_) | PrepareError::Conflict(_))) => Err(permanent(&error)),
        Ok(()) | Err(PrepareError::Store(_)) => Ok(()),
    }
}

async fn until_done<F>(shutdown: &Shutdown, attempt: impl Fn() -> F) -> Result<bool, StartError>
where
    F: Future<Output = Result<(), PrepareError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let Some(done) = shutdown.unless_begun(attempt()).await else { return Ok(false) };
        match done {
            Ok(()) => return Ok(true),
            Err(PrepareError::Store(error @ StoreError::Unavailable(_))) => {
                tracing::warn!(%error, "waiting for the patient store");
                if shutdown.unless_begun(backoff.wait()).await.is_none() {
                    return Ok(false);
                }
            }
            Err(error) => return Err(permanent(&error)),
        }
    }
}

fn permanent(error: &PrepareError) -> StartError {
    match error {
        PrepareError::Refused(_) | PrepareError::Conflict(_) => StartError::config(error),
        PrepareError::Store(_) => StartError::failed(error),
    }
}
