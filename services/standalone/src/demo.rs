//! Simulated patients for demonstrations. They upload through the gateway like every other client. Their
//! names and record numbers mark them as simulated. A scenario describes the patients and timed events.
//!
//! Each patient also streams live waveforms after its first strip. They show an event at once.
//!
//! An event is visible with the next strip, which is sent when the event starts. A strip has one state: it shows
//! the state at the time at which it is sent.

mod args;
mod browser;
mod live;
mod phantom;
mod scenario;
mod signal;
mod timeline;
mod ward;

use std::time::Duration;

use client::{ClientError, Gateway, Upload, UploadFile};
use jiff::Zoned;
use proto_json::{BedId, FileKind, Mrn, Timestamp};
use runtime::{Backoff, Shutdown};
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use args::DemoArgs;
pub(crate) use browser::{open_on_desktop, url};
pub(crate) use live::SimulatedState;
pub(crate) use scenario::{Noise, Rhythm};
use scenario::{Patient, Scenario, State};
use timeline::Timeline;

/// Interval between the first strips of a patient.
const FIRST_INTERVAL: Duration = Duration::from_secs(6);
/// Interval between later strips. A patient then produces about 250 MB per day. The interval is shorter than the
/// age at which a monitor marks a value as stale.
const LATER_INTERVAL: Duration = Duration::from_secs(25);
/// Number of strips with the first interval.
const FIRST_STRIPS: u64 = 150;
/// Shortest interval between two strips of a patient.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Number of events that the banner lists.
const LISTED_EVENTS: usize = 10;

/// A demo that has started.
pub(crate) struct Demo {
    title: Option<String>,
    patients: Vec<(Patient, Timeline)>,
    pace: Pace,
    /// The same moment on two clocks.
    started: (Instant, Zoned),
}

/// Intervals between strips.
#[derive(Debug, Clone, Copy)]
struct Pace {
    factor: f64,
    interval: Option<Duration>,
}

impl Demo {
    /// Schedules the events of the scenario from now on.
    pub(crate) fn start(scenario: Scenario, pace: f64) -> Self {
        let started = (Instant::now(), Zoned::now());
        let schedule = |patient: Patient| {
            let timeline = Timeline::new(&patient, pace, &started.1);
            (patient, timeline)
        };
        Demo {
            title: scenario.title,
            patients: scenario.patients.into_iter().map(schedule).collect(),
            pace: Pace { factor: pace, interval: scenario.interval },
            started,
        }
    }

    /// Describes the demo for the terminal: patients, and the first events with their local time.
    pub(crate) fn banner(&self) -> String {
        let plural = if self.patients.len() == 1 { "" } else { "s" };
        let mut text = format!("Demo with {} simulated patient{plural}", self.patients.len());
        text.extend(self.title.iter().map(|title| format!(": {title}")));
        let mut events: Vec<_> = self
            .patients
            .iter()
            .flat_map(|(patient, timeline)| {
                timeline.starts().map(|(start, change)| (start, &patient.name, change))
            })
            .collect();
        events.sort_by_key(|(start, ..)| *start);
        for (start, name, change) in events.iter().take(LISTED_EVENTS) {
            let at = self.started.1.saturating_add(*start).strftime("%H:%M:%S");
            text.push_str(&format!("\n  {at}  {name}: {change}"));
        }
        let more = events.len().saturating_sub(LISTED_EVENTS);
        if more > 0 {
            text.push_str(&format!("\n  and {more} more event{}", if more == 1 { "" } else { "s" }));
        }
        text
    }

    /// Simulates all patients until the shutdown begins.
    pub(crate) async fn run(self, gateway: Gateway, shutdown: Shutdown) {
        tracing::info!(patients = self.patients.len(), "simulated patients start to send");
        let count = u32::try_from(self.patients.len().max(1)).unwrap_or(u32::MAX);
        let Some(beds) = shutdown.unless_begun(ward::prepare(&gateway, self.patients.len())).await else {
            return;
        };
        let mut tasks = tokio::task::JoinSet::new();
        for (index, (patient, timeline)) in (0..).zip(self.patients) {
            // Distributes the patients over the interval.
            let delay = self.pace.interval_after(0) * index / count;
            let simulation = Simulation {
                gateway: gateway.clone(),
                bed: beds.get(index as usize).copied(),
                patient,
                timeline,
                pace: self.pace,
                started: self.started.0,
                seed: u64::try_from(Timestamp::now().as_millis()).unwrap_or(0),
            };
            let shutdown = shutdown.clone();
            tasks.spawn(async move { shutdown.unless_begun(simulation.run(delay)).await });
        }
        tasks.join_all().await;
    }
}

impl Pace {
    /// Returns the interval after this number of strips.
    fn interval_after(self, strips: u64) -> Duration {
        let default = if strips < FIRST_STRIPS { FIRST_INTERVAL } else { LATER_INTERVAL };
        self.interval.unwrap_or(default).div_f64(self.factor).max(MIN_INTERVAL)
    }
}

/// The task of one patient.
struct Simulation {
    gateway: Gateway,
    patient: Patient,
    /// Where the patient is admitted after the first strip.
    bed: Option<BedId>,
    timeline: Timeline,
    pace: Pace,
    started: Instant,
    /// Each run of the program sends different strips.
    seed: u64,
}

impl Simulation {
    /// Sends strips, and live waveforms after the first strip: the patient exists then.
    async fn run(self, delay: Duration) {
        let exists = Notify::new();
        let live = async {
            exists.notified().await;
            let seed = self.seed.wrapping_add(self.patient.mrn);
            let (gateway, timeline) = (self.gateway.clone(), self.timeline.clone());
            let ended = live::stream(gateway, &self.patient, timeline, self.started, seed).await;
            if let Err(error) = ended {
                tracing::warn!(%error, "simulated waveforms cannot be sent");
            }
        };
        tokio::join!(self.send_strips(delay, &exists), live);
    }

    /// Sends one strip after the other. A strip that cannot be uploaded is replaced by a new one.
    async fn send_strips(&self, delay: Duration, exists: &Notify) {
        tokio::time::sleep(delay).await;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        let mut strips = 0;
        let mut shown: Option<State> = None;
        let mut bed = self.bed;
        loop {
            let now = self.started.elapsed();
            let state = self.timeline.state_at(now);
            if shown.as_ref().is_some_and(|shown| shown.rhythm != state.rhythm) {
                tracing::info!(
                    patient = self.patient.mrn,
                    rhythm = state.rhythm.name(),
                    "the rhythm changes"
                );
            }
            match self.send(&state, strips).await {
                Ok(()) => {
                    shown = Some(state);
                    strips += 1;
                    exists.notify_one();
                    backoff.reset();
                    if let (Some(free), Ok(mrn)) = (bed, Mrn::new(self.patient.mrn))
                        && ward::admit(&self.gateway, mrn, free).await
                    {
                        bed = None;
                    }
                    let sent = self.started.elapsed();
                    let regular = sent + self.pace.interval_after(strips);
                    let next = self.timeline.next_change(now).map_or(regular, |change| change.min(regular));
                    tokio::time::sleep_until(self.started + next.max(sent + MIN_INTERVAL)).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a simulated upload failed");
                    let wait = match &error {
                        ClientError::Busy { retry_after, .. } => retry_after.unwrap_or_default(),
                        _ => Duration::ZERO,
                    };
                    tokio::time::sleep(wait.max(backoff.next_wait())).await;
                }
            }
        }
    }

    /// Sends one strip. The first upload of a patient also has the name and, for some patients, an image.
    async fn send(&self, state: &State, strip: u64) -> Result<(), ClientError> {
        let Patient { mrn, name, amplitude_mv, has_image, .. } = &self.patient;
        let (mrn, is_first) = (*mrn, strip == 0);
        let mut settings = signal::settings(state, *amplitude_mv);
        settings.seed = self.seed.wrapping_mul(31).wrapping_add(mrn.wrapping_mul(1009)).wrapping_add(strip);
        let image_seed = (is_first && *has_image).then_some(mrn);
        let generated = tokio::task::spawn_blocking(move || {
            let csv = ecg::synth::csv(&ecg::synth::generate(&settings).strip);
            (csv, image_seed.and_then(phantom::png))
        });
        let Ok((csv, image)) = generated.await else { return Ok(()) };
        let mut files =
            vec![UploadFile::from_bytes(FileKind::Ecg, format!("simulated-{mrn}-{strip}.csv"), csv)];
        files.extend(
            image.map(|png| UploadFile::from_bytes(FileKind::MedicalImage, "simulated-phantom.png", png)),
        );
        let upload = Upload {
            name: is_first.then(|| name.clone()),
            recorded_at: Some(Timestamp::now()),
            ..Upload::of(files)
        };
        let mrn = Mrn::new(mrn).map_err(|error| ClientError::Settings(error.to_string()))?;
        self.gateway.upload(mrn, &upload, |_| {}).await.map(drop)
    }
}
