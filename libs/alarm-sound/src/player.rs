//! Plays the sounds of alarms on a thread of its own.
//!
//! Invariant: while no device can be opened, that is reported, and opening is repeated. The sequence continues as soon as there is a
//! device.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::output::{OutputError, SoundOutput, Speaker};
use crate::sequencer::Sequencer;
use crate::synthesis::{SoundPriority, Volume, burst};

/// Time between two attempts to open the device. ALSA writes to the standard error with each one.
const RETRY: Duration = Duration::from_secs(5);
/// Interval at which an open device is checked.
const CHECK: Duration = Duration::from_secs(1);

/// Whether sounds can be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SoundStatus {
    /// The device is open.
    Ready,
    /// There is no device, for this reason.
    Missing(String),
}

enum Command {
    Set(Option<SoundPriority>),
    Volume(Volume),
    Test(SoundPriority),
}

/// The sound of the alarms of one app. Dropping it ends the sound.
#[derive(Debug)]
pub struct AlarmSound {
    commands: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl AlarmSound {
    /// Starts the thread. `report` is called on it with each change of the status.
    ///
    /// # Errors
    /// The operating system does not provide threads.
    pub fn start(
        output: SoundOutput,
        volume: Volume,
        report: impl FnMut(SoundStatus) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("alarm-sound".to_owned())
            .spawn(move || Worker::new(output, volume, report).run(&receiver))?;
        Ok(AlarmSound { commands: Some(commands), thread: Some(thread) })
    }

    /// Sets the priority that sounds; `None` for silence.
    pub fn set(&self, priority: Option<SoundPriority>) {
        self.send(Command::Set(priority));
    }

    /// Sets the volume from the next burst on.
    pub fn set_volume(&self, volume: Volume) {
        self.send(Command::Volume(volume));
    }

    /// Plays one burst, unless an alarm sounds.
    pub fn test(&self, priority: SoundPriority) {
        self.send(Command::Test(priority));
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands
            && commands.send(command).is_err()
        {
            tracing::error!("alarms have no sound: the thread that plays them has ended");
        }
    }
}

impl Drop for AlarmSound {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that plays the sounds of alarms has panicked");
        }
    }
}

struct Worker<R> {
    output: SoundOutput,
    volume: Volume,
    report: R,
    reported: Option<SoundStatus>,
    speaker: Option<Box<dyn Speaker>>,
    open_at: Duration,
    sequencer: Sequencer,
}

impl<R: FnMut(SoundStatus)> Worker<R> {
    fn new(output: SoundOutput, volume: Volume, report: R) -> Self {
        Worker {
            output,
            volume,
            report,
            reported: None,
            speaker: None,
            open_at: Duration::ZERO,
            sequencer: Sequencer::default(),
        }
    }

    /// Runs until the commands end.
    fn run(mut self, commands: &Receiver<Command>) {
        let begun = Instant::now();
        loop {
            let now = begun.elapsed();
            self.check_device(now);
            let mut wake = now + CHECK;
            if let Some(speaker) = &mut self.speaker {
                let step = self.sequencer.step(now);
                if step.stop {
                    speaker.stop();
                }
                if let Some(priority) = step.play {
                    speaker.play(priority, burst(priority, self.volume));
                }
                wake = step.next.map_or(wake, |next| next.min(wake));
            }
            match commands.recv_timeout(wake.saturating_sub(begun.elapsed())) {
                Ok(command) => self.apply(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::Set(priority) => self.sequencer.set(priority),
            Command::Volume(volume) => self.volume = volume,
            // Without a device, a test would sound later, when nobody expects it.
            Command::Test(priority) if self.speaker.is_some() => self.sequencer.test(priority),
            Command::Test(_) => self.open_at = Duration::ZERO,
        }
    }

    /// Opens the device if it is not open, or if it has failed.
    fn check_device(&mut self, now: Duration) {
        if let Some(Err(error)) = self.speaker.as_ref().map(|speaker| speaker.check()) {
            self.speaker = None;
            self.missing(&error);
            self.open_at = now;
        }
        if self.speaker.is_some() || now < self.open_at {
            return;
        }
        match self.output.open() {
            Ok(speaker) => {
                self.speaker = Some(speaker);
                self.set_status(SoundStatus::Ready);
            }
            Err(error) => {
                self.open_at = now + RETRY;
                self.missing(&error);
            }
        }
    }

    fn missing(&mut self, error: &OutputError) {
        // A burst that was interrupted by the failure is not resumed: the sequence begins anew.
        let wanted = self.sequencer.wanted();
        self.sequencer = Sequencer::default();
        self.sequencer.set(wanted);
        self.set_status(SoundStatus::Missing(error.0.clone()));
    }

    fn set_status(&mut self, status: SoundStatus) {
        if self.reported.as_ref() != Some(&status) {
            self.reported = Some(status.clone());
            (self.report)(status);
        }
    }
}
