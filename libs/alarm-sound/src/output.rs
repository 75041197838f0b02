//! Where sounds are played: the sound device, or a recorder for tests.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rodio::buffer::SamplesBuffer;
use rodio::{DeviceSinkBuilder, MixerDeviceSink, Player};

use crate::synthesis::{SAMPLE_RATE_HZ, SoundPriority};

/// Why no sound can be played.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no usable sound device: {0}")]
pub struct OutputError(pub String);

/// Where sounds are played.
#[derive(Debug, Clone, Default)]
pub enum SoundOutput {
    /// The default sound device of the operating system.
    #[default]
    Device,
    /// Nowhere: what would be played is recorded. For tests.
    Recorder(Recorder),
}

impl SoundOutput {
    /// Opens the output.
    ///
    /// # Errors
    /// [`OutputError`]. It may succeed later.
    pub(crate) fn open(&self) -> Result<Box<dyn Speaker>, OutputError> {
        match self {
            SoundOutput::Device => Ok(Box::new(Device::open()?)),
            SoundOutput::Recorder(recorder) => {
                recorder.check()?;
                Ok(Box::new(recorder.clone()))
            }
        }
    }
}

/// An open output.
pub(crate) trait Speaker {
    /// Plays one burst. Whatever was playing ends.
    fn play(&mut self, priority: SoundPriority, samples: Vec<f32>);
    /// Ends the burst that is playing.
    fn stop(&mut self);
    /// Checks that the output still works.
    fn check(&self) -> Result<(), OutputError>;
}

/// The sound device.
struct Device {
    sink: MixerDeviceSink,
    /// Dropping it ends its sound.
    player: Option<Player>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Device {
    fn open() -> Result<Self, OutputError> {
        let wrong = |error: rodio::DeviceSinkError| OutputError(error.to_string());
        let failure = Arc::<Mutex<Option<String>>>::default();
        let failed = Arc::clone(&failure);
        let builder = DeviceSinkBuilder::from_default_device().map_err(wrong)?;
        let builder = builder.with_error_callback(move |error: rodio::cpal::Error| {
            tracing::warn!(%error, "the sound device reports an error");
            // A short gap in the sound is no reason to open the device again.
            if error.kind() != rodio::cpal::ErrorKind::Xrun {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
            }
        });
        let mut sink = builder.open_stream().map_err(wrong)?;
        sink.log_on_drop(false);
        Ok(Device { sink, player: None, failure })
    }
}

impl Speaker for Device {
    fn play(&mut self, _priority: SoundPriority, samples: Vec<f32>) {
        let Some(rate) = NonZero::new(SAMPLE_RATE_HZ) else { return };
        let player = Player::connect_new(self.sink.mixer());
        player.append(SamplesBuffer::new(NonZero::<u16>::MIN, rate, samples));
        self.player = Some(player);
    }

    fn stop(&mut self) {
        self.player = None;
    }

    fn check(&self) -> Result<(), OutputError> {
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(reason) => Err(OutputError(reason)),
            None => Ok(()),
        }
    }
}

/// A burst that a [`Recorder`] has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayedBurst {
    /// When it began.
    pub at: Instant,
    /// Its priority.
    pub priority: SoundPriority,
    /// Number of samples.
    pub samples: usize,
    /// When it was interrupted, if it was.
    pub stopped: Option<Instant>,
}

/// Records what is played. Clones share the recording.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Recording>);

#[derive(Debug, Default)]
struct Recording {
    bursts: Mutex<Vec<PlayedBurst>>,
    is_missing: AtomicBool,
}

impl Recorder {
    /// The bursts so far.
    #[must_use]
    pub fn bursts(&self) -> Vec<PlayedBurst> {
        self.0.bursts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Simulates that the sound device is missing, or is there again.
    pub fn set_missing(&self, is_missing: bool) {
        self.0.is_missing.store(is_missing, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), OutputError> {
        if self.0.is_missing.load(Ordering::SeqCst) {
            return Err(OutputError("the device is missing".to_owned()));
        }
        Ok(())
    }
}

impl Speaker for Recorder {
    fn play(&mut self, priority: SoundPriority, samples: Vec<f32>) {
        let burst = PlayedBurst { at: Instant::now(), priority, samples: samples.len(), stopped: None };
        self.0.bursts.lock().unwrap_or_else(PoisonError::into_inner).push(burst);
    }

    fn stop(&mut self) {
        if let Some(burst) = self.0.bursts.lock().unwrap_or_else(PoisonError::into_inner).last_mut() {
            burst.stopped.get_or_insert_with(Instant::now);
        }
    }

    fn check(&self) -> Result<(), OutputError> {
        Recorder::check(self)
    }
}
