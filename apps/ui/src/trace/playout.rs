//! The jitter buffer of a live waveform: which time is shown when.
//!
//! Samples arrive in frames, with changing delay. The playhead is the time that the screen shows. It follows the clock with a
//! delay that is just long enough for all recent frames to arrive before they are shown. The delay is the largest difference
//! between the arrival of a frame and the time of its first new sample within the last [`WINDOW_S`] seconds, plus a margin.
//! Changes of the delay are spread over time: the playhead runs at most [`MAX_SLEW`] faster or slower than the clock.
//!
//! Invariants: the playhead does not move backwards, except if the clock is set. It stops [`STOP_US`] after the last new sample.
//! Frames that are later than [`MAX_DELAY_US`], such as those that a device has kept during an outage, do not change the delay.
//!
//! All times are microseconds since 1970 in server time. The caller passes the current time, so that tests control it.

use std::collections::VecDeque;

/// Seconds that determine the delay.
const WINDOW_S: i64 = 10;
/// Time without new samples after which the playhead stops.
const STOP_US: i64 = 2_000_000;
/// Frames that are later do not change the delay.
const MAX_DELAY_US: i64 = 2_500_000;
/// Additional delay: one frame of the screen.
const MARGIN_US: i64 = 20_000;
/// The largest share by which the playhead is faster or slower than the clock.
const MAX_SLEW: f64 = 0.2;
/// The time in seconds in which most of a difference is corrected.
const CORRECTION_S: f64 = 2.0;
/// Differences that are corrected at once.
const JUMP_US: f64 = 1_000_000.0;

/// The jitter buffer of one stream.
#[derive(Debug, Clone, Default)]
pub struct Playout {
    /// For each of the last seconds: the largest delay of a first sample, and the smallest delay of a last sample.
    delays: VecDeque<(i64, i64, i64)>,
    /// The end of the newest sample, and when it arrived.
    newest: Option<(i64, i64)>,
    /// The playhead, and when it was moved.
    head: Option<(f64, i64)>,
    delay_us: i64,
}

impl Playout {
    /// A frame with samples from `from_us` to `to_us` has arrived.
    pub fn received(&mut self, from_us: i64, to_us: i64, now_us: i64) {
        let first_new = match self.newest {
            Some((newest, _)) if to_us <= newest => return,
            Some((newest, _)) if from_us < newest => newest,
            _ => from_us,
        };
        self.newest = Some((to_us, now_us));
        let (longest, shortest) = (now_us - first_new, now_us - to_us);
        if !(-MAX_DELAY_US..=MAX_DELAY_US).contains(&longest) {
            return;
        }
        let second = now_us.div_euclid(1_000_000);
        match self.delays.back_mut() {
            Some((known, max, min)) if *known == second => {
                (*max, *min) = ((*max).max(longest), (*min).min(shortest));
            }
            _ => self.delays.push_back((second, longest, shortest)),
        }
        self.delays.retain(|(known, ..)| (second - WINDOW_S..=second).contains(known));
        self.delay_us = self.delays.iter().map(|(_, max, _)| *max).max().unwrap_or(0) + MARGIN_US;
    }

    /// Moves the playhead. Returns the time that the screen shows; `None` before the first sample.
    pub fn advance(&mut self, now_us: i64) -> Option<i64> {
        let (newest, _) = self.newest?;
        let target = (now_us - self.delay_us) as f64;
        let head = match self.head {
            // Everything that has arrived is shown, even if the buffer is longer than the time without samples.
            Some((head, _)) if self.is_stopped(now_us) => head.max(newest as f64),
            Some((head, moved)) if (target - head).abs() < JUMP_US => {
                let passed = (now_us - moved).max(0) as f64;
                let error_s = (target - passed - head) * 1e-6;
                head + passed * (1.0 + (error_s / CORRECTION_S).clamp(-MAX_SLEW, MAX_SLEW))
            }
            _ => target,
        };
        self.head = Some((head, now_us));
        Some(head as i64)
    }

    /// Whether no new sample has arrived for two seconds.
    #[must_use]
    pub fn is_stopped(&self, now_us: i64) -> bool {
        self.newest.is_some_and(|(_, arrived)| now_us - arrived >= STOP_US)
    }

    /// The time between a sample and its display, in microseconds.
    #[must_use]
    pub fn delay_us(&self) -> i64 {
        self.delay_us
    }

    /// The length of the jitter buffer in microseconds: how much later the samples are shown than if each frame was shown when it
    /// arrives, for the frame that arrived fastest.
    #[must_use]
    pub fn length_us(&self) -> i64 {
        let shortest = self.delays.iter().map(|(.., min)| *min).min().unwrap_or(self.delay_us);
        (self.delay_us - shortest).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_790_000_000_000_000;
    const FRAME: i64 = 200_000;
    /// The refresh interval of a screen.
    const REFRESH: i64 = 16_667;

    /// Runs a stream whose frames have the given delays in microseconds. Returns for each refresh: time, playhead, end of data.
    fn run(playout: &mut Playout, from: i64, delays: &[i64]) -> Vec<(i64, i64, i64)> {
        let frames = (from..).step_by(FRAME as usize).zip(delays);
        // A connection keeps the order of the frames.
        let mut last = 0;
        let arrivals = frames.map(|(at, delay)| {
            last = last.max(at + FRAME + delay);
            (last, at)
        });
        let mut arrivals = arrivals.peekable();
        let (mut now, mut shown, mut end) = (from, Vec::new(), 0);
        while now < from + delays.len() as i64 * FRAME {
            while let Some((at, start)) = arrivals.next_if(|(at, _)| *at <= now) {
                playout.received(start, start + FRAME, at);
                end = start + FRAME;
            }
            if let Some(head) = playout.advance(now) {
                shown.push((now, head, end));
            }
            now += REFRESH;
        }
        shown
    }

    #[test]
    fn playhead_moves_at_the_refresh_rate_although_frames_arrive_every_200_ms() {
        let mut playout = Playout::default();
        let shown = run(&mut playout, START, &[10_000; 100]);
        for pair in shown.windows(2) {
            assert_eq!(pair[1].1 - pair[0].1, REFRESH, "at {:?}", pair[0]);
            assert!(pair[1].1 <= pair[1].2, "nothing is shown before it arrives");
        }
        assert_eq!(playout.delay_us(), FRAME + 10_000 + MARGIN_US);
        assert_eq!(playout.length_us(), FRAME + MARGIN_US);
    }

    #[test]
    fn buffer_grows_with_jitter_and_shrinks_after_it_without_steps() {
        let mut playout = Playout::default();
        let calm = vec![10_000; 100];
        run(&mut playout, START, &calm);
        let mut state = 7_u64;
        let jitter: Vec<i64> = (0..150)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                10_000 + (state >> 33) as i64 % 250_000
            })
            .collect();
        let at = START + 100 * FRAME;
        let shown = run(&mut playout, at, &jitter);
        assert!(playout.length_us() > FRAME + 200_000, "{}", playout.length_us());
        for pair in shown.windows(2) {
            let step = (pair[1].1 - pair[0].1) as f64 / REFRESH as f64;
            assert!((1.0 - MAX_SLEW - 0.01..=1.0 + MAX_SLEW + 0.01).contains(&step), "{step}");
        }
        let late = shown[shown.len() / 2..].iter().filter(|(_, head, end)| head > end).count();
        assert!(late * 100 <= shown.len(), "{late}: the frames are there in time once the buffer has grown");
        run(&mut playout, at + 150 * FRAME, &[10_000; 150]);
        assert_eq!(playout.length_us(), FRAME + MARGIN_US);
    }

    #[test]
    fn playhead_stops_two_seconds_after_the_last_sample_and_continues_with_the_next() {
        let mut playout = Playout::default();
        let shown = run(&mut playout, START, &[10_000; 20]);
        let last = START + 20 * FRAME + 10_000;
        playout.received(START + 19 * FRAME, START + 20 * FRAME, last);
        let now = shown.last().unwrap().0;
        assert!(!playout.is_stopped(last + 1_999_999));
        assert!(playout.is_stopped(last + 2_000_000));
        playout.advance(last + 1_990_000);
        let held = playout.advance(last + 2_000_000).unwrap();
        assert_eq!(playout.advance(last + 60_000_000), Some(held), "from {now}");
        let resumed = last + 60_000_000;
        playout.received(resumed - FRAME - 10_000, resumed - 10_000, resumed);
        assert_eq!(playout.advance(resumed), Some(resumed - playout.delay_us()));
        assert!(!playout.is_stopped(resumed));
    }

    #[test]
    fn everything_is_shown_before_a_long_buffer_stops() {
        let mut playout = Playout::default();
        run(&mut playout, START, &[2_200_000; 40]);
        // The last frame is faster than those that determine the buffer.
        let (end, arrived) = (START + 40 * FRAME, START + 40 * FRAME + 10_000);
        playout.received(end - FRAME, end, arrived);
        assert!(playout.advance(arrived + 1_990_000).unwrap() < end);
        assert_eq!(playout.advance(arrived + 2_000_000), Some(end));
    }

    #[test]
    fn kept_frames_and_repeated_frames_do_not_change_the_delay() {
        let mut playout = Playout::default();
        run(&mut playout, START, &[10_000; 50]);
        let (delay, now) = (playout.delay_us(), START + 50 * FRAME + 30_000_000);
        for frame in 50..150 {
            playout.received(START + frame * FRAME, START + (frame + 1) * FRAME, now);
        }
        playout.received(START, START + FRAME, now);
        assert_eq!(playout.delay_us(), delay);
    }
}
