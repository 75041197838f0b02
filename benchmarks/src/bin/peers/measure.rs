//! One system, from its start to its end: uploads, reads, and what both take of the machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::{Measured, Reads, Until, Uploads, client, load, send};
use crate::machine;
use crate::peer::{Kind, Peer, Watch};
use crate::pictures::Pictures;
use crate::{analysis, notice};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Seconds of each load.
    pub(crate) load: f64,
    /// Requests of each kind of read, at most.
    pub(crate) reads: u64,
    /// Earlier uploads, fewest first.
    pub(crate) histories: [usize; 3],
    /// Uploads of which is measured when a monitor knows.
    pub(crate) notices: usize,
}

impl Extent {
    pub(crate) fn full() -> Self {
        Extent { load: 5.0, reads: 200, histories: [1, 100, 5_000], notices: 60 }
    }

    pub(crate) fn quick() -> Self {
        Extent { load: 1.5, reads: 50, histories: [1, 30, 600], notices: 20 }
    }
}

/// The patient with the most earlier uploads.
const LONGEST: u64 = 12;

pub(crate) const CONNECTIONS: [usize; 3] = [1, 8, 64];

/// Uploads of one history on so many connections.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) history: usize,
    pub(crate) connections: usize,
    pub(crate) measured: Measured,
}

/// What is read.
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

/// All figures of one system.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) kind: Kind,
    /// Seconds from the start of the first process until it answers.
    pub(crate) start: f64,
    /// Bytes, when nothing was done yet, and after the uploads.
    pub(crate) idle_memory: u64,
    pub(crate) memory: u64,
    /// Processor milliseconds of an upload.
    pub(crate) processor: f64,
    /// Bytes that an upload takes in files, and in a database by its own account.
    pub(crate) stored: f64,
    /// Bytes of an image.
    pub(crate) image: usize,
    pub(crate) intake: Vec<Intake>,
    pub(crate) reads: Vec<Read>,
    /// Where it ended before the longest history: how many uploads it had, and what it said.
    pub(crate) end: Option<(usize, String)>,
    /// Time until a monitor knows.
    pub(crate) notice: Measured,
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
    // The first start warms the page cache; the middle one of three counts.
    let mut starts = Vec::new();
    for _ in 0..2 {
        starts.push(kind.start().await.took.as_secs_f64());
    }
    let started = kind.start().await;
    starts.push(started.took.as_secs_f64());
    starts.sort_by(f64::total_cmp);

    let mut run = Run { peer: started.peer, pictures: Arc::new(Pictures::draw()), next_picture: 0 };
    let mut figures = Figures {
        kind,
        start: starts[1],
        idle_memory: run.idle().await,
        memory: 0,
        processor: 0.0,
        stored: 0.0,
        image: run.pictures.get(0).len(),
        intake: Vec::new(),
        reads: Vec::new(),
        end: None,
        notice: Measured::default(),
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

    step(kind, "time until a monitor knows");
    figures.notice = notice::measure(run.peer.as_ref(), &run.pictures, extent.notices).await;
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

/// Says on standard error what is done now, and when that began.
pub(crate) fn step(kind: Kind, what: &str) {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let begun = BEGUN.get_or_init(Instant::now);
    eprintln!("{:>4.0} s  {}: {what}", begun.elapsed().as_secs_f64(), kind.title());
}

struct Run {
    peer: Arc<dyn Peer>,
    pictures: Arc<Pictures>,
    next_picture: u64,
}

impl Run {
    /// Memory before anything was done; two seconds let start-up work end.
    async fn idle(&self) -> u64 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        machine::memory(&self.peer.processes())
    }

    async fn upload(&mut self, mrns: &[u64], connections: usize, until: Until) -> Measured {
        let first = self.next_picture;
        // More than any load sends.
        self.next_picture += 1_000_000;
        let (peer, pictures) = (Arc::clone(&self.peer), Arc::clone(&self.pictures));
        load(connections, until, Uploads { peer, pictures, mrns: mrns.to_vec(), first }).await
    }

    /// New patients, each with so many uploads.
    async fn patients(&mut self, first: u64, count: u64, history: usize) -> Vec<u64> {
        let mrns: Vec<u64> = (first..first + count).collect();
        let copied = history > 1 && self.peer.copy_images(Vec::new(), 0).is_some();
        let through_the_door = if copied { 1 } else { history as u64 };
        let filled = self.upload(&mrns, 8, Until::count(count * through_the_door)).await;
        assert_eq!(filled.failures, 0, "uploads that fill: {:?}", filled.complaint);
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

    /// Processor time of an upload and what is stored of it, over as many as take some seconds.
    async fn cost(&mut self, mrns: &[u64], figures: &mut Figures) {
        let processes = self.peer.processes();
        settle().await;
        let (stored, processor) = (self.stored().await, machine::processor(&processes));
        let uploads = self.upload(mrns, 8, Until::seconds(4.0)).await;
        settle().await;
        let count = uploads.latencies.len() as f64;
        figures.processor = (machine::processor(&processes) - processor) * 1e3 / count;
        figures.stored = self.stored().await.saturating_sub(stored) as f64 / count;
    }

    /// Bytes of everything it keeps.
    async fn stored(&self) -> u64 {
        let files: u64 = self.peer.folders().iter().map(|folder| machine::disk(folder)).sum();
        match self.peer.database() {
            Some((uri, database)) => files + machine::in_database(&uri, &database).await,
            None => files,
        }
    }

    /// Uploads so many to one patient, or says where it ended.
    async fn fill(&mut self, mrn: u64, history: usize) -> Result<(), (usize, String)> {
        let before = history.min(self.peer.most_images(self.pictures.get(0).len()));
        self.patients(mrn, 1, before).await;
        for number in before..history {
            let filled = self.upload(&[mrn], 1, Until::count(1)).await;
            if let Some(complaint) = filled.complaint {
                return Err((number, complaint));
            }
        }
        Ok(())
    }

    /// Reads of a patient with so many uploads.
    async fn reads(&mut self, mrn: u64, history: usize, count: u64, figures: &mut Figures) {
        if mrn != LONGEST {
            self.patients(mrn, 1, history).await;
        }
        self.next_picture += 1;
        let call = self.peer.upload(mrn, &self.pictures.get(self.next_picture));
        let (_, answer) = send(&client(), call).await.expect("an upload is answered");
        let answer: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        for what in What::ALL {
            let url = match what {
                What::Latest => self.peer.latest(mrn, &answer),
                What::Image => self.peer.image(mrn, &answer),
                What::List => self.peer.list(),
            };
            // What takes long is read for some seconds only.
            let measured = load(1, Until { count, time: Duration::from_secs(5) }, Reads(url)).await;
            figures.reads.push(Read { what, history, measured });
        }
    }
}

/// What follows from uploads goes on after their answers.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
