//! Time from the start of an upload until a monitor knows of it, by push or by polling every five seconds.

use std::time::{Duration, Instant};

use benchmarks::pushed_feed;
use client::{Feed, FeedEvent, Gateway, Upload, UploadFile};
use futures::future::join_all;
use proto_json::{ChangeKind, FileKind, Mrn};
use testkit::test_data;

use crate::images::TestImages;
use crate::load::{Measured, client, send};
use crate::peer::{Call, Peer, Watch};

const POLL_EVERY: Duration = Duration::from_secs(5);
/// Number of polling monitors, evenly distributed over the period.
const POLLERS: u32 = 20;
const MRN: u64 = 500;

pub(crate) async fn measure(peer: &dyn Peer, images: &TestImages, count: usize) -> Measured {
    let started = Instant::now();
    let latencies = match peer.watch(MRN) {
        Watch::Push(gateway) => pushed(&gateway, count).await,
        Watch::Poll(page) => polled(peer, images, &page, count).await,
    };
    Measured::of(latencies, started.elapsed().as_secs_f64())
}

/// From a raw ECG to the push of its analysis, one after another.
async fn pushed(gateway: &Gateway, count: usize) -> Vec<f64> {
    let mut feed = pushed_feed(gateway).await;
    let mrn = Mrn::new(MRN).expect("a small number");
    let mut latencies = Vec::new();
    for index in 0..count {
        let upload = ecg_upload(index as u64);
        let sent = Instant::now();
        let sending = async { gateway.upload(mrn, &upload, |_| {}).await.expect("an upload is answered") };
        let (_, analysed) = tokio::join!(sending, analysed(&mut feed));
        latencies.push((analysed.1 - sent).as_secs_f64());
    }
    latencies
}

/// From an ECG picture with its heart rate until each monitor has polled it.
async fn polled(peer: &dyn Peer, images: &TestImages, page: &str, count: usize) -> Vec<f64> {
    let client = client();
    let mut latencies = Vec::new();
    let rounds = count.div_ceil(POLLERS as usize) as u64;
    // The first round creates the patient.
    for round in 0..=rounds {
        let upload = peer.ecg(MRN, &images.get(u64::MAX / 2 + round));
        let (_, before) = send(&client, Call::get(page.to_owned())).await.expect("the page is answered");
        let started = Instant::now();
        let monitors = join_all((0..POLLERS).map(|index| {
            let (client, before) = (client.clone(), before.clone());
            async move {
                let mut at = POLL_EVERY * (2 * index + 1) / (2 * POLLERS);
                loop {
                    tokio::time::sleep_until((started + at).into()).await;
                    let answer = send(&client, Call::get(page.to_owned())).await;
                    if answer.expect("the page is answered").1 != before {
                        return started.elapsed().as_secs_f64();
                    }
                    at += POLL_EVERY;
                }
            }
        }));
        let uploading = async {
            let (status, answer) = send(&client, upload).await.expect("an upload is answered");
            assert!(peer.is_stored(status, &answer), "the upload is stored");
        };
        if round == 0 {
            uploading.await;
        } else {
            let (seen, ()) = tokio::join!(monitors, uploading);
            latencies.extend(seen);
        }
    }
    latencies
}

/// The next patient whose ECG is analysed, and the time of the update.
pub(crate) async fn analysed(feed: &mut Feed) -> (Mrn, Instant) {
    loop {
        if let FeedEvent::Updated(update) = feed.next().await.expect("the feed continues")
            && update.changes.iter().any(|change| change.kind == ChangeKind::EcgAnalyzed)
        {
            return (update.patient.mrn, Instant::now());
        }
    }
}

pub(crate) fn ecg_upload(number: u64) -> Upload {
    let strip = test_data::one_of_many_strips(number);
    Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", strip)])
}
