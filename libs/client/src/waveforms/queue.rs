//! The messages of a sender that the server has not acknowledged, in order: sent, next to send, on disk, newest.
//!
//! Invariants: each of the four parts in memory (sent, next, being written, newest) has at most a quarter of the memory, and at
//! least one message. A message gets its sequence number when it is sent for the first time, so that dropped messages leave no
//! hole in the sequence.

use std::collections::VecDeque;

use bytes::Bytes;
use proto_json::{DeviceMessage, DeviceNumeric, Frame, FrameError, StreamId};

use super::spill::{Block, Written};

/// Memory of a message without its content, in bytes.
const MESSAGE_BYTES: usize = 64;
/// Position of the sequence number in a frame.
const SEQUENCE: std::ops::Range<usize> = 8..16;

/// A message without its sequence number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// An encoded frame.
    Frame(Vec<u8>),
    Numerics(Vec<DeviceNumeric>),
}

/// A message with its sequence number.
#[derive(Debug, PartialEq)]
pub(super) enum Outgoing {
    Binary(Bytes),
    Text(String),
}

/// What the task has to do.
#[derive(Debug)]
pub(super) enum Next {
    Send(Outgoing),
    /// Read this block and call [`Queue::restored`].
    Read(Block),
    Wait,
}

#[derive(Debug)]
pub(super) struct Queue {
    quarter: usize,
    /// Sequence number of the first message in `sent`.
    next_sequence: u64,
    sent: Part,
    /// Number of messages in `sent` that were sent on this connection.
    sent_now: usize,
    window: usize,
    next: Part,
    spilled: VecDeque<Block>,
    /// Whether a block is being written.
    is_spilling: bool,
    /// Messages of the block that is being read.
    reading: u64,
    newest: Part,
    stream: Option<StreamId>,
    /// Index after the last queued sample of each channel.
    queued_ends: Vec<u64>,
    pushed: u64,
    acknowledged: u64,
    dropped: u64,
}

/// Messages in memory.
#[derive(Debug, Default)]
struct Part {
    messages: VecDeque<Message>,
    bytes: usize,
}

/// The server does not continue the stream where it has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotContinued;

impl Queue {
    pub(super) fn new(max_memory_bytes: usize, channels: usize) -> Self {
        Queue {
            quarter: max_memory_bytes / 4,
            next_sequence: 0,
            sent: Part::default(),
            sent_now: 0,
            window: 0,
            next: Part::default(),
            spilled: VecDeque::new(),
            is_spilling: false,
            reading: 0,
            newest: Part::default(),
            stream: None,
            queued_ends: vec![0; channels],
            pushed: 0,
            acknowledged: 0,
            dropped: 0,
        }
    }

    pub(super) fn stream(&self) -> Option<StreamId> {
        self.stream
    }

    /// Checks that the samples of a frame follow those of the frame before.
    pub(super) fn advance_indices(&mut self, frame: &Frame) -> Result<(), FrameError> {
        for segment in &frame.segments {
            let end = self.queued_ends.get(usize::from(segment.channel)).copied().unwrap_or_default();
            if segment.first < end {
                return Err(FrameError::Index { channel: segment.channel, index: segment.first });
            }
        }
        for segment in &frame.segments {
            if let Some(end) = self.queued_ends.get_mut(usize::from(segment.channel)) {
                *end = segment.end().max(*end);
            }
        }
        Ok(())
    }

    pub(super) fn push(&mut self, message: Message) {
        self.pushed += 1;
        self.newest.push_back(message);
        self.drop_excess();
    }

    /// Number of all messages so far.
    pub(super) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Acknowledged, waiting and dropped messages, and bytes on disk.
    pub(super) fn counts(&self) -> (u64, u64, u64, u64) {
        let waiting = self.pushed - self.acknowledged - self.dropped;
        (self.acknowledged, waiting, self.dropped, self.spilled.iter().map(Block::bytes).sum())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pushed == self.acknowledged + self.dropped
    }

    /// The newest messages, if they should be written to disk. [`Queue::spilled`] must follow.
    pub(super) fn take_to_spill(&mut self) -> Option<Vec<Message>> {
        // One message is not worth a block.
        if self.is_spilling || self.newest.bytes < self.quarter / 2 || self.newest.messages.len() < 2 {
            return None;
        }
        self.is_spilling = true;
        Some(std::mem::take(&mut self.newest).messages.into())
    }

    /// The messages of [`Queue::take_to_spill`] are on disk; they are not if `written` is `None`.
    pub(super) fn spilled(&mut self, messages: Vec<Message>, written: Option<Written>) {
        self.is_spilling = false;
        let Some(Written { block, overwritten }) = written else {
            for message in messages.into_iter().rev() {
                self.newest.push_front(message);
            }
            self.drop_excess();
            return;
        };
        // A block that is being read is no longer in the list. Reading it fails, and its messages are counted then.
        for old in &overwritten {
            if let Some(position) = self.spilled.iter().position(|block| block.is_at(*old)) {
                self.dropped += self.spilled.remove(position).map_or(0, |block| block.messages);
            }
        }
        self.spilled.push_back(block);
    }

    /// The messages of a block that was read; it cannot be read if they are `None`.
    pub(super) fn restored(&mut self, messages: Option<Vec<Message>>) {
        let expected = std::mem::take(&mut self.reading);
        match messages {
            Some(messages) => messages.into_iter().for_each(|message| self.next.push_back(message)),
            None => self.dropped += expected,
        }
    }

    /// What to do next on a connection.
    pub(super) fn next(&mut self) -> Next {
        if self.sent_now >= self.window {
            return Next::Wait;
        }
        if self.sent_now < self.sent.messages.len() {
            return self.send(self.sent_now);
        }
        if !self.sent.messages.is_empty() && self.sent.bytes >= self.quarter {
            return Next::Wait;
        }
        if let Some(message) = self.next.pop_front() {
            self.sent.push_back(message);
            return self.send(self.sent_now);
        }
        if let Some(block) = self.spilled.pop_front() {
            self.reading = block.messages;
            return Next::Read(block);
        }
        if self.is_spilling {
            return Next::Wait;
        }
        match self.newest.pop_front() {
            Some(message) => {
                self.sent.push_back(message);
                self.send(self.sent_now)
            }
            None => Next::Wait,
        }
    }

    fn send(&mut self, position: usize) -> Next {
        let sequence = self.next_sequence + position as u64;
        let Some(message) = self.sent.messages.get(position) else { return Next::Wait };
        self.sent_now = position + 1;
        Next::Send(match message {
            Message::Frame(frame) => Outgoing::Binary(numbered(frame, sequence)),
            Message::Numerics(values) => {
                let message = DeviceMessage::Numerics { sequence, values: values.clone() };
                // Serialising checked values cannot fail.
                Outgoing::Text(serde_json::to_string(&message).unwrap_or_default())
            }
        })
    }

    /// A connection is open.
    ///
    /// # Errors
    /// [`NotContinued`], if the server continues at a message that was never sent, or that it has acknowledged.
    pub(super) fn opened(
        &mut self,
        stream: StreamId,
        next_sequence: u64,
        window: u32,
    ) -> Result<(), NotContinued> {
        let end = self.next_sequence + self.sent.messages.len() as u64;
        if (self.stream.is_some() && self.stream != Some(stream))
            || !(self.next_sequence..=end).contains(&next_sequence)
        {
            return Err(NotContinued);
        }
        self.stream = Some(stream);
        self.window = usize::try_from(window).unwrap_or(usize::MAX).max(1);
        self.acknowledge_until(next_sequence);
        self.sent_now = 0;
        Ok(())
    }

    /// All messages up to `sequence` are durable. Returns whether one was waiting for this.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> bool {
        let before = self.next_sequence;
        self.acknowledge_until(sequence.saturating_add(1));
        self.next_sequence > before
    }

    fn acknowledge_until(&mut self, end: u64) {
        while self.next_sequence < end {
            if self.sent.pop_front().is_none() {
                return;
            }
            self.next_sequence += 1;
            self.sent_now = self.sent_now.saturating_sub(1);
            self.acknowledged += 1;
        }
    }

    /// The next connection opens a new stream, which starts with the first message that is not acknowledged. The indices of the
    /// samples continue, so that the channels keep their alignment at any rates.
    pub(super) fn start_new_stream(&mut self) {
        self.stream = None;
        self.next_sequence = 0;
        self.sent_now = 0;
    }

    /// Drops the first message that is not acknowledged, because the server rejects it.
    pub(super) fn drop_first(&mut self) {
        if self.sent.pop_front().is_some() {
            self.dropped += 1;
            self.sent_now = self.sent_now.saturating_sub(1);
        }
    }

    fn drop_excess(&mut self) {
        while self.newest.bytes > self.quarter && self.newest.messages.len() > 1 {
            self.newest.pop_front();
            self.dropped += 1;
        }
    }
}

impl Part {
    fn push_back(&mut self, message: Message) {
        self.bytes += message.bytes();
        self.messages.push_back(message);
    }

    fn push_front(&mut self, message: Message) {
        self.bytes += message.bytes();
        self.messages.push_front(message);
    }

    fn pop_front(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        Some(message)
    }
}

impl Message {
    fn bytes(&self) -> usize {
        MESSAGE_BYTES
            + match self {
                Message::Frame(frame) => frame.len(),
                Message::Numerics(values) => values.len() * 128,
            }
    }

    /// Appends the message: kind, length, content.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let json;
        let (kind, content) = match self {
            Message::Frame(frame) => (0, frame.as_slice()),
            Message::Numerics(values) => {
                // Serialising checked values cannot fail.
                json = serde_json::to_vec(values).unwrap_or_default();
                (1, json.as_slice())
            }
        };
        out.push(kind);
        out.extend((content.len() as u32).to_le_bytes());
        out.extend_from_slice(content);
    }

    /// Reads a message and advances `bytes`. `None` if the bytes are not a message.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let ([kind], rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (content, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        *bytes = rest;
        match kind {
            0 => Some(Message::Frame(content.to_vec())),
            1 => serde_json::from_slice(content).ok().map(Message::Numerics),
            _ => None,
        }
    }
}

/// The bytes of a frame with its sequence number.
fn numbered(frame: &[u8], sequence: u64) -> Bytes {
    let mut bytes = frame.to_vec();
    if let Some(field) = bytes.get_mut(SEQUENCE) {
        field.copy_from_slice(&sequence.to_le_bytes());
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proto_json::{Channel, FrameLimits, SampleRate, Segment};

    use super::*;

    const STREAM: &str = "0198c0de-0000-7000-8000-000000000001";

    fn segment(channel: u16, first: u64, samples: usize) -> Segment {
        Segment { channel, first, lead_off: false, samples: vec![5; samples] }
    }

    /// The frame number `number` of two channels with 50 and 25 samples.
    fn frame(number: u64) -> Frame {
        let segments = vec![segment(0, number * 50, 50), segment(1, number * 25, 25)];
        Frame { sequence: 0, device_time_us: 0, segments }
    }

    fn push(queue: &mut Queue, number: u64) {
        queue.advance_indices(&frame(number)).unwrap();
        queue.push(Message::Frame(frame(number).encode()));
    }

    fn sent(queue: &mut Queue) -> Vec<(u64, u64, u64)> {
        let outgoing = std::iter::from_fn(|| match queue.next() {
            Next::Send(Outgoing::Binary(bytes)) => Some(bytes),
            _ => None,
        });
        outgoing
            .map(|bytes| {
                let frame = decode(&bytes);
                (frame.sequence, frame.segments[0].first, frame.segments[1].first)
            })
            .collect()
    }

    fn decode(bytes: &[u8]) -> Frame {
        let rate = SampleRate { numerator: 250, denominator: 1 };
        let channel = |label: &str| Channel {
            label: label.to_owned(),
            code: String::new(),
            unit: String::new(),
            rate,
            scale: 1.0,
            offset: 0.0,
        };
        Frame::decode(bytes, &FrameLimits::of(&[channel("a"), channel("b")])).unwrap()
    }

    fn open(queue: &mut Queue, next: u64, window: u32) -> Result<(), NotContinued> {
        queue.opened(STREAM.parse().unwrap(), next, window)
    }

    #[test]
    fn unacknowledged_messages_are_sent_again_after_a_reconnect() {
        let mut queue = Queue::new(1 << 20, 2);
        (0..5).for_each(|number| push(&mut queue, number));
        assert!(sent(&mut queue).is_empty(), "the window is 0 before the stream is open");
        open(&mut queue, 0, 3).unwrap();
        assert_eq!(sent(&mut queue), [(0, 0, 0), (1, 50, 25), (2, 100, 50)]);
        assert!(queue.acknowledge(0));
        assert_eq!(sent(&mut queue), [(3, 150, 75)]);
        open(&mut queue, 2, 3).unwrap();
        assert_eq!(sent(&mut queue), [(2, 100, 50), (3, 150, 75), (4, 200, 100)]);
        assert!(queue.acknowledge(4) && !queue.acknowledge(4) && queue.is_empty());
        assert_eq!(queue.counts(), (5, 0, 0, 0));
    }

    #[test]
    fn new_stream_starts_with_the_first_unacknowledged_message() {
        let mut queue = Queue::new(1 << 20, 2);
        (0..4).for_each(|number| push(&mut queue, number));
        open(&mut queue, 0, 10).unwrap();
        assert_eq!(sent(&mut queue).len(), 4);
        queue.acknowledge(1);
        assert_eq!(open(&mut queue, 1, 10), Err(NotContinued), "message 1 is acknowledged");
        assert_eq!(open(&mut queue, 5, 10), Err(NotContinued), "message 4 was never sent");
        queue.start_new_stream();
        open(&mut queue, 0, 10).unwrap();
        assert_eq!(sent(&mut queue), [(0, 100, 50), (1, 150, 75)]);
    }

    #[test]
    fn rejected_message_leaves_no_hole_in_the_sequence() {
        let mut queue = Queue::new(1 << 20, 2);
        (0..3).for_each(|number| push(&mut queue, number));
        open(&mut queue, 0, 10).unwrap();
        sent(&mut queue);
        queue.drop_first();
        open(&mut queue, 0, 10).unwrap();
        assert_eq!(sent(&mut queue), [(0, 50, 25), (1, 100, 50)]);
        assert_eq!(queue.counts(), (0, 2, 1, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_messages_are_dropped() {
        let mut queue = Queue::new(16 << 10, 2);
        (0..1_000).for_each(|number| push(&mut queue, number));
        assert!(queue.newest.bytes <= 4 << 10);
        let (acknowledged, waiting, dropped, _) = queue.counts();
        assert_eq!((acknowledged, waiting + dropped), (0, 1_000));
        open(&mut queue, 0, 1_000).unwrap();
        let sent = sent(&mut queue);
        assert_eq!(sent.first(), Some(&(0, dropped * 50, dropped * 25)), "the gap is in the indices alone");
        assert_eq!(sent.len() as u64, waiting);
    }

    #[test]
    fn indices_that_decrease_are_rejected() {
        let mut queue = Queue::new(1 << 20, 2);
        push(&mut queue, 3);
        let again = queue.advance_indices(&frame(3));
        assert_eq!(again, Err(FrameError::Index { channel: 0, index: 150 }));
        push(&mut queue, 7);
    }

    #[test]
    fn messages_on_disk_are_sent_before_newer_ones() {
        let mut queue = Queue::new(8 << 10, 2);
        let file = super::super::spill::SpillFile::new(std::env::temp_dir(), 1 << 20);
        for number in 0..100 {
            push(&mut queue, number);
            if let Some(messages) = queue.take_to_spill() {
                let written = file.write(&messages).unwrap();
                queue.spilled(messages, Some(written));
            }
        }
        assert!(queue.counts().3 > 0);
        open(&mut queue, 0, 1_000).unwrap();
        let (mut all, mut firsts) = (Vec::new(), Vec::new());
        while !queue.is_empty() {
            match queue.next() {
                Next::Send(Outgoing::Binary(bytes)) => {
                    let frame = decode(&bytes);
                    all.push(frame.sequence);
                    firsts.push(frame.segments[0].first);
                }
                Next::Read(block) => queue.restored(file.take(block).ok()),
                // A part of the memory is full.
                Next::Wait => assert!(queue.acknowledge(all.len() as u64 - 1)),
                Next::Send(Outgoing::Text(_)) => panic!("no numerics were queued"),
            }
            if all.len() == 100 {
                queue.acknowledge(99);
            }
        }
        assert_eq!(firsts, (0..100).map(|number| number * 50).collect::<Vec<_>>());
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }
}
