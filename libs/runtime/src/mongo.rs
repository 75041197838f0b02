//! Settings of the MongoDB connection, and waiting for the server at startup.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use store::StoreError;
use store::mongo::{MongoConfig, MongoStore, PrepareError};

use crate::backoff::exponential_backoff;
use crate::exit::StartError;
use crate::shutdown::Shutdown;

/// Delays between attempts to reach the server.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const MAX_RETRY: Duration = Duration::from_secs(2);

/// Settings of the MongoDB connection.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "MongoDB")]
pub struct MongoArgs {
    /// MongoDB connection string, including credentials and TLS options
    #[arg(
        long = "mongodb",
        env = "BEDSIDE_MONGODB",
        value_name = "URI",
        default_value = "mongodb://127.0.0.1:27017",
        hide_env_values = true
    )]
    pub uri: String,
    /// File that contains only the connection string; overrides --mongodb
    #[arg(long = "mongodb-file", env = "BEDSIDE_MONGODB_FILE", value_name = "FILE")]
    pub uri_file: Option<PathBuf>,
    /// PEM file of CA certificates that the servers are verified with; enables TLS
    #[arg(id = "mongodb_ca", long = "mongodb-ca", env = "BEDSIDE_MONGODB_CA", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client certificate and its key, if the servers require one; enables TLS
    #[arg(id = "mongodb_cert", long = "mongodb-cert", env = "BEDSIDE_MONGODB_CERT", value_name = "FILE")]
    pub certificate_file: Option<PathBuf>,
    /// Name of the database
    #[arg(long, env = "BEDSIDE_DATABASE", default_value = "bedside")]
    pub database: String,
}

/// Whether this service creates the collections and indexes.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "MongoDB")]
pub struct ProvisionArgs {
    /// Do not create collections and indexes: `ingest provision` has created them, and this service needs no
    /// permission to
    #[arg(long = "mongodb-provisioned", env = "BEDSIDE_MONGODB_PROVISIONED")]
    pub mongodb_provisioned: bool,
}

/// Omits the connection string, because it may contain a password.
impl std::fmt::Debug for MongoArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MongoArgs").field("database", &self.database).finish_non_exhaustive()
    }
}

impl MongoArgs {
    /// Creates the client. Does not wait for a server.
    ///
    /// # Errors
    /// If the connection string is invalid.
    pub async fn connect(&self) -> Result<Arc<MongoStore>, StartError> {
        self.connect_for(false).await
    }

    /// As [`MongoArgs::connect`], for a service that only reads: while there is no primary, it reads from secondaries.
    ///
    /// # Errors
    /// If the connection string is invalid.
    pub async fn connect_reader(&self) -> Result<Arc<MongoStore>, StartError> {
        self.connect_for(true).await
    }

    async fn connect_for(&self, reads_from_secondary: bool) -> Result<Arc<MongoStore>, StartError> {
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
            reads_from_secondary,
            ..MongoConfig::new(uri, self.database.clone())
        };
        MongoStore::connect(config).await.map_err(|error| match error {
            // A host name that does not resolve may resolve later, but the driver needs it to find the
            // servers.
            error @ StoreError::Unavailable(_) => StartError::failed(error),
            error => StartError::config(error),
        })
    }
}

/// Creates the indexes. Retries while the store is unreachable, until it succeeds (`true`) or the shutdown
/// begins (`false`).
///
/// # Errors
/// If the store refuses permanently.
pub async fn prepare_mongo(store: &MongoStore, shutdown: &Shutdown) -> Result<bool, StartError> {
    retry_while_unavailable(shutdown, || store.ensure_indexes()).await
}

/// Writes or migrates the schema version of the store. Retries while the store is unreachable, until it succeeds (`true`) or
/// the shutdown begins (`false`).
///
/// # Errors
/// If the store refuses permanently.
pub async fn migrate_mongo(store: &MongoStore, shutdown: &Shutdown) -> Result<bool, StartError> {
    retry_while_unavailable(shutdown, || store.ensure_schema()).await
}

/// Checks once whether the store refuses this user or has a newer schema version. An unreachable store and an older version
/// are not errors.
///
/// # Errors
/// If the store refuses the user or has a newer schema version.
pub async fn refuse_wrong_login(store: &MongoStore) -> Result<(), StartError> {
    match store.verify_access().await {
        Err(PrepareError::Store(_)) | Ok(()) => Ok(()),
        Err(error) => Err(permanent(&error)),
    }
}

async fn retry_while_unavailable<F>(shutdown: &Shutdown, attempt: impl Fn() -> F) -> Result<bool, StartError>
where
    F: Future<Output = Result<(), PrepareError>>,
{
    let retried = attempt
        .retry(exponential_backoff(FIRST_RETRY, MAX_RETRY))
        .when(|error| matches!(error, PrepareError::Store(StoreError::Unavailable(_))))
        .notify(|error, _| tracing::warn!(%error, "waiting for the patient store"));
    match shutdown.unless_begun(retried).await {
        None => Ok(false),
        Some(Ok(())) => Ok(true),
        Some(Err(error)) => Err(permanent(&error)),
    }
}

fn permanent(error: &PrepareError) -> StartError {
    match error {
        PrepareError::Store(_) => StartError::failed(error),
        _ => StartError::config(error),
    }
}
