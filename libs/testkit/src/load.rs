//! Clients that upload and read all the time, and note every request that failed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{ClientError, Gateway, Upload, UploadAnswer, UploadFile};
use proto_json::{BlobHash, FileKind, Mrn, UploadId};
use tokio::task::JoinHandle;

use crate::{Clock, material, within};

const UPLOADERS: u64 = 3;
/// Between two uploads of one client: the load shall be steady, not all that the machine can do.
const PAUSE: Duration = Duration::from_millis(120);

/// What a client was told is stored or will be.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The upload.
    pub upload: UploadId,
    /// Its patient.
    pub mrn: Mrn,
    /// The raw ECG in it.
    pub ecg: BlobHash,
    /// The image in it.
    pub image: BlobHash,
}

#[derive(Debug, Default)]
struct Notes {
    clock: Clock,
    ended: AtomicBool,
    /// Requests that were answered.
    uploads: AtomicUsize,
    reads: AtomicUsize,
    /// Requests that were not, or not well.
    failures: Mutex<Vec<String>>,
    /// The longest an upload took from its first attempt to its answer.
    slowest: Mutex<Duration>,
    /// When an upload was answered last, and the longest time for which none was, on a machine that goes on.
    silence: Mutex<(Option<Duration>, Duration)>,
}

impl Notes {
    fn answered(&self, took: Duration) {
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = slowest.max(took);
        let (last, longest) = &mut *self.silence.lock().unwrap();
        let now = self.clock.elapsed();
        if let Some(last) = *last {
            *longest = (*longest).max(now.saturating_sub(last));
        }
        *last = Some(now);
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Load that runs until [`Load::end`].
#[derive(Debug)]
pub struct Load {
    notes: Arc<Notes>,
    uploaders: Vec<JoinHandle<Vec<Promise>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Three clients upload an ECG and an image each, again and again; two read.
    #[must_use]
    pub fn start(uploader: &Gateway, viewer: &Gateway) -> Self {
        Self::start_with(UPLOADERS, uploader, viewer)
    }

    /// The same with so many clients that upload.
    #[must_use]
    pub fn start_with(uploaders: u64, uploader: &Gateway, viewer: &Gateway) -> Self {
        let notes = Arc::<Notes>::default();
        let uploaders = (0..uploaders)
            .map(|client| tokio::spawn(upload(uploader.clone(), client, Arc::clone(&notes))))
            .collect();
        let readers =
            (0..2).map(|client| tokio::spawn(read(viewer.clone(), client, Arc::clone(&notes)))).collect();
        Load { notes, uploaders, readers }
    }

    /// Waits until so many more uploads and reads were answered.
    pub async fn goes_on(&self, more: usize) {
        let uploads = self.notes.uploads.load(Ordering::Relaxed) + more;
        let reads = self.notes.reads.load(Ordering::Relaxed) + more;
        within("uploads and reads go on", || async {
            (self.notes.uploads.load(Ordering::Relaxed) >= uploads
                && self.notes.reads.load(Ordering::Relaxed) >= reads)
                .then_some(())
        })
        .await;
    }

    /// How many uploads were answered.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.notes.uploads.load(Ordering::Relaxed)
    }

    /// Fails when a request has failed since the last call.
    pub fn assert_no_failure(&self, during: &str) {
        let failures = self.failures();
        assert!(failures.is_empty(), "requests failed {during}:\n{}", failures.join("\n"));
    }

    /// Requests that failed since the last call.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.failures.lock().unwrap())
    }

    /// The longest that an upload took since the last call.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        std::mem::take(&mut *self.notes.slowest.lock().unwrap())
    }

    /// The longest time without an answered upload since the last call.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        std::mem::take(&mut self.notes.silence.lock().unwrap().1)
    }

    /// Ends it; gives every promise.
    pub async fn end(self) -> Vec<Promise> {
        self.notes.ended.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await.unwrap();
        }
        let mut promises = Vec::new();
        for uploader in self.uploaders {
            promises.extend(uploader.await.unwrap());
        }
        println!("   {} uploads, {} reads", promises.len(), self.notes.reads.load(Ordering::Relaxed));
        promises
    }
}

/// Patients of the load.
#[must_use]
pub fn patients() -> Vec<Mrn> {
    (0..UPLOADERS).map(mrn_of).collect()
}

fn mrn_of(client: u64) -> Mrn {
    Mrn::new(1_000 + client).unwrap()
}

/// Each attempt is one request; one that fails is noted, and sent again under the same key.
async fn upload(gateway: Gateway, client: u64, notes: Arc<Notes>) -> Vec<Promise> {
    let mrn = mrn_of(client);
    let mut promises = Vec::new();
    for number in 0.. {
        if notes.ended.load(Ordering::Relaxed) {
            break;
        }
        let seed = client * 100_000 + number;
        let (ecg, image) = (material::strip_csv(75.0, 5.0, seed), material::jpeg(60, seed));
        let (ecg_hash, image_hash) = (BlobHash::of(&ecg), BlobHash::of(&image));
        let upload = Upload::of(vec![
            UploadFile::from_bytes(FileKind::Ecg, "strip.csv", ecg),
            UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", image),
        ]);
        let begun = Instant::now();
        let answer = loop {
            match gateway.upload(mrn, &upload, |_| {}).await {
                Ok(answer) => break answer,
                Err(error) => note(&notes, &format!("upload {number} of client {client}"), &error).await,
            }
        };
        notes.answered(begun.elapsed());
        let upload = match answer {
            UploadAnswer::Stored(receipt) => receipt.upload_id,
            UploadAnswer::Accepted(received) => received.upload_id,
        };
        promises.push(Promise { upload, mrn, ecg: ecg_hash, image: image_hash });
        pause().await;
    }
    promises
}

async fn read(gateway: Gateway, client: u64, notes: Arc<Notes>) {
    let mut is_there = false;
    while !notes.ended.load(Ordering::Relaxed) {
        let mrn = mrn_of(client);
        let answer = async {
            gateway.patients(None, None, Some(10)).await?;
            let page = gateway.ecgs(mrn, None, Some(5)).await?;
            if let Some(ecg) = page.items.iter().find(|ecg| ecg.plot.is_some()) {
                gateway.plot(ecg.id).await?.bytes(1 << 24).await?;
            }
            Ok::<_, ClientError>(())
        };
        match answer.await {
            Ok(()) => {
                is_there = true;
                notes.reads.fetch_add(1, Ordering::Relaxed);
            }
            // A patient is not there before its first upload is stored.
            Err(error) if !is_there => drop(error),
            Err(error) => note(&notes, &format!("a read of client {client}"), &error).await,
        }
        pause().await;
    }
}

async fn note(notes: &Notes, what: &str, error: &ClientError) {
    assert!(error.is_transient(), "{what} was refused: {error}");
    notes.failures.lock().unwrap().push(format!("{what}: {error}"));
    pause().await;
}

async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
