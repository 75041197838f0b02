//! Raw ECGs of Bedside: how many it takes and analyses, and how soon at half of that.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Gateway;
use futures::future::join_all;
use proto_json::Mrn;

use crate::load::Measured;
use crate::notice::{analysed, ecg_upload, listening};

const CONNECTIONS: usize = 8;
/// Each upload is of a patient of its own, so that its announcement is known.
const FIRST: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Analysis {
    /// Uploads a second at the highest load, until the last of them is analysed.
    pub(crate) highest: f64,
    /// Uploads a second that were sent at half of it.
    pub(crate) paced: f64,
    /// From the moment at which an upload was due until its analysis is announced.
    pub(crate) announced: Measured,
}

pub(crate) async fn measure(gateway: &Gateway, seconds: f64) -> Analysis {
    let highest = highest(gateway, seconds).await;
    let paced = highest / 2.0;
    let count = (paced * seconds * 3.0).max(20.0) as u64;
    let begun = Instant::now();
    let latencies = at_pace(gateway, paced, count).await;
    Analysis { highest, paced, announced: Measured::of(latencies, begun.elapsed().as_secs_f64()) }
}

/// As many as eight connections can send, until the last is analysed.
async fn highest(gateway: &Gateway, seconds: f64) -> f64 {
    let mut feed = listening(gateway).await;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let senders = (0..CONNECTIONS).map(|_| {
        let (gateway, next) = (gateway.clone(), next.clone());
        async move {
            while begun.elapsed().as_secs_f64() < seconds {
                send(&gateway, FIRST + next.fetch_add(1, Ordering::Relaxed)).await;
            }
        }
    });
    let sent = tokio::spawn(join_all(senders));
    let mut done = 0;
    loop {
        if sent.is_finished() && done >= next.load(Ordering::Relaxed) {
            return done as f64 / begun.elapsed().as_secs_f64();
        }
        // The last analysis can be known before the last answer.
        if tokio::time::timeout(Duration::from_millis(50), analysed(&mut feed)).await.is_ok() {
            done += 1;
        }
    }
}

/// Sent when they are due, whether those before are answered or not; seconds until each is announced.
async fn at_pace(gateway: &Gateway, per_second: f64, count: u64) -> Vec<f64> {
    let mut feed = listening(gateway).await;
    let begun = Instant::now() + Duration::from_millis(100);
    let due = move |number: u64| begun + Duration::from_secs_f64(number as f64 / per_second);
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
    let mrn = Mrn::new(mrn).expect("a number that a record can have");
    let upload = ecg_upload(mrn.get());
    gateway.upload(mrn, &upload, |_| {}).await.expect("an upload is answered");
}
