//! Clients that upload and read continuously and record every failed request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::{ClientError, Gateway, Upload, UploadAnswer, UploadFile};
use proto_json::{BlobHash, FileKind, Mrn, UploadId};
use tokio::task::JoinHandle;

use crate::{Clock, test_data, within};

const UPLOADERS: u64 = 3;
/// Pause between two uploads of one client, so that the load is steady and below the capacity of the machine.
const PAUSE: Duration = Duration::from_millis(120);

/// An upload that was answered with success.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The upload.
    pub upload: UploadId,
    /// Its patient.
    pub mrn: Mrn,
    /// Hash of its raw ECG.
    pub ecg: BlobHash,
    /// Hash of its image.
    pub image: BlobHash,
}

#[derive(Debug, Default)]
struct Statistics {
    clock: Clock,
    ended: AtomicBool,
    /// Successful requests.
    uploads: AtomicUsize,
    reads: AtomicUsize,
    /// Failed requests.
    failures: Mutex<Vec<String>>,
    /// Longest time from the first attempt of an upload to its answer.
    slowest: Mutex<Duration>,
    /// Time of the last answer to an upload, and the longest interval between two answers, without stalls of the machine.
    silence: Mutex<(Option<Duration>, Duration)>,
}

impl Statistics {
    fn record_upload(&self, took: Duration) {
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

/// Clients that run until [`Load::end`].
#[derive(Debug)]
pub struct Load {
    statistics: Arc<Statistics>,
    uploaders: Vec<JoinHandle<Vec<Promise>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts three clients that upload an ECG and an image repeatedly, and two that read.
    #[must_use]
    pub fn start(uploader: &Gateway, viewer: &Gateway) -> Self {
        Self::start_with(UPLOADERS, uploader, viewer)
    }

    /// [`Load::start`] with this number of uploading clients.
    #[must_use]
    pub fn start_with(uploaders: u64, uploader: &Gateway, viewer: &Gateway) -> Self {
        let statistics = Arc::<Statistics>::default();
        let uploaders = (0..uploaders)
            .map(|client| tokio::spawn(upload(uploader.clone(), client, Arc::clone(&statistics))))
            .collect();
        let readers = (0..2)
            .map(|client| tokio::spawn(read(viewer.clone(), client, Arc::clone(&statistics))))
            .collect();
        Load { statistics, uploaders, readers }
    }

    /// Waits until this number of further uploads and reads have succeeded.
    pub async fn goes_on(&self, more: usize) {
        let uploads = self.statistics.uploads.load(Ordering::Relaxed) + more;
        let reads = self.statistics.reads.load(Ordering::Relaxed) + more;
        within("uploads and reads continue", || async {
            (self.statistics.uploads.load(Ordering::Relaxed) >= uploads
                && self.statistics.reads.load(Ordering::Relaxed) >= reads)
                .then_some(())
        })
        .await;
    }

    /// Number of successful uploads.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.statistics.uploads.load(Ordering::Relaxed)
    }

    /// Panics if a request has failed since the last call.
    pub fn assert_no_failure(&self, during: &str) {
        let failures = self.failures();
        assert!(failures.is_empty(), "requests failed {during}:\n{}", failures.join("\n"));
    }

    /// Failed requests since the last call.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.statistics.failures.lock().unwrap())
    }

    /// Longest time of an upload since the last call.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        std::mem::take(&mut *self.statistics.slowest.lock().unwrap())
    }

    /// Longest time without a successful upload since the last call.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        std::mem::take(&mut self.statistics.silence.lock().unwrap().1)
    }

    /// Ends the load and returns every promise.
    pub async fn end(self) -> Vec<Promise> {
        self.statistics.ended.store(true, Ordering::Relaxed);
        for reader in self.readers {
            reader.await.unwrap();
        }
        let mut promises = Vec::new();
        for uploader in self.uploaders {
            promises.extend(uploader.await.unwrap());
        }
        println!("   {} uploads, {} reads", promises.len(), self.statistics.reads.load(Ordering::Relaxed));
        promises
    }
}

/// Patients whose data the load uploads.
#[must_use]
pub fn patients() -> Vec<Mrn> {
    (0..UPLOADERS).map(mrn_of).collect()
}

fn mrn_of(client: u64) -> Mrn {
    Mrn::new(1_000 + client).unwrap()
}

/// Each attempt is one request. A failed attempt is recorded and repeated with the same key.
async fn upload(gateway: Gateway, client: u64, statistics: Arc<Statistics>) -> Vec<Promise> {
    let mrn = mrn_of(client);
    let mut promises = Vec::new();
    for number in 0.. {
        if statistics.ended.load(Ordering::Relaxed) {
            break;
        }
        let seed = client * 100_000 + number;
        let (ecg, image) = (test_data::strip_csv(75.0, 5.0, seed), test_data::jpeg(60, seed));
        let (ecg_hash, image_hash) = (BlobHash::of(&ecg), BlobHash::of(&image));
        let upload = Upload::of(vec![
            UploadFile::from_bytes(FileKind::Ecg, "strip.csv", ecg),
            UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", image),
        ]);
        let started = Instant::now();
        let answer = loop {
            match gateway.upload(mrn, &upload, |_| {}).await {
                Ok(answer) => break answer,
                Err(error) => {
                    record_failure(&statistics, &format!("upload {number} of client {client}"), &error).await
                }
            }
        };
        statistics.record_upload(started.elapsed());
        let upload = match answer {
            UploadAnswer::Stored(receipt) => receipt.upload_id,
            UploadAnswer::Accepted(received) => received.upload_id,
        };
        promises.push(Promise { upload, mrn, ecg: ecg_hash, image: image_hash });
        pause().await;
    }
    promises
}

async fn read(gateway: Gateway, client: u64, statistics: Arc<Statistics>) {
    let mut exists = false;
    while !statistics.ended.load(Ordering::Relaxed) {
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
                exists = true;
                statistics.reads.fetch_add(1, Ordering::Relaxed);
            }
            // A patient does not exist before its first upload is stored.
            Err(error) if !exists => drop(error),
            Err(error) => record_failure(&statistics, &format!("a read of client {client}"), &error).await,
        }
        pause().await;
    }
}

async fn record_failure(statistics: &Statistics, what: &str, error: &ClientError) {
    assert!(error.is_transient(), "{what} was rejected: {error}");
    statistics.failures.lock().unwrap().push(format!("{what}: {error}"));
    pause().await;
}

async fn pause() {
    tokio::time::sleep(PAUSE).await;
}
