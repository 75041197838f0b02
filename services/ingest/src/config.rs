//! Settings of ingest.

use std::num::NonZeroUsize;
use std::time::Duration;

use runtime::parse_duration;

/// Settings of ingest; each can be given as a flag or in the environment.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "ingest")]
#[command(next_help_heading = "Ingest")]
pub struct Config {
    /// Uploads, and results, that are stored at the same time
    #[arg(
        id = "ingest_concurrency",
        long = "ingest-concurrency",
        env = "BEDSIDE_INGEST_CONCURRENCY",
        default_value = "32"
    )]
    pub concurrency: NonZeroUsize,
    /// Time after which an ECG without a result is looked after: its job is sent again if it is lost
    #[arg(long, env = "BEDSIDE_PENDING_AFTER", default_value = "60s", value_parser = parse_duration)]
    pub pending_after: Duration,
    /// Time between two looks for lost jobs and for files left on the stage
    #[arg(long, env = "BEDSIDE_RECONCILE_EVERY", default_value = "30s", value_parser = parse_duration)]
    pub reconcile_every: Duration,
    /// Time after which a file on the stage that nothing needs is removed
    #[arg(long, env = "BEDSIDE_STAGE_KEEP", default_value = "1h", value_parser = parse_duration)]
    pub stage_keep: Duration,
    /// Time between two rounds in which everything that is stored is checked for damage
    #[arg(long, env = "BEDSIDE_SCRUB_EVERY", default_value = "24h", value_parser = parse_duration)]
    pub scrub_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            concurrency: NonZeroUsize::MIN.saturating_add(31),
            pending_after: Duration::from_secs(60),
            reconcile_every: Duration::from_secs(30),
            stage_keep: Duration::from_secs(3600),
            scrub_every: Duration::from_secs(24 * 3600),
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
