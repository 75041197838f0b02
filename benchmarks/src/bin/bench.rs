//! Measures uploads and reads of both ways to run and prints tables. Figures depend on the machine: compare figures of one run.
//! `cargo run --release -p bedside-benchmarks --bin bench [-- standalone|processes] [--quick]`; `--cost` measures only the processor
//! time of uploads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends when something fails")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benchmarks::{pushed_feed, quantile};
use client::{FeedEvent, Gateway, Upload, UploadAnswer, UploadFile};
use futures::future::join_all;
use proto_json::{Bpm, ChangeKind, FileKind, Mrn};
use testkit::{Mode, System, cpu_seconds, resident_bytes, test_data};

/// Number of earlier uploads per patient, and number of patients that share the measured uploads, so that each gets few more.
const HISTORIES: [(usize, u64); 3] = [(1, 200), (100, 10), (5_000, 1)];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!(
            "Usage: bench [standalone|processes] [--quick|--cost]\n\nMeasures uploads, analyses and reads of a full system and prints Markdown tables."
        );
        return;
    }
    let wanted = |name: &str| {
        !args.iter().any(|arg| arg == "standalone" || arg == "processes")
            || args.iter().any(|arg| arg == name)
    };
    let quick = args.iter().any(|arg| arg == "--quick");
    // Generated before the measurement starts.
    let _ = test_data::one_of_many_strips(0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (name, mode) in [("standalone", Mode::Standalone), ("processes", Mode::Processes)] {
        if wanted(name) {
            if args.iter().any(|arg| arg == "--cost") {
                println!("\n## {name}");
                let mrns: Vec<Mrn> = (0..50).map(|index| Mrn::new(1_000 + index).unwrap()).collect();
                runtime.block_on(async { cost(System::start(mode), &mrns).await });
            } else {
                runtime.block_on(bench(name, mode, quick));
            }
        }
    }
}

async fn bench(name: &str, mode: Mode, quick: bool) {
    println!("\n## {name}\n");
    let started = Instant::now();
    let system = System::start(mode);
    println!(
        "start until ready: {:.2} s (all processes, one after the other)\n",
        started.elapsed().as_secs_f64()
    );
    // Two seconds, so that start-up work has ended.
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("| idle process | resident MB |\n|---|---:|");
    for process in system.processes() {
        let bytes = resident_bytes(process.pid()).unwrap_or(0);
        println!("| {} | {:.1} |", process.name(), bytes as f64 / 1e6);
    }
    println!();

    let gateway = system.gateway();
    let mut patients: HashMap<usize, Vec<Mrn>> = HashMap::new();
    let mut next = 1_000;
    for (history, count) in HISTORIES {
        let history = if quick { history.min(300) } else { history };
        let mrns: Vec<Mrn> = (0..count).map(|index| Mrn::new(next + index).unwrap()).collect();
        next += count;
        fill(&gateway, &mrns, history).await;
        patients.insert(history, mrns);
    }
    let mut histories: Vec<usize> = patients.keys().copied().collect();
    histories.sort_unstable();

    // All histories in turn, so that a slow moment of the machine does not affect only one of them.
    let rounds = if quick { 1 } else { 3 };
    let mut table = Table::default();
    for round in 0..rounds {
        for &history in &histories {
            let mrns = &patients[&history];
            let seed = (round as u64) << 32 | (history as u64) << 16;
            for connections in [1, 8] {
                let count = if connections == 1 { 100 } else { 400 };
                // No two uploads have the same content.
                let seed = seed + (connections << 8) as u64;
                let images =
                    uploads(&gateway, mrns, connections, count, |index| image_upload(seed + index)).await;
                table.add(&format!("image upload 25 KB, {connections} conn."), history, images);
                let ecgs =
                    uploads(&gateway, mrns, connections, count / 4, |index| ecg_upload(seed + index)).await;
                table.add(&format!("ECG upload 130 KB, {connections} conn."), history, ecgs);
                wait_for_analyses(&gateway, mrns).await;
            }
            let count = if quick { 20 } else { 40 };
            table.add("POST to announced analysis", history, announced(&gateway, mrns, count, seed).await);
            reads(&gateway, mrns, history, &mut table).await;
        }
    }
    table.print(&histories);
    cost(system, &patients[&histories[0]]).await;
}

/// Processor time of each process per upload, including everything that follows from it.
async fn cost(mut system: System, mrns: &[Mrn]) {
    const UPLOADS: usize = 200;
    let gateway = system.gateway();
    let mut processes: Vec<_> =
        system.processes().iter().map(|process| (process.name(), process.pid())).collect();
    processes.extend(system.nats().map(|server| ("nats-server", server.pid())));
    processes.extend(system.mongo().and_then(|server| Some(("MongoDB stand-in", server.own_pid()?))));
    processes.push(("this load generator", std::process::id()));
    println!("\n| processor ms per upload | image 25 KB | ECG 130 KB with its analysis |\n|---|---:|---:|");
    let mut spent = Vec::new();
    for upload in [image_upload, ecg_upload] {
        let before: Vec<_> = processes.iter().map(|(_, pid)| cpu_seconds(*pid)).collect();
        uploads(&gateway, mrns, 8, UPLOADS, |index| upload(0xC057_0000 + index)).await;
        wait_for_analyses(&gateway, mrns).await;
        let after = processes.iter().map(|(_, pid)| cpu_seconds(*pid));
        let each = before
            .iter()
            .zip(after)
            .map(|(before, after)| Some((after? - (*before)?) * 1e3 / UPLOADS as f64));
        spent.push(each.collect::<Vec<_>>());
    }
    for (index, (name, _)) in processes.iter().enumerate() {
        let cell = |of: &Vec<Option<f64>>| of[index].map_or("?".to_owned(), |ms| format!("{ms:.1}"));
        println!("| {name} | {} | {} |", cell(&spent[0]), cell(&spent[1]));
    }
}

#[derive(Default)]
struct Table {
    rows: Vec<String>,
    samples: HashMap<(String, usize), (Vec<f64>, f64)>,
}

struct Measured {
    /// Seconds per request.
    latencies: Vec<f64>,
    /// Seconds from the first request to the last response.
    elapsed: f64,
}

impl Table {
    fn add(&mut self, row: &str, history: usize, measured: Measured) {
        if !self.rows.iter().any(|known| known == row) {
            self.rows.push(row.to_owned());
        }
        let cell = self.samples.entry((row.to_owned(), history)).or_default();
        cell.0.extend(measured.latencies);
        cell.1 += measured.elapsed;
    }

    fn print(&mut self, histories: &[usize]) {
        println!("| request | earlier uploads | per second | p50 ms | p99 ms | p50 against fewest earlier |");
        println!("|---|---:|---:|---:|---:|---:|");
        for row in &self.rows {
            let mut first = None;
            for history in histories {
                let Some((latencies, elapsed)) = self.samples.get_mut(&(row.clone(), *history)) else {
                    continue;
                };
                latencies.sort_by(f64::total_cmp);
                let p50 = quantile(latencies, 0.5);
                let base = *first.get_or_insert(p50);
                println!(
                    "| {row} | {history} | {:.0} | {:.2} | {:.2} | {:.2} |",
                    latencies.len() as f64 / *elapsed,
                    p50 * 1e3,
                    quantile(latencies, 0.99) * 1e3,
                    p50 / base,
                );
            }
        }
    }
}

fn image_upload(seed: u64) -> Upload {
    Upload::of(vec![UploadFile::from_bytes(
        FileKind::MedicalImage,
        "image.jpg",
        test_data::jpeg(IMAGE_SIDE, seed),
    )])
}

fn ecg_upload(seed: u64) -> Upload {
    Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", test_data::one_of_many_strips(seed))])
}

/// About 25 KB as JPEG.
const IMAGE_SIDE: u16 = 162;

/// Gives each patient a history. Each upload has an image, an ECG picture and a heart rate.
async fn fill(gateway: &Gateway, mrns: &[Mrn], history: usize) {
    let total = mrns.len() * history;
    let next = Arc::new(AtomicUsize::new(0));
    let clients = (0..8).map(|_| {
        let (gateway, mrns, next) = (gateway.clone(), mrns.to_vec(), next.clone());
        tokio::spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= total {
                    return;
                }
                let seed = u64::from(u32::MAX) + index as u64;
                let mut upload = Upload::of(vec![
                    UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", test_data::jpeg(32, seed)),
                    UploadFile::from_bytes(FileKind::EcgImage, "trace.jpg", test_data::jpeg(32, seed + 1)),
                ]);
                upload.heart_rate = Bpm::new(60 + (index % 40) as i64).ok();
                stored(&gateway, mrns[index % mrns.len()], &upload).await;
            }
        })
    });
    for client in join_all(clients).await {
        client.unwrap();
    }
}

async fn stored(gateway: &Gateway, mrn: Mrn, upload: &Upload) {
    match gateway.upload(mrn, upload, |_| {}).await.unwrap() {
        UploadAnswer::Stored(_) => {}
        UploadAnswer::Accepted(_) => panic!("the receipt took longer than the gateway waits"),
    }
}

async fn uploads(
    gateway: &Gateway,
    mrns: &[Mrn],
    connections: usize,
    count: usize,
    upload: impl Fn(u64) -> Upload,
) -> Measured {
    // Generated before the measurement starts.
    let uploads: Arc<Vec<Upload>> = Arc::new((0..count as u64).map(upload).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let clients = (0..connections).map(|_| {
        let (gateway, mrns, next, uploads) = (gateway.clone(), mrns.to_vec(), next.clone(), uploads.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(upload) = uploads.get(index) else { return latencies };
                let sent = Instant::now();
                stored(&gateway, mrns[index % mrns.len()], upload).await;
                latencies.push(sent.elapsed().as_secs_f64());
            }
        })
    });
    let latencies = join_all(clients).await.into_iter().flat_map(Result::unwrap).collect();
    Measured { latencies, elapsed: started.elapsed().as_secs_f64() }
}

/// Waits until no ECG is pending, so that analyses do not overlap with the next measurement.
async fn wait_for_analyses(gateway: &Gateway, mrns: &[Mrn]) {
    for mrn in mrns {
        testkit::within("every ECG is analysed", || async {
            let page = gateway.ecgs(*mrn, None, Some(200)).await.ok()?;
            page.items.iter().all(|ecg| ecg.status != proto_json::EcgStatus::Pending).then_some(())
        })
        .await;
    }
}

/// Time from the start of a POST until a watcher receives its analysis, one upload after another.
async fn announced(gateway: &Gateway, mrns: &[Mrn], count: usize, seed: u64) -> Measured {
    let mut feed = pushed_feed(gateway).await;
    let mut latencies = Vec::new();
    let started = Instant::now();
    for index in 0..count {
        let mrn = mrns[index % mrns.len()];
        let upload = ecg_upload(seed + 0x8000 + index as u64);
        let sent = Instant::now();
        let answer = {
            let gateway = gateway.clone();
            tokio::spawn(async move { stored(&gateway, mrn, &upload).await })
        };
        loop {
            if let FeedEvent::Updated(update) = feed.next().await.unwrap()
                && update.patient.mrn == mrn
                && update.changes.iter().any(|change| change.kind == ChangeKind::EcgAnalyzed)
            {
                break;
            }
        }
        latencies.push(sent.elapsed().as_secs_f64());
        answer.await.unwrap();
    }
    Measured { latencies, elapsed: started.elapsed().as_secs_f64() }
}

async fn reads(gateway: &Gateway, mrns: &[Mrn], history: usize, table: &mut Table) {
    const COUNT: usize = 200;
    let image = gateway.images(mrns[0], None, Some(1)).await.unwrap().items[0].id;
    let (mut summary, mut page, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..COUNT {
        let mrn = mrns[index % mrns.len()];
        let started = Instant::now();
        gateway.patient(mrn).await.unwrap().unwrap();
        summary.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        gateway.images(mrn, None, Some(1)).await.unwrap();
        page.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        gateway.image(image).await.unwrap().bytes(1 << 20).await.unwrap();
        bytes.push(started.elapsed().as_secs_f64());
    }
    for (row, latencies) in [
        ("read one summary", summary),
        ("read one list page (1 entry)", page),
        ("read one image 25 KB", bytes),
    ] {
        let elapsed = latencies.iter().sum();
        table.add(row, history, Measured { latencies, elapsed });
    }
}
