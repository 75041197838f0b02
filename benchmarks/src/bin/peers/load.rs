//! The load generator, the same for every system: so many connections, each sends its next request when the last is
//! answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use reqwest::Client;

use crate::peer::{Call, Peer};
use crate::pictures::Pictures;

/// What was measured of one kind of request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Seconds of each request that was answered well, shortest first.
    pub(crate) latencies: Vec<f64>,
    /// Seconds from the first request to the last answer.
    pub(crate) elapsed: f64,
    /// Requests that were not, and what the first of them was told.
    pub(crate) failures: usize,
    pub(crate) complaint: Option<String>,
}

impl Measured {
    pub(crate) fn of(mut latencies: Vec<f64>, elapsed: f64) -> Self {
        latencies.sort_by(f64::total_cmp);
        Measured { latencies, elapsed, failures: 0, complaint: None }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed
    }

    /// Milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        quantile(&self.latencies, 0.5) * 1e3
    }

    /// Milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        quantile(&self.latencies, 0.99) * 1e3
    }
}

pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

/// When a load ends: no request is begun after so many, or after this time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Until {
    pub(crate) count: u64,
    pub(crate) time: Duration,
}

impl Until {
    pub(crate) fn count(count: u64) -> Self {
        Until { count, time: Duration::MAX }
    }

    pub(crate) fn seconds(seconds: f64) -> Self {
        Until { count: u64::MAX, time: Duration::from_secs_f64(seconds) }
    }
}

/// Sends what `make` makes of the numbers from 0 on; making it is not part of a request's time.
pub(crate) async fn load(connections: usize, until: Until, make: impl Requests) -> Measured {
    let client = client();
    let make = Arc::new(make);
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let senders = (0..connections).map(|_| {
        let (client, make, next) = (client.clone(), make.clone(), next.clone());
        tokio::spawn(async move {
            let (mut latencies, mut failures, mut complaint) = (Vec::new(), 0, None);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= until.count || started.elapsed() >= until.time {
                    return (latencies, failures, complaint);
                }
                let call = make.call(number);
                let sent = Instant::now();
                match send(&client, call).await {
                    Ok((status, body)) if make.is_good(status, &body) => {
                        latencies.push(sent.elapsed().as_secs_f64());
                    }
                    bad => {
                        failures += 1;
                        complaint.get_or_insert_with(|| said(bad));
                    }
                }
            }
        })
    });
    let mut latencies = Vec::new();
    let (mut failures, mut complaint) = (0, None);
    for (times, failed, first) in join_all(senders).await.into_iter().flatten() {
        latencies.extend(times);
        failures += failed;
        complaint = complaint.or(first);
    }
    Measured { failures, complaint, ..Measured::of(latencies, started.elapsed().as_secs_f64()) }
}

pub(crate) fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client without settings")
}

/// The answer, read to its end.
pub(crate) async fn send(client: &Client, call: Call) -> reqwest::Result<(u16, bytes::Bytes)> {
    let mut request = client.request(call.method, &call.url);
    if !call.content_type.is_empty() {
        request = request.header("content-type", call.content_type);
    }
    let answer = request.body(call.body).send().await?;
    Ok((answer.status().as_u16(), answer.bytes().await?))
}

fn said(bad: reqwest::Result<(u16, bytes::Bytes)>) -> String {
    match bad {
        Ok((status, body)) => {
            let text = String::from_utf8_lossy(&body);
            format!("{status}: {}", text.chars().take(200).collect::<String>())
        }
        Err(error) => error.to_string(),
    }
}

/// What is sent, and what is a good answer to it.
pub(crate) trait Requests: Send + Sync + 'static {
    fn call(&self, number: u64) -> Call;
    fn is_good(&self, status: u16, answer: &[u8]) -> bool;
}

/// Images for these patients in turn.
pub(crate) struct Uploads {
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) pictures: Arc<Pictures>,
    pub(crate) mrns: Vec<u64>,
    /// Number of the first picture: no two uploads of a run are alike.
    pub(crate) first: u64,
}

impl Requests for Uploads {
    fn call(&self, number: u64) -> Call {
        let mrn = self.mrns[(number % self.mrns.len() as u64) as usize];
        self.peer.upload(mrn, &self.pictures.get(self.first + number))
    }

    fn is_good(&self, status: u16, answer: &[u8]) -> bool {
        self.peer.is_stored(status, answer)
    }
}

/// The same page again and again.
pub(crate) struct Reads(pub(crate) String);

impl Requests for Reads {
    fn call(&self, _number: u64) -> Call {
        Call::get(self.0.clone())
    }

    fn is_good(&self, status: u16, _answer: &[u8]) -> bool {
        status == 200
    }
}
