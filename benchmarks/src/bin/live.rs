//! Measures live waveforms: delay from the sample of a device to a subscriber, age of vitals, and processor time.
//! `cargo run --release -p bedside-benchmarks --bin live`. Figures depend on the machine: compare figures of one run.
//!
//! The load has the parts of a real one: a [`WaveformSender`] per patient, and one [`Live`] that subscribes all patients. The
//! samples are generated before the measurement, so that the program costs less than the server. It runs on the same machine,
//! so one clock measures the delays.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark ends when something fails")]

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use benchmarks::quantile;
use client::{Gateway, Live, LiveEvent, LiveSettings, SenderSettings, Upload, WaveformSender};
use ecg::synth::{PatientSettings, SimulatedLead, SimulatedPatient};
use futures::{StreamExt, stream};
use proto_json::{Channel, Device, LiveMode, Mrn, SampleRate, Segment};
use testkit::{Mode, System, cpu_seconds, resident_bytes};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const USAGE: &str = "Usage: live [standalone|processes] [--patients N] [--seconds N] [--leads 1|3] [--overview] [--sweep]

Streams N patients (64) for some seconds (30), with three ECG leads at 250 Hz and pleth at 125 Hz, or with one lead alone, in
frames of 200 ms. Prints the delay from the last sample of a frame to its arrival at one subscriber of all patients, the age
of the vitals, and the processor time of each process.
--overview: subscribe as an overview does. --sweep: one lead; more and more patients until the vitals are older than 2 s at
the 99th percentile, or a sender has to wait.";

/// Length of a frame in microseconds.
const FRAME_US: i64 = 200_000;
/// Parts of a frame's time over which the patients are distributed.
const PHASES: u64 = 40;
/// Seconds of samples that are generated, and then repeated.
const GENERATED_S: usize = 60;
/// Time before the measurement, in which connections and detectors start.
const WARM_UP: Duration = Duration::from_secs(12);
/// Interval at which the ages of the vitals are sampled.
const AGE_INTERVAL: Duration = Duration::from_millis(250);
/// Numbers of patients of a sweep.
const SWEEP: [u64; 12] = [25, 50, 100, 150, 200, 300, 400, 600, 800, 1_000, 1_500, 2_000];
const MAX_VITALS_AGE_S: f64 = 2.0;

#[derive(Debug, Clone, Copy)]
struct Load {
    patients: u64,
    seconds: u64,
    leads: usize,
    mode: LiveMode,
}

#[derive(Debug, Default)]
struct Figures {
    /// From the last sample of a frame to its arrival, in milliseconds.
    delays_ms: Vec<f64>,
    /// Ages of the newest vitals of the patients, in seconds.
    ages_s: Vec<f64>,
    frames: u64,
    lost: u64,
    /// Messages that were not acknowledged at the end.
    waiting: u64,
    /// Processor time per second of each process.
    cores: Vec<(&'static str, f64)>,
    own_cores: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{USAGE}");
        return;
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let number = |flag: &str, default: u64| {
        let position = args.iter().position(|arg| arg == flag);
        position.map_or(default, |at| {
            let value = args.get(at + 1).and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("{flag} needs a number\n\n{USAGE}"))
        })
    };
    let mode = if has("processes") { Mode::Processes } else { Mode::Standalone };
    let sweep = has("--sweep");
    let load = Load {
        patients: number("--patients", 64),
        seconds: number("--seconds", 30),
        leads: if sweep { 1 } else { number("--leads", 3).clamp(1, 3) as usize },
        mode: if has("--overview") { LiveMode::Overview } else { LiveMode::Full },
    };
    let samples = Samples::generate(load.leads);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let patients: Vec<u64> = if sweep { SWEEP.to_vec() } else { vec![load.patients] };
    println!(
        "| patients | frames/s | delay p50 ms | p99 ms | vitals age p50 s | p99 s | lost | waiting \
         | cores of each process: ms per patient and second | cores of this program |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|");
    for patients in patients {
        let load = Load { patients, ..load };
        // A new system for each row: the histories are the same.
        let figures = runtime.block_on(async { measure(&System::start(mode), load, &samples).await });
        print_row(load, &figures);
        let age = quantile(&figures.ages_s, 0.99);
        if sweep && (age > MAX_VITALS_AGE_S || figures.waiting > 20 * patients) {
            println!("\nLimit: {patients} patients.");
            return;
        }
    }
}

fn print_row(load: Load, figures: &Figures) {
    let processes: Vec<String> = figures
        .cores
        .iter()
        .map(|(name, cores)| format!("{name} {cores:.3}: {:.2} ms", cores * 1000.0 / load.patients as f64))
        .collect();
    println!(
        "| {} | {:.0} | {:.0} | {:.0} | {:.2} | {:.2} | {} | {} | {} | {:.3} |",
        load.patients,
        figures.frames as f64 / load.seconds as f64,
        quantile(&figures.delays_ms, 0.5),
        quantile(&figures.delays_ms, 0.99),
        quantile(&figures.ages_s, 0.5),
        quantile(&figures.ages_s, 0.99),
        figures.lost,
        figures.waiting,
        processes.join(", "),
        figures.own_cores,
    );
}

/// Samples of each channel, generated once and shared by all patients.
struct Samples {
    channels: Vec<Channel>,
    samples: Vec<Vec<i16>>,
}

impl Samples {
    /// ECG leads at 250 Hz; with three leads, a pleth at 125 Hz, too.
    fn generate(leads: usize) -> Self {
        let names = [
            (SimulatedLead::II, "II", "MDC_ECG_LEAD_II"),
            (SimulatedLead::I, "I", "MDC_ECG_LEAD_I"),
            (SimulatedLead::V1, "V1", "MDC_ECG_LEAD_V1"),
        ];
        let simulated: Vec<SimulatedLead> = names.iter().take(leads).map(|(lead, ..)| *lead).collect();
        let mut patient = SimulatedPatient::new(&PatientSettings::default(), &simulated, 250.0, 1);
        let mut samples = vec![Vec::new(); leads];
        let mut pleth = Vec::new();
        let mut values = vec![0.0; leads];
        for index in 0..GENERATED_S * 250 {
            patient.next_ecg(&mut values);
            for (samples, value) in samples.iter_mut().zip(&values) {
                samples.push((value * 1000.0) as i16);
            }
            if index % 2 == 0 {
                pleth.push((patient.pleth(index as f64 / 250.0) * 2000.0) as i16);
            }
        }
        let channel = |label: &str, code: &str, unit: &str, hz: u32| Channel {
            label: label.to_owned(),
            code: code.to_owned(),
            unit: unit.to_owned(),
            rate: SampleRate { numerator: hz, denominator: 1 },
            scale: 0.001,
            offset: 0.0,
        };
        let mut channels: Vec<Channel> =
            names.iter().take(leads).map(|(_, label, code)| channel(label, code, "mV", 250)).collect();
        if leads > 1 {
            channels.push(channel("Pleth", "MDC_PULS_OXIM_PLETH", "1", 125));
            samples.push(pleth);
        }
        Samples { channels, samples }
    }

    /// The segments of a frame. Patients are at different places of the recording.
    fn frame(&self, patient: u64, frame: u64) -> Vec<Segment> {
        let segment = |(channel, (description, samples)): (u16, (&Channel, &Vec<i16>))| {
            let count = u64::from(description.rate.numerator / 5);
            let first = frame * count;
            let at = ((patient * 7 + frame) * count) as usize;
            let samples = (at..at + count as usize).map(|index| samples[index % samples.len()]).collect();
            Segment { channel, first, lead_off: false, samples }
        };
        (0..).zip(self.channels.iter().zip(&self.samples)).map(segment).collect()
    }
}

async fn measure(system: &System, load: Load, samples: &Samples) -> Figures {
    let gateway = system.gateway();
    let mrns: Vec<Mrn> = (0..load.patients).map(|index| Mrn::new(10_000 + index).unwrap()).collect();
    register(&gateway, &mrns).await;
    let senders: Vec<WaveformSender> = mrns
        .iter()
        .map(|mrn| {
            let device = Device { name: "Load".to_owned(), serial: mrn.to_string() };
            let settings = SenderSettings::new(gateway.clone(), *mrn, device, samples.channels.clone());
            WaveformSender::start(settings).unwrap()
        })
        .collect();
    let mut live = Live::start(LiveSettings::new(gateway.clone()));
    let subscriber = live.subscriber();
    mrns.iter().for_each(|mrn| subscriber.subscribe(*mrn, load.mode));

    let start = Instant::now();
    let (from, end) = (start + WARM_UP, start + WARM_UP + Duration::from_secs(load.seconds));
    let cpu = async {
        sleep_until(from).await;
        let before: Vec<f64> = system.processes().iter().map(|process| cpu(process.pid())).collect();
        let own = cpu(std::process::id());
        sleep_until(end).await;
        let seconds = load.seconds as f64;
        let cores = system
            .processes()
            .iter()
            .zip(before)
            .map(|(process, before)| (process.name(), (cpu(process.pid()) - before) / seconds))
            .collect();
        (cores, (cpu(std::process::id()) - own) / seconds)
    };
    let received = receive(&mut live, &mrns, from, end);
    let sent = send(&senders, samples, start, end);
    let ((cores, own_cores), received, ()) = tokio::join!(cpu, received, sent);
    let mut figures = Figures { cores, own_cores, ..received };
    figures.waiting = senders.iter().map(|sender| sender.state().borrow().waiting).sum();
    figures.delays_ms.sort_by(f64::total_cmp);
    figures.ages_s.sort_by(f64::total_cmp);
    for process in system.processes() {
        let bytes = resident_bytes(process.pid()).unwrap_or(0);
        eprintln!("{}: {:.0} MB resident", process.name(), bytes as f64 / 1e6);
    }
    figures
}

async fn register(gateway: &Gateway, mrns: &[Mrn]) {
    stream::iter(mrns)
        .map(|mrn| async move {
            let upload = Upload { name: Some(format!("Load {mrn}")), ..Upload::of(Vec::new()) };
            gateway.upload(*mrn, &upload, |_| {}).await.unwrap();
        })
        .buffer_unordered(16)
        .collect::<()>()
        .await;
}

/// Sends a frame of each patient per 200 ms until `end`.
async fn send(senders: &[WaveformSender], samples: &Samples, start: Instant, end: Instant) {
    for tick in 0_u64.. {
        let at = start + Duration::from_micros(FRAME_US as u64) * (tick as u32) / PHASES as u32;
        if at >= end {
            return;
        }
        sleep_until(at).await;
        let (frame, phase) = (tick / PHASES, tick % PHASES);
        for (patient, sender) in (0_u64..).zip(senders).filter(|(patient, _)| patient % PHASES == phase) {
            // The last sample of the frame is recorded now.
            sender.send_frame(now_us() - FRAME_US, samples.frame(patient, frame)).unwrap();
        }
    }
}

async fn receive(live: &mut Live, mrns: &[Mrn], from: Instant, end: Instant) -> Figures {
    let mut figures = Figures::default();
    let started_ms = now_us() / 1000;
    let mut newest: HashMap<Mrn, i64> = mrns.iter().map(|mrn| (*mrn, started_ms)).collect();
    let mut sample_at = from;
    loop {
        let now = Instant::now();
        if now >= end {
            return figures;
        }
        if now >= sample_at {
            let now_ms = now_us() / 1000;
            figures.ages_s.extend(newest.values().map(|time| (now_ms - time) as f64 / 1000.0));
            sample_at += AGE_INTERVAL;
        }
        let Ok(Some(event)) = timeout(AGE_INTERVAL, live.next()).await else { continue };
        let is_measured = Instant::now() >= from;
        let delay_ms = match event {
            LiveEvent::Frame(frame) => (now_us() - frame.frame.device_time_us - FRAME_US) as f64 / 1000.0,
            LiveEvent::Columns(columns) => (now_us() - columns.time_us - FRAME_US) as f64 / 1000.0,
            LiveEvent::Vitals(vitals) => {
                let time = newest.entry(vitals.mrn).or_default();
                *time = vitals.time.as_millis().max(*time);
                continue;
            }
            LiveEvent::Lost { .. } => {
                figures.lost += u64::from(is_measured);
                continue;
            }
            LiveEvent::Rejected { message } => panic!("{message}"),
            LiveEvent::Connection(_) | LiveEvent::Stream(_) | LiveEvent::Closed { .. } => continue,
        };
        if is_measured {
            figures.frames += 1;
            figures.delays_ms.push(delay_ms);
        }
        // Gives the senders a turn while many events wait.
        if figures.frames.is_multiple_of(64) {
            sleep(Duration::ZERO).await;
        }
    }
}

fn cpu(pid: u32) -> f64 {
    cpu_seconds(pid).unwrap_or(f64::NAN)
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}
