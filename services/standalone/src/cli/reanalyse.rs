//! `bedside reanalyse`: queues another analysis of stored ECGs for the workers and reports what changed.
//!
//! The workers decide which version analyses; ingest stores a result only if its version is later. So the command can be
//! interrupted and repeated. At most [`IN_FLIGHT`] ECGs are queued at a time, so that new uploads do not wait.

use std::time::Duration;

use client::{ClientError, Gateway};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use proto_json::{EcgQuality, EcgRecord, EcgStatus, Mrn, RecordId};
use serde::Serialize;
use tokio::time::Instant;

use super::connection::{GatewayArgs, PAGE_SIZE};
use super::error::CliError;
use super::format;
use super::output::OutputArgs;
use super::progress::item_bar;

/// ECGs that are queued or being analysed at the same time.
const IN_FLIGHT: usize = 8;
/// Longest wait for the result of a later version.
const WAIT: Duration = Duration::from_secs(300);
/// Longest wait for a result that probably says the same and is then not stored, so that nothing shows when it is there.
const SHORT_WAIT: Duration = Duration::from_secs(3);
/// Interval between reads of an ECG.
const POLL: Duration = Duration::from_millis(250);

/// Analyse stored ECGs again with the current version of the analysis, and report what changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside reanalyse                  # results of earlier versions
  bedside reanalyse --mrn 7 --all    # also failed and current results of patient 7

Prints a line for each ECG whose heart rate, quality or rhythm changed, and a summary. Requires the admin role. A result is
replaced only by one of a later version.")]
pub(crate) struct ReanalyseArgs {
    /// ECGs with a failed analysis and those of the current version, too
    #[arg(long)]
    all: bool,
    /// Only this ECG, whatever its version
    #[arg(long, value_name = "ID", conflicts_with_all = ["all", "mrn"])]
    id: Option<RecordId>,
    /// Only ECGs of this patient
    #[arg(long)]
    mrn: Option<Mrn>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// What a result says, as far as the command compares it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Findings {
    status: EcgStatus,
    /// Version of the analysis.
    algorithm: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    heart_rate: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quality: Option<EcgQuality>,
    /// Codes of the findings, without repetition.
    rhythm: Vec<String>,
}

/// What became of an ECG.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    /// Heart rate, quality or rhythm differ.
    Changed { before: Findings, after: Findings },
    /// The result says the same as before.
    Unchanged { result: Findings },
    /// The analysis is queued. The stored result is failed or of the current version; only a success or a later version
    /// replaces it.
    Queued { result: Findings },
    /// There is no result.
    Failed { reason: String },
}

#[derive(Debug, Serialize)]
struct Line {
    id: RecordId,
    mrn: Mrn,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    analysed: u64,
    changed: u64,
    unchanged: u64,
    queued: u64,
    failed: u64,
}

impl ReanalyseArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let bar = item_bar(0, "ECGs");
        let mut summary = Summary::default();
        {
            let selected = self.selected(&gateway).await?;
            let analyse = |record: Result<EcgRecord, CliError>| {
                let (gateway, bar) = (&gateway, &bar);
                async move {
                    let record = record?;
                    bar.inc_length(1);
                    let line = analysed_again(gateway, &record).await?;
                    bar.inc(1);
                    Ok::<_, CliError>(line)
                }
            };
            let mut lines = selected.map(analyse).buffer_unordered(IN_FLIGHT);
            while let Some(line) = lines.try_next().await? {
                summary.add(&line.outcome);
                bar.suspend(|| self.print(&line))?;
            }
        }
        bar.finish_and_clear();
        self.output.print(&summary, &summary)?;
        match summary.failed {
            0 => Ok(()),
            failed => Err(CliError::failed(format!("{failed} ECGs have no new result; see above"))),
        }
    }

    /// The ECGs to analyse.
    async fn selected<'a>(
        &'a self,
        gateway: &'a Gateway,
    ) -> Result<BoxStream<'a, Result<EcgRecord, CliError>>, CliError> {
        if let Some(id) = self.id {
            let record = gateway.ecg(id).await?;
            let record = record.ok_or_else(|| CliError::failed(format!("there is no ECG {id}")))?;
            return Ok(stream::iter([Ok(record)]).boxed());
        }
        let mrns = match self.mrn {
            Some(mrn) => vec![mrn],
            None => mrns(gateway).await?,
        };
        let is_selected = |record: &EcgRecord| {
            let version = record.analysis.as_ref().map_or(0, |analysis| analysis.algorithm);
            record.signal.is_some()
                && match record.status {
                    EcgStatus::Analyzed => self.all || version < ecg::ALGORITHM,
                    EcgStatus::Failed => self.all,
                    EcgStatus::Pending | EcgStatus::Picture => false,
                }
        };
        let all = stream::iter(mrns).flat_map(move |mrn| ecgs(gateway, mrn));
        Ok(all.try_filter(move |record| std::future::ready(is_selected(record))).boxed())
    }

    fn print(&self, line: &Line) -> Result<(), CliError> {
        let about = format!("MRN {}, ECG {}", line.mrn, line.id);
        match &line.outcome {
            Outcome::Changed { before, after } => {
                self.output.print(format!("{about}: {}", differences(before, after)), line)
            }
            Outcome::Failed { reason } => {
                self.output.print(format!("{about}: {}", format::plain(reason)), line)
            }
            Outcome::Unchanged { .. } | Outcome::Queued { .. } if self.output.is_json() => {
                self.output.print("", line)
            }
            Outcome::Unchanged { .. } | Outcome::Queued { .. } => Ok(()),
        }
    }
}

/// All record numbers.
async fn mrns(gateway: &Gateway) -> Result<Vec<Mrn>, CliError> {
    let (mut mrns, mut after) = (Vec::new(), None);
    loop {
        let page = gateway.patients(None, after, Some(PAGE_SIZE)).await?;
        mrns.extend(page.items.iter().map(|patient| patient.mrn));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(mrns),
        }
    }
}

/// All ECGs of a patient.
fn ecgs(gateway: &Gateway, mrn: Mrn) -> BoxStream<'_, Result<EcgRecord, CliError>> {
    let pages = stream::try_unfold(Some(None), move |after| async move {
        let Some(after) = after else { return Ok::<_, CliError>(None) };
        let page = gateway.ecgs(mrn, after, Some(PAGE_SIZE)).await?;
        let records = stream::iter(page.items.into_iter().map(Ok::<_, CliError>));
        Ok(Some((records, page.next.map(Some))))
    });
    pages.try_flatten().boxed()
}

async fn analysed_again(gateway: &Gateway, record: &EcgRecord) -> Result<Line, CliError> {
    let before = Findings::of(record);
    let line = |outcome| Ok(Line { id: record.id, mrn: record.mrn, outcome });
    let failed = |reason: &str| line(Outcome::Failed { reason: reason.to_owned() });
    let give_up = Instant::now() + WAIT;
    loop {
        match gateway.reanalyse(record.id).await {
            Ok(true) => break,
            Ok(false) => return failed("the ECG is gone"),
            Err(ClientError::Refused(problem)) => {
                return failed(problem.detail.as_deref().unwrap_or(&problem.title));
            }
            Err(error) if error.is_transient() && Instant::now() < give_up => {
                let wait = error.retry_after().unwrap_or(Duration::from_secs(1));
                tokio::time::sleep(wait.min(Duration::from_secs(30))).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let is_outdated = before.status == EcgStatus::Analyzed && before.algorithm < ecg::ALGORITHM;
    let give_up = Instant::now() + if is_outdated { WAIT } else { SHORT_WAIT };
    loop {
        tokio::time::sleep(POLL).await;
        let now = match gateway.ecg(record.id).await {
            Ok(Some(now)) => Findings::of(&now),
            Ok(None) => return failed("the ECG is gone"),
            Err(error) if error.is_transient() => before.clone(),
            Err(error) => return Err(error.into()),
        };
        if now != before {
            let is_same = now.says() == before.says();
            return line(if is_same {
                Outcome::Unchanged { result: now }
            } else {
                Outcome::Changed { before, after: now }
            });
        }
        if Instant::now() > give_up {
            return if is_outdated {
                failed("no result of a later version; run the command again")
            } else {
                line(Outcome::Queued { result: now })
            };
        }
    }
}

impl Findings {
    fn of(record: &EcgRecord) -> Self {
        let analysis = record.analysis.as_ref();
        let mut rhythm: Vec<String> = Vec::new();
        for finding in analysis.iter().flat_map(|analysis| &analysis.rhythm) {
            if !rhythm.contains(&finding.code) {
                rhythm.push(finding.code.clone());
            }
        }
        Findings {
            status: record.status,
            algorithm: analysis.map_or(0, |analysis| analysis.algorithm),
            heart_rate: record.heart_rate.map(proto_json::Bpm::get),
            quality: analysis.map(|analysis| analysis.quality),
            rhythm,
        }
    }

    /// What is compared: all but the version.
    fn says(&self) -> impl PartialEq + '_ {
        (self.status, self.heart_rate, self.quality, &self.rhythm)
    }

    fn rate_text(&self) -> String {
        match (self.status, self.heart_rate) {
            (EcgStatus::Failed, _) => "unreadable".to_owned(),
            (_, Some(rate)) => format!("{rate} bpm"),
            (_, None) => "no heart rate".to_owned(),
        }
    }

    fn rhythm_text(&self) -> String {
        if self.rhythm.is_empty() {
            return "no finding".to_owned();
        }
        self.rhythm.join(", ").replace('_', " ")
    }
}

/// The values that differ, as `72 bpm -> 45 bpm, quality poor -> good`.
fn differences(before: &Findings, after: &Findings) -> String {
    let quality = |result: &Findings| result.quality.map_or("none", format::quality).to_owned();
    let parts = [
        ("", before.rate_text(), after.rate_text()),
        ("quality ", quality(before), quality(after)),
        ("rhythm ", before.rhythm_text(), after.rhythm_text()),
    ];
    let text = |(name, old, new): &(&str, String, String)| format!("{name}{} -> {}", old, format::plain(new));
    let changed: Vec<String> = parts.iter().filter(|(_, old, new)| old != new).map(text).collect();
    changed.join("; ")
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Changed { .. } => (self.analysed, self.changed) = (self.analysed + 1, self.changed + 1),
            Outcome::Unchanged { .. } => {
                (self.analysed, self.unchanged) = (self.analysed + 1, self.unchanged + 1);
            }
            Outcome::Queued { .. } => self.queued += 1,
            Outcome::Failed { .. } => self.failed += 1,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Summary { analysed, changed, unchanged, queued, failed } = self;
        write!(f, "{analysed} ECGs analysed again: {changed} changed, {unchanged} unchanged")?;
        if *queued > 0 {
            write!(f, "; {queued} queued that have a failed or current result")?;
        }
        if *failed > 0 {
            write!(f, "; {failed} without a new result")?;
        }
        f.write_str(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_only_what_changed() {
        let before = Findings {
            status: EcgStatus::Analyzed,
            algorithm: 0,
            heart_rate: Some(90),
            quality: Some(EcgQuality::Poor),
            rhythm: Vec::new(),
        };
        let after = Findings {
            algorithm: 1,
            heart_rate: Some(45),
            rhythm: vec!["sinus_bradycardia".to_owned(), "pause".to_owned()],
            ..before.clone()
        };
        assert_eq!(
            differences(&before, &after),
            "90 bpm -> 45 bpm; rhythm no finding -> sinus bradycardia, pause"
        );
        let newer = Findings { algorithm: 1, ..before.clone() };
        assert!(newer != before && newer.says() == before.says(), "a version alone is no change");
        let none = Findings { heart_rate: None, ..before.clone() };
        assert_eq!(differences(&none, &before), "no heart rate -> 90 bpm");
    }
}
