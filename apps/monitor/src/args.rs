//! The command line.

use std::time::Duration;

use alarm_sound::SoundOutput;
use proto_json::Mrn;
use ui::{ConnectionArgs, WindowArgs};

/// Bedside Monitor: shows the heart rates, ECGs and alarms of all patients as soon as they are uploaded.
///
/// Not a certified medical device and not for clinical use.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "monitor", version)]
pub struct Args {
    /// The connection settings.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// How the window starts.
    #[command(flatten)]
    pub window: WindowArgs,
    /// Age in seconds after which a value is shown as stale. The default is 60
    #[arg(long, env = "BEDSIDE_STALE_AFTER", value_name = "SECONDS", value_parser = seconds)]
    pub stale_after: Option<Duration>,
    /// Minutes without input after which the station of a person who has logged in is locked. 0: never
    #[arg(long, env = "BEDSIDE_LOCK_AFTER", value_name = "MINUTES", default_value = "10", value_parser = minutes)]
    pub lock_after: Duration,
    /// Opens this patient at start
    #[arg(long, value_name = "MRN")]
    pub patient: Option<Mrn>,
    /// Where alarms sound. Tests record them.
    #[arg(skip)]
    pub sound: SoundOutput,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Ok(Duration::from_secs(seconds)),
        _ => Err("a whole number of seconds from 1 to 86400 is required".to_owned()),
    }
}

fn minutes(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(minutes @ 0..=1_440_u64) => Ok(Duration::from_secs(minutes * 60)),
        _ => Err("a whole number of minutes from 0 to 1440 is required".to_owned()),
    }
}
