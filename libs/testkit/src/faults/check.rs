//! Compares the answers that clients received with the stored data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use client::Gateway;
use futures::StreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use proto_json::{BlobHash, EcgRecord, EcgStatus, ImageRecord, Mrn, UploadId};

use super::clients::{Answer, Record};
use crate::{Mode, System, within};

/// The stored records of a patient.
struct Stored {
    ecgs: Vec<EcgRecord>,
    images: Vec<ImageRecord>,
}

/// A stored file, read directly from the database.
struct StoredFile {
    bytes: i64,
    start: Vec<u8>,
}

impl fmt::Display for StoredFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, \"{}\"...", self.bytes, self.start.escape_ascii())
    }
}

/// A stored file belongs to one upload.
type FileKey = (UploadId, BlobHash);

/// Number of bytes at the start of a file that messages show.
const START: usize = 24;

/// Violated guarantees, one sentence each. Waits until every accepted upload is stored and no ECG is pending.
pub(super) async fn violations(system: &System, gateway: &Gateway, records: &[Record]) -> Vec<String> {
    let mut out = Vec::new();
    for record in records {
        if let Answer::Accepted(Some(upload)) | Answer::Stored(Some(upload)) = &record.answer {
            let receipt = within("accepted uploads are stored", || async {
                gateway.upload_status(*upload).await.ok().flatten().map(|status| status.receipt)
            })
            .await;
            if receipt.mrn != record.mrn {
                out.push(format!(
                    "upload {upload} is stored for patient {} instead of {}",
                    receipt.mrn, record.mrn
                ));
            }
        }
    }
    let mut stored = BTreeMap::new();
    for mrn in records.iter().map(|record| record.mrn).collect::<BTreeSet<_>>() {
        stored.insert(mrn, patient(gateway, mrn).await);
    }
    let mut copies: BTreeMap<(Mrn, BlobHash), usize> = BTreeMap::new();
    let mut referenced: BTreeSet<FileKey> = BTreeSet::new();
    for (mrn, patient) in &stored {
        for ecg in &patient.ecgs {
            match ecg.status {
                EcgStatus::Pending => out.push(format!("ECG {} of patient {mrn} is still pending", ecg.id)),
                EcgStatus::Failed => out.push(format!(
                    "ECG {} of patient {mrn} failed, although its strip is clean: {}",
                    ecg.id,
                    ecg.failure.as_deref().unwrap_or("no reason")
                )),
                EcgStatus::Analyzed | EcgStatus::Picture => {}
            }
            if let Some(uploaded) = ecg.signal.as_ref().or(ecg.plot.as_ref()) {
                *copies.entry((*mrn, uploaded.sha256)).or_default() += 1;
            }
            let files = [&ecg.signal, &ecg.plot, &ecg.detail].into_iter().flatten();
            referenced.extend(files.map(|blob| (ecg.upload_id, blob.sha256)));
        }
        for image in &patient.images {
            *copies.entry((*mrn, image.file.sha256)).or_default() += 1;
            referenced.insert((image.upload_id, image.file.sha256));
        }
    }
    for record in records {
        let counts: Vec<usize> = record
            .files
            .iter()
            .map(|(_, hash)| copies.remove(&(record.mrn, *hash)).unwrap_or_default())
            .collect();
        let all = |count: usize| counts.iter().all(|found| *found == count);
        let as_answered = match &record.answer {
            Answer::Stored(_) | Answer::Accepted(_) => all(1),
            Answer::Refused(_) => all(0),
            Answer::Nothing => all(1) || all(0),
        };
        if !as_answered {
            out.push(format!(
                "an upload for patient {} with {} attempts and the answer {:?}: its files are stored {counts:?} times",
                record.mrn, record.attempts, record.answer
            ));
        }
    }
    out.extend(
        copies.keys().map(|(mrn, hash)| format!("patient {mrn} has a file {hash} that no client sent")),
    );
    out.extend(bytes(gateway, &stored).await);
    let stored_files = files_after_sweep(system, &referenced).await;
    for ((upload, hash), file) in stored_files.iter().filter(|(key, _)| !referenced.contains(key)) {
        let sender = sender(records, *hash);
        out.push(format!("the stored file {hash} of upload {upload} ({file}) is not referenced; {sender}"));
    }
    for (upload, hash) in referenced.iter().filter(|key| !stored_files.contains_key(key)) {
        let sender = sender(records, *hash);
        out.push(format!("the referenced file {hash} of upload {upload} is not stored; {sender}"));
    }
    out
}

/// The stored files after the sweep has removed orphaned ones. Waits at most a minute.
async fn files_after_sweep(system: &System, referenced: &BTreeSet<FileKey>) -> BTreeMap<FileKey, StoredFile> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let files = stored_files(system).await;
        if files.keys().all(|key| referenced.contains(key)) || Instant::now() > deadline {
            return files;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Describes the upload of a file and its answer.
fn sender(records: &[Record], hash: BlobHash) -> String {
    let of = |record: &&Record| record.files.iter().any(|(_, file)| *file == hash);
    let Some(record) = records.iter().find(of) else {
        return "no client sent it: it is a plot or the details of an analysis".to_owned();
    };
    let place = record.files.iter().position(|(_, file)| *file == hash).unwrap_or_default();
    format!(
        "it was sent as file {} of {} ({:?}) for patient {} in {} attempts, with the answer {:?}",
        place + 1,
        record.files.len(),
        record.files[place].0,
        record.mrn,
        record.attempts,
        record.answer
    )
}

async fn patient(gateway: &Gateway, mrn: Mrn) -> Stored {
    let ecgs = within("no ECG is pending", || async {
        let mut ecgs = Vec::new();
        let mut after = None;
        loop {
            let page = gateway.ecgs(mrn, after, Some(200)).await.ok()?;
            ecgs.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        ecgs.iter().all(|ecg| ecg.status != EcgStatus::Pending).then_some(ecgs)
    })
    .await;
    let images = within("images can be listed", || async {
        let mut images = Vec::new();
        let mut after = None;
        loop {
            let page = gateway.images(mrn, after, Some(200)).await.ok()?;
            images.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Some(images);
            }
        }
    })
    .await;
    Stored { ecgs, images }
}

/// Reads every file through the API and compares its hash.
async fn bytes(gateway: &Gateway, stored: &BTreeMap<Mrn, Stored>) -> Vec<String> {
    let mut out = Vec::new();
    let mut compare =
        |what: String, expected: BlobHash, bytes: Result<bytes::Bytes, client::ClientError>| match bytes {
            Ok(bytes) if BlobHash::of(&bytes) == expected => {}
            Ok(_) => out.push(format!("{what} has other bytes")),
            Err(error) => out.push(format!("{what} cannot be read: {error}")),
        };
    const MOST: usize = 64 << 20;
    for patient in stored.values() {
        for ecg in &patient.ecgs {
            let fetched =
                [(&ecg.signal, gateway.signal(ecg.id).await), (&ecg.plot, gateway.plot(ecg.id).await)];
            for (blob, download) in fetched {
                if let Some(blob) = blob {
                    let bytes = match download {
                        Ok(download) => download.bytes(MOST).await,
                        Err(error) => Err(error),
                    };
                    compare(format!("a file of ECG {}", ecg.id), blob.sha256, bytes);
                }
            }
        }
        for image in &patient.images {
            let bytes = match gateway.image(image.id).await {
                Ok(download) => download.bytes(MOST).await,
                Err(error) => Err(error),
            };
            compare(format!("image {}", image.id), image.file.sha256, bytes);
        }
    }
    out
}

/// All stored files, read directly from the database.
async fn stored_files(system: &System) -> BTreeMap<FileKey, StoredFile> {
    match (system.mode(), system.database()) {
        (Mode::Processes, Some(name)) => {
            let uri = system.database_uri().expect("a database has an address");
            let database = mongodb::Client::with_uri_str(uri).await.expect("the database").database(name);
            let mut files = database
                .collection::<Document>("blobs.files")
                .find(doc! {})
                .await
                .expect("the files are listed");
            let mut stored_files = BTreeMap::new();
            while let Some(file) = files.next().await {
                let file = file.expect("a file of the list");
                let name = file.get_str("filename").expect("the name");
                let hash = name.parse::<BlobHash>().expect("the name is a hash");
                let metadata = file.get_document("metadata").expect("the metadata");
                let Some(Bson::Binary(upload)) = metadata.get("upload") else {
                    panic!("a file has no upload")
                };
                let upload = upload.to_uuid().expect("an upload id").to_string();
                let upload = upload.parse::<UploadId>().expect("an upload id");
                stored_files.insert((upload, hash), file_in_mongo(&database, &file).await);
            }
            stored_files
        }
        _ => {
            let path = system.data_folder().join("patients.db");
            let database = rusqlite::Connection::open(path).expect("the database file");
            let mut select = database
                .prepare(
                    "SELECT sha256, bytes, lower(hex(upload)), substr(data, 1, ?1) FROM blobs
                     LEFT JOIN blob_chunks ON key = number << 20 WHERE complete = 1",
                )
                .expect("the files are listed");
            let rows = select.query_map([START], |row| {
                let upload = row.get::<_, String>(2)?.parse::<UploadId>().expect("an upload id");
                let file = StoredFile {
                    bytes: row.get(1)?,
                    start: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(),
                };
                Ok(((upload, BlobHash::from_bytes(row.get(0)?)), file))
            });
            rows.expect("the files are listed").map(|row| row.expect("a file of the list")).collect()
        }
    }
}

async fn file_in_mongo(database: &mongodb::Database, file: &Document) -> StoredFile {
    let id = file.get("_id").cloned().unwrap_or(Bson::Null);
    let chunks = database.collection::<Document>("blobs.chunks");
    let first = chunks.find_one(doc! { "files_id": id, "n": 0 }).await.expect("the first chunk can be read");
    let start = first.and_then(|chunk| chunk.get_binary_generic("data").ok().cloned()).unwrap_or_default();
    StoredFile {
        bytes: file.get_i64("length").unwrap_or_default(),
        start: start.into_iter().take(START).collect(),
    }
}
