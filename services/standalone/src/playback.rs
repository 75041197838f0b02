//! Plays waveforms to the server as a bedside device does: in frames of 200 ms, at the speed at which they are recorded.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{SenderError, WaveformSender};
use proto_json::{Channel, DeviceNumeric, SampleRate, Segment};
use tokio::time::{Instant, sleep_until};

/// Length of a frame.
pub(crate) const FRAME: Duration = Duration::from_millis(FRAME_US / 1000);
/// Length of a frame in microseconds.
const FRAME_US: u64 = 200_000;
/// Frames between two messages with numerics.
const NUMERICS_EVERY: u64 = 5;
/// Difference to the clock of this computer beyond which the device follows it at once, in microseconds. The computer was
/// suspended, or its clock was set.
const CLOCK_JUMP_US: i64 = 2_000_000;

/// Waveforms in the order of time.
pub(crate) trait WaveformSource: Send {
    /// The channels, which do not change.
    fn channels(&self) -> &[Channel];
    /// The samples of the next 200 ms; none where samples are missing. `None` at the end.
    fn next_frame(&mut self) -> Option<Vec<Segment>>;
    /// The numerics at the end of the frame, if the source has any. Called once per second.
    fn numerics(&mut self, device_time_us: i64) -> Vec<DeviceNumeric>;
}

/// Sends everything that the source has, at `speed` times the speed of the recording. The first sample has the time
/// `start_us` (microseconds since 1970). Calls `progress` with the number of frames after each frame.
pub(crate) async fn play(
    source: &mut dyn WaveformSource,
    sender: &WaveformSender,
    mut start_us: i64,
    speed: f64,
    mut progress: impl FnMut(u64),
) -> Result<(), SenderError> {
    let started = Instant::now();
    for number in 0_u64.. {
        // A device sends a frame when its last sample is recorded.
        let end_us = (number + 1) * FRAME_US;
        sleep_until(started + Duration::from_micros(end_us).div_f64(speed)).await;
        let Some(segments) = source.next_frame() else { return Ok(()) };
        let micros = |us: u64| i64::try_from(us).unwrap_or(i64::MAX);
        if speed == 1.0 {
            let ahead = now_us() - start_us.saturating_add(micros(end_us));
            if ahead.abs() > CLOCK_JUMP_US {
                start_us += ahead;
            }
        }
        if let Some(offset) = first_sample_us(source.channels(), &segments) {
            sender.send_frame(start_us.saturating_add(offset), segments)?;
        }
        if number % NUMERICS_EVERY == NUMERICS_EVERY - 1 {
            let values = source.numerics(start_us.saturating_add(micros(end_us)));
            if !values.is_empty() {
                sender.send_numerics(values)?;
            }
        }
        progress(number + 1);
    }
    Ok(())
}

/// Indices of the samples of a channel in the frame with this number.
pub(crate) fn indices(rate: SampleRate, frame: u64) -> std::ops::Range<u64> {
    let first_at = |us: u64| {
        let samples = u128::from(us) * u128::from(rate.numerator);
        let index = samples.div_ceil(u128::from(rate.denominator.max(1)) * 1_000_000);
        u64::try_from(index).unwrap_or(u64::MAX)
    };
    first_at(frame * FRAME_US)..first_at((frame + 1) * FRAME_US)
}

/// Time from index 0 to the first sample in microseconds; `None` without samples.
fn first_sample_us(channels: &[Channel], segments: &[Segment]) -> Option<i64> {
    segments
        .iter()
        .filter_map(|segment| Some(channels.get(usize::from(segment.channel))?.rate.micros(segment.first)))
        .min()
}

/// The clock of this computer in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_contain_each_sample_once_at_any_rate() {
        for (numerator, denominator) in [(250, 1), (125, 2), (624_725, 10_000), (1, 60), (360, 1)] {
            let rate = SampleRate { numerator, denominator };
            let mut next = 0;
            for frame in 0..1_000 {
                let range = indices(rate, frame);
                assert_eq!(range.start, next, "{numerator}/{denominator} at {frame}");
                next = range.end;
            }
            let expected = (200.0 * rate.hz()).ceil() as u64;
            assert_eq!(next, expected, "{numerator}/{denominator}");
        }
    }
}
