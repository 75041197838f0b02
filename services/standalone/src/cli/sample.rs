//! `bedside sample`: generates a synthetic ECG.

use std::io::{self, Write};

use ecg::synth;

use super::error::CliError;

/// Write a synthetic ECG as CSV to standard output.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  bedside sample --bpm 64 > strip.csv\n  bedside upload --mrn 7 --ecg strip.csv"
)]
pub(crate) struct SampleArgs {
    /// Heart rate in beats per minute
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u16).range(20..=250))]
    bpm: u16,
    /// Length in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(3..=86_400))]
    seconds: u32,
    /// Seed of the random generator; each seed gives a different strip
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl SampleArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let settings = synth::Settings {
            duration_s: f64::from(self.seconds),
            mean_bpm: f64::from(self.bpm),
            noise_mv: 0.01,
            drift_mv: 0.05,
            seed: self.seed,
            ..synth::Settings::default()
        };
        io::stdout().lock().write_all(&synth::csv(&synth::generate(&settings).strip))?;
        Ok(())
    }
}
