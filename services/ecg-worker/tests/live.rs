//! Analysis of live ECGs: in process on the local adapter, and by worker processes on NATS of which some fail.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{
    QueueLimits, RetryPolicy, TAKEOVER, VitalsEvent, WaveGroup, WaveKind, WaveLag, WaveLog, WaveMessage,
};
use ecg::synth::{Settings, generate};
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::waveform::{
    Channel, Device, Frame, MISSING_SAMPLE, Numeric, Numerics, SampleRate, Segment, StreamDescription,
    StreamId, Vitals, VitalsSource, partition_of,
};
use proto_json::{EcgQuality, Mrn, Timestamp};
use runtime::Shutdown;
use testkit::{NatsServer, Process};

const RATE_HZ: u32 = 250;
/// Samples of a frame: 200 ms.
const FRAME: usize = 50;
const SCALE: f64 = 0.002;
const HEART_RATE: &str = "MDC_ECG_HEART_RATE";

fn rate(numerator: u32) -> SampleRate {
    SampleRate::new(numerator, 1).unwrap()
}

fn channel(label: &str, code: &str, unit: &str) -> Channel {
    Channel {
        label: label.to_owned(),
        code: code.to_owned(),
        unit: unit.to_owned(),
        rate: rate(RATE_HZ),
        scale: SCALE,
        offset: 0.0,
    }
}

/// A simulated device with two ECG leads and pleth.
struct Sender {
    mrn: Mrn,
    stream: StreamId,
    /// Lead samples in millivolts.
    samples: Vec<f32>,
    start_us: i64,
    sequence: u64,
    /// Index of the next sample.
    at: usize,
    /// The second lead is noise-free and weaker; it is off from this index on.
    lead_off_from: usize,
}

impl Sender {
    fn new(patient: u64, settings: &Settings, start_us: i64) -> Self {
        let settings = Settings { sample_rate_hz: f64::from(RATE_HZ), ..settings.clone() };
        let samples = generate(&settings).strip.segments.remove(0).samples;
        let mrn = Mrn::new(patient).unwrap();
        let stream = StreamId::generate();
        Sender { mrn, stream, samples, start_us, sequence: 0, at: 0, lead_off_from: usize::MAX }
    }

    fn message(&self, kind: WaveKind, time_us: i64, payload: Vec<u8>) -> WaveMessage {
        WaveMessage {
            mrn: self.mrn,
            stream: self.stream,
            kind,
            sequence: self.sequence,
            time_us,
            payload: payload.into(),
        }
    }

    fn time_us(&self, index: usize) -> i64 {
        self.start_us + index as i64 * 1_000_000 / i64::from(RATE_HZ)
    }

    async fn open(&self, waves: &dyn WaveLog) {
        let description = StreamDescription {
            stream: self.stream,
            mrn: self.mrn,
            device: Device { name: "Simulated".to_owned(), serial: "1".to_owned() },
            channels: vec![
                channel("II", "MDC_ECG_LEAD_II", "mV"),
                channel("V5", "MDC_ECG_LEAD_V5", "mV"),
                channel("Pleth", "MDC_PULS_OXIM_PLETH", "1"),
            ],
            opened_at: Timestamp::now(),
            clock: None,
        };
        let payload = serde_json::to_vec(&description).unwrap();
        waves.append(self.message(WaveKind::Open, self.time_us(self.at), payload)).await.unwrap();
    }

    /// Sends the next frame. `alter` changes its segments.
    async fn frame(&mut self, waves: &dyn WaveLog, alter: impl Fn(&mut Vec<Segment>)) {
        let first = self.at as u64;
        let samples = &self.samples[self.at..self.at + FRAME];
        let lead =
            |gain: f64| samples.iter().map(|mv| (f64::from(*mv) * gain / SCALE).round() as i16).collect();
        let segment = |channel, samples| Segment { channel, first, lead_off: false, samples };
        let mut segments = vec![
            segment(0, lead(1.0)),
            segment(1, lead(0.7)),
            segment(2, (0..FRAME).map(|sample| (sample * 7 % 100) as i16).collect()),
        ];
        if self.at >= self.lead_off_from {
            segments[1].lead_off = true;
        }
        alter(&mut segments);
        let time_us = self.time_us(self.at);
        let frame = Frame { sequence: self.sequence, device_time_us: time_us, segments };
        waves.append(self.message(WaveKind::Frame, time_us, frame.encode())).await.unwrap();
        self.sequence += 1;
        self.at += FRAME;
    }

    async fn frames(&mut self, waves: &dyn WaveLog, seconds: usize) {
        for _ in 0..seconds * RATE_HZ as usize / FRAME {
            self.frame(waves, |_| {}).await;
        }
    }

    async fn numerics(&mut self, waves: &dyn WaveLog, values: &[(&str, f64)]) {
        let time_us = self.time_us(self.at);
        let time = Timestamp::from_millis(time_us / 1_000).unwrap();
        let value = |(code, value): &(&str, f64)| Numeric {
            code: (*code).to_owned(),
            value: *value,
            unit: "1".to_owned(),
            time,
        };
        let numerics =
            Numerics { sequence: self.sequence, values: values.iter().map(value).collect(), clock: None };
        let payload = serde_json::to_vec(&numerics).unwrap();
        waves.append(self.message(WaveKind::Numerics, time_us, payload)).await.unwrap();
        self.sequence += 1;
    }
}

/// The analysis in this process, on the local adapter.
struct Local {
    waves: Arc<dyn WaveLog>,
    vitals: BoxStream<'static, VitalsEvent>,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<Result<(), runtime::StartError>>,
    _folder: tempfile::TempDir,
}

impl Local {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queues.db");
        let waves: Arc<dyn WaveLog> =
            LocalBus::open(&path, RetryPolicy::default(), QueueLimits::default()).unwrap();
        let vitals = waves.subscribe_vitals(None).await.unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(ecg_worker::run_live(Arc::clone(&waves), shutdown.clone()));
        Local { waves, vitals, shutdown, task, _folder: folder }
    }

    /// The next vitals, which must be those of this second.
    async fn second(&mut self, sender: &Sender, second: i64) -> Vitals {
        let next = tokio::time::timeout(Duration::from_secs(20), self.vitals.next()).await;
        let Some(VitalsEvent::Vitals(vitals)) = next.expect("vitals") else { panic!("vitals were lost") };
        assert_eq!(vitals.time.as_millis(), sender.start_us / 1_000 + second * 1_000, "second {second}");
        assert_eq!(vitals.mrn, sender.mrn);
        *vitals
    }

    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }
}

fn bpm(vitals: &Vitals) -> Option<f64> {
    vitals.values.iter().find(|value| value.code == HEART_RATE).map(|value| value.value)
}

/// Whole seconds, so that the seconds of vitals are those of the samples.
fn whole_second() -> i64 {
    Timestamp::now().as_millis() / 1_000 * 1_000_000
}

fn sinus(mean_bpm: f64, duration_s: f64) -> Settings {
    Settings { mean_bpm, duration_s, rr_sd_ms: 10.0, seed: 5, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_ecg_gives_rate_quality_and_rhythm_once_per_second() {
    let mut local = Local::start().await;
    let waves = Arc::clone(&local.waves);
    let mut sender = Sender::new(7, &sinus(84.0, 41.0), whole_second());
    sender.open(&*waves).await;
    sender.numerics(&*waves, &[("MDC_PULS_OXIM_SAT_O2", 97.0), (HEART_RATE, 300.0)]).await;
    sender.frames(&*waves, 40).await;
    let mut rhythms = BTreeSet::new();
    for second in 1..=40 {
        let vitals = local.second(&sender, second).await;
        assert_eq!((vitals.source, vitals.lead_off.len()), (VitalsSource::Analysis, 0));
        if second <= 2 {
            assert_eq!((bpm(&vitals), vitals.quality), (None, EcgQuality::Unusable), "second {second}");
        }
        if second >= 8 {
            let bpm = bpm(&vitals).unwrap_or_else(|| panic!("no rate at second {second}: {vitals:?}"));
            assert!((bpm - 84.0).abs() < 4.0, "{bpm} at second {second}");
            assert_eq!(vitals.quality, EcgQuality::Good);
        }
        rhythms.extend(vitals.rhythm);
        let spo2 = vitals.values.iter().any(|value| value.code == "MDC_PULS_OXIM_SAT_O2");
        assert_eq!(spo2, second <= 10, "numerics of a device are omitted when they are old");
    }
    assert_eq!(rhythms, BTreeSet::from(["sinus_rhythm".to_owned()]));
    local.stop().await;
}

/// A device that stays connected without samples: its seconds go on with the clock, and each is published once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_whose_samples_stop_gets_vitals_once_per_second_and_does_not_block_others() {
    let mut local = Local::start().await;
    let waves = Arc::clone(&local.waves);
    let mut silent = Sender::new(7, &sinus(84.0, 5.0), whole_second() - 4_000_000);
    silent.open(&*waves).await;
    silent.frames(&*waves, 4).await;
    let mut seen = Vec::new();
    let mut end = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..15 {
        end.tick().await;
        silent.open(&*waves).await;
        while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(50), local.vitals.next()).await
        {
            let VitalsEvent::Vitals(vitals) = event else { panic!("vitals were lost") };
            seen.push((vitals.time.as_millis() - silent.start_us / 1_000) / 1_000);
        }
    }
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    assert!(seen.last().is_some_and(|last| *last >= 14), "seconds after the last sample go on: {seen:?}");
    let mut other = Sender::new(8, &sinus(84.0, 5.0), whole_second() - 3_000_000);
    other.open(&*waves).await;
    other.frames(&*waves, 3).await;
    let answered = async {
        while let Some(VitalsEvent::Vitals(vitals)) = local.vitals.next().await {
            if vitals.mrn == other.mrn {
                return;
            }
        }
        panic!("vitals were lost");
    };
    tokio::time::timeout(Duration::from_secs(2), answered).await.expect("vitals of another patient");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_heart_rate_is_invented() {
    let mut local = Local::start().await;
    let waves = Arc::clone(&local.waves);
    let mut sender = Sender::new(7, &sinus(72.0, 80.0), whole_second());
    let frames_per_second = RATE_HZ as usize / FRAME;
    sender.open(&*waves).await;
    sender.lead_off_from = 12 * RATE_HZ as usize;
    sender.frames(&*waves, 14).await;
    // Both leads are off for four seconds.
    for _ in 0..4 * frames_per_second {
        sender.frame(&*waves, |segments| segments[0].lead_off = true).await;
    }
    sender.frames(&*waves, 12).await;
    // Missing samples, then lost frames.
    for _ in 0..3 * frames_per_second {
        sender.frame(&*waves, |segments| segments[0].samples.fill(MISSING_SAMPLE)).await;
    }
    sender.frames(&*waves, 12).await;
    sender.at += 3 * RATE_HZ as usize;
    sender.sequence += 3 * frames_per_second as u64;
    sender.frames(&*waves, 12).await;
    // Noise.
    let mut random = ecg::synth::Random::new(3);
    for _ in 0..12 * frames_per_second {
        let noise: Vec<i16> = (0..FRAME).map(|_| (random.normal() * 150.0) as i16).collect();
        sender.frame(&*waves, |segments| segments[0].samples.clone_from(&noise)).await;
    }
    for second in 1..=72 {
        let vitals = local.second(&sender, second).await;
        let expected: Option<bool> = match second {
            1..=2 => Some(false),
            8..=14 => Some(true),
            // Off, then too short for a rate.
            15..=20 => Some(false),
            26..=30 => Some(true),
            31..=35 => Some(false),
            41..=45 => Some(true),
            46..=50 => Some(false),
            56..=60 => Some(true),
            // The window is noise alone.
            70..=72 => Some(false),
            _ => None,
        };
        if let Some(expected) = expected {
            assert_eq!(bpm(&vitals).is_some(), expected, "second {second}: {vitals:?}");
        }
        if let Some(bpm) = bpm(&vitals) {
            // In the transition to noise, the rate is either right or marked.
            let is_right = (bpm - 72.0).abs() < 5.0;
            assert!(is_right || vitals.quality == EcgQuality::Poor, "{bpm} at second {second}");
            assert_ne!(vitals.quality, EcgQuality::Unusable);
        }
        let off: &[&str] = match second {
            1..=12 => &[],
            15..=18 => &["II", "V5"],
            _ => &["V5"],
        };
        if second != 13 && second != 14 {
            assert_eq!(vitals.lead_off, off, "second {second}");
        }
    }
    // Silence: the next second follows after 2 s and has no rate.
    let silence = Instant::now();
    let vitals = local.second(&sender, 73).await;
    assert_eq!((bpm(&vitals), vitals.quality), (None, EcgQuality::Unusable));
    assert!(silence.elapsed() > Duration::from_millis(1_000), "{:?}", silence.elapsed());
    // The end of the stream ends its vitals.
    waves.append(sender.message(WaveKind::End, sender.time_us(sender.at), Vec::new())).await.unwrap();
    while waves.wave_lag(WaveGroup::Analysis).await.unwrap() != WaveLag::default() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while tokio::time::timeout(Duration::from_millis(1_500), local.vitals.next()).await.is_ok() {}
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_not_valid_do_not_affect_others() {
    let mut local = Local::start().await;
    let waves = Arc::clone(&local.waves);
    // Two patients in one partition.
    let mut sender = Sender::new(7, &sinus(72.0, 12.0), whole_second());
    let other =
        (8..).find(|other| partition_of(&Mrn::new(*other).unwrap()) == partition_of(&sender.mrn)).unwrap();
    let broken = Sender::new(other, &sinus(72.0, 1.0), sender.start_us);
    waves.append(broken.message(WaveKind::Frame, 0, b"without description".to_vec())).await.unwrap();
    waves.append(broken.message(WaveKind::Open, 0, b"no JSON".to_vec())).await.unwrap();
    broken.open(&*waves).await;
    for (kind, payload) in [(WaveKind::Frame, &b"x"[..]), (WaveKind::Numerics, b"[]"), (WaveKind::End, b"x")]
    {
        let message = WaveMessage { sequence: 9, ..broken.message(kind, i64::MAX, payload.to_vec()) };
        waves.append(message).await.unwrap();
    }
    sender.open(&*waves).await;
    sender.frames(&*waves, 11).await;
    for second in 1..=11 {
        let vitals = local.second(&sender, second).await;
        assert!(second < 9 || bpm(&vitals).is_some_and(|bpm| (bpm - 72.0).abs() < 4.0), "{vitals:?}");
    }
    local.stop().await;
}

/// Vitals as they appear on the broker, without the filter of the adapter.
struct Seen {
    /// Arrival and heart rate by patient and second.
    seconds: BTreeMap<(Mrn, i64), (Instant, Option<f64>)>,
    duplicates: Vec<(Mrn, i64)>,
}

async fn watch(url: String) -> (Arc<std::sync::Mutex<Seen>>, tokio::task::JoinHandle<()>) {
    let client = async_nats::connect(url).await.unwrap();
    let mut messages = client.subscribe("vitals.*").await.unwrap();
    client.flush().await.unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Seen { seconds: BTreeMap::new(), duplicates: Vec::new() }));
    let noted = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let vitals: Vitals = serde_json::from_slice(&message.payload).unwrap();
            let key = (vitals.mrn, vitals.time.as_millis() / 1_000);
            let mut seen = noted.lock().unwrap();
            if seen.seconds.insert(key, (Instant::now(), bpm(&vitals))).is_some() {
                seen.duplicates.push(key);
            }
        }
    });
    (seen, task)
}

fn worker(server: &NatsServer, folder: &tempfile::TempDir, name: &str) -> Process {
    let args = ["--nats", &server.url(), "--admin-listen", "127.0.0.1:0", "--nats-provisioned"];
    let args = args.map(str::to_owned).to_vec();
    Process::start("ecg-worker", args, folder.path().join(name), 1)
}

/// The metric of a worker that counts its published vitals.
fn published(worker: &Process) -> f64 {
    use std::io::{Read, Write};
    let mut connection = std::net::TcpStream::connect(worker.address(0)).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    connection.read_to_string(&mut text).unwrap();
    text.lines()
        .filter(|line| line.starts_with("bedside_vitals_age_seconds_count"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// Waits until a worker publishes vitals.
async fn until_published(worker: &Process) {
    let before = published(worker);
    while published(worker) < before + 3.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The time from `since` until vitals with a rate of every patient have arrived.
async fn until_all(seen: &std::sync::Mutex<Seen>, patients: &[Mrn], since: Instant) -> Duration {
    loop {
        let arrived: BTreeSet<Mrn> = seen
            .lock()
            .unwrap()
            .seconds
            .iter()
            .filter(|(_, (at, rate))| *at > since && rate.is_some())
            .map(|((mrn, _), _)| *mrn)
            .collect();
        if patients.iter().all(|mrn| arrived.contains(mrn)) {
            return since.elapsed();
        }
        if since.elapsed() > Duration::from_secs(30) {
            let missing: Vec<&Mrn> = patients.iter().filter(|mrn| !arrived.contains(mrn)).collect();
            panic!("no vitals with a rate of {missing:?}; {:?}", seen.lock().unwrap().seconds);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_worker_is_replaced_within_three_seconds_and_no_second_is_published_twice() {
    const PATIENTS: u64 = 16;
    const ATTEMPTS: usize = 3;
    let folder = tempfile::tempdir().unwrap();
    // In memory where possible: a slow disk is not what this measures.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
    let server = NatsServer::start_in(memory.path());
    let waves: Arc<dyn WaveLog> = NatsBus::connect(NatsConfig {
        limits: QueueLimits { max_staged_bytes: 1 << 30, max_wave_bytes: 1 << 28, ..QueueLimits::default() },
        ..NatsConfig::new([server.url()])
    })
    .await
    .unwrap();
    let (seen, watching) = watch(server.url()).await;
    let mut first = worker(&server, &folder, "first.log");
    let second = worker(&server, &folder, "second.log");
    // The streams have begun 12 s ago.
    let start_us = whole_second() - 12_000_000;
    let started = Instant::now();
    let mut senders: Vec<Sender> = (1..=PATIENTS)
        .map(|patient| Sender::new(patient, &sinus(60.0 + patient as f64, 150.0), start_us))
        .collect();
    let patients: Vec<Mrn> = senders.iter().map(|sender| sender.mrn).collect();
    for sender in &mut senders {
        sender.open(&*waves).await;
        sender.frames(&*waves, 12).await;
    }
    let sending = tokio::spawn({
        let waves = Arc::clone(&waves);
        async move {
            for number in 1..=600_u32 {
                tokio::time::sleep_until((started + Duration::from_millis(200) * number).into()).await;
                for sender in &mut senders {
                    if number % 50 == 0 {
                        sender.open(&*waves).await;
                    }
                    sender.frame(&*waves, |_| {}).await;
                }
            }
        }
    });
    until_all(&seen, &patients, started).await;
    until_published(&first).await;
    until_published(&second).await;
    // On a busy machine, the best of a few attempts counts.
    let mut took = Vec::new();
    while took.is_empty() || (took.len() < ATTEMPTS && took.iter().all(|took| *took >= TAKEOVER)) {
        if !took.is_empty() {
            first.restart();
            until_published(&first).await;
        }
        first.kill();
        took.push(until_all(&seen, &patients, Instant::now()).await);
    }
    println!("replacement of a killed worker: {took:?}");
    assert!(took.iter().any(|took| *took < TAKEOVER), "{took:?}");

    // A worker that is stopped loses its partitions, and publishes nothing when it continues.
    first.restart();
    let mut took = Vec::new();
    while took.is_empty() || (took.len() < ATTEMPTS && took.iter().all(|took| *took >= TAKEOVER)) {
        until_published(&first).await;
        until_published(&second).await;
        second.pause();
        took.push(until_all(&seen, &patients, Instant::now()).await);
        second.resume();
    }
    println!("replacement of a stopped worker: {took:?}");
    assert!(took.iter().any(|took| *took < TAKEOVER), "{took:?}");
    until_all(&seen, &patients, Instant::now() + Duration::from_millis(500)).await;

    sending.abort();
    watching.abort();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.duplicates, [], "seconds were published twice");
    for (number, mrn) in (1_u32..).zip(&patients) {
        let seconds: Vec<_> = seen
            .seconds
            .range((*mrn, i64::MIN)..=(*mrn, i64::MAX))
            .map(|((_, time), (_, rate))| (*time, *rate))
            .collect();
        for pair in seconds.windows(2) {
            assert_eq!(pair[1].0, pair[0].0 + 1, "a second of patient {mrn} is missing");
        }
        // The successor has warmed up: a rate in every second from the time when all patients had one.
        for (time, rate) in &seconds[10..] {
            let expected = 60.0 + f64::from(number);
            assert!(
                rate.is_some_and(|rate| (rate - expected).abs() < 5.0),
                "{rate:?} at {time} of patient {mrn}"
            );
        }
    }
}
