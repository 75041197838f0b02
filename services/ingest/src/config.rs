//! Settings of ingest.

use std::time::Duration;

/// Settings of ingest.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Uploads, and results, that are stored at the same time
    #[arg(long = "ingest-concurrency", env = "BEDSIDE_INGEST_CONCURRENCY", default_value_t = 32, value_parser = positive)]
    pub concurrency: usize,
    /// Seconds after which an ECG without a result is looked after: its job is sent again if it is lost
    #[arg(long, env = "BEDSIDE_PENDING_AFTER", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub pending_after: Duration,
    /// Seconds between two looks for lost jobs and for files left on the stage
    #[arg(long, env = "BEDSIDE_RECONCILE_EVERY", value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub reconcile_every: Duration,
    /// Seconds after which a file on the stage that nothing needs is removed
    #[arg(long, env = "BEDSIDE_STAGE_KEEP", value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub stage_keep: Duration,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a whole number above 0".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be a number of seconds above 0".to_owned())
}
