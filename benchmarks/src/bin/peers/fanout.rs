//! Push fan-out: time from an upload until the last of many watchers of one gateway receives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use testkit::{Mode, System, cpu_seconds, resident_bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::bedside::upload_call;
use crate::images::TestImages;
use crate::load::{Measured, client, send};
use crate::measure::step;
use crate::peer::Kind;

const MRN: u64 = 7;

/// Events that the watchers subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Events of all patients.
    All,
    /// Events of the patient of the uploads.
    One,
}

impl Watched {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Watched::All => "all patients",
            Watched::One => "one patient",
        }
    }

    fn path(self) -> String {
        match self {
            Watched::All => "/api/v1/events".to_owned(),
            Watched::One => format!("/api/v1/patients/{MRN}/events"),
        }
    }
}

/// Results for a number of watchers.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) kind: Kind,
    pub(crate) watched: Watched,
    pub(crate) watchers: usize,
    /// From the start of an upload until the last watcher has received its event.
    pub(crate) last: Measured,
    /// The same for each watcher.
    pub(crate) any: Measured,
    /// Memory of the gateway per watcher, in bytes.
    pub(crate) memory_each: Option<f64>,
    /// Share of a core that the gateway uses without uploads.
    pub(crate) idle_processor: f64,
}

pub(crate) async fn measure(quick: bool) -> Vec<Fanout> {
    let counts: &[usize] = if quick { &[1, 100] } else { &[1, 100, 2_000] };
    let mut all = Vec::new();
    for (kind, mode) in [(Kind::Standalone, Mode::Standalone), (Kind::FullStack, Mode::Processes)] {
        for watched in [Watched::All, Watched::One] {
            for &count in counts {
                step(kind, &format!("{count} watchers of {}", watched.title()));
                // A new system each time: memory of earlier watchers is not returned to the operating system.
                let system = System::start(mode);
                all.push(measure_one(&system, kind, watched, count, if quick { 20 } else { 100 }).await);
            }
        }
    }
    all
}

async fn measure_one(
    system: &System,
    kind: Kind,
    watched: Watched,
    watchers: usize,
    rounds: usize,
) -> Fanout {
    let images = TestImages::generate();
    let http = client();
    let upload = |number: u64| upload_call(&system.url(), MRN, &images.get(number));
    // The first uploads are not measured.
    for number in 0..20 {
        send(&http, upload(1_000_000 + number)).await.expect("an upload is answered");
    }
    let gateway = system.processes()[0].pid();
    let address = system.url().trim_start_matches("http://").to_owned();
    let before = resident_bytes(gateway);
    let (received, mut receiver) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    // A few at a time, because the accept queue is short.
    for group in (0..watchers).collect::<Vec<_>>().chunks(50) {
        join_all(group.iter().map(|_| watch(&address, watched, received.clone(), open.clone()))).await;
    }
    let since = (Instant::now(), cpu_seconds(gateway).unwrap_or(0.0));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle_processor = (cpu_seconds(gateway).unwrap_or(0.0) - since.1) / since.0.elapsed().as_secs_f64();

    let (mut last, mut any) = (Vec::new(), Vec::new());
    let started = Instant::now();
    for round in 0..rounds {
        let call = upload(round as u64);
        let sent = Instant::now();
        let http = http.clone();
        let answer = tokio::spawn(async move { send(&http, call).await });
        let mut latest = 0.0;
        for _ in 0..watchers {
            let at: Instant = tokio::time::timeout(Duration::from_secs(30), receiver.recv())
                .await
                .expect("every watcher receives the event within 30 s")
                .expect("a watcher is connected");
            latest = (at - sent).as_secs_f64();
            any.push(latest);
        }
        last.push(latest);
        answer.await.unwrap().expect("an upload is answered");
        // Uploads are separate, not back to back.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(open.load(Ordering::Relaxed), watchers, "no stream has ended");
    let memory_each = resident_bytes(gateway)
        .zip(before)
        .filter(|_| watchers >= 100)
        .map(|(after, before)| after.saturating_sub(before) as f64 / watchers as f64);
    let elapsed = started.elapsed().as_secs_f64();
    let (last, any) = (Measured::of(last, elapsed), Measured::of(any, elapsed));
    Fanout { kind, watched, watchers, last, any, memory_each, idle_processor }
}

/// Opens an event stream and reports the time of each event. The parser is minimal, because watchers share the machine with the
/// gateway.
async fn watch(
    address: &str,
    watched: Watched,
    received: mpsc::UnboundedSender<Instant>,
    open: Arc<AtomicUsize>,
) {
    let mut stream = TcpStream::connect(address).await.expect("the gateway accepts the connection");
    let request =
        format!("GET {} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\r\n", watched.path());
    stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    let mut start = Vec::new();
    while !contains(&start, b"event: ready") {
        assert_ne!(
            stream.read_buf(&mut start).await.expect("the stream continues"),
            0,
            "{}",
            String::from_utf8_lossy(&start)
        );
    }
    open.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(async move {
        let mut bytes = Vec::with_capacity(4096);
        while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
            // Events are small and infrequent, so almost every one arrives in one piece.
            if !bytes.ends_with(b"\n\n") && !bytes.ends_with(b"\n\n\r\n") {
                continue;
            }
            if contains(&bytes, b"event: updated") {
                let _ = received.send(Instant::now());
            }
            bytes.clear();
        }
        open.fetch_sub(1, Ordering::Relaxed);
    });
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}
