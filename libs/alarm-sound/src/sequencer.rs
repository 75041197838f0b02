//! Decides when bursts are played.

use std::time::Duration;

use crate::synthesis::{SoundPriority, burst_duration, interburst_interval};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// End the burst that is playing.
    pub stop: bool,
    /// Start this burst.
    pub play: Option<SoundPriority>,
    /// When to ask again at the latest; `None`: when the priority changes.
    pub next: Option<Duration>,
}

/// The burst that is playing.
#[derive(Debug, Clone, Copy)]
struct Burst {
    priority: SoundPriority,
    is_test: bool,
    end: Duration,
}

/// The sequence of bursts. Times are durations since any fixed time.
///
/// A higher priority interrupts a burst at once. If the priority becomes lower, the burst ends at once, and the next one follows
/// after the interval of the new priority. An alarm that begins after silence sounds at once.
#[derive(Debug, Default)]
pub struct Sequencer {
    wanted: Option<SoundPriority>,
    test: Option<SoundPriority>,
    playing: Option<Burst>,
    /// Priority and end of the last burst of the alarm that sounds.
    last: Option<(SoundPriority, Duration)>,
}

impl Sequencer {
    /// Sets the priority that sounds; `None` for silence.
    pub fn set(&mut self, priority: Option<SoundPriority>) {
        self.wanted = priority;
    }

    /// The priority that sounds.
    #[must_use]
    pub fn wanted(&self) -> Option<SoundPriority> {
        self.wanted
    }

    /// Plays one burst as a test, unless an alarm sounds.
    pub fn test(&mut self, priority: SoundPriority) {
        self.test = Some(priority);
    }

    /// What to do at this time.
    pub fn step(&mut self, now: Duration) -> Step {
        let mut stop = false;
        if let Some(burst) = self.playing {
            let is_over = now >= burst.end;
            let is_wanted = if burst.is_test {
                self.wanted.is_none() && self.test.is_none()
            } else {
                self.wanted == Some(burst.priority)
            };
            if !is_over && is_wanted {
                return Step { stop: false, play: None, next: Some(burst.end) };
            }
            stop = !is_over;
            self.playing = None;
            self.last = (!burst.is_test).then_some((burst.priority, burst.end.min(now)));
        }
        let Some(wanted) = self.wanted else {
            self.last = None;
            return match self.test.take() {
                Some(priority) => self.play(priority, true, now, stop),
                None => Step { stop, play: None, next: None },
            };
        };
        self.test = None;
        let due = match self.last {
            Some((last, end)) if last >= wanted => end + interburst_interval(wanted),
            _ => now,
        };
        if due > now {
            return Step { stop, play: None, next: Some(due) };
        }
        self.play(wanted, false, now, stop)
    }

    fn play(&mut self, priority: SoundPriority, is_test: bool, now: Duration, stop: bool) -> Step {
        let end = now + burst_duration(priority);
        self.playing = Some(Burst { priority, is_test, end });
        Step { stop, play: Some(priority), next: Some(end) }
    }
}
