//! Flags of the demo.

use std::path::PathBuf;

use runtime::StartError;

use super::scenario::{MAX_PATIENTS, Scenario};

/// Speeds that `--demo-pace` accepts.
const PACES: std::ops::RangeInclusive<f64> = 0.1..=10.0;

/// Settings of the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Add simulated patients that send an ECG every few seconds. The demo has its own data directory,
    /// `bedside-demo` in the user's data directory, which is cleared at each start
    #[arg(long, env = "BEDSIDE_DEMO")]
    pub(crate) demo: bool,
    /// Keep the data of earlier demos
    #[arg(long, requires = "demo")]
    pub(crate) keep: bool,
    /// Do not open the page in the browser. Without this flag, it is opened if the demo is started from a terminal
    /// on a desktop
    #[arg(long, requires = "demo")]
    pub(crate) no_open: bool,
    /// Scenario of the demo: a TOML file with patients and timed events, as in the directory `demo`; default: the
    /// eight patients of `demo/ward.toml`
    #[arg(long, env = "BEDSIDE_DEMO_SCENARIO", value_name = "FILE", requires = "demo")]
    demo_scenario: Option<PathBuf>,
    /// Number of simulated patients, up to 200; default: all patients of the scenario. Patients beyond those of
    /// the scenario have no events
    #[arg(
        long,
        env = "BEDSIDE_DEMO_PATIENTS",
        value_name = "NUMBER",
        requires = "demo",
        value_parser = clap::value_parser!(u16).range(1..=MAX_PATIENTS as i64)
    )]
    demo_patients: Option<u16>,
    /// Speed of the demo, from 0.1 to 10: at 2, strips and events come twice as often. Clock times of events
    /// do not change
    #[arg(
        long,
        env = "BEDSIDE_DEMO_PACE",
        value_name = "FACTOR",
        requires = "demo",
        default_value = "1",
        value_parser = pace
    )]
    pub(crate) demo_pace: f64,
}

impl DemoArgs {
    /// Reads the scenario and applies the number of patients.
    pub(crate) fn scenario(&self) -> Result<Scenario, StartError> {
        let mut scenario = match &self.demo_scenario {
            Some(file) => Scenario::read(file).map_err(StartError::config)?,
            None => Scenario::built_in().map_err(StartError::config)?,
        };
        if let Some(count) = self.demo_patients {
            scenario.resize(usize::from(count));
        }
        Ok(scenario)
    }
}

fn pace(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| PACES.contains(factor));
    factor.ok_or_else(|| format!("it must be a number from {} to {}", PACES.start(), PACES.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_a_factor_in_its_range() {
        assert_eq!(pace("2.5"), Ok(2.5));
        for wrong in ["0", "0.09", "10.1", "-1", "NaN", "inf", "fast", ""] {
            assert_eq!(pace(wrong).unwrap_err(), "it must be a number from 0.1 to 10", "{wrong}");
        }
    }
}
