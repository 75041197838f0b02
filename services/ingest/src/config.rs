//! Settings of ingest.

use std::num::NonZeroUsize;
use std::time::Duration;

use runtime::parse_duration;

/// Settings of ingest; each can be given as a flag or in the environment.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ingest")]
#[command(next_help_heading = "Ingest")]
pub struct Config {
    /// Number of uploads, and of results, that are stored at the same time
    #[arg(
        id = "ingest_concurrency",
        long = "ingest-concurrency",
        env = "BEDSIDE_INGEST_CONCURRENCY",
        default_value = "32"
    )]
    pub concurrency: NonZeroUsize,
    /// Age from which on the job of an ECG without a result is sent again if it is lost
    #[arg(long, env = "BEDSIDE_PENDING_AFTER", default_value = "60s", value_parser = parse_duration)]
    pub pending_after: Duration,
    /// Time between two searches for lost jobs, unneeded staged files and orphaned files
    #[arg(long, env = "BEDSIDE_RECONCILE_EVERY", default_value = "30s", value_parser = parse_duration)]
    pub reconcile_every: Duration,
    /// Age from which on a staged file that is not needed is removed
    #[arg(long, env = "BEDSIDE_STAGE_KEEP", default_value = "1h", value_parser = parse_duration)]
    pub stage_keep: Duration,
    /// Time between two scrubs, which check everything that is stored for damage
    #[arg(long, env = "BEDSIDE_SCRUB_EVERY", default_value = "24h", value_parser = parse_duration)]
    pub scrub_every: Duration,
    /// Age from which on a stored file that no record refers to is removed
    #[arg(long, env = "BEDSIDE_ORPHAN_AGE", default_value = "24h", value_parser = parse_duration)]
    pub orphan_age: Duration,
    /// How long waveforms are kept. Strips that were taken from them stay
    #[arg(long, env = "BEDSIDE_KEEP_WAVEFORMS", default_value = "30d", value_parser = parse_duration)]
    pub keep_waveforms: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            concurrency: NonZeroUsize::MIN.saturating_add(31),
            pending_after: Duration::from_secs(60),
            reconcile_every: Duration::from_secs(30),
            stage_keep: Duration::from_secs(3600),
            scrub_every: Duration::from_secs(24 * 3600),
            orphan_age: Duration::from_secs(24 * 3600),
            keep_waveforms: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn defaults_of_the_command_line_are_those_of_the_type() {
        let parsed = Program::parse_from(["ingest"]).config;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", Config::default()));
    }
}
