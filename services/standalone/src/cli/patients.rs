//! `bedside patients`: prints a line for each patient.

use proto_json::{PatientSummary, Timestamp};

use super::connection::{GatewayArgs, PAGE_SIZE};
use super::error::CliError;
use super::format;
use super::output::{OutputArgs, print_line};

/// List the patients with their latest heart rates.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside patients
  bedside patients --query ann
  bedside patients --json | jq .latest_heart_rate.bpm")]
pub(crate) struct PatientsArgs {
    /// List only patients whose name or record number matches
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl PatientsArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let mut after = None;
        let mut count = 0_usize;
        loop {
            let page = gateway.patients(self.query.as_deref(), after, Some(PAGE_SIZE)).await?;
            if count == 0 && !page.items.is_empty() {
                self.output.print_text(line("MRN", "NAME", "HEART RATE", "AGE", "LAST ECG"))?;
            }
            let now = gateway.now();
            if let Some(warning) = format::clock_warning(gateway.server_time()).filter(|_| count == 0) {
                eprintln!("{warning}");
            }
            for patient in &page.items {
                self.output.print(row(patient, now), patient)?;
            }
            count += page.items.len();
            for record in &page.damaged {
                eprintln!("not listed: {record}");
            }
            match page.next {
                Some(next) if Some(next) != after => after = Some(next),
                _ => break,
            }
        }
        if count == 0 && !self.output.is_json() {
            print_line(if self.query.is_some() { "No patient matches." } else { "No patients yet." })?;
        }
        Ok(())
    }
}

fn row(patient: &PatientSummary, now: Timestamp) -> String {
    let name = format::plain(patient.name.as_deref().unwrap_or("-"));
    let (rate, age) = match &patient.latest_heart_rate {
        Some(rate) => (format!("{} bpm", rate.bpm), format::age_of(rate.time(now), now)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    line(
        &patient.mrn.to_string(),
        &format::fit(&name, 28),
        &rate,
        &age,
        &format::ecg(patient.latest_ecg.as_ref()),
    )
}

fn line(mrn: &str, name: &str, rate: &str, age: &str, ecg: &str) -> String {
    format!("{mrn:>16}  {name:<28}  {rate:>10}  {age:>16}  {ecg}")
}
