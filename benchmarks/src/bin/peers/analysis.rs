//! Raw ECGs: highest rate of analyses, and their latency at half of that rate.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benchmarks::pushed_feed;
use client::Gateway;
use futures::future::join_all;
use proto_json::Mrn;

use crate::load::Measured;
use crate::notification::{analysed, ecg_upload};

const CONNECTIONS: usize = 8;
/// Each upload has its own patient, so that its update can be identified.
const FIRST: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Analysis {
    /// Uploads per second at the highest load, until the last one is analysed.
    pub(crate) highest: f64,
    /// Uploads per second at half of the highest load.
    pub(crate) paced: f64,
    /// From the scheduled time of an upload until its analysis is published.
    pub(crate) announced: Measured,
}

pub(crate) async fn measure(gateway: &Gateway, seconds: f64) -> Analysis {
    let highest = highest(gateway, seconds).await;
    let paced = highest / 2.0;
    let count = (paced * seconds * 3.0).max(20.0) as u64;
    let started = Instant::now();
    let latencies = at_pace(gateway, paced, count).await;
    Analysis { highest, paced, announced: Measured::of(latencies, started.elapsed().as_secs_f64()) }
}

/// Uploads on eight connections at full speed until the last one is analysed.
async fn highest(gateway: &Gateway, seconds: f64) -> f64 {
    let mut feed = pushed_feed(gateway).await;
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let senders = (0..CONNECTIONS).map(|_| {
        let (gateway, next) = (gateway.clone(), next.clone());
        async move {
            while started.elapsed().as_secs_f64() < seconds {
                send(&gateway, FIRST + next.fetch_add(1, Ordering::Relaxed)).await;
            }
        }
    });
    let sent = tokio::spawn(join_all(senders));
    let mut done = 0;
    loop {
        if sent.is_finished() && done >= next.load(Ordering::Relaxed) {
            return done as f64 / started.elapsed().as_secs_f64();
        }
        // The last analysis can arrive before the last response.
        if tokio::time::timeout(Duration::from_millis(50), analysed(&mut feed)).await.is_ok() {
            done += 1;
        }
    }
}

/// Sends uploads at their scheduled times, independent of responses. Returns the seconds until each analysis is published.
async fn at_pace(gateway: &Gateway, per_second: f64, count: u64) -> Vec<f64> {
    let mut feed = pushed_feed(gateway).await;
    let started = Instant::now() + Duration::from_millis(100);
    let due = move |number: u64| started + Duration::from_secs_f64(number as f64 / per_second);
    let sender = gateway.clone();
    tokio::spawn(async move {
        for number in 0..count {
            tokio::time::sleep_until(due(number).into()).await;
            let gateway = sender.clone();
            tokio::spawn(async move { send(&gateway, 2 * FIRST + number).await });
        }
    });
    let mut known = HashMap::new();
    while (known.len() as u64) < count {
        let (mrn, at) = analysed(&mut feed).await;
        if let Some(number) = mrn.get().checked_sub(2 * FIRST) {
            known.entry(number).or_insert((at - due(number)).as_secs_f64());
        }
    }
    known.into_values().collect()
}

async fn send(gateway: &Gateway, mrn: u64) {
    let mrn = Mrn::new(mrn).expect("a valid number");
    let upload = ecg_upload(mrn.get());
    gateway.upload(mrn, &upload, |_| {}).await.expect("an upload is answered");
}
