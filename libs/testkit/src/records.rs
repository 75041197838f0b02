//! Checks of stored records: complete, stored once, unchanged after a restart or a restore.

use std::collections::BTreeSet;

use client::Gateway;
use futures::{StreamExt, stream};
use proto_json::{BlobHash, EcgRecord, EcgStatus, ImageRecord, Mrn, RecordId};

use crate::load::{Promise, patients};
use crate::within;

const PAGE: Option<u32> = Some(500);

async fn all_ecgs(gateway: &Gateway, mrn: Mrn) -> Option<Vec<EcgRecord>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gateway.ecgs(mrn, after, PAGE).await.ok()?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Some(all);
        }
    }
}

async fn all_images(gateway: &Gateway, mrn: Mrn) -> Option<Vec<ImageRecord>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = gateway.images(mrn, after, PAGE).await.ok()?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Some(all);
        }
    }
}

/// Files that are read at the same time.
const READS: usize = 8;

/// Waits until every promised upload is stored and every ECG has a result.
///
/// # Panics
/// If anything is missing, is stored twice, or was not promised.
pub async fn assert_all_once(gateway: &Gateway, promises: &[Promise]) {
    let uploads: BTreeSet<_> = promises.iter().map(|promise| promise.upload).collect();
    assert_eq!(uploads.len(), promises.len(), "each upload has its own id");
    for mrn in patients() {
        let promised: Vec<_> = promises.iter().filter(|promise| promise.mrn == mrn).collect();
        let ecgs = within("each upload is stored, each ECG has a result", || async {
            let ecgs = all_ecgs(gateway, mrn).await?;
            let done = ecgs.iter().all(|ecg| ecg.status != EcgStatus::Pending);
            (done && ecgs.len() >= promised.len()).then_some(ecgs)
        })
        .await;
        let images = all_images(gateway, mrn).await.expect("images can be listed");
        assert!(ecgs.iter().all(|ecg| ecg.status == EcgStatus::Analyzed), "every ECG was analysed");
        let heart_rates =
            gateway.heart_rates(mrn, None, PAGE).await.expect("heart rates can be listed").items;
        let of_ecgs: BTreeSet<_> = heart_rates.iter().filter_map(|rate| rate.ecg_id).collect();
        assert_eq!(of_ecgs.len(), heart_rates.len(), "each analysis is stored once");
        let expected: BTreeSet<_> = promised.iter().map(|promise| promise.ecg).collect();
        let stored: BTreeSet<_> =
            ecgs.iter().filter_map(|ecg| ecg.signal.as_ref()).map(|file| file.sha256).collect();
        assert_eq!((stored.len(), ecgs.len()), (expected.len(), expected.len()), "each ECG is stored once");
        assert_eq!(stored, expected);
        let expected: BTreeSet<_> = promised.iter().map(|promise| promise.image).collect();
        let stored: BTreeSet<_> = images.iter().map(|image| image.file.sha256).collect();
        assert_eq!(
            (stored.len(), images.len()),
            (expected.len(), expected.len()),
            "each image is stored once"
        );
        assert_eq!(stored, expected);
    }
}

/// Reads every file of every listed record and returns their hashes.
///
/// # Panics
/// If a file cannot be read.
pub async fn read_all_files(gateway: &Gateway) -> BTreeSet<BlobHash> {
    let mut files = Vec::new();
    for patient in gateway.all_patients(None).await.expect("patients can be listed").items {
        for ecg in all_ecgs(gateway, patient.mrn).await.expect("ECGs can be listed") {
            files.push(File::Signal(ecg.id));
            files.extend(ecg.plot.map(|_| File::Plot(ecg.id)));
        }
        let images = all_images(gateway, patient.mrn).await.expect("images can be listed");
        files.extend(images.iter().map(|image| File::Image(image.id)));
    }
    stream::iter(files).map(|file| hash_of(gateway, file)).buffer_unordered(READS).collect().await
}

/// A file of a record.
#[derive(Debug, Clone, Copy)]
enum File {
    Signal(RecordId),
    Plot(RecordId),
    Image(RecordId),
}

/// Hash of a file. Repeats a request without an answer, because a busy machine can take longer than the client waits.
async fn hash_of(gateway: &Gateway, file: File) -> BlobHash {
    within("a file can be read", || async {
        let answer = match file {
            File::Signal(ecg) => gateway.signal(ecg).await,
            File::Plot(ecg) => gateway.plot(ecg).await,
            File::Image(image) => gateway.image(image).await,
        };
        match answer {
            Ok(file) => Some(BlobHash::of(&file.bytes(1 << 24).await.expect("the file is complete"))),
            Err(error) if error.is_unreachable() => None,
            Err(error) => panic!("a file cannot be read: {error}"),
        }
    })
    .await
}

/// All records as text, and hashes of the newest files, for comparison.
///
/// # Panics
/// If a request fails.
pub async fn answers(gateway: &Gateway) -> Vec<String> {
    let mut answers = Vec::new();
    for patient in gateway.all_patients(None).await.expect("patients can be listed").items {
        let mrn = patient.mrn;
        answers.push(format!("{patient:?}"));
        let ecgs = all_ecgs(gateway, mrn).await.expect("ECGs can be listed");
        let images = all_images(gateway, mrn).await.expect("images can be listed");
        let rates = gateway.heart_rates(mrn, None, PAGE).await.expect("heart rates can be listed").items;
        if let Some(ecg) = ecgs.first() {
            for file in [gateway.signal(ecg.id).await, gateway.plot(ecg.id).await] {
                let bytes =
                    file.expect("a file can be read").bytes(1 << 24).await.expect("the file is complete");
                answers.push(BlobHash::of(&bytes).to_string());
            }
        }
        if let Some(image) = images.first() {
            let file = gateway.image(image.id).await.expect("an image can be read");
            answers.push(BlobHash::of(&file.bytes(1 << 24).await.expect("the file is complete")).to_string());
        }
        answers.extend(ecgs.iter().map(|ecg| format!("{ecg:?}")));
        answers.extend(images.iter().map(|image| format!("{image:?}")));
        answers.extend(rates.iter().map(|rate| format!("{rate:?}")));
    }
    answers
}
