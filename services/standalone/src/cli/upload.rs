//! `bedside upload`: uploads files of a patient and waits for the analysis of the ECGs.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use client::{
    ClientError, Feed, FeedEvent, FeedSettings, Gateway, RetryPolicy, Upload, UploadAnswer, UploadFile,
};
use proto_json::{
    Bpm, EcgRecord, EcgStatus, FileKind, Mrn, ReceivedUpload, RecordId, SignalOptions, Timestamp,
    UploadReceipt,
};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::connection::GatewayArgs;
use super::error::{CliError, cannot_read};
use super::format;
use super::output::OutputArgs;
use super::progress::byte_bar;

/// Maximum time to wait for the subscription to updates before the upload is sent.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(3);
/// Interval at which a result is requested without an update.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Upload name, images and ECGs of a patient, and wait for the receipt and the analysis.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside upload --mrn 7 --name Ann --ecg strip.csv --image xray.png
  bedside upload --mrn 7 --ecg a.csv b.csv --sample-rate 250 --lead II --recorded-at 2026-03-14T15:09:26Z
  bedside upload --mrn 7 --ecg-image trace.png --heart-rate 72

A token with the role `uploader` is sufficient. It cannot read the analysis, so the command ends when the upload is stored.")]
pub(crate) struct UploadArgs {
    /// Medical record number
    #[arg(long)]
    mrn: Mrn,
    /// Name of the patient
    #[arg(long)]
    name: Option<String>,
    /// Replace the stored name if the patient has another one
    #[arg(long, requires = "name")]
    rename: bool,
    /// Raw ECGs: CSV, EDF or BDF
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ecg: Vec<PathBuf>,
    /// Medical images: PNG or JPEG
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    /// Images of ECG traces: PNG or JPEG
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ecg_image: Vec<PathBuf>,
    /// Heart rate from another source, in beats per minute
    #[arg(long, value_name = "BPM", value_parser = bpm)]
    heart_rate: Option<Bpm>,
    /// When ECGs and heart rate were recorded: a time such as 2026-03-14T15:09:26Z, `now`, or `unknown`.
    /// Default: the time in the ECG files, if they contain one, otherwise `unknown`; stations then show the
    /// time of receipt
    #[arg(long, value_name = "TIME", value_parser = recorded)]
    recorded_at: Option<Recorded>,
    /// Samples per second of ECG files without times
    #[arg(long, value_name = "HZ")]
    sample_rate: Option<f64>,
    /// Name or number of the lead to analyse, for files with several leads
    #[arg(long)]
    lead: Option<String>,
    /// Do not wait for the analysis of the ECGs
    #[arg(long)]
    no_wait: bool,
    /// Maximum time to wait for the analysis
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = runtime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl UploadArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        self.check()?;
        let gateway = self.gateway.connect()?;
        let upload = self.upload(&gateway).await?;
        // Subscribes before the upload, so that no update is missed.
        let mut feed = None;
        if !self.no_wait && !self.ecg.is_empty() {
            let mut subscription = Feed::start(FeedSettings::new(gateway.clone(), Some(self.mrn)));
            let _ = timeout(SUBSCRIBE_LIMIT, subscribed(&mut subscription)).await;
            feed = Some(subscription);
        }
        let bar = byte_bar();
        let drawn = bar.clone();
        let answer = gateway
            .upload_with_retries(self.mrn, &upload, RetryPolicy::default(), move |progress| {
                drawn.set_length(progress.total);
                drawn.set_position(progress.sent);
            })
            .await;
        bar.finish_and_clear();
        let answer = answer?;
        let due = Instant::now() + self.wait;
        let receipt = match answer {
            UploadAnswer::Stored(receipt) => receipt,
            UploadAnswer::Accepted(accepted) => {
                self.output.print(format::plain(&accepted.message), &Line::Accepted { upload: &accepted })?;
                if self.no_wait {
                    return Ok(());
                }
                stored(&gateway, accepted.upload_id, due).await?
            }
        };
        self.output.print(receipt_text(&receipt), &Line::Stored { receipt: &receipt })?;
        match feed {
            Some(feed) => self.wait_for_analyses(&gateway, feed, &receipt, due).await,
            None => Ok(()),
        }
    }

    /// Rejects an upload without content.
    fn check(&self) -> Result<(), CliError> {
        let has_files = [&self.ecg, &self.image, &self.ecg_image].iter().any(|paths| !paths.is_empty());
        if has_files || self.name.is_some() || self.heart_rate.is_some() {
            return Ok(());
        }
        Err(CliError::usage(
            "there is nothing to upload: add --name, --ecg, --image, --ecg-image or --heart-rate",
        ))
    }

    async fn upload(&self, gateway: &Gateway) -> Result<Upload, CliError> {
        let recorded_at = match self.recorded_at {
            Some(Recorded::At(at)) => Some(at),
            Some(Recorded::Unknown) => None,
            Some(Recorded::Now) => {
                // Server time, because the clock of this computer may be wrong.
                gateway.check(SUBSCRIBE_LIMIT).await?;
                Some(gateway.now())
            }
            None => recording_start(&self.ecg)?,
        };
        let of = |kind: FileKind, paths: &[PathBuf]| -> Vec<UploadFile> {
            paths.iter().map(|path| UploadFile::from_path(kind, path)).collect()
        };
        let files = [
            of(FileKind::Ecg, &self.ecg),
            of(FileKind::MedicalImage, &self.image),
            of(FileKind::EcgImage, &self.ecg_image),
        ];
        Ok(Upload {
            name: self.name.clone(),
            rename: self.rename,
            heart_rate: self.heart_rate,
            recorded_at,
            signal_options: SignalOptions { sample_rate_hz: self.sample_rate, lead: self.lead.clone() },
            ..Upload::of(files.concat())
        })
    }

    async fn wait_for_analyses(
        &self,
        gateway: &Gateway,
        mut feed: Feed,
        receipt: &UploadReceipt,
        due: Instant,
    ) -> Result<(), CliError> {
        let ecgs = receipt.files.iter().filter(|file| file.kind == FileKind::Ecg);
        let mut pending: HashMap<RecordId, String> =
            ecgs.map(|file| (file.id, format::plain(file.file_name.as_deref().unwrap_or("ECG")))).collect();
        let mut failed = 0;
        loop {
            for id in pending.keys().copied().collect::<Vec<_>>() {
                let record = match analysis(gateway, id).await {
                    Ok(Some(record)) => record,
                    Ok(None) => continue,
                    // An `uploader` token cannot read patients. The upload is stored, so this is a success.
                    Err(CliError::Gateway(ClientError::Forbidden(_))) => {
                        return self.output.print(
                            "The upload is stored. The analysis cannot be read with this token.",
                            &Line::NotReadable,
                        );
                    }
                    Err(error) => return Err(error),
                };
                let name = pending.remove(&id).unwrap_or_default();
                self.output
                    .print(format::findings(&name, &record).join("\n"), &Line::Ecg { ecg: &record })?;
                failed += usize::from(record.status == EcgStatus::Failed);
            }
            if pending.is_empty() {
                break;
            }
            // An update is only a reason to request the record.
            tokio::select! {
                _ = feed.next() => {}
                () = sleep(POLL_INTERVAL) => {}
                () = tokio::time::sleep_until(due) => {
                    let seconds = self.wait.as_secs_f32();
                    return Err(CliError::failed(format!(
                        "the upload is stored, but the analysis is not complete after {seconds} s; it continues on the server"
                    )));
                }
            }
        }
        match failed {
            0 => Ok(()),
            1 => Err(CliError::failed("one ECG is stored, but could not be analysed")),
            _ => Err(CliError::failed(format!("{failed} ECGs are stored, but could not be analysed"))),
        }
    }
}

/// One line of JSON output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// The upload is queued, but not confirmed as stored.
    Accepted { upload: &'a ReceivedUpload },
    /// The upload is stored.
    Stored { receipt: &'a UploadReceipt },
    /// An analysed ECG.
    Ecg { ecg: &'a EcgRecord },
    /// The token does not permit to read the analysis.
    NotReadable,
}

/// The value of `--recorded-at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    At(Timestamp),
    Now,
    Unknown,
}

fn recorded(text: &str) -> Result<Recorded, String> {
    match text {
        "now" => Ok(Recorded::Now),
        "unknown" => Ok(Recorded::Unknown),
        time => time.parse().map(Recorded::At).map_err(|error: proto_json::TimestampError| error.to_string()),
    }
}

/// Returns the start of the recordings, if all files contain the same time. A time without a zone is local.
fn recording_start(ecgs: &[PathBuf]) -> Result<Option<Timestamp>, CliError> {
    let mut starts = Vec::new();
    for path in ecgs {
        let mut head = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(ecg::START_BYTES as u64).read_to_end(&mut head));
        read.map_err(cannot_read(path))?;
        starts.push(ecg::start_of(&head).and_then(|start| {
            let date = (start.year, start.month, start.day);
            let time = (start.hour, start.minute, start.second, start.millisecond);
            Timestamp::from_calendar(date, time, start.offset_s).ok()
        }));
    }
    let first = starts.first().copied().flatten();
    if starts.iter().any(|other| *other != first) {
        return Err(CliError::usage(
            "the ECG files contain different recording times, or only some contain one; upload them separately, or add \
             --recorded-at",
        ));
    }
    Ok(first)
}

/// Waits until the feed receives updates or polls.
async fn subscribed(feed: &mut Feed) {
    while let Some(event) = feed.next().await {
        if matches!(event, FeedEvent::Connection(_)) {
            return;
        }
    }
}

/// Waits until an accepted upload is stored.
async fn stored(
    gateway: &Gateway,
    upload: proto_json::UploadId,
    due: Instant,
) -> Result<UploadReceipt, CliError> {
    let mut wait = Duration::from_millis(100);
    while Instant::now() < due {
        if let Some(status) = gateway.upload_status(upload).await? {
            return Ok(status.receipt);
        }
        sleep(wait).await;
        wait = (wait * 2).min(POLL_INTERVAL);
    }
    Err(CliError::failed(format!("upload {upload} is accepted and will be stored, but is not stored yet")))
}

/// Returns the record if its analysis is complete. After a transient error, the caller tries again.
async fn analysis(gateway: &Gateway, id: RecordId) -> Result<Option<EcgRecord>, CliError> {
    match gateway.ecg(id).await {
        Ok(record) => Ok(record.filter(|record| record.status != EcgStatus::Pending)),
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn receipt_text(receipt: &UploadReceipt) -> String {
    let mrn = receipt.mrn;
    let mut lines = vec![match (receipt.patient_created, receipt.changed) {
        (true, _) => format!("New patient {mrn} is registered."),
        (false, true) => format!("Patient {mrn} is updated."),
        (false, false) => format!("Nothing new for patient {mrn}."),
    }];
    if receipt.name_kept {
        lines.push(format!("Patient {mrn} has another name, which was kept; use --rename to change it."));
    }
    for file in &receipt.files {
        let kind = match file.kind {
            FileKind::MedicalImage => "image",
            FileKind::EcgImage => "ECG image",
            FileKind::Ecg => "ECG",
        };
        let name = file.file_name.as_deref().map(format::plain).unwrap_or_default();
        lines.push(format!("  {kind} {name} is stored as {}", file.id));
    }
    lines.join("\n")
}

fn bpm(text: &str) -> Result<Bpm, String> {
    let value = text.trim().parse::<i64>().map_err(|error| error.to_string())?;
    Bpm::new(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_time_is_taken_from_the_files_if_they_agree() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, first: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("time,mV\n{first},0.1\n")).unwrap();
            path
        };
        let (one, two) = (file("1", "2026-03-14T15:09:26.500Z"), file("2", "2026-03-14 16:09:26.5+01:00"));
        let (other, none) = (file("3", "2026-03-14T15:09:27Z"), file("4", "0.000"));
        let at = "2026-03-14T15:09:26.500Z".parse().unwrap();
        assert_eq!(recording_start(&[one.clone(), two]).unwrap(), Some(at));
        assert_eq!(recording_start(std::slice::from_ref(&none)).unwrap(), None);
        assert_eq!(recording_start(&[]).unwrap(), None);
        assert!(recording_start(&[one.clone(), other]).is_err());
        assert!(recording_start(&[one, none]).is_err());
        assert!(recording_start(&[folder.path().join("missing")]).is_err());
    }

    #[test]
    fn recording_time_is_a_time_now_or_unknown() {
        assert_eq!(recorded("now"), Ok(Recorded::Now));
        assert_eq!(recorded("unknown"), Ok(Recorded::Unknown));
        assert!(matches!(recorded("2026-03-14T15:09:26Z"), Ok(Recorded::At(_))));
        assert!(recorded("yesterday").is_err());
    }
}
