//! `bedside healthcheck`: reports readiness as an exit code.

use std::time::Duration;

use serde_json::json;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::output::OutputArgs;

/// Time limit. Slightly longer than the limit of the checks behind `/readyz`.
const LIMIT: Duration = Duration::from_secs(4);

/// Check whether a running Bedside is ready. The exit code is 0 if it is, otherwise 1.
#[derive(Debug, clap::Args)]
pub(crate) struct HealthcheckArgs {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl HealthcheckArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        self.gateway.connect()?.ready(LIMIT).await?;
        if self.output.is_json() { self.output.print("", &json!({ "ready": true })) } else { Ok(()) }
    }
}
