//! `bedside upload`: sends files of a patient, then waits for what was found in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use client::{
    ClientError, Feed, FeedEvent, FeedSettings, Gateway, RetryPolicy, Upload, UploadAnswer, UploadFile,
};
use proto_json::{
    Bpm, EcgRecord, EcgStatus, FileKind, Mrn, RecordId, SignalOptions, Timestamp, UploadReceipt,
};
use tokio::time::{Instant, sleep, timeout};

use super::progress::Bar;
use super::{CliError, GatewayArgs, say, words};

/// How long to wait, before sending, until it is sure that no update is missed.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(3);
/// How often to ask for a result even though nothing was announced.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Send name, images and ECGs of a patient.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside upload --mrn 7 --name Ann --ecg strip.csv --image xray.png
  bedside upload --mrn 7 --ecg a.csv b.csv --sample-rate 250 --lead II --recorded-at 2026-03-14T15:09:26Z
  bedside upload --mrn 7 --ecg-image trace.png --heart-rate 72")]
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
    /// Raw ECGs: CSV or EDF
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ecg: Vec<PathBuf>,
    /// Medical images: PNG or JPEG
    #[arg(long, value_name = "FILE", num_args = 1..)]
    image: Vec<PathBuf>,
    /// Pictures of ECG traces: PNG or JPEG
    #[arg(long, value_name = "FILE", num_args = 1..)]
    ecg_image: Vec<PathBuf>,
    /// Heart rate that was read elsewhere, in beats per minute
    #[arg(long, value_name = "BPM", value_parser = bpm)]
    heart_rate: Option<Bpm>,
    /// When ECGs and heart rate were recorded: a time as in 2026-03-14T15:09:26Z, `now`, or `unknown`. By default as the ECG
    /// files state it; if they do not, it is unknown, and stations show when the upload was received
    #[arg(long, value_name = "TIME", value_parser = recorded)]
    recorded_at: Option<Recorded>,
    /// Samples per second of ECG files that hold no times
    #[arg(long, value_name = "HZ")]
    sample_rate: Option<f64>,
    /// Name or number of the lead to analyse, where files hold several
    #[arg(long)]
    lead: Option<String>,
    /// Do not wait for the analysis of the ECGs
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the analysis
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = runtime::parse_duration)]
    wait: Duration,
    #[command(flatten)]
    gateway: GatewayArgs,
}

impl UploadArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let upload = self.upload(&gateway).await?;
        // Before sending: what is announced in between would be lost.
        let mut feed = None;
        if !self.no_wait && !self.ecg.is_empty() {
            let mut following = Feed::start(FeedSettings::new(gateway.clone(), Some(self.mrn)));
            let _ = timeout(SUBSCRIBE_LIMIT, subscribed(&mut following)).await;
            feed = Some(following);
        }
        let bar = Bar::new();
        let answer = gateway
            .upload_with_retries(self.mrn, &upload, RetryPolicy::default(), move |progress| {
                bar.show(progress)
            })
            .await?;
        let due = Instant::now() + self.wait;
        let receipt = match answer {
            UploadAnswer::Stored(receipt) => receipt,
            UploadAnswer::Accepted(accepted) => {
                say(words::plain(&accepted.message))?;
                if self.no_wait {
                    return Ok(());
                }
                stored(&gateway, accepted.upload_id, due).await?
            }
        };
        print_receipt(&receipt)?;
        match feed {
            Some(feed) => self.wait_for_analyses(&gateway, feed, &receipt, due).await,
            None => Ok(()),
        }
    }

    async fn upload(&self, gateway: &Gateway) -> Result<Upload, CliError> {
        let recorded_at = match self.recorded_at {
            Some(Recorded::At(at)) => Some(at),
            Some(Recorded::Unknown) => None,
            Some(Recorded::Now) => {
                // The clock of the server counts, and this computer's may be wrong.
                gateway.check(SUBSCRIBE_LIMIT).await?;
                Some(gateway.now())
            }
            None => stated(&self.ecg)?,
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
            ecgs.map(|file| (file.id, words::plain(file.file_name.as_deref().unwrap_or("ECG")))).collect();
        let mut failed = 0;
        loop {
            for id in pending.keys().copied().collect::<Vec<_>>() {
                let record = match analysed(gateway, id).await {
                    Ok(Some(record)) => record,
                    Ok(None) => continue,
                    // The token of a bed may upload and not read: everything it may do is done.
                    Err(CliError::Gateway(ClientError::Forbidden(_))) => {
                        return say("The analysis goes on; this token may not read its result.");
                    }
                    Err(error) => return Err(error),
                };
                let name = pending.remove(&id).unwrap_or_default();
                for line in words::findings(&name, &record) {
                    say(line)?;
                }
                failed += usize::from(record.status == EcgStatus::Failed);
            }
            if pending.is_empty() {
                break;
            }
            // An announcement only says that it is time to look.
            tokio::select! {
                _ = feed.next() => {}
                () = sleep(ASK_EVERY) => {}
                () = tokio::time::sleep_until(due) => {
                    let seconds = self.wait.as_secs_f32();
                    return Err(CliError::told(format!(
                        "everything is stored, but after {seconds} s the analysis has not arrived; it goes on without waiting"
                    )));
                }
            }
        }
        match failed {
            0 => Ok(()),
            1 => Err(CliError::told("one ECG is stored, but could not be analysed")),
            _ => Err(CliError::told(format!("{failed} ECGs are stored, but could not be analysed"))),
        }
    }
}

/// When ECGs and heart rate were recorded, as given on the command line.
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

/// When the recordings began, if all files state the same time. A time without a zone is local.
fn stated(ecgs: &[PathBuf]) -> Result<Option<Timestamp>, CliError> {
    let mut stated = Vec::new();
    for path in ecgs {
        let mut head = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(ecg::START_BYTES as u64).read_to_end(&mut head));
        read.map_err(|error| CliError::told(format!("the file {} cannot be read: {error}", path.display())))?;
        stated.push(ecg::start_of(&head).and_then(|start| {
            let date = (start.year, start.month, start.day);
            let time = (start.hour, start.minute, start.second, start.millisecond);
            Timestamp::from_calendar(date, time, start.offset_s).ok()
        }));
    }
    let first = stated.first().copied().flatten();
    if stated.iter().any(|other| *other != first) {
        return Err(CliError::told(
            "the ECGs were recorded at different times, or not all of them state it; send them one after the other, or \
             give --recorded-at",
        ));
    }
    Ok(first)
}

/// Waits until the feed is in force, one way or another.
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
        wait = (wait * 2).min(ASK_EVERY);
    }
    Err(CliError::told(format!("upload {upload} is accepted and will be stored, but is not stored yet")))
}

/// The record, once its analysis has ended. What fails for now is asked again.
async fn analysed(gateway: &Gateway, id: RecordId) -> Result<Option<EcgRecord>, CliError> {
    match gateway.ecg(id).await {
        Ok(record) => Ok(record.filter(|record| record.status != EcgStatus::Pending)),
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn print_receipt(receipt: &UploadReceipt) -> Result<(), CliError> {
    let mrn = receipt.mrn;
    say(match (receipt.patient_created, receipt.changed) {
        (true, _) => format!("New patient {mrn} is registered."),
        (false, true) => format!("Patient {mrn} is updated."),
        (false, false) => format!("Nothing new for patient {mrn}."),
    })?;
    if receipt.name_kept {
        say(format!("Patient {mrn} has another name, which was kept; use --rename to change it."))?;
    }
    for file in &receipt.files {
        let kind = match file.kind {
            FileKind::MedicalImage => "image",
            FileKind::EcgImage => "ECG picture",
            FileKind::Ecg => "ECG",
        };
        let name = file.file_name.as_deref().map(words::plain).unwrap_or_default();
        say(format!("  {kind} {name} is stored as {}", file.id))?;
    }
    Ok(())
}

fn bpm(text: &str) -> Result<Bpm, String> {
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let value: i64 = text.trim().parse().map_err(|error: std::num::ParseIntError| wrong(&error))?;
    Bpm::new(value).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recording_time_is_that_of_the_files_if_they_agree() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, first: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("time,mV\n{first},0.1\n")).unwrap();
            path
        };
        let (one, two) = (file("1", "2026-03-14T15:09:26.500Z"), file("2", "2026-03-14 16:09:26.5+01:00"));
        let (other, none) = (file("3", "2026-03-14T15:09:27Z"), file("4", "0.000"));
        let at = "2026-03-14T15:09:26.500Z".parse().unwrap();
        assert_eq!(stated(&[one.clone(), two]).unwrap(), Some(at));
        assert_eq!(stated(std::slice::from_ref(&none)).unwrap(), None);
        assert_eq!(stated(&[]).unwrap(), None);
        assert!(stated(&[one.clone(), other]).is_err());
        assert!(stated(&[one, none]).is_err());
        assert!(stated(&[folder.path().join("missing")]).is_err());
    }

    #[test]
    fn recording_time_is_a_time_now_or_unknown() {
        assert_eq!(recorded("now"), Ok(Recorded::Now));
        assert_eq!(recorded("unknown"), Ok(Recorded::Unknown));
        assert!(matches!(recorded("2026-03-14T15:09:26Z"), Ok(Recorded::At(_))));
        assert!(recorded("yesterday").is_err());
    }
}
