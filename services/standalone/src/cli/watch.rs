//! `bedside watch`: prints a line for each update.

use std::collections::HashMap;

use client::{Feed, FeedEvent, FeedSettings};
use proto_json::{Change, ChangeKind, Mrn, PatientSummary, PatientUpdated, Timestamp};
use serde::Serialize;

use super::connection::{GatewayArgs, NatsArgs};
use super::error::CliError;
use super::format;
use super::output::OutputArgs;

/// Print a line for each update.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside watch
  bedside watch 7 --json
  bedside watch --nats nats://127.0.0.1:4222 --nats-user monitor --nats-password-file password

Prints a line for each patient, then a line for each update. The connection status is printed to standard error.")]
pub(crate) struct WatchArgs {
    /// Medical record number; default: all patients
    mrn: Option<Mrn>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl WatchArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let nats = self.nats.settings(&self.gateway)?;
        let gateway = self.gateway.connect()?;
        // Permanent errors end the command. The feed retries after transient errors.
        match gateway.patients(None, None, Some(1)).await {
            Err(error) if !error.is_transient() => return Err(error.into()),
            _ => {}
        }
        let mut feed = Feed::start(FeedSettings { nats, ..FeedSettings::new(gateway.clone(), self.mrn) });
        let mut printed = Printed::default();
        let mut warned = None;
        while let Some(event) = feed.next().await {
            let warning = format::clock_warning(gateway.server_time());
            if warning.is_some() != warned.is_some() {
                match &warning {
                    Some(warning) => eprintln!("{warning}"),
                    None => eprintln!("the clocks of this computer and of the server agree again"),
                }
            }
            warned = warning;
            let now = gateway.now();
            match event {
                FeedEvent::Connection(state) => {
                    let reason = state.reason.map(|reason| format!(": {}", format::plain(&reason)));
                    let reason = reason.unwrap_or_default();
                    eprintln!("{}  {}{reason}", state.since.local_seconds(), state.mode);
                }
                FeedEvent::Snapshot(patients) => {
                    for patient in printed.new_in(patients) {
                        self.print(&Line::Patient { patient: &patient }, now)?;
                    }
                }
                FeedEvent::Damaged(records) => {
                    for record in records {
                        eprintln!("not shown: {record}");
                    }
                }
                FeedEvent::Updated(update) => {
                    printed.add(&update.patient);
                    self.print(&Line::Updated { update: &update }, now)?;
                }
            }
        }
        Ok(())
    }

    fn print(&self, line: &Line<'_>, now: Timestamp) -> Result<(), CliError> {
        let (patient, what) = match line {
            Line::Patient { patient } => (*patient, "current".to_owned()),
            Line::Updated { update } => (&update.patient, changes(&update.changes)),
        };
        let text = format!(
            "{}  MRN {}  {}  {what}: {}, {}",
            now.local_seconds(),
            patient.mrn,
            format::plain(patient.name.as_deref().unwrap_or("(no name)")),
            format::heart_rate(patient.latest_heart_rate.as_ref(), now),
            format::ecg(patient.latest_ecg.as_ref()),
        );
        self.output.print(text, line)
    }
}

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// Current state of a patient.
    Patient { patient: &'a PatientSummary },
    /// A change of a patient.
    Updated {
        #[serde(flatten)]
        update: &'a PatientUpdated,
    },
}

/// Printed versions. After an outage, only changed patients are printed again.
#[derive(Debug, Default)]
struct Printed(HashMap<Mrn, (u64, Timestamp)>);

impl Printed {
    /// Returns the patients that were not printed in this version.
    fn new_in(&mut self, snapshot: Vec<PatientSummary>) -> Vec<PatientSummary> {
        snapshot.into_iter().filter(|patient| self.add(patient)).collect()
    }

    /// Returns whether this version was not printed before.
    fn add(&mut self, patient: &PatientSummary) -> bool {
        let state = (patient.version, patient.updated_at);
        self.0.insert(patient.mrn, state) != Some(state)
    }
}

fn changes(changes: &[Change]) -> String {
    let mut names: Vec<&str> = changes
        .iter()
        .map(|change| match change.kind {
            ChangeKind::PatientCreated => "new patient",
            ChangeKind::Name => "name",
            ChangeKind::NameKept => "other name uploaded, stored name kept",
            ChangeKind::HeartRate => "heart rate",
            ChangeKind::Image => "image",
            ChangeKind::Ecg => "ECG received",
            ChangeKind::EcgAnalyzed => "ECG analysed",
            ChangeKind::Admission => "admission",
            ChangeKind::Details => "details",
        })
        .collect();
    names.dedup();
    if names.is_empty() { "changed".to_owned() } else { names.join(" + ") }
}
