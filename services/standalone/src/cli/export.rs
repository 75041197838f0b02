//! `bedside export`: saves all data of a patient as files.
//!
//! An interrupted export can be repeated and fetches only missing files. A file with other content is never
//! overwritten. Files and directories are private to their owner.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use client::{AlarmQuery, AlarmSelection, ClientError, Download, Gateway};
use proto_json::alarms::Alarm;
use proto_json::wards::AdmissionRecord;
use proto_json::waveform_reads::MAX_LISTED_MS;
use proto_json::{
    BlobHash, BlobHasher, BlobInfo, Correction, Cursor, EcgRecord, FormerName, HeartRateRecord, ImageRecord,
    Mrn, Page, PatientSummary, RecordId, Timestamp,
};
use runtime::Secret;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::connection::{GatewayArgs, PAGE_SIZE};
use super::deidentify::{self, Identity, Source, SourceEcg};
use super::error::{CliError, cannot_read, cannot_write};
use super::export_page;
use super::export_waveforms::{self, Format};
use super::output::OutputArgs;
use crate::data_dir::{self, DataArgs};

/// Format identifier of `index.json`.
const FORMAT: &str = "bedside-export-1";

/// Largest file of a de-identified export, in bytes.
const MAX_FILE: usize = 1 << 30;

/// Save all data of a patient as files, with a page to read and a JSON index.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside export 7 --to ./patient-7
  bedside export 7 --to ./case-1 --deidentified
  bedside export 7 --to ./waves --format edf --from 2026-03-14T15:00:00Z --until 2026-03-14T16:00:00Z

Creates index.html, index.json, heart-rates.csv, images/, ecgs/ and waveforms/ in the directory. Compares each file with its SHA-256. Repeated on the same directory, it
fetches only missing files. A file with the same name and other content is kept and reported.

With --deidentified, the directory has no name, record number, note or real date. Pseudonym and shift of the times follow from the
key; the same patient gets the same ones in every export.")]
pub(crate) struct ExportArgs {
    /// Medical record number
    mrn: Mrn,
    /// Directory to save to; created if it does not exist
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Save data for teaching and research: a pseudonym, shifted times, no free text, no images. The directory must be new
    #[arg(long, conflicts_with = "format")]
    deidentified: bool,
    /// With --deidentified, save images without their metadata. They can show names
    #[arg(long, requires = "deidentified")]
    with_images: bool,
    /// File of the gateway's secret; default: `key` in the data directory
    #[arg(long, env = "BEDSIDE_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Save the stored waveforms of a range of times in this format, and nothing else
    #[arg(long, value_enum, requires_all = ["from", "until"])]
    format: Option<Format>,
    /// Start of the waveforms, such as 2026-03-14T15:00:00Z
    #[arg(long, value_name = "TIME", requires = "format")]
    from: Option<Timestamp>,
    /// End of the waveforms
    #[arg(long, value_name = "TIME", requires = "format")]
    until: Option<Timestamp>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// Content of `index.json`. Paths are relative to it.
#[derive(Debug, Serialize)]
struct Index {
    format: &'static str,
    mrn: Mrn,
    exported_at: Timestamp,
    patient: PatientSummary,
    former_names: Vec<FormerName>,
    heart_rates: Vec<HeartRateRecord>,
    ecgs: Vec<Ecg>,
    images: Vec<Image>,
    admissions: Vec<AdmissionRecord>,
    corrections: Vec<Correction>,
    alarms: Vec<Alarm>,
    waveform_files: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Ecg {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plot_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail_file: Option<String>,
    #[serde(flatten)]
    pub(super) record: EcgRecord,
}

#[derive(Debug, Serialize)]
pub(super) struct Image {
    pub(super) image_file: String,
    #[serde(flatten)]
    pub(super) record: ImageRecord,
}

/// The part of `index.json` that identifies an export.
#[derive(Debug, Deserialize)]
struct IndexHead {
    format: String,
    mrn: Mrn,
}

impl ExportArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let mrn = self.mrn;
        if let (Some(format), Some(from), Some(until)) = (self.format, self.from, self.until) {
            let names = export_waveforms::export(&gateway, mrn, (from, until), format, &self.to).await?;
            return self.output.print(names.join("\n"), &names);
        }
        let unknown = || CliError::failed(format!("there is no patient {mrn}"));
        let patient = gateway.patient(mrn).await?.ok_or_else(unknown)?;
        if self.deidentified {
            return self.deidentify(&gateway, patient).await;
        }
        let index_path = self.to.join("index.json");
        check_index(&index_path, mrn)?;
        for directory in [self.to.clone(), self.to.join("images"), self.to.join("ecgs")] {
            data_dir::create(&directory).map_err(cannot_write(&directory))?;
        }

        let heart_rates = all(async |after| gateway.heart_rates(mrn, after, Some(PAGE_SIZE)).await).await?;
        let ecgs = all(async |after| gateway.ecgs(mrn, after, Some(PAGE_SIZE)).await).await?;
        let images = all(async |after| gateway.images(mrn, after, Some(PAGE_SIZE)).await).await?;
        let admissions = all(async |after| gateway.admissions(mrn, after, Some(PAGE_SIZE)).await).await?;
        let former_names = gateway.former_names(mrn).await?.map(|names| names.items).unwrap_or_default();
        let corrections = gateway.corrections(mrn).await?.unwrap_or_default();
        let alarms = alarms(&gateway, mrn).await?;
        // Devices may have sent waveforms before the first other record.
        let since = patient.created_at.plus_millis(-MAX_LISTED_MS);
        let waveforms =
            export_waveforms::export_all(&gateway, mrn, since, &self.to.join("waveforms")).await?;

        let mut export = Export { gateway, directory: self.to.clone(), counts: Counts::default() };
        let mut index = Index {
            format: FORMAT,
            mrn,
            exported_at: Timestamp::now(),
            patient,
            former_names,
            heart_rates,
            admissions,
            corrections,
            alarms,
            waveform_files: waveforms.into_iter().map(|name| format!("waveforms/{name}")).collect(),
            ecgs: Vec::with_capacity(ecgs.len()),
            images: Vec::with_capacity(images.len()),
        };
        for record in images {
            let image_file =
                export.save("images", record.at, record.id, &record.file, Content::Image).await?;
            index.images.push(Image { image_file, record });
        }
        for record in ecgs {
            let (at, id) = (record.at, record.id);
            index.ecgs.push(Ecg {
                signal_file: export.save_some(at, id, record.signal.as_ref(), Content::Signal).await?,
                plot_file: export.save_some(at, id, record.plot.as_ref(), Content::Plot).await?,
                detail_file: export.save_some(at, id, record.detail.as_ref(), Content::Detail).await?,
                record,
            });
        }
        let text = serde_json::to_vec_pretty(&index).map_err(CliError::failed)?;
        replace(&index_path, &text).map_err(cannot_write(&index_path))?;
        let rates = export_page::heart_rates_csv(&index.heart_rates, |at| at.to_string());
        let page = export_page::page(&export_page::Content {
            patient: &index.patient,
            former_names: &index.former_names,
            heart_rates: index.heart_rates.len(),
            ecgs: &index.ecgs,
            images: &index.images,
            admissions: &index.admissions,
            corrections: &index.corrections,
            alarms: &index.alarms,
            waveforms: &index.waveform_files,
        });
        for (name, text) in [("heart-rates.csv", rates), ("index.html", page)] {
            let path = self.to.join(name);
            replace(&path, text.as_bytes()).map_err(cannot_write(&path))?;
        }

        let counts = export.counts;
        let files = if counts.written == 1 { "file" } else { "files" };
        self.output.print(
            format!("{} {files} written, {} existed: {}", counts.written, counts.existing, self.to.display()),
            &counts,
        )?;
        match counts.conflicts.as_slice() {
            [] => Ok(()),
            [one] => Err(CliError::failed(format!("{one} exists with other content and was kept"))),
            [first, rest @ ..] => Err(CliError::failed(format!(
                "{first} and {} more files exist with other content and were kept",
                rest.len()
            ))),
        }
    }
}

impl ExportArgs {
    /// Saves the de-identified data.
    async fn deidentify(&self, gateway: &Gateway, patient: PatientSummary) -> Result<(), CliError> {
        let mrn = self.mrn;
        let file = match &self.key_file {
            Some(file) => file.clone(),
            None => self.data.path()?.join(data_dir::KEY),
        };
        let identity = Identity::of(&Secret::read(&file)?, mrn);
        data_dir::create_new(&self.to).map_err(cannot_write(&self.to))?;
        let heart_rates = all(async |after| gateway.heart_rates(mrn, after, Some(PAGE_SIZE)).await).await?;
        let since = patient.created_at.plus_millis(-MAX_LISTED_MS);
        let directory = self.to.join("waveforms");
        let waveforms = export_waveforms::export_samples(gateway, mrn, since, &directory).await?;
        let mut source = Source { patient, heart_rates, ecgs: Vec::new(), images: Vec::new(), waveforms };
        for record in all(async |after| gateway.ecgs(mrn, after, Some(PAGE_SIZE)).await).await? {
            let signal = match &record.signal {
                Some(_) => Some(gateway.signal(record.id).await?.bytes(MAX_FILE).await?.to_vec()),
                None => None,
            };
            let detail = match &record.detail {
                Some(_) => gateway.ecg_detail(record.id).await?,
                None => None,
            };
            source.ecgs.push(SourceEcg { record, signal, detail });
        }
        if self.with_images {
            for record in all(async |after| gateway.images(mrn, after, Some(PAGE_SIZE)).await).await? {
                let bytes = gateway.image(record.id).await?.bytes(MAX_FILE).await?.to_vec();
                source.images.push((record, bytes));
            }
        }
        let files = deidentify::files(&source, &identity)?;
        for (name, bytes) in &files {
            let path = self.to.join(name);
            if let Some(directory) = path.parent() {
                data_dir::create(directory).map_err(cannot_write(directory))?;
            }
            let mut file = create_private(&path).map_err(cannot_write(&path))?;
            io::Write::write_all(&mut file, bytes).map_err(cannot_write(&path))?;
        }
        let written = files.len() + source.waveforms.len();
        let text = format!("{written} files written for {}: {}", identity.pseudonym, self.to.display());
        self.output.print(text, &json!({ "written": written, "pseudonym": identity.pseudonym }))
    }
}

/// All alarms of a patient, newest first.
async fn alarms(gateway: &Gateway, mrn: Mrn) -> Result<Vec<Alarm>, CliError> {
    let mut query = AlarmQuery { selection: AlarmSelection::All, mrn: Some(mrn), ..AlarmQuery::default() };
    let mut alarms = Vec::new();
    loop {
        let page = gateway.alarms(&query).await?;
        alarms.extend(page.items);
        if page.next.is_none() || page.next == query.cursor {
            return Ok(alarms);
        }
        query.cursor = page.next;
    }
}

/// Which file of a record to fetch.
#[derive(Debug, Clone, Copy)]
enum Content {
    Image,
    Signal,
    Plot,
    Detail,
}

#[derive(Debug, Default, Serialize)]
struct Counts {
    written: usize,
    existing: usize,
    /// Paths of existing files with other content.
    conflicts: Vec<String>,
}

struct Export {
    gateway: Gateway,
    directory: PathBuf,
    counts: Counts,
}

impl Export {
    async fn save_some(
        &mut self,
        at: Timestamp,
        id: RecordId,
        blob: Option<&BlobInfo>,
        content: Content,
    ) -> Result<Option<String>, CliError> {
        match blob {
            Some(blob) => self.save("ecgs", at, id, blob, content).await.map(Some),
            None => Ok(None),
        }
    }

    /// Saves one file if it does not exist. Returns its relative path. The path consists of time, id and
    /// format; it never contains text of a client.
    async fn save(
        &mut self,
        sub: &str,
        at: Timestamp,
        id: RecordId,
        blob: &BlobInfo,
        content: Content,
    ) -> Result<String, CliError> {
        let name = format!("{sub}/{}-{id}.{}", file_time(at), blob.media_type.extension());
        let path = self.directory.join(&name);
        match checksum::hash_file(&path) {
            Ok(hash) if hash == blob.sha256 => self.counts.existing += 1,
            Ok(_) => self.counts.conflicts.push(path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let download = match content {
                    Content::Image => self.gateway.image(id).await,
                    Content::Signal => self.gateway.signal(id).await,
                    Content::Plot => self.gateway.plot(id).await,
                    Content::Detail => self.gateway.ecg_detail_file(id).await,
                }?;
                let part = self.directory.join(sub).join(format!(".bedside-{id}.part"));
                let written = fetch(download, &part, blob.sha256).await;
                if written.is_err() {
                    let _ = fs::remove_file(&part);
                }
                written?;
                publish(&part, &path).map_err(cannot_write(&path))?;
                self.counts.written += 1;
            }
            Err(error) => return Err(cannot_read(&path)(error)),
        }
        Ok(name)
    }
}

/// Writes a download to `part` and compares its hash.
async fn fetch(mut download: Download, part: &Path, expected: BlobHash) -> Result<(), CliError> {
    let fail = cannot_write(part);
    let mut file = tokio::fs::File::from_std(create_private(part).map_err(&fail)?);
    let mut hash = BlobHasher::new();
    while let Some(chunk) = download.chunk().await? {
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(&fail)?;
    }
    if hash.finish() != expected {
        return Err(CliError::Gateway(ClientError::BadAnswer {
            gateway: "the gateway".to_owned(),
            reason: "the SHA-256 of a file does not match its record; the file was not saved".to_owned(),
        }));
    }
    file.sync_all().await.map_err(fail)
}

/// Creates or truncates a file. A new file has mode 0600.
pub(super) fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Renames a complete file. Fails if the target exists.
pub(super) fn publish(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no hard links.
        Err(_) if !path.exists() => fs::rename(part, path),
        Err(error) => Err(error),
    }
}

/// Replaces a file atomically.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("json.part");
    let mut file = create_private(&part)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

/// Rejects a directory whose index is not from an export of this patient.
fn check_index(path: &Path, mrn: Mrn) -> Result<(), CliError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(cannot_read(path)(error)),
    };
    match serde_json::from_slice::<IndexHead>(&text) {
        Ok(head) if head.format == FORMAT && head.mrn == mrn => Ok(()),
        Ok(head) if head.format == FORMAT => Err(CliError::failed(format!(
            "the directory contains the export of patient {}; choose another directory",
            head.mrn
        ))),
        _ => Err(CliError::failed(format!(
            "{} was not written by an export and is not overwritten; choose another directory",
            path.display()
        ))),
    }
}

/// Fetches all pages of a list.
async fn all<T>(
    page: impl AsyncFn(Option<Cursor>) -> Result<Page<T>, ClientError>,
) -> Result<Vec<T>, CliError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let Page { items, next, damaged } = page(after).await?;
        if let Some(record) = damaged.first() {
            return Err(CliError::failed(format!("the export would be incomplete: {record}")));
        }
        all.extend(items);
        match next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(all),
        }
    }
}

/// Formats a time for a file name, for example `20260314T150926535Z`.
fn file_time(at: Timestamp) -> String {
    at.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_index_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        let (seven, eight) = (Mrn::new(7).unwrap(), Mrn::new(8).unwrap());
        assert!(check_index(&path, seven).is_ok());
        fs::write(&path, "{}").unwrap();
        assert!(check_index(&path, seven).is_err());
        replace(&path, br#"{"format":"bedside-export-1","mrn":7,"more":[]}"#).unwrap();
        assert!(check_index(&path, seven).is_ok());
        assert!(check_index(&path, eight).is_err());
    }

    #[test]
    fn publish_never_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let (part, path) = (folder.path().join(".part"), folder.path().join("a.png"));
        fs::write(&part, "ours").unwrap();
        publish(&part, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        fs::write(&part, "new").unwrap();
        assert!(publish(&part, &path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }

    #[test]
    fn times_in_file_names_sort_and_contain_no_separators() {
        let at = "2026-03-14T15:09:26.535Z".parse().unwrap();
        assert_eq!(file_time(at), "20260314T150926535Z");
    }
}
