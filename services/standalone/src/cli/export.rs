//! `bedside export`: everything of a patient as files. Can be cut off and started again; never writes over a file that
//! it did not write itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use client::{ClientError, Download, Gateway};
use proto_json::{
    BlobHash, BlobHasher, BlobInfo, Cursor, EcgRecord, HeartRateRecord, ImageRecord, Mrn, Page,
    PatientSummary, RecordId, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::{CliError, GatewayArgs, say};

/// Entries fetched at a time.
const PAGE: u32 = 200;
/// First line of what an index of ours says of itself.
const FORMAT: &str = "bedside-export-1";

/// Save everything of a patient as files, with a JSON index.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside export 7 --to ./patient-7

The folder gets index.json, images/ and ecgs/. Each file is checked against its SHA-256. Started again on the same
folder, it fetches only what is missing. A file of the same name but other content is left as it is and reported.")]
pub(crate) struct ExportArgs {
    /// Medical record number
    mrn: Mrn,
    /// Folder to save to; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// What `index.json` holds. Paths are relative to it.
#[derive(Debug, Serialize)]
struct Index {
    format: &'static str,
    mrn: Mrn,
    exported_at: Timestamp,
    patient: PatientSummary,
    heart_rates: Vec<HeartRateRecord>,
    ecgs: Vec<Ecg>,
    images: Vec<Image>,
}

#[derive(Debug, Serialize)]
struct Ecg {
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plot_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail_file: Option<String>,
    #[serde(flatten)]
    record: EcgRecord,
}

#[derive(Debug, Serialize)]
struct Image {
    image_file: String,
    #[serde(flatten)]
    record: ImageRecord,
}

/// What tells our index from somebody else's file.
#[derive(Debug, Deserialize)]
struct IndexHead {
    format: String,
    mrn: Mrn,
}

impl ExportArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let gateway = self.gateway.connect()?;
        let mrn = self.mrn;
        let unknown = || CliError::told(format!("there is no patient {mrn}"));
        let patient = gateway.patient(mrn).await?.ok_or_else(unknown)?;
        let index_path = self.to.join("index.json");
        check_index(&index_path, mrn)?;
        for folder in [self.to.clone(), self.to.join("images"), self.to.join("ecgs")] {
            make_folder(&folder)?;
        }

        let heart_rates = all(async |after| gateway.heart_rates(mrn, after, Some(PAGE)).await).await?;
        let ecgs = all(async |after| gateway.ecgs(mrn, after, Some(PAGE)).await).await?;
        let images = all(async |after| gateway.images(mrn, after, Some(PAGE)).await).await?;

        let mut export = Export { gateway, folder: self.to.clone(), tally: Tally::default() };
        let mut index = Index {
            format: FORMAT,
            mrn,
            exported_at: Timestamp::now(),
            patient,
            heart_rates,
            ecgs: Vec::with_capacity(ecgs.len()),
            images: Vec::with_capacity(images.len()),
        };
        for record in images {
            let image_file = export.save("images", record.at, record.id, &record.file, What::Image).await?;
            index.images.push(Image { image_file, record });
        }
        for record in ecgs {
            let (at, id) = (record.at, record.id);
            index.ecgs.push(Ecg {
                signal_file: export.save_some(at, id, record.signal.as_ref(), What::Signal).await?,
                plot_file: export.save_some(at, id, record.plot.as_ref(), What::Plot).await?,
                detail_file: export.save_some(at, id, record.detail.as_ref(), What::Detail).await?,
                record,
            });
        }
        let text = serde_json::to_vec_pretty(&index).map_err(|error| CliError::told(error.to_string()))?;
        replace(&index_path, &text).map_err(|error| cannot_write(&index_path, &error))?;

        let Tally { written, there, foreign } = export.tally;
        let files = if written == 1 { "file" } else { "files" };
        say(format!("{written} {files} written, {there} there already: {}", self.to.display()))?;
        match foreign.as_slice() {
            [] => Ok(()),
            [one] => Err(CliError::told(format!("{one} is there with other content; it was left as it is"))),
            [first, rest @ ..] => Err(CliError::told(format!(
                "{first} and {} more files are there with other content; they were left as they are",
                rest.len()
            ))),
        }
    }
}

/// What to fetch of a record.
#[derive(Debug, Clone, Copy)]
enum What {
    Image,
    Signal,
    Plot,
    Detail,
}

#[derive(Debug, Default)]
struct Tally {
    written: usize,
    there: usize,
    foreign: Vec<String>,
}

struct Export {
    gateway: Gateway,
    folder: PathBuf,
    tally: Tally,
}

impl Export {
    async fn save_some(
        &mut self,
        at: Timestamp,
        id: RecordId,
        blob: Option<&BlobInfo>,
        what: What,
    ) -> Result<Option<String>, CliError> {
        match blob {
            Some(blob) => self.save("ecgs", at, id, blob, what).await.map(Some),
            None => Ok(None),
        }
    }

    /// Saves one file, unless it is there; its path in the folder. The name is made of time, id and format alone:
    /// nothing a client ever sent can choose a path here.
    async fn save(
        &mut self,
        sub: &str,
        at: Timestamp,
        id: RecordId,
        blob: &BlobInfo,
        what: What,
    ) -> Result<String, CliError> {
        let name = format!("{sub}/{}-{id}.{}", file_time(at), blob.media_type.extension());
        let path = self.folder.join(&name);
        match checksum::hash_file(&path) {
            Ok(hash) if hash == blob.sha256 => self.tally.there += 1,
            Ok(_) => self.tally.foreign.push(path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let download = match what {
                    What::Image => self.gateway.image(id).await,
                    What::Signal => self.gateway.signal(id).await,
                    What::Plot => self.gateway.plot(id).await,
                    What::Detail => self.gateway.ecg_detail_file(id).await,
                }?;
                let part = self.folder.join(sub).join(format!(".bedside-{id}.part"));
                let written = fetch(download, &part, blob.sha256).await;
                if written.is_err() {
                    let _ = fs::remove_file(&part);
                }
                written?;
                publish(&part, &path).map_err(|error| cannot_write(&path, &error))?;
                self.tally.written += 1;
            }
            Err(error) => return Err(CliError::told(format!("{} cannot be read: {error}", path.display()))),
        }
        Ok(name)
    }
}

/// Writes a download to `part` and checks it.
async fn fetch(mut download: Download, part: &Path, expected: BlobHash) -> Result<(), CliError> {
    let fail = |error: io::Error| cannot_write(part, &error);
    let mut file = tokio::fs::File::from_std(create_private(part).map_err(fail)?);
    let mut hash = BlobHasher::new();
    while let Some(chunk) = download.chunk().await? {
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(fail)?;
    }
    if hash.finish() != expected {
        return Err(CliError::Gateway(ClientError::BadAnswer {
            gateway: "the gateway".to_owned(),
            reason: "a file does not have the SHA-256 that is on record; it was not saved".to_owned(),
        }));
    }
    file.sync_all().await.map_err(fail)
}

/// Makes a file, or empties it, that only its owner can read.
fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a finished file its name, unless a file of this name has appeared meanwhile.
fn publish(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => fs::remove_file(part),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no links.
        Err(_) if !path.exists() => fs::rename(part, path),
        Err(error) => Err(error),
    }
}

/// Replaces a file in one step.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = path.with_extension("json.part");
    let mut file = create_private(&part)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}

fn check_index(path: &Path, mrn: Mrn) -> Result<(), CliError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(CliError::told(format!("{} cannot be read: {error}", path.display()))),
    };
    match serde_json::from_slice::<IndexHead>(&text) {
        Ok(head) if head.format == FORMAT && head.mrn == mrn => Ok(()),
        Ok(head) if head.format == FORMAT => Err(CliError::told(format!(
            "the folder holds the export of patient {}; choose another one",
            head.mrn
        ))),
        _ => Err(CliError::told(format!(
            "{} is not an index of ours; choose another folder, so that nothing is overwritten",
            path.display()
        ))),
    }
}

async fn all<T>(
    page: impl AsyncFn(Option<Cursor>) -> Result<Page<T>, ClientError>,
) -> Result<Vec<T>, CliError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let Page { items, next, damaged } = page(after).await?;
        if let Some(record) = damaged.first() {
            return Err(CliError::told(format!("the export would not be complete: {record}")));
        }
        all.extend(items);
        match next {
            Some(next) if Some(next) != after => after = Some(next),
            _ => return Ok(all),
        }
    }
}

/// The time as part of a file name: `20260314T150926535Z`.
fn file_time(at: Timestamp) -> String {
    at.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Patients' data is nobody else's: a folder we make is for its owner alone.
fn make_folder(path: &Path) -> Result<(), CliError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| CliError::told(format!("{} cannot be made: {error}", path.display())))
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::told(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_others_is_never_overwritten() {
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
    fn publishing_never_replaces_a_file() {
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
    fn times_in_file_names_sort_and_are_safe() {
        let at = "2026-03-14T15:09:26.535Z".parse().unwrap();
        assert_eq!(file_time(at), "20260314T150926535Z");
    }
}
