//! Compares what clients were told with what is stored.

use std::collections::{BTreeMap, BTreeSet};

use client::Gateway;
use futures::StreamExt as _;
use mongodb::bson::{Document, doc};
use proto_json::{BlobHash, EcgRecord, EcgStatus, ImageRecord, Mrn};

use super::clients::{Record, Told};
use crate::{Mode, System, within};

/// What is stored of one patient.
struct Stored {
    ecgs: Vec<EcgRecord>,
    images: Vec<ImageRecord>,
}

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
    let mut referred: BTreeSet<BlobHash> = BTreeSet::new();
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
            referred
                .extend([&ecg.signal, &ecg.plot, &ecg.detail].into_iter().flatten().map(|blob| blob.sha256));
        }
        for image in &patient.images {
            *copies.entry((*mrn, image.file.sha256)).or_default() += 1;
            referred.insert(image.file.sha256);
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
    let kept = blobs(system).await;
    let orphans = kept.difference(&referred).count();
    if orphans > 0 {
        out.push(format!("{orphans} stored files that nothing refers to"));
    }
    let missing = referred.difference(&kept).count();
    if missing > 0 {
        out.push(format!("{missing} files are referred to and not stored"));
    }
    out
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

/// Hashes of all files in the store, read past the system.
async fn blobs(system: &System) -> BTreeSet<BlobHash> {
    match (system.mode(), system.database()) {
        (Mode::Processes, Some(name)) => {
            let uri = system.database_uri().expect("a database has an address");
            let database = mongodb::Client::with_uri_str(uri).await.expect("the database").database(name);
            let files = database.collection::<Document>("blobs.files");
            let files = files.find(doc! {}).await.expect("the files are listed");
            files
                .map(|file| {
                    let file = file.expect("a file of the list");
                    let name = file.get_str("filename").expect("its name");
                    name.parse::<BlobHash>().expect("its name is a hash")
                })
                .collect()
                .await
        }
        _ => {
            let path = system.data_folder().join("patients.db");
            let database = rusqlite::Connection::open(path).expect("the database file");
            let mut select = database
                .prepare("SELECT sha256 FROM blobs WHERE complete = 1")
                .expect("the files are listed");
            let rows = select.query_map([], |row| row.get::<_, [u8; 32]>(0)).expect("the files are listed");
            rows.map(|row| BlobHash::from_bytes(row.expect("a file of the list"))).collect()
        }
    }
}
