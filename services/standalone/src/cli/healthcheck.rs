//! `bedside healthcheck`: whether everything is ready, as an exit code.

use std::time::Duration;

use super::{CliError, GatewayArgs};

/// A little more than the checks behind `/readyz` may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Ask a running Bedside whether it is ready.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthcheckArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl HealthcheckArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        Ok(self.gateway.connect()?.ready(LIMIT).await?)
    }
}
