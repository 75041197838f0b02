//! `bedside watch`: a line for each update as it arrives.

use std::collections::HashMap;
use std::path::PathBuf;

use client::{Feed, FeedEvent, FeedSettings, NatsCredentials, NatsSettings};
use proto_json::{Change, ChangeKind, Mrn, PatientSummary, PatientUpdated, Timestamp};
use serde::Serialize;

use super::{CliError, GatewayArgs, say, say_json, words};

/// Print a line for each update as it arrives.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside watch
  bedside watch 7 --json
  bedside watch --nats nats://127.0.0.1:4222 --nats-user monitor

First comes a line for each patient as of now, then one per update. How updates come is told on standard error.")]
pub(crate) struct WatchArgs {
    /// Medical record number; without it, every patient
    mrn: Option<Mrn>,
    /// A JSON object per line instead of words
    #[arg(long)]
    json: bool,
    /// Broker to take updates from; the gateway pushes them where there is none
    #[arg(long, env = "BEDSIDE_NATS_URL", value_name = "URL")]
    nats: Option<String>,
    /// User of the broker
    #[arg(long, env = "BEDSIDE_NATS_USER", value_name = "NAME", requires = "nats_password")]
    nats_user: Option<String>,
    /// Password of that user
    #[arg(long, env = "BEDSIDE_NATS_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    nats_password: Option<String>,
    /// File of certificates (PEM) to trust for the broker
    #[arg(long, env = "BEDSIDE_NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl WatchArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        // What only a person can mend is told at once; what may pass is waited for.
        match gateway.patients(None, None, Some(1)).await {
            Err(error) if !error.is_transient() => return Err(error.into()),
            _ => {}
        }
        let mut feed =
            Feed::start(FeedSettings { nats: self.broker(), ..FeedSettings::new(gateway.clone(), self.mrn) });
        let mut told = Told::default();
        let mut warned = None;
        while let Some(event) = feed.next().await {
            let warning = words::clock_warning(gateway.server_time());
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
                    let reason = state.reason.map(|reason| format!(": {}", words::plain(&reason)));
                    let reason = reason.unwrap_or_default();
                    eprintln!("{}  {}{reason}", state.since.local_seconds(), state.mode);
                }
                FeedEvent::Snapshot(patients) => {
                    for patient in told.new_in(patients) {
                        self.print(&Line::Patient { patient: &patient }, now)?;
                    }
                }
                FeedEvent::Damaged(records) => {
                    for record in records {
                        eprintln!("not shown: {record}");
                    }
                }
                FeedEvent::Updated(update) => {
                    told.saw(&update.patient);
                    self.print(&Line::Updated { update: &update }, now)?;
                }
            }
        }
        Ok(())
    }

    fn broker(&self) -> Option<NatsSettings> {
        let url = self.nats.as_deref().filter(|url| !url.is_empty())?;
        let credentials = self.nats_user.clone().zip(self.nats_password.clone());
        Some(NatsSettings {
            credentials: credentials.map(|(user, password)| NatsCredentials::Password { user, password }),
            extra_certificates: self.nats_ca.clone(),
            ..NatsSettings::new(url)
        })
    }

    fn print(&self, line: &Line<'_>, now: Timestamp) -> Result<(), CliError> {
        if self.json {
            return say_json(line);
        }
        let (patient, what) = match line {
            Line::Patient { patient } => (*patient, "as of now".to_owned()),
            Line::Updated { update } => (&update.patient, changes(&update.changes)),
        };
        say(format!(
            "{}  MRN {}  {}  {what}: {}, {}",
            now.local_seconds(),
            patient.mrn,
            words::plain(patient.name.as_deref().unwrap_or("(no name)")),
            words::heart_rate(patient.latest_heart_rate.as_ref(), now),
            words::ecg(patient.latest_ecg.as_ref()),
        ))
    }
}

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// A patient as of now.
    Patient { patient: &'a PatientSummary },
    /// A patient that has changed.
    Updated {
        #[serde(flatten)]
        update: &'a PatientUpdated,
    },
}

/// Versions that were printed: after an outage only what has changed is printed again.
#[derive(Debug, Default)]
struct Told(HashMap<Mrn, (u64, Timestamp)>);

impl Told {
    fn new_in(&mut self, snapshot: Vec<PatientSummary>) -> Vec<PatientSummary> {
        snapshot.into_iter().filter(|patient| self.saw(patient)).collect()
    }

    fn saw(&mut self, patient: &PatientSummary) -> bool {
        let state = (patient.version, patient.updated_at);
        self.0.insert(patient.mrn, state) != Some(state)
    }
}

fn changes(changes: &[Change]) -> String {
    let mut words: Vec<&str> = changes
        .iter()
        .map(|change| match change.kind {
            ChangeKind::PatientCreated => "new patient",
            ChangeKind::Name => "name",
            ChangeKind::NameKept => "other name given, stored name kept",
            ChangeKind::HeartRate => "heart rate",
            ChangeKind::Image => "image",
            ChangeKind::Ecg => "ECG received",
            ChangeKind::EcgAnalyzed => "ECG analysed",
        })
        .collect();
    words.dedup();
    if words.is_empty() { "changed".to_owned() } else { words.join(" + ") }
}
