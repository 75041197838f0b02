//! The state of a patient over time.
//!
//! Events start at a time after the start of the demo. Clock times are converted once, at the start, so a later
//! change of the clock or the time zone has no effect. If several events are active, each part of the state comes
//! from the event that started last.

use std::time::Duration;

use jiff::Zoned;

use super::scenario::{At, Change, Patient, State, Swing};

/// The state of one patient over time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Timeline {
    base: State,
    swing: Option<Swing>,
    /// In the order of the file.
    events: Vec<Scheduled>,
}

/// An event with times after the start.
#[derive(Debug, Clone, PartialEq)]
struct Scheduled {
    start: Duration,
    lasts: Option<Duration>,
    every: Option<Duration>,
    change: Change,
}

impl Timeline {
    /// Schedules the events of a patient. At a `pace` of 2, all durations are halved.
    pub(super) fn new(patient: &Patient, pace: f64, now: &Zoned) -> Self {
        let scale = |time: Duration| time.div_f64(pace);
        let events = patient.events.iter().map(|event| Scheduled {
            start: match event.at {
                At::AfterStart(after) => scale(after),
                At::Clock(time) => until(time, now),
            },
            lasts: event.lasts.map(scale),
            every: event.every.map(scale),
            change: event.change.clone(),
        });
        Timeline {
            base: patient.base.clone(),
            swing: patient.swing.map(|swing| Swing { period: scale(swing.period), ..swing }),
            events: events.collect(),
        }
    }

    /// Returns the state at a time after the start.
    pub(super) fn state_at(&self, time: Duration) -> State {
        let mut state = self.base.clone();
        if let Some(swing) = self.swing {
            let turns = time.as_secs_f64() / swing.period.as_secs_f64();
            state.rate += swing.bpm * (turns * std::f64::consts::TAU).sin();
        }
        let mut active: Vec<_> =
            self.events.iter().filter_map(|event| Some((event.active_since(time)?, event))).collect();
        active.sort_by_key(|(since, _)| *since);
        for (_, event) in active {
            state.apply(&event.change);
        }
        state
    }

    /// Returns the next time after `time` at which an event starts or ends.
    pub(super) fn next_change(&self, time: Duration) -> Option<Duration> {
        self.events.iter().filter_map(|event| event.next_change(time)).min()
    }

    /// Returns the first start and the change of each event.
    pub(super) fn starts(&self) -> impl Iterator<Item = (Duration, &Change)> {
        self.events.iter().map(|event| (event.start, &event.change))
    }
}

impl Scheduled {
    /// Returns the start of the last repetition before or at `time`.
    fn last_start(&self, time: Duration) -> Option<Duration> {
        let since = time.checked_sub(self.start)?;
        let repetitions = match self.every {
            Some(every) => u32::try_from(since.as_nanos() / every.as_nanos().max(1)).unwrap_or(u32::MAX),
            None => 0,
        };
        Some(self.start + self.every.unwrap_or_default() * repetitions)
    }

    /// Returns the start of the repetition that is active at `time`.
    fn active_since(&self, time: Duration) -> Option<Duration> {
        self.last_start(time).filter(|start| self.lasts.is_none_or(|lasts| time - *start < lasts))
    }

    fn next_change(&self, time: Duration) -> Option<Duration> {
        let Some(start) = self.last_start(time) else { return Some(self.start) };
        let end = self.lasts.map(|lasts| start + lasts).filter(|end| *end > time);
        end.or_else(|| self.every.map(|every| start + every))
    }
}

/// Returns the duration from `now` to the next such time of day. In the hour that daylight saving time skips, the
/// time is one hour later.
fn until(time: jiff::civil::Time, now: &Zoned) -> Duration {
    let on = |date: jiff::civil::Date| date.to_datetime(time).to_zoned(now.time_zone().clone()).ok();
    let today = on(now.date()).filter(|at| at >= now);
    let next = today.or_else(|| now.date().tomorrow().ok().and_then(on));
    // Fails only after the year 9999.
    next.and_then(|at| Duration::try_from(now.duration_until(&at)).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Event, Noise, Rhythm};
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn patient(events: Vec<Event>) -> Patient {
        let base = State {
            rhythm: Rhythm::Sinus,
            rate: 70.0,
            ectopy: 0.0,
            noise: Noise::Low,
            lead_off: false,
            gaps: false,
        };
        let (mrn, name) = (900_001, "Demo A".to_owned());
        Patient { mrn, name, base, swing: None, amplitude_mv: 1.0, has_image: false, events }
    }

    fn rate(at: u64, lasts: Option<u64>, every: Option<u64>, rate: f64) -> Event {
        Event {
            at: At::AfterStart(seconds(at)),
            lasts: lasts.map(seconds),
            every: every.map(seconds),
            change: Change { rate: Some(rate), ..Change::default() },
        }
    }

    fn timeline(patient: &Patient, pace: f64) -> Timeline {
        Timeline::new(patient, pace, &"2026-03-14T10:00:00[Europe/Berlin]".parse().unwrap())
    }

    fn rates(timeline: &Timeline, times: &[u64]) -> Vec<f64> {
        times.iter().map(|time| timeline.state_at(seconds(*time)).rate).collect()
    }

    #[test]
    fn event_applies_from_its_start_to_its_end() {
        let once = timeline(&patient(vec![rate(10, Some(5), None, 90.0)]), 1.0);
        assert_eq!(rates(&once, &[0, 9, 10, 14, 15, 1_000]), [70.0, 70.0, 90.0, 90.0, 70.0, 70.0]);
        let changes = [0, 10, 14, 15].map(|time| once.next_change(seconds(time)));
        assert_eq!(changes, [Some(seconds(10)), Some(seconds(15)), Some(seconds(15)), None]);
        let for_ever = timeline(&patient(vec![rate(10, None, None, 90.0)]), 1.0);
        assert_eq!(rates(&for_ever, &[9, 10, 1_000_000]), [70.0, 90.0, 90.0]);
        assert_eq!(for_ever.next_change(seconds(10)), None);
    }

    #[test]
    fn repeated_event_applies_in_each_period() {
        let repeated = timeline(&patient(vec![rate(10, Some(5), Some(20), 90.0)]), 1.0);
        assert_eq!(
            rates(&repeated, &[9, 10, 15, 29, 30, 34, 35]),
            [70.0, 90.0, 70.0, 70.0, 90.0, 90.0, 70.0]
        );
        assert_eq!(repeated.next_change(seconds(15)), Some(seconds(30)));
        assert_eq!(repeated.next_change(seconds(30)), Some(seconds(35)));
    }

    #[test]
    fn last_started_event_decides_each_part_of_the_state() {
        let asystole = Event {
            change: Change {
                rhythm: Some((Rhythm::Asystole, 0.0)),
                noise: Some(Noise::High),
                ..Change::default()
            },
            ..rate(0, Some(100), None, 0.0)
        };
        // The order of the file does not matter.
        let both = timeline(&patient(vec![rate(20, Some(10), None, 90.0), asystole]), 1.0);
        let at = |time| both.state_at(seconds(time));
        assert_eq!((at(10).rhythm, at(10).rate), (Rhythm::Asystole, 0.0));
        assert_eq!((at(20).rhythm, at(20).rate, at(20).noise), (Rhythm::Asystole, 90.0, Noise::High));
        assert_eq!((at(30).rate, at(100).rhythm), (0.0, Rhythm::Sinus));
    }

    #[test]
    fn pace_divides_durations() {
        let swing = Some(Swing { bpm: 10.0, period: seconds(40) });
        let patient = Patient { swing, ..patient(vec![rate(100, Some(20), Some(40), 90.0)]) };
        let fast = timeline(&patient, 2.0);
        assert!((fast.state_at(seconds(5)).rate - 80.0).abs() < 1e-9, "a quarter of the period of 20 s");
        assert_eq!(rates(&fast, &[50, 59, 70]), [90.0, 90.0, 90.0]);
        assert_eq!(fast.next_change(seconds(50)), Some(seconds(60)));
        assert_eq!(fast.next_change(seconds(60)), Some(seconds(70)));
    }

    #[test]
    fn clock_time_is_the_next_one_and_does_not_depend_on_the_pace() {
        let start = |time: jiff::civil::Time, now: &str| {
            let event = Event { at: At::Clock(time), ..rate(0, None, None, 90.0) };
            let timeline = Timeline::new(&patient(vec![event]), 10.0, &now.parse().unwrap());
            let start = timeline.starts().next().unwrap().0;
            assert_eq!(timeline.state_at(start).rate, 90.0);
            start
        };
        let time = |hour, minute| jiff::civil::time(hour, minute, 0, 0);
        let now = "2026-03-14T10:00:00[Europe/Berlin]";
        assert_eq!(start(time(10, 5), now), seconds(300));
        assert_eq!(start(time(10, 0), now), seconds(0));
        assert_eq!(start(time(9, 59), now), seconds(24 * 3600 - 60), "tomorrow");
        // The night to 29 March has 23 hours.
        let before = "2026-03-28T12:00:00[Europe/Berlin]";
        assert_eq!(start(time(11, 0), before), seconds(22 * 3600));
        assert_eq!(start(time(2, 30), before), seconds(14 * 3600 + 1800), "02:30 does not exist: 03:30");
    }
}
