//! Maps the clock of a device to server time.
//!
//! Samples are spaced by their index, because clocks of devices have jitter: the time of a sample is
//! `anchor + index / rate`. The anchor is kept while it agrees with the clock of the device within
//! [`TOLERANCE_US`]. Otherwise there is a jump:
//!
//! - Forward, up to the present: the device was paused, or its samples are slower than declared. The anchor moves, and
//!   there is a gap in time.
//! - A little backward: the samples are faster than declared. The anchor moves.
//! - Far backward or into the future: somebody has set the clock of the device, or it has wrapped. The samples continue
//!   without a gap, and the offset of the clock changes.
//!
//! Differences of clocks are computed modulo 2^64, so a clock of 64 bits may wrap.
//!
//! Invariant: no sample is later than [`FUTURE_US`] after the server time at which it is received.

use proto_json::waveform::StreamClock;

/// Difference between sample time and device clock above which there is a jump, in microseconds.
const TOLERANCE_US: i64 = 250_000;
/// Largest step backward that moves the anchor, in microseconds.
const STEP_BACK_US: i64 = 2_000_000;
/// How late a message that opens a connection can be at the server, in microseconds: the gateway may be busy after a restart.
const LATE_US: i64 = 1_000_000;
/// How far a sample may be in the future of the server, in microseconds.
const FUTURE_US: i64 = 1_000_000;

/// The clock of the device of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceClock {
    mapping: StreamClock,
    /// Server time of the end of the last frame of this connection.
    end_us: Option<i64>,
}

/// How a time of the device differs from the previous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Jump {
    /// The samples are later than their index states, by this many microseconds; negative if they are earlier.
    Samples(i64),
    /// The clock of the device has changed by this many microseconds, and the samples continue.
    Clock(i64),
}

impl DeviceClock {
    /// The clock of a device that stated its time in a message that was received at `now_us`. `earlier` is the mapping of an
    /// earlier connection of the stream. Its anchor is kept. Its offset is kept if the new one is larger by at most [`LATE_US`]:
    /// the message was only late, and a larger offset would put a false gap before the samples.
    pub(super) fn new(device_time_us: i64, now_us: i64, earlier: Option<StreamClock>) -> Self {
        let anchor_us = earlier.and_then(|clock| clock.anchor_us);
        let stated_us = now_us.wrapping_sub(device_time_us);
        let is_late = |earlier: &i64| (0..=LATE_US).contains(&stated_us.wrapping_sub(*earlier));
        let offset_us = earlier.map(|clock| clock.offset_us).filter(is_late).unwrap_or(stated_us);
        DeviceClock { mapping: StreamClock { offset_us, anchor_us }, end_us: None }
    }

    /// The mapping that gave a frame its server time.
    pub(super) fn mapping_of_frame(device_time_us: i64, start_us: i64, time_us: i64) -> StreamClock {
        let offset_us = time_us.wrapping_sub(device_time_us);
        StreamClock { offset_us, anchor_us: Some(time_us.saturating_sub(start_us)) }
    }

    /// The mapping, for the description of the stream.
    pub(super) fn mapping(self) -> StreamClock {
        self.mapping
    }

    /// Returns the server time of an event, at most `now_us`.
    pub(super) fn time_of_event(self, device_time_us: i64, now_us: i64) -> i64 {
        device_time_us.wrapping_add(self.mapping.offset_us).min(now_us)
    }

    /// Returns the server time of the first sample of a frame that was received at `now_us`. `start_us` is the time from
    /// index 0 to that sample, `length_us` the length of the frame.
    pub(super) fn time_of_frame(
        &mut self,
        device_time_us: i64,
        start_us: i64,
        length_us: i64,
        now_us: i64,
    ) -> (i64, Option<Jump>) {
        let (time, jump) = self.map(device_time_us, start_us, length_us, now_us);
        self.end_us = Some(time.saturating_add(length_us));
        (time, jump)
    }

    fn map(
        &mut self,
        device_time_us: i64,
        start_us: i64,
        length_us: i64,
        now_us: i64,
    ) -> (i64, Option<Jump>) {
        let latest = now_us.saturating_add(FUTURE_US);
        let stated = device_time_us.wrapping_add(self.mapping.offset_us);
        let expected = self.mapping.anchor_us.map(|anchor| anchor.saturating_add(start_us));
        if let Some(expected) = expected
            && expected <= latest
            && stated.saturating_sub(expected).saturating_abs() < TOLERANCE_US
        {
            return (expected, None);
        }
        let earliest = self.end_us.or(expected).map(|end| end.saturating_sub(STEP_BACK_US));
        if stated <= latest && earliest.is_none_or(|earliest| stated > earliest) {
            self.mapping.anchor_us = Some(stated.saturating_sub(start_us));
            return (stated, expected.map(|expected| Jump::Samples(stated.saturating_sub(expected))));
        }
        let time = expected
            .filter(|expected| *expected <= latest)
            .unwrap_or_else(|| now_us.saturating_sub(length_us));
        self.mapping.offset_us = time.wrapping_sub(device_time_us);
        self.mapping.anchor_us = Some(time.saturating_sub(start_us));
        (time, Some(Jump::Clock(stated.saturating_sub(time))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3_600_000_000;
    const NOW: i64 = 1_700_000_000_000_000;
    const FRAME: i64 = 200_000;

    /// Sends frames of 200 ms without lost samples; `device` is the device clock at each of them. Returns the server times.
    fn times(clock: &mut DeviceClock, device: &[i64]) -> Vec<(i64, Option<Jump>)> {
        let frames = device.iter().zip(0..);
        frames
            .map(|(device, index)| {
                let start = index * FRAME;
                clock.time_of_frame(*device, start, FRAME, NOW + start + FRAME)
            })
            .map(|(time, jump)| (time - NOW, jump))
            .collect()
    }

    #[test]
    fn jitter_of_the_device_clock_does_not_move_samples() {
        let mut clock = DeviceClock::new(5_000, NOW, None);
        let device = [5_000, 5_000 + FRAME + 100_000, 5_000 + 2 * FRAME - 100_000];
        assert_eq!(times(&mut clock, &device), [(0, None), (FRAME, None), (2 * FRAME, None)]);
    }

    #[test]
    fn clock_that_is_set_by_an_hour_does_not_move_samples() {
        for by in [HOUR, -HOUR] {
            let mut clock = DeviceClock::new(0, NOW, None);
            let device = [0, FRAME + by, 2 * FRAME + by];
            let expected = [(0, None), (FRAME, Some(Jump::Clock(by))), (2 * FRAME, None)];
            assert_eq!(times(&mut clock, &device), expected);
        }
    }

    #[test]
    fn clock_that_wraps_does_not_move_samples() {
        let mut clock = DeviceClock::new(i64::MAX - FRAME / 2, NOW, None);
        let of_64_bits =
            times(&mut clock, &[i64::MAX - FRAME / 2, i64::MIN + FRAME / 2, i64::MIN + 2 * FRAME]);
        assert_eq!(of_64_bits, [(0, None), (FRAME, None), (2 * FRAME, None)]);
        let mut clock = DeviceClock::new(1 << 32, NOW, None);
        let of_32_bits = times(&mut clock, &[1 << 32, FRAME, 2 * FRAME]);
        assert_eq!(of_32_bits, [(0, None), (FRAME, Some(Jump::Clock(-(1 << 32)))), (2 * FRAME, None)]);
    }

    #[test]
    fn pause_of_the_device_is_a_gap_in_time() {
        let mut clock = DeviceClock::new(0, NOW, None);
        assert_eq!(clock.time_of_frame(0, 0, FRAME, NOW + FRAME), (NOW, None));
        let (time, jump) = clock.time_of_frame(HOUR, FRAME, FRAME, NOW + HOUR + FRAME);
        assert_eq!((time, jump), (NOW + HOUR, Some(Jump::Samples(HOUR - FRAME))));
    }

    #[test]
    fn lost_samples_do_not_move_later_ones() {
        let mut clock = DeviceClock::new(0, NOW, None);
        clock.time_of_frame(0, 0, FRAME, NOW + FRAME);
        let later = clock.time_of_frame(50 * FRAME, 50 * FRAME, FRAME, NOW + 51 * FRAME);
        assert_eq!(later, (NOW + 50 * FRAME, None));
    }

    #[test]
    fn index_that_jumps_by_an_hour_follows_the_device_clock() {
        let mut clock = DeviceClock::new(0, NOW, None);
        clock.time_of_frame(0, 0, FRAME, NOW + FRAME);
        let (time, jump) = clock.time_of_frame(FRAME, HOUR, FRAME, NOW + 2 * FRAME);
        assert_eq!((time, jump), (NOW + FRAME, Some(Jump::Samples(FRAME - HOUR))));
    }

    #[test]
    fn samples_of_before_the_connection_have_their_time() {
        let mut clock = DeviceClock::new(10 * HOUR, NOW, None);
        assert_eq!(clock.time_of_frame(9 * HOUR, 0, FRAME, NOW), (NOW - HOUR, None));
    }

    #[test]
    fn resumed_stream_keeps_its_anchor() {
        let mut clock = DeviceClock::new(0, NOW, None);
        clock.time_of_frame(0, 0, FRAME, NOW + FRAME);
        // The message that opens the second connection is 100 ms late.
        let mut resumed = DeviceClock::new(10 * FRAME, NOW + 10 * FRAME + 100_000, Some(clock.mapping()));
        let frame = resumed.time_of_frame(11 * FRAME, 11 * FRAME, FRAME, NOW + 13 * FRAME);
        assert_eq!(frame, (NOW + 11 * FRAME, None));
    }

    #[test]
    fn message_that_is_late_after_a_restart_does_not_move_samples() {
        let mut clock = DeviceClock::new(5_000, NOW, None);
        let (frame, length) = (5_000 + 9 * FRAME, FRAME);
        let (time, _) = clock.time_of_frame(frame, 9 * FRAME, length, NOW + 10 * FRAME);
        // The successor knows the last frame alone, and is busy for 0.9 s.
        let mapping = DeviceClock::mapping_of_frame(frame, 9 * FRAME, time);
        assert_eq!(mapping, clock.mapping());
        let mut resumed = DeviceClock::new(5_000 + 15 * FRAME, NOW + 15 * FRAME + 900_000, Some(mapping));
        for index in 10..20 {
            let (device, start) = (5_000 + index * FRAME, index * FRAME);
            let time = resumed.time_of_frame(device, start, length, NOW + 20 * FRAME);
            assert_eq!(time, (NOW + index * FRAME, None), "{index}");
        }
    }

    #[test]
    fn clock_that_is_set_while_the_device_is_disconnected_does_not_move_samples() {
        for by in [HOUR, -HOUR] {
            let mut clock = DeviceClock::new(0, NOW, None);
            clock.time_of_frame(0, 0, FRAME, NOW + FRAME);
            let device = 10 * FRAME + by;
            let mut resumed = DeviceClock::new(device, NOW + 10 * FRAME, Some(clock.mapping()));
            let time = resumed.time_of_frame(device, 10 * FRAME, FRAME, NOW + 11 * FRAME);
            assert_eq!(time, (NOW + 10 * FRAME, None), "{by}");
        }
    }

    #[test]
    fn fast_samples_do_not_run_away_from_the_clock() {
        let mut clock = DeviceClock::new(0, NOW, None);
        // The device declares 0.1 % less than it sends.
        for index in 0..100_000_i64 {
            let (device, start) = (index * FRAME * 999 / 1_000, index * FRAME);
            let (time, _) = clock.time_of_frame(device, start, FRAME, NOW + device + FRAME);
            assert!((time - NOW - device).abs() <= TOLERANCE_US, "{index}");
        }
    }

    proptest! {
        #[test]
        fn no_sample_is_in_the_future(
            opened in any::<i64>(), frames in prop::collection::vec((any::<i64>(), 0..1_i64 << 53, 0..1_000_000_i64), 1..20),
        ) {
            let mut clock = DeviceClock::new(opened, NOW, None);
            for (device, start, later) in frames {
                let (time, _) = clock.time_of_frame(device, start, FRAME, NOW + later);
                prop_assert!(time <= NOW + later + FUTURE_US);
                prop_assert!(clock.time_of_event(device, NOW + later) <= NOW + later);
            }
        }
    }
}
