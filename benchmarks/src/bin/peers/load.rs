//! The load generator: a number of connections, each of which sends its next request after the response to the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use benchmarks::quantile;
use futures::future::join_all;
use reqwest::Client;

use crate::images::TestImages;
use crate::peer::{Call, Peer};

/// Results for one kind of request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// Seconds of each successful request, sorted.
    pub(crate) latencies: Vec<f64>,
    /// Seconds from the first request to the last response.
    pub(crate) elapsed: f64,
    /// Number of failed requests, and the first error.
    pub(crate) failures: usize,
    pub(crate) error: Option<String>,
}

impl Measured {
    pub(crate) fn of(mut latencies: Vec<f64>, elapsed: f64) -> Self {
        latencies.sort_by(f64::total_cmp);
        Measured { latencies, elapsed, failures: 0, error: None }
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

/// End of a load: no request is started after this number or after this time.
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

/// Sends the requests that `make` builds for the numbers from 0. Building a request is not part of its time.
pub(crate) async fn load(connections: usize, until: Until, make: impl Requests) -> Measured {
    let client = client();
    let make = Arc::new(make);
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let senders = (0..connections).map(|_| {
        let (client, make, next) = (client.clone(), make.clone(), next.clone());
        tokio::spawn(async move {
            let (mut latencies, mut failures, mut error) = (Vec::new(), 0, None);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= until.count || started.elapsed() >= until.time {
                    return (latencies, failures, error);
                }
                let call = make.call(number);
                let sent = Instant::now();
                match send(&client, call).await {
                    Ok((status, body)) if make.is_good(status, &body) => {
                        latencies.push(sent.elapsed().as_secs_f64());
                    }
                    bad => {
                        failures += 1;
                        error.get_or_insert_with(|| describe(bad));
                    }
                }
            }
        })
    });
    let mut latencies = Vec::new();
    let (mut failures, mut error) = (0, None);
    for (times, failed, first) in join_all(senders).await.into_iter().flatten() {
        latencies.extend(times);
        failures += failed;
        error = error.or(first);
    }
    Measured { failures, error, ..Measured::of(latencies, started.elapsed().as_secs_f64()) }
}

pub(crate) fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client without settings")
}

/// Sends a request and reads the whole response.
pub(crate) async fn send(client: &Client, call: Call) -> reqwest::Result<(u16, bytes::Bytes)> {
    let mut request = client.request(call.method, &call.url);
    if !call.content_type.is_empty() {
        request = request.header("content-type", call.content_type);
    }
    let answer = request.body(call.body).send().await?;
    Ok((answer.status().as_u16(), answer.bytes().await?))
}

fn describe(bad: reqwest::Result<(u16, bytes::Bytes)>) -> String {
    match bad {
        Ok((status, body)) => {
            let text = String::from_utf8_lossy(&body);
            format!("{status}: {}", text.chars().take(200).collect::<String>())
        }
        Err(error) => error.to_string(),
    }
}

/// Requests of a load and the test for their success.
pub(crate) trait Requests: Send + Sync + 'static {
    fn call(&self, number: u64) -> Call;
    fn is_good(&self, status: u16, answer: &[u8]) -> bool;
}

/// Uploads of images for these patients in turn.
pub(crate) struct Uploads {
    pub(crate) peer: Arc<dyn Peer>,
    pub(crate) images: Arc<TestImages>,
    pub(crate) mrns: Vec<u64>,
    /// Number of the first image. No two uploads of a run have the same content.
    pub(crate) first: u64,
}

impl Requests for Uploads {
    fn call(&self, number: u64) -> Call {
        let mrn = self.mrns[(number % self.mrns.len() as u64) as usize];
        self.peer.upload(mrn, &self.images.get(self.first + number))
    }

    fn is_good(&self, status: u16, answer: &[u8]) -> bool {
        self.peer.is_stored(status, answer)
    }
}

/// Reads of one URL.
pub(crate) struct Reads(pub(crate) String);

impl Requests for Reads {
    fn call(&self, _number: u64) -> Call {
        Call::get(self.0.clone())
    }

    fn is_good(&self, status: u16, _answer: &[u8]) -> bool {
        status == 200
    }
}
