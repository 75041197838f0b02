//! Measures one server: uploads, reads and resource usage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::images::TestImages;
use crate::load::{Measured, Reads, Until, Uploads, client, load, send};
use crate::machine;
use crate::peer::{Kind, Peer, Watch};
use crate::{analysis, notification};

/// Extent of a measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Duration of each load in seconds.
    pub(crate) load: f64,
    /// Maximum number of requests per kind of read.
    pub(crate) reads: u64,
    /// Numbers of earlier uploads, ascending.
    pub(crate) histories: [usize; 3],
    /// Number of uploads for which the notification is measured.
    pub(crate) notifications: usize,
}

impl Extent {
    pub(crate) fn full() -> Self {
        Extent { load: 5.0, reads: 200, histories: [1, 100, 5_000], notifications: 60 }
    }

    pub(crate) fn quick() -> Self {
        Extent { load: 1.5, reads: 50, histories: [1, 30, 600], notifications: 20 }
    }
}

/// The patient with the most earlier uploads.
const LONGEST: u64 = 12;

pub(crate) const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// Uploads for patients with one history on a number of connections.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) history: usize,
    pub(crate) connections: usize,
    pub(crate) measured: Measured,
}

/// Kinds of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Latest,
    Image,
    List,
}

impl What {
    pub(crate) const ALL: [What; 3] = [What::Latest, What::Image, What::List];

    pub(crate) fn title(self) -> &'static str {
        match self {
            What::Latest => "latest state",
            What::Image => "one image",
            What::List => "list of patients",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) what: What,
    pub(crate) history: usize,
    pub(crate) measured: Measured,
}

/// All figures of one server.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    /// Seconds from the start of the first process to the first response.
    pub(crate) start: f64,
    /// Memory in bytes before and after the uploads.
    pub(crate) idle_memory: u64,
    pub(crate) memory: u64,
    /// Processor time per upload in ms.
    pub(crate) processor: f64,
    /// Bytes that an upload uses in files and in the database.
    pub(crate) stored: f64,
    /// Size of an image in bytes.
    pub(crate) image: usize,
    pub(crate) intake: Vec<Intake>,
    pub(crate) reads: Vec<Read>,
    /// If it failed before the longest history: number of uploads and error.
    pub(crate) end: Option<(usize, String)>,
    /// Time until a monitor is notified.
    pub(crate) notification: Measured,
    pub(crate) analysis: Option<analysis::Analysis>,
}

impl Figures {
    pub(crate) fn is_bedside(&self) -> bool {
        matches!(self.kind, Kind::Standalone | Kind::FullStack)
    }

    pub(crate) fn intake(&self, history: usize, connections: usize) -> Option<&Measured> {
        let found =
            self.intake.iter().find(|intake| intake.history == history && intake.connections == connections);
        found.map(|intake| &intake.measured)
    }

    pub(crate) fn read(&self, what: What, history: usize) -> Option<&Measured> {
        self.reads.iter().find(|read| read.what == what && read.history == history).map(|read| &read.measured)
    }
}

pub(crate) async fn measure(kind: Kind, extent: Extent) -> Figures {
    step(kind, "three starts");
    // The first start warms the page cache. The median of three is used.
    let mut starts = Vec::new();
    for _ in 0..2 {
        starts.push(kind.start().await.took.as_secs_f64());
    }
    let started = kind.start().await;
    starts.push(started.took.as_secs_f64());
    starts.sort_by(f64::total_cmp);

    let mut run = Run { peer: started.peer, images: Arc::new(TestImages::generate()), next_image: 0 };
    let mut figures = Figures {
        kind,
        start: starts[1],
        idle_memory: run.idle().await,
        memory: 0,
        processor: 0.0,
        stored: 0.0,
        image: run.images.get(0).len(),
        intake: Vec::new(),
        reads: Vec::new(),
        end: None,
        notification: Measured::default(),
        analysis: None,
    };
    let [few, some, many] = extent.histories;
    let until = Until::seconds(extent.load);

    step(kind, "uploads for patients with few");
    let patients = run.patients(1_000, 500, few).await;
    run.cost(&patients, &mut figures).await;
    run.intake(&patients, few, &CONNECTIONS, until, &mut figures).await;
    figures.memory = machine::memory(&run.peer.processes());
    run.reads(10, few, extent.reads, &mut figures).await;

    step(kind, "uploads for patients with some");
    let patients = run.patients(2_000, 20, some).await;
    run.intake(&patients, some, &CONNECTIONS, until, &mut figures).await;
    run.reads(11, some, extent.reads, &mut figures).await;

    step(kind, "time until a monitor is notified");
    figures.notification = notification::measure(run.peer.as_ref(), &run.images, extent.notifications).await;
    if let Watch::Push(gateway) = run.peer.watch(0) {
        step(kind, "analyses at half of the highest load");
        figures.analysis = Some(analysis::measure(&gateway, extent.load).await);
    }

    step(kind, "a patient with many");
    match run.fill(LONGEST, many).await {
        Ok(()) => {
            run.reads(LONGEST, many, extent.reads, &mut figures).await;
            run.intake(&[LONGEST], many, &[8], until, &mut figures).await;
        }
        Err(end) => figures.end = Some(end),
    }
    figures
}

/// Prints the current step and the time since the first step to standard error.
pub(crate) fn step(kind: Kind, what: &str) {
    static FIRST_STEP: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let first = FIRST_STEP.get_or_init(Instant::now);
    eprintln!("{:>4.0} s  {}: {what}", first.elapsed().as_secs_f64(), kind.title());
}

struct Run {
    peer: Arc<dyn Peer>,
    images: Arc<TestImages>,
    next_image: u64,
}

impl Run {
    /// Memory of the idle server, after two seconds for start-up work.
    async fn idle(&self) -> u64 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        machine::memory(&self.peer.processes())
    }

    async fn upload(&mut self, mrns: &[u64], connections: usize, until: Until) -> Measured {
        let first = self.next_image;
        // More than any load sends.
        self.next_image += 1_000_000;
        let (peer, images) = (Arc::clone(&self.peer), Arc::clone(&self.images));
        load(connections, until, Uploads { peer, images, mrns: mrns.to_vec(), first }).await
    }

    /// Creates patients with this number of uploads each.
    async fn patients(&mut self, first: u64, count: u64, history: usize) -> Vec<u64> {
        let mrns: Vec<u64> = (first..first + count).collect();
        let copied = history > 1 && self.peer.copy_images(Vec::new(), 0).is_some();
        let uploaded = if copied { 1 } else { history as u64 };
        let filled = self.upload(&mrns, 8, Until::count(count * uploaded)).await;
        assert_eq!(filled.failures, 0, "uploads of the history: {:?}", filled.error);
        if copied && let Some(copying) = self.peer.copy_images(mrns.clone(), history - 1) {
            copying.await;
        }
        mrns
    }

    async fn intake(
        &mut self,
        mrns: &[u64],
        history: usize,
        connections: &[usize],
        until: Until,
        figures: &mut Figures,
    ) {
        for &connections in connections {
            let measured = self.upload(mrns, connections, until).await;
            figures.intake.push(Intake { history, connections, measured });
        }
    }

    /// Processor time and storage per upload, over some seconds of uploads.
    async fn cost(&mut self, mrns: &[u64], figures: &mut Figures) {
        let processes = self.peer.processes();
        wait_for_background_work().await;
        let (stored, processor) = (self.stored().await, machine::processor(&processes));
        let uploads = self.upload(mrns, 8, Until::seconds(4.0)).await;
        wait_for_background_work().await;
        let count = uploads.latencies.len() as f64;
        figures.processor = (machine::processor(&processes) - processor) * 1e3 / count;
        figures.stored = self.stored().await.saturating_sub(stored) as f64 / count;
    }

    /// Total bytes of stored data.
    async fn stored(&self) -> u64 {
        let files: u64 = self.peer.folders().iter().map(|folder| machine::disk(folder)).sum();
        match self.peer.database() {
            Some((uri, database)) => files + machine::in_database(&uri, &database).await,
            None => files,
        }
    }

    /// Uploads `history` images for one patient, or returns the number and error of the first failure.
    async fn fill(&mut self, mrn: u64, history: usize) -> Result<(), (usize, String)> {
        let before = history.min(self.peer.most_images(self.images.get(0).len()));
        self.patients(mrn, 1, before).await;
        for number in before..history {
            let filled = self.upload(&[mrn], 1, Until::count(1)).await;
            if let Some(error) = filled.error {
                return Err((number, error));
            }
        }
        Ok(())
    }

    /// Measures reads of a patient with `history` uploads.
    async fn reads(&mut self, mrn: u64, history: usize, count: u64, figures: &mut Figures) {
        if mrn != LONGEST {
            self.patients(mrn, 1, history).await;
        }
        self.next_image += 1;
        let call = self.peer.upload(mrn, &self.images.get(self.next_image));
        let (_, answer) = send(&client(), call).await.expect("an upload is answered");
        let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        for what in What::ALL {
            let url = match what {
                What::Latest => self.peer.latest(mrn, &answer),
                What::Image => self.peer.image(mrn, &answer),
                What::List => self.peer.list(),
            };
            // Slow reads are limited to some seconds.
            let measured = load(1, Until { count, time: Duration::from_secs(5) }, Reads(url)).await;
            figures.reads.push(Read { what, history, measured });
        }
    }
}

/// Waits for work that continues after the responses to uploads.
async fn wait_for_background_work() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
