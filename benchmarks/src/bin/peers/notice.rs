//! Time from the start of an upload until a monitor knows of it: told, or asking every five seconds.

use std::time::{Duration, Instant};

use client::{Feed, FeedEvent, FeedMode, FeedSettings, Gateway, Upload, UploadFile};
use futures::future::join_all;
use proto_json::{ChangeKind, FileKind, Mrn};
use testkit::material;

use crate::load::{Measured, client, send};
use crate::peer::{Call, Peer, Watch};
use crate::pictures::Pictures;

const POLL_EVERY: Duration = Duration::from_secs(5);
/// Monitors that ask, at moments evenly spread over the period.
const POLLERS: u32 = 20;
const MRN: u64 = 500;

pub(crate) async fn measure(peer: &dyn Peer, pictures: &Pictures, count: usize) -> Measured {
    let started = Instant::now();
    let latencies = match peer.watch(MRN) {
        Watch::Push(gateway) => pushed(&gateway, count).await,
        Watch::Poll(page) => polled(peer, pictures, &page, count).await,
    };
    Measured::of(latencies, started.elapsed().as_secs_f64())
}

/// A raw ECG, until its analysis is announced; one after the other.
async fn pushed(gateway: &Gateway, count: usize) -> Vec<f64> {
    let mut feed = listening(gateway).await;
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

/// An ECG picture with its heart rate, until each of the monitors has seen it.
async fn polled(peer: &dyn Peer, pictures: &Pictures, page: &str, count: usize) -> Vec<f64> {
    let client = client();
    let mut latencies = Vec::new();
    let rounds = count.div_ceil(POLLERS as usize) as u64;
    // The first makes the patient known.
    for round in 0..=rounds {
        let upload = peer.ecg(MRN, &pictures.get(u64::MAX / 2 + round));
        let (_, before) = send(&client, Call::get(page.to_owned())).await.expect("the page is answered");
        let begun = Instant::now();
        let monitors = join_all((0..POLLERS).map(|index| {
            let (client, before) = (client.clone(), before.clone());
            async move {
                let mut at = POLL_EVERY * (2 * index + 1) / (2 * POLLERS);
                loop {
                    tokio::time::sleep_until((begun + at).into()).await;
                    let answer = send(&client, Call::get(page.to_owned())).await;
                    if answer.expect("the page is answered").1 != before {
                        return begun.elapsed().as_secs_f64();
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

/// A feed that is told from now on, and never asks by itself.
pub(crate) async fn listening(gateway: &Gateway) -> Feed {
    let mut settings = FeedSettings::new(gateway.clone(), None);
    settings.poll_every = Duration::from_secs(3600);
    settings.reload_every = Duration::from_secs(3600);
    let mut feed = Feed::start(settings);
    loop {
        if let FeedEvent::Connection(state) = feed.next().await.expect("the feed goes on")
            && state.mode == FeedMode::ServerSentEvents
        {
            return feed;
        }
    }
}

/// The next patient whose ECG is analysed, and when that was known.
pub(crate) async fn analysed(feed: &mut Feed) -> (Mrn, Instant) {
    loop {
        if let FeedEvent::Updated(update) = feed.next().await.expect("the feed goes on")
            && update.changes.iter().any(|change| change.kind == ChangeKind::EcgAnalyzed)
        {
            return (update.patient.mrn, Instant::now());
        }
    }
}

pub(crate) fn ecg_upload(number: u64) -> Upload {
    let strip = material::one_of_many_strips(number);
    Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", strip)])
}
