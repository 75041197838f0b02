//! `bedside stream`: sends waveforms as a bedside device does, from a recording or a simulated patient.

mod recording;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use client::{Gateway, SenderError, SenderSettings, SenderState, Upload, UploadAnswer, WaveformSender};
use indicatif::ProgressBar;
use proto_json::{Device, Mrn};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::format;
use super::output::OutputArgs;
use super::progress::seconds_bar;
use crate::demo::{Noise, Rhythm, SimulatedState};
use crate::playback::{self, FRAME, WaveformSource};
use crate::simulator::{self, Simulator, SimulatorState};
use recording::{Recording, Replay};

/// Speeds that `--speed` accepts.
const SPEEDS: std::ops::RangeInclusive<f64> = 1.0..=60.0;
/// Most patients of one command.
const MAX_PATIENTS: u16 = 2_000;
/// Time for the last acknowledgements.
const FINISH_LIMIT: Duration = Duration::from_secs(15);
/// Interval at which the states of the streams are reported.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Send a recording or a simulated patient as live waveforms.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bedside stream --mrn 7 100.hea                                  # all leads of a WFDB record
  bedside stream --mrn 7 night.edf --speed 60                     # an hour per minute
  bedside stream --mrn 7 --synthetic --rate 64                    # three ECG leads, pleth, respiration, numerics
  bedside stream --mrn 7 --synthetic --rhythm atrial-fibrillation --noise high --lead-off-every 1m
  bedside stream --mrn 1000 --synthetic --patients 64             # record numbers 1000 to 1063

Ends with the recording, after --duration, or with Ctrl-C. At a --speed above 1, the samples get times in the past, so that the
last one has the present time: screens show them in the review, not as live. Waveforms that cannot be sent wait in memory and
in a temporary file, and are sent when the server is back. A token needs the role `device`.")]
pub(crate) struct StreamArgs {
    /// Recording: a WFDB header (.hea), EDF, EDF+, BDF or CSV. All leads are sent
    #[arg(required_unless_present = "synthetic", conflicts_with = "synthetic")]
    file: Option<PathBuf>,
    /// Medical record number; the first one with --patients
    #[arg(long)]
    mrn: Mrn,
    /// Name of the patient, uploaded first. With --patients, a number is added
    #[arg(long)]
    name: Option<String>,
    /// Speed of the replay relative to the recording, from 1 to 60
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    speed: f64,
    /// Length of what is sent, such as 90s or 1h; default: the recording, or without end
    #[arg(long, value_name = "TIME", value_parser = runtime::parse_duration)]
    duration: Option<Duration>,
    /// Play the recording again and again
    #[arg(long, conflicts_with = "synthetic")]
    repeat: bool,
    /// Samples per second of a CSV file without times
    #[arg(long, value_name = "HZ", conflicts_with = "synthetic")]
    sample_rate: Option<f64>,
    /// Number of patients with consecutive record numbers, which send the same recording, or different simulated patients
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=MAX_PATIENTS as i64))]
    patients: u16,
    #[command(flatten)]
    synthetic: SyntheticArgs,
    /// Serial number of the device. With --patients, the record number is added
    #[arg(long, value_name = "TEXT", default_value = "1")]
    serial: String,
    /// Directory of the temporary file; default: the one of the system
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

/// The simulated patient.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Simulated patient")]
struct SyntheticArgs {
    /// Send a simulated patient instead of a recording
    #[arg(long)]
    synthetic: bool,
    /// Heart rate in beats per minute; default: a usual one of the rhythm
    #[arg(long, value_name = "BPM", requires = "synthetic")]
    rate: Option<u32>,
    /// Rhythm of the heart
    #[arg(long, requires = "synthetic", default_value = "sinus", value_parser = rhythm)]
    rhythm: Rhythm,
    /// Disturbances of the ECG: none, low or high
    #[arg(long, requires = "synthetic", default_value = "low", value_parser = noise)]
    noise: Noise,
    /// Disconnect the ECG electrodes once per this time
    #[arg(long, value_name = "TIME", requires = "synthetic", value_parser = runtime::parse_duration)]
    lead_off_every: Option<Duration>,
    /// Time for which the electrodes are disconnected
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "lead_off_every", value_parser = runtime::parse_duration)]
    lead_off_for: Duration,
    /// Seed of the random generator; patients have consecutive seeds
    #[arg(long, default_value_t = 1, requires = "synthetic")]
    seed: u64,
}

/// What is sent.
enum Content {
    Recording(Arc<Recording>),
    Synthetic(SyntheticArgs, SimulatedState),
}

impl StreamArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let content = self.content()?;
        let frames = self.frames(&content)?;
        let mrns = self.mrns()?;
        let gateway = self.gateway.connect()?;
        self.upload_names(&gateway, &mrns).await?;
        let mut streams = Vec::new();
        for (index, mrn) in (0..).zip(&mrns) {
            let source = self.source(&content, index, frames);
            let mut settings = SenderSettings::new(
                gateway.clone(),
                *mrn,
                self.device(*mrn, &content),
                source.channels().to_vec(),
            );
            if let Some(folder) = &self.spill_dir {
                settings.spill_dir = Some(folder.clone());
            }
            let sender = WaveformSender::start(settings).map_err(CliError::usage)?;
            streams.push(Stream { mrn: *mrn, source, sender: Arc::new(sender) });
        }
        let result = self.send(streams, frames).await?;
        self.output.print(result.text(&mrns), &result)?;
        match result.problem {
            Some(problem) => Err(CliError::failed(problem)),
            None => Ok(()),
        }
    }

    fn content(&self) -> Result<Content, CliError> {
        let Some(path) = &self.file else {
            let synthetic = self.synthetic.clone();
            let state = SimulatedState::new(synthetic.rhythm, synthetic.rate, synthetic.noise)
                .map_err(CliError::usage)?;
            if synthetic.lead_off_every.is_some_and(|every| every <= synthetic.lead_off_for) {
                return Err(CliError::usage("--lead-off-every must be longer than --lead-off-for"));
            }
            return Ok(Content::Synthetic(synthetic, state));
        };
        let recording = Recording::read(path, self.sample_rate)?;
        let labels: Vec<&str> = recording.channels.iter().map(|channel| channel.label.as_str()).collect();
        let seconds = recording.duration_s();
        self.output.print_text(format!(
            "{}: {} of {seconds:.1} s",
            path.display(),
            format::plain(&labels.join(", "))
        ))?;
        if !recording.others.is_empty() {
            let others = format::plain(&recording.others.join(", "));
            eprintln!("not sent, because they are no leads of an ECG: {others}");
        }
        Ok(Content::Recording(Arc::new(recording)))
    }

    /// Number of frames to send. `None`: without end.
    fn frames(&self, content: &Content) -> Result<Option<u64>, CliError> {
        let duration_s = match (self.duration, content) {
            (Some(duration), Content::Recording(recording)) if !self.repeat => {
                Some(duration.as_secs_f64().min(recording.duration_s()))
            }
            (Some(duration), _) => Some(duration.as_secs_f64()),
            (None, Content::Recording(recording)) if !self.repeat => Some(recording.duration_s()),
            (None, _) => None,
        };
        if duration_s.is_none() && self.speed > 1.0 {
            return Err(CliError::usage("a --speed above 1 needs an end: add --duration"));
        }
        Ok(duration_s.map(|seconds| ((seconds / FRAME.as_secs_f64()).ceil() as u64).max(1)))
    }

    fn mrns(&self) -> Result<Vec<Mrn>, CliError> {
        let first = self.mrn.get();
        (first..first.saturating_add(u64::from(self.patients)))
            .map(|mrn| Mrn::new(mrn).map_err(CliError::usage))
            .collect()
    }

    fn device(&self, mrn: Mrn, content: &Content) -> Device {
        let serial = if self.patients > 1 { format!("{}-{mrn}", self.serial) } else { self.serial.clone() };
        match content {
            Content::Recording(_) => Device { name: "Bedside replay".to_owned(), serial },
            Content::Synthetic(..) => simulator::device(&serial),
        }
    }

    fn source(&self, content: &Content, index: u64, frames: Option<u64>) -> Box<dyn WaveformSource> {
        match content {
            Content::Recording(recording) => {
                Box::new(Replay::new(Arc::clone(recording), frames.unwrap_or(u64::MAX)))
            }
            Content::Synthetic(args, state) => {
                let patient = state.patient_settings();
                let (every, lasts) = (args.lead_off_every, args.lead_off_for);
                let state_at = move |time_s: f64| SimulatorState {
                    patient: patient.clone(),
                    // The first period starts with connected electrodes.
                    is_lead_off: every
                        .is_some_and(|every| time_s % every.as_secs_f64() >= (every - lasts).as_secs_f64()),
                    has_gaps: false,
                };
                Box::new(Simulator::new(Box::new(state_at), args.seed.wrapping_add(index), frames))
            }
        }
    }

    async fn upload_names(&self, gateway: &Gateway, mrns: &[Mrn]) -> Result<(), CliError> {
        let Some(name) = &self.name else { return Ok(()) };
        for (number, mrn) in (1..).zip(mrns) {
            let name = if mrns.len() > 1 { format!("{name} {number}") } else { name.clone() };
            let upload = Upload { name: Some(name), ..Upload::of(Vec::new()) };
            let answer = gateway.upload(*mrn, &upload, |_| {}).await?;
            if let UploadAnswer::Accepted(accepted) = answer {
                self.output.print_text(format::plain(&accepted.message))?;
            }
        }
        Ok(())
    }

    /// Plays all streams until they end, or until Ctrl-C, and waits for the acknowledgements.
    async fn send(&self, streams: Vec<Stream>, frames: Option<u64>) -> Result<Summary, CliError> {
        let sent = Arc::new(AtomicU64::new(0));
        let senders: Vec<(Mrn, Arc<WaveformSender>)> =
            streams.iter().map(|stream| (stream.mrn, Arc::clone(&stream.sender))).collect();
        let bar = seconds_bar(frames.map(|frames| frames as f64 * FRAME.as_secs_f64()));
        let mut tasks = JoinSet::new();
        let count = senders.len().max(1) as u32;
        // With a speed above 1, the last sample has the present time.
        let played_s = frames.unwrap_or(0) as f64 * FRAME.as_secs_f64();
        let earlier_us = (played_s * (1.0 - 1.0 / self.speed) * 1e6) as i64;
        for (index, mut stream) in (0_u32..).zip(streams) {
            let (sent, speed) = (Arc::clone(&sent), self.speed);
            tasks.spawn(async move {
                // The frames of the patients are distributed over the time of a frame.
                sleep(FRAME.div_f64(speed) * index / count).await;
                let start_us = playback::now_us() - earlier_us;
                playback::play(&mut *stream.source, &stream.sender, start_us, speed, |frames| {
                    sent.fetch_max(frames, Ordering::Relaxed);
                })
                .await
            });
        }
        let mut report = Report { bar: &bar, problems: BTreeMap::new(), has_connected: false };
        let stopped = tokio::signal::ctrl_c();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(Ok(result)) => result.map_err(CliError::failed)?,
                    Some(Err(error)) => return Err(CliError::failed(error)),
                    None => break,
                },
                _ = &mut stopped => break,
                () = sleep(REPORT_INTERVAL) => report.update(&senders, sent.load(Ordering::Relaxed))?,
            }
        }
        tasks.shutdown().await;
        report.update(&senders, sent.load(Ordering::Relaxed))?;
        bar.set_message("waiting for the last acknowledgements");
        let summary = finish(senders, sent.load(Ordering::Relaxed)).await;
        bar.finish_and_clear();
        Ok(summary)
    }
}

/// The stream of one patient.
struct Stream {
    mrn: Mrn,
    source: Box<dyn WaveformSource>,
    sender: Arc<WaveformSender>,
}

/// Reports the states of the streams on standard error.
struct Report<'a> {
    bar: &'a ProgressBar,
    /// Reported problem of each stream.
    problems: BTreeMap<Mrn, Option<String>>,
    has_connected: bool,
}

impl Report<'_> {
    fn update(&mut self, senders: &[(Mrn, Arc<WaveformSender>)], frames: u64) -> Result<(), CliError> {
        let (mut acknowledged, mut waiting, mut connected) = (0, 0, 0);
        for (mrn, sender) in senders {
            let state = sender.state().borrow().clone();
            acknowledged += state.acknowledged;
            waiting += state.waiting;
            connected += usize::from(state.is_connected);
            self.has_connected |= state.is_connected;
            if state.is_blocked && !self.has_connected {
                let problem = state.problem.unwrap_or_default();
                return Err(CliError::failed(format!(
                    "the stream of patient {mrn} cannot be opened: {problem}"
                )));
            }
            self.report(*mrn, &state);
        }
        self.bar.set_position((frames as f64 * FRAME.as_secs_f64() * 1000.0) as u64);
        self.bar.set_message(format!(
            "{connected} of {} connected, {acknowledged} messages acknowledged, {waiting} waiting",
            senders.len()
        ));
        Ok(())
    }

    /// Prints a line when a stream is interrupted, and when it continues.
    fn report(&mut self, mrn: Mrn, state: &SenderState) {
        let before = self.problems.get(&mrn).cloned().unwrap_or_default();
        if before == state.problem {
            return;
        }
        let line = match &state.problem {
            Some(problem) => format!("patient {mrn}: not connected: {}", format::plain(problem)),
            None => format!("patient {mrn}: connected again"),
        };
        self.bar.suspend(|| eprintln!("{line}"));
        self.problems.insert(mrn, state.problem.clone());
    }
}

/// What was sent.
#[derive(Debug, Serialize)]
struct Summary {
    seconds: f64,
    acknowledged: u64,
    dropped: u64,
    unacknowledged: u64,
    #[serde(skip)]
    problem: Option<String>,
}

impl Summary {
    fn text(&self, mrns: &[Mrn]) -> String {
        let to = match mrns {
            [mrn] => format!("patient {mrn}"),
            _ => format!("{} patients", mrns.len()),
        };
        let mut text =
            format!("Sent {:.1} s to {to}: {} messages are stored", self.seconds, self.acknowledged);
        if self.dropped > 0 {
            text.push_str(&format!(", {} were dropped", self.dropped));
        }
        text.push('.');
        text
    }
}

/// Ends all streams at the same time.
async fn finish(senders: Vec<(Mrn, Arc<WaveformSender>)>, frames: u64) -> Summary {
    let mut tasks = JoinSet::new();
    for (mrn, sender) in senders {
        tasks.spawn(async move {
            let state = sender.state();
            let ended = match Arc::try_unwrap(sender) {
                Ok(sender) => sender.finish(FINISH_LIMIT).await,
                // The task that plays the stream has ended, so that this is the only reference.
                Err(_) => Ok(()),
            };
            let state = state.borrow().clone();
            (mrn, state, ended)
        });
    }
    let mut summary = Summary {
        seconds: frames as f64 * FRAME.as_secs_f64(),
        acknowledged: 0,
        dropped: 0,
        unacknowledged: 0,
        problem: None,
    };
    for (mrn, state, ended) in tasks.join_all().await {
        summary.acknowledged += state.acknowledged;
        summary.dropped += state.dropped;
        summary.unacknowledged += state.waiting;
        if let Err(error @ SenderError::Unfinished { .. }) = ended {
            summary.problem = Some(format!("patient {mrn}: {}", format::plain(&error.to_string())));
        }
    }
    summary
}

fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| SPEEDS.contains(factor));
    factor.ok_or_else(|| format!("it must be a number from {} to {}", SPEEDS.start(), SPEEDS.end()))
}

fn rhythm(text: &str) -> Result<Rhythm, String> {
    let found = Rhythm::ALL.into_iter().find(|rhythm| rhythm.name() == text);
    found.ok_or_else(|| format!("it must be one of {}", Rhythm::ALL.map(Rhythm::name).join(", ")))
}

fn noise(text: &str) -> Result<Noise, String> {
    match text {
        "none" => Ok(Noise::None),
        "low" => Ok(Noise::Low),
        "high" => Ok(Noise::High),
        _ => Err("it must be none, low or high".to_owned()),
    }
}
