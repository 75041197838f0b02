//! Events that wait for the reader, in bounded memory.
//!
//! Invariant: waveforms and vitals are dropped, oldest first, when the buffer is full. Dropped waveforms become one
//! [`LiveEvent::Lost`] per patient, which the reader receives before the waveforms that follow the gap. Other events are
//! combined with their predecessors, so that their number is bounded by the number of patients and streams.

use std::collections::{BTreeMap, VecDeque};

use proto_json::waveform::OVERVIEW_COLUMNS_PER_SECOND;
use proto_json::{ColumnBlock, Mrn};

use super::{LiveEvent, ReceivedColumns, ReceivedFrame, interval};

/// Memory of an event without its waveforms, in bytes.
const EVENT_BYTES: usize = 256;

#[derive(Debug)]
pub(super) struct Buffer {
    events: VecDeque<LiveEvent>,
    bytes: usize,
    max_bytes: usize,
    /// Time of the dropped waveforms of each patient, in microseconds since 1970.
    lost: BTreeMap<Mrn, (i64, i64)>,
}

impl Buffer {
    pub(super) fn new(max_bytes: usize) -> Self {
        Buffer { events: VecDeque::new(), bytes: 0, max_bytes, lost: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, event: LiveEvent) {
        if self.combined(&event) {
            return;
        }
        self.bytes += bytes(&event);
        self.events.push_back(event);
        while self.bytes > self.max_bytes && self.drop_oldest() {}
    }

    pub(super) fn pop(&mut self) -> Option<LiveEvent> {
        while let Some((mrn, (from, to))) = self.lost.pop_first() {
            if let Some((from, to)) = interval(from, to) {
                return Some(LiveEvent::Lost { mrn, from, to });
            }
        }
        let event = self.events.pop_front()?;
        self.bytes -= bytes(&event);
        Some(event)
    }

    /// Replaces an event that waits, if the new one makes it obsolete.
    fn combined(&mut self, event: &LiveEvent) -> bool {
        let waiting = match event {
            LiveEvent::Connection(_) => {
                self.events.back_mut().filter(|last| matches!(last, LiveEvent::Connection(_)))
            }
            LiveEvent::Stream(new) => self
                .events
                .iter_mut()
                .find(|waiting| matches!(waiting, LiveEvent::Stream(old) if old.stream == new.stream)),
            LiveEvent::Rejected { .. } => {
                self.events.back_mut().filter(|last| matches!(last, LiveEvent::Rejected { .. }))
            }
            _ => None,
        };
        let Some(waiting) = waiting else { return false };
        *waiting = event.clone();
        true
    }

    /// Drops the oldest waveforms or vitals. Returns whether there were any.
    fn drop_oldest(&mut self) -> bool {
        let is_data = |event: &LiveEvent| !matches!(event, LiveEvent::Connection(_) | LiveEvent::Stream(_));
        let Some(position) = self.events.iter().position(is_data) else { return false };
        let Some(event) = self.events.remove(position) else { return false };
        self.bytes -= bytes(&event);
        if let Some((mrn, from, to)) = time_of(&event) {
            let lost = self.lost.entry(mrn).or_insert((from, to));
            *lost = (lost.0.min(from), lost.1.max(to));
        }
        true
    }
}

fn bytes(event: &LiveEvent) -> usize {
    EVENT_BYTES
        + match event {
            LiveEvent::Frame(frame) => frame
                .frame
                .segments
                .iter()
                .map(|segment| size_of_val(segment) + size_of_val(segment.samples.as_slice()))
                .sum(),
            LiveEvent::Columns(columns) => columns
                .blocks
                .iter()
                .map(|block| size_of_val(block) + size_of_val(block.columns.as_slice()))
                .sum(),
            LiveEvent::Vitals(vitals) => 128 * vitals.values.len(),
            _ => 0,
        }
}

/// Patient and time of the waveforms of an event, in microseconds since 1970.
fn time_of(event: &LiveEvent) -> Option<(Mrn, i64, i64)> {
    match event {
        LiveEvent::Frame(frame) => Some((frame.stream.mrn, frame.time_us, frame.end_us())),
        LiveEvent::Columns(columns) => {
            let (from, to) = columns.time()?;
            Some((columns.stream.mrn, from, to))
        }
        LiveEvent::Lost { mrn, from, to } => {
            Some((*mrn, from.as_millis().saturating_mul(1000), to.as_millis().saturating_mul(1000)))
        }
        _ => None,
    }
}

impl ReceivedFrame {
    /// Server time after the last sample, in microseconds since 1970.
    #[must_use]
    pub fn end_us(&self) -> i64 {
        let channels = &self.stream.channels;
        self.frame
            .timed_segments(self.time_us, channels)
            .filter_map(|(start, segment)| {
                let rate = channels.get(usize::from(segment.channel))?.rate;
                Some(start.saturating_add(rate.micros(segment.samples.len() as u64)))
            })
            .max()
            .unwrap_or(self.time_us)
    }
}

impl ReceivedColumns {
    /// Server time of the start of the first and the end of the last column, in microseconds since 1970. `None` without
    /// columns.
    #[must_use]
    pub fn time(&self) -> Option<(i64, i64)> {
        let micros = |column: i64| column.saturating_mul(1_000_000) / OVERVIEW_COLUMNS_PER_SECOND;
        let end = |block: &ColumnBlock| block.first.saturating_add(block.columns.len() as i64);
        let from = self.blocks.iter().map(|block| block.first).min()?;
        let to = self.blocks.iter().map(end).max()?;
        Some((micros(from), micros(to)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto_json::{Channel, Device, Frame, SampleRate, Segment, StreamDescription, Timestamp};

    use super::super::LiveConnection;
    use super::*;

    fn stream(mrn: u64, stream: &str) -> Arc<StreamDescription> {
        let rate = SampleRate { numerator: 250, denominator: 1 };
        let channel = Channel {
            label: "II".to_owned(),
            code: "MDC_ECG_LEAD_II".to_owned(),
            unit: "mV".to_owned(),
            rate,
            scale: 0.001,
            offset: 0.0,
        };
        Arc::new(StreamDescription {
            stream: stream.parse().unwrap(),
            mrn: Mrn::new(mrn).unwrap(),
            device: Device { name: "Sim".to_owned(), serial: "1".to_owned() },
            channels: vec![channel],
            opened_at: Timestamp::from_millis(0).unwrap(),
            clock: None,
        })
    }

    const STREAM: &str = "0198c0de-0000-7000-8000-000000000001";

    /// The frame number `number`, 200 ms of one channel.
    fn frame(stream: &Arc<StreamDescription>, number: i64) -> LiveEvent {
        let segment =
            Segment { channel: 0, first: number as u64 * 50, lead_off: false, samples: vec![1; 50] };
        LiveEvent::Frame(ReceivedFrame {
            stream: Arc::clone(stream),
            time_us: number * 200_000,
            frame: Frame { sequence: number as u64, device_time_us: 0, segments: vec![segment] },
        })
    }

    fn connection(is_connected: bool) -> LiveEvent {
        let since = Timestamp::from_millis(0).unwrap();
        LiveEvent::Connection(LiveConnection { is_connected, since, reason: None, token_rejected: false })
    }

    #[test]
    fn full_buffer_drops_the_oldest_waveforms_and_reports_their_time() {
        let (one, two) = (stream(1, STREAM), stream(2, STREAM));
        let mut buffer = Buffer::new(20 * bytes(&frame(&one, 0)));
        buffer.push(connection(true));
        buffer.push(LiveEvent::Stream(Arc::clone(&one)));
        for number in 0..100 {
            buffer.push(frame(&one, number));
            buffer.push(frame(&two, number));
        }
        assert!(buffer.bytes <= buffer.max_bytes);
        let events: Vec<LiveEvent> = std::iter::from_fn(|| buffer.pop()).collect();
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let first_kept = events
            .iter()
            .find_map(|event| match event {
                LiveEvent::Frame(frame) if frame.stream.mrn == one.mrn => Some(frame.time_us / 1000),
                _ => None,
            })
            .unwrap();
        assert!(first_kept > 10_000, "{first_kept}");
        assert_eq!(events[0], LiveEvent::Lost { mrn: one.mrn, from: at(0), to: at(first_kept) });
        assert!(matches!(&events[1], LiveEvent::Lost { mrn, .. } if *mrn == two.mrn), "{:?}", events[1]);
        assert_eq!(events[2..4], [connection(true), LiveEvent::Stream(one)]);
        let Some(LiveEvent::Frame(last)) = events.last() else { panic!("no frame") };
        assert_eq!(last.time_us, 99 * 200_000);
        assert_eq!(buffer.bytes, 0);
    }

    #[test]
    fn states_and_descriptions_that_wait_are_replaced() {
        let mut buffer = Buffer::new(1 << 20);
        let one = stream(1, STREAM);
        buffer.push(connection(false));
        buffer.push(connection(true));
        buffer.push(LiveEvent::Stream(Arc::clone(&one)));
        buffer.push(frame(&one, 0));
        let renamed = Arc::new(StreamDescription {
            device: Device { name: "New".to_owned(), serial: "1".to_owned() },
            ..(*one).clone()
        });
        buffer.push(LiveEvent::Stream(Arc::clone(&renamed)));
        let events: Vec<LiveEvent> = std::iter::from_fn(|| buffer.pop()).collect();
        assert_eq!(events, [connection(true), LiveEvent::Stream(renamed), frame(&one, 0)]);
    }
}
