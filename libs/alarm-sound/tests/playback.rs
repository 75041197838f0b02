//! Plays on a recorder instead of a sound device.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]

use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use alarm_sound::{
    AlarmSound, PlayedBurst, Recorder, SoundOutput, SoundPriority, SoundStatus, Volume, burst_duration,
};

const LIMIT: Duration = Duration::from_secs(20);

fn start(recorder: &Recorder) -> (AlarmSound, Receiver<SoundStatus>) {
    let (sender, statuses) = mpsc::channel();
    let output = SoundOutput::Recorder(recorder.clone());
    let sound =
        AlarmSound::start(output, Volume::default(), move |status| sender.send(status).unwrap()).unwrap();
    (sound, statuses)
}

/// Waits until the recording satisfies the condition.
fn until(recorder: &Recorder, condition: impl Fn(&[PlayedBurst]) -> bool) -> Vec<PlayedBurst> {
    let begun = Instant::now();
    loop {
        let bursts = recorder.bursts();
        if condition(&bursts) {
            return bursts;
        }
        assert!(begun.elapsed() < LIMIT, "{bursts:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn alarm_sounds_at_once_and_stops_when_it_is_acknowledged() {
    let recorder = Recorder::default();
    let (sound, statuses) = start(&recorder);
    assert_eq!(statuses.recv_timeout(LIMIT), Ok(SoundStatus::Ready));
    assert!(recorder.bursts().is_empty(), "silent without an alarm");
    sound.set(Some(SoundPriority::High));
    let bursts = until(&recorder, |bursts| bursts.len() == 1);
    assert_eq!(bursts[0].priority, SoundPriority::High);
    let length = Duration::from_secs_f64(bursts[0].samples as f64 / f64::from(alarm_sound::SAMPLE_RATE_HZ));
    assert!(length.abs_diff(burst_duration(SoundPriority::High)) < Duration::from_millis(1), "{length:?}");
    sound.set(None);
    let bursts = until(&recorder, |bursts| bursts[0].stopped.is_some());
    assert!(bursts[0].stopped.unwrap() - bursts[0].at < burst_duration(SoundPriority::High));
    drop(sound);
    assert_eq!(recorder.bursts().len(), 1, "nothing follows");
}

#[test]
fn missing_device_is_reported_and_the_alarm_sounds_once_it_is_there() {
    let recorder = Recorder::default();
    recorder.set_missing(true);
    let (sound, statuses) = start(&recorder);
    assert!(matches!(statuses.recv_timeout(LIMIT), Ok(SoundStatus::Missing(_))));
    sound.set(Some(SoundPriority::Medium));
    recorder.set_missing(false);
    assert_eq!(statuses.recv_timeout(LIMIT), Ok(SoundStatus::Ready));
    until(&recorder, |bursts| bursts.len() == 1);
    recorder.set_missing(true);
    assert!(matches!(statuses.recv_timeout(LIMIT), Ok(SoundStatus::Missing(_))), "it was unplugged");
    drop(sound);
}
