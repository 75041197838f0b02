//! Compares what clients were told with what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use client::Gateway;
use futures::StreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use proto_json::{BlobHash, EcgRecord, EcgStatus, ImageRecord, Mrn, UploadId};

use super::clients::{Record, Told};
use crate::{Mode, System, within};

/// What is stored of one patient.
struct Stored {
    ecgs: Vec<EcgRecord>,
    images: Vec<ImageRecord>,
}

/// A file in the store, read directly from the database.
struct Kept {
    bytes: i64,
    begins: Vec<u8>,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kept { bytes, begins } = self;
        write!(f, "{bytes} bytes, \"{}\"...", begins.escape_ascii())
    }
}

/// How much of a file says what it is.
const BEGINNING: usize = 24;

/// Everything that is not as promised, one sentence each. Waits until everything accepted is stored and every ECG has
/// come to an end.
pub(super) async fn complaints(system: &System, gateway: &Gateway, records: &[Record]) -> Vec<String> {
    let mut out = Vec::new();
    for record in records {
        if let Told::Accepted(Some(upload)) | Told::Stored(Some(upload)) = &record.told {
            let receipt = within("what was accepted is stored", || async {
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
    let mut referred: BTreeSet<(UploadId, BlobHash)> = BTreeSet::new();
    for (mrn, patient) in &stored {
        for ecg in &patient.ecgs {
            match ecg.status {
                EcgStatus::Pending => out.push(format!("ECG {} of patient {mrn} still waits", ecg.id)),
                EcgStatus::Failed => out.push(format!(
                    "ECG {} of patient {mrn} failed although its strip is clean: {}",
                    ecg.id,
                    ecg.failure.as_deref().unwrap_or("no reason")
                )),
                EcgStatus::Analyzed | EcgStatus::Picture => {}
            }
            if let Some(uploaded) = ecg.signal.as_ref().or(ecg.plot.as_ref()) {
                *copies.entry((*mrn, uploaded.sha256)).or_default() += 1;
            }
            let files = [&ecg.signal, &ecg.plot, &ecg.detail].into_iter().flatten();
            referred.extend(files.map(|blob| (ecg.upload_id, blob.sha256)));
        }
        for image in &patient.images {
            *copies.entry((*mrn, image.file.sha256)).or_default() += 1;
            referred.insert((image.upload_id, image.file.sha256));
        }
    }
    for record in records {
        let counts: Vec<usize> = record
            .files
            .iter()
            .map(|(_, hash)| copies.remove(&(record.mrn, *hash)).unwrap_or_default())
            .collect();
        let all = |count: usize| counts.iter().all(|found| *found == count);
        let kept = match &record.told {
            Told::Stored(_) | Told::Accepted(_) => all(1),
            Told::Refused(_) => all(0),
            Told::Nothing => all(1) || all(0),
        };
        if !kept {
            out.push(format!(
                "an upload for patient {} after {} attempts, told {:?}: its files are there {counts:?} times",
                record.mrn, record.attempts, record.told
            ));
        }
    }
    out.extend(copies.keys().map(|(mrn, hash)| format!("patient {mrn} has a file {hash} that nobody sent")));
    out.extend(bytes(gateway, &stored).await);
    let kept = swept(system, &referred).await;
    for ((upload, hash), file) in kept.iter().filter(|(key, _)| !referred.contains(key)) {
        let sender = sender(records, *hash);
        out.push(format!("nothing refers to the stored file {hash} of upload {upload}, {file}; {sender}"));
    }
    for (upload, hash) in referred.iter().filter(|key| !kept.contains_key(key)) {
        let sender = sender(records, *hash);
        out.push(format!("the file {hash} of upload {upload} is referred to and not stored; {sender}"));
    }
    out
}

/// The stored files, once the sweep has removed those that no record refers to, or after a minute.
async fn swept(
    system: &System,
    referred: &BTreeSet<(UploadId, BlobHash)>,
) -> BTreeMap<(UploadId, BlobHash), Kept> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let kept = blobs(system).await;
        if kept.keys().all(|key| referred.contains(key)) || tokio::time::Instant::now() > deadline {
            return kept;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Who sent a file, and what that client was told.
fn sender(records: &[Record], hash: BlobHash) -> String {
    let of = |record: &&Record| record.files.iter().any(|(_, file)| *file == hash);
    let Some(record) = records.iter().find(of) else {
        return "no client sent it: the picture or the details of an analysis".to_owned();
    };
    let place = record.files.iter().position(|(_, file)| *file == hash).unwrap_or_default();
    format!(
        "it was sent as file {} of {} ({:?}) for patient {}, in {} attempts, and its client was told {:?}",
        place + 1,
        record.files.len(),
        record.files[place].0,
        record.mrn,
        record.attempts,
        record.told
    )
}

async fn patient(gateway: &Gateway, mrn: Mrn) -> Stored {
    let ecgs = within("each ECG comes to an end", || async {
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

/// Fetches every file and compares its hash.
async fn bytes(gateway: &Gateway, stored: &BTreeMap<Mrn, Stored>) -> Vec<String> {
    let mut out = Vec::new();
    let mut compare =
        |what: String, expected: BlobHash, bytes: Result<bytes::Bytes, client::ClientError>| match bytes {
            Ok(bytes) if BlobHash::of(&bytes) == expected => {}
            Ok(_) => out.push(format!("{what} came back with other bytes")),
            Err(error) => out.push(format!("{what} cannot be fetched: {error}")),
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

/// All files in the store, read directly from the database.
async fn blobs(system: &System) -> BTreeMap<(UploadId, BlobHash), Kept> {
    match (system.mode(), system.database()) {
        (Mode::Processes, Some(name)) => {
            let uri = system.database_uri().expect("a database has an address");
            let database = mongodb::Client::with_uri_str(uri).await.expect("the database").database(name);
            let mut files = database
                .collection::<Document>("blobs.files")
                .find(doc! {})
                .await
                .expect("the files are listed");
            let mut kept = BTreeMap::new();
            while let Some(file) = files.next().await {
                let file = file.expect("a file of the list");
                let name = file.get_str("filename").expect("its name");
                let hash = name.parse::<BlobHash>().expect("its name is a hash");
                let metadata = file.get_document("metadata").expect("its metadata");
                let Some(Bson::Binary(upload)) = metadata.get("upload") else {
                    panic!("a file has no upload")
                };
                let upload = upload.to_uuid().expect("the id of an upload").to_string();
                let upload = upload.parse::<UploadId>().expect("the id of an upload");
                kept.insert((upload, hash), kept_in_mongo(&database, &file).await);
            }
            kept
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
            let rows = select.query_map([BEGINNING], |row| {
                let upload = row.get::<_, String>(2)?.parse::<UploadId>().expect("the id of an upload");
                let kept = Kept {
                    bytes: row.get(1)?,
                    begins: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(),
                };
                Ok(((upload, BlobHash::from_bytes(row.get(0)?)), kept))
            });
            rows.expect("the files are listed").map(|row| row.expect("a file of the list")).collect()
        }
    }
}

async fn kept_in_mongo(database: &mongodb::Database, file: &Document) -> Kept {
    let id = file.get("_id").cloned().unwrap_or(Bson::Null);
    let chunks = database.collection::<Document>("blobs.chunks");
    let first =
        chunks.find_one(doc! { "files_id": id, "n": 0 }).await.expect("its first chunk is looked for");
    let begins = first.and_then(|chunk| chunk.get_binary_generic("data").ok().cloned()).unwrap_or_default();
    Kept {
        bytes: file.get_i64("length").unwrap_or_default(),
        begins: begins.into_iter().take(BEGINNING).collect(),
    }
}
