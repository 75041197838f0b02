//! Tests of [`WaveformSender`] against a server that follows the device protocol and fails on purpose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{Gateway, SenderSettings, SenderState, Settings, WaveformSender};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use proto_json::{
    Channel, Device, DeviceMessage, DeviceNumeric, DeviceReply, Frame, FrameLimits, SampleRate, Segment,
    StreamId, Timestamp, close,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::fixture::{LIMIT, mrn};

/// Samples of the first channel in a frame.
const SAMPLES: u64 = 50;

/// Bytes of a frame in the temporary file.
const FRAME_BYTES: u64 = 221;

/// What the server does.
#[derive(Debug, Default)]
struct Behaviour {
    /// Cuts each connection after this number of messages, the last of them without an acknowledgement.
    cut_after: Option<usize>,
    /// Rejects the opening request with this status.
    status: Option<u16>,
    /// Closes the connection with 4400 when it receives this message, every time.
    reject_sequence: Option<u64>,
}

/// A stream on the server.
#[derive(Debug, Default)]
struct Stored {
    next_sequence: u64,
    /// Received samples of each channel, in order, with the index of the first after each gap.
    samples: Vec<Vec<i16>>,
    firsts: Vec<u64>,
    numerics: Vec<f64>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    /// In the order in which they were opened.
    streams: Vec<(StreamId, Stored)>,
    /// Streams that the server does not know any more.
    forgotten: Vec<StreamId>,
    /// Number of connections, and the path and token of the last.
    connections: usize,
    request: Option<(String, Option<String>)>,
}

/// A server that keeps what it has acknowledged.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        Server::start_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), behaviour)
    }

    fn start_at(listener: TcpListener, behaviour: Behaviour) -> Self {
        let state = Arc::new(Mutex::new(State { behaviour, ..State::default() }));
        let server = Server { address: listener.local_addr().unwrap(), state };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        server
    }

    #[allow(clippy::result_large_err, reason = "the type of the callback is given")]
    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let state = Arc::clone(&self.state);
        let callback = move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            let mut state = state.lock();
            let token =
                request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            state.request = Some((request.uri().path().to_owned(), token));
            match state.behaviour.status {
                Some(status) => Err(Response::builder().status(status).body(Some("{}".to_owned())).unwrap()),
                None => Ok(response),
            }
        };
        let mut socket = accept_hdr_async(stream, callback).await.ok()?;
        let Message::Text(open) = socket.next().await?.ok()? else { panic!("the first message is text") };
        let DeviceMessage::Open { resume, channels, .. } = serde_json::from_str(&open).unwrap() else {
            panic!("not open: {open}");
        };
        let stream = match resume {
            Some(stream) if self.state.lock().forgotten.contains(&stream) => {
                return close(&mut socket, close::UNKNOWN.code).await;
            }
            Some(stream) => stream,
            None => {
                let stream: StreamId = uuid::Uuid::now_v7().to_string().parse().unwrap();
                let samples = vec![Vec::new(); channels.len()];
                let stored = Stored { samples, ..Stored::default() };
                self.state.lock().streams.push((stream, stored));
                stream
            }
        };
        self.state.lock().connections += 1;
        let opened = DeviceReply::Opened {
            stream,
            next_sequence: self.with(stream, |stored| stored.next_sequence),
            window: 20,
            max_frame_bytes: 10_000,
            server_time: Timestamp::now(),
        };
        reply(&mut socket, &opened).await?;
        let limits = FrameLimits::of(&channels);
        let cut_after = self.state.lock().behaviour.cut_after.unwrap_or(usize::MAX);
        let mut next = self.with(stream, |stored| stored.next_sequence);
        for number in 1.. {
            let message = socket.next().await?.ok()?;
            let sequence = match &message {
                Message::Binary(bytes) => Frame::decode(bytes, &limits).unwrap().sequence,
                Message::Text(text) => match serde_json::from_str(text).unwrap() {
                    DeviceMessage::Numerics { sequence, .. } => sequence,
                    DeviceMessage::End {} => {
                        self.with(stream, |stored| stored.has_ended = true);
                        self.state.lock().forgotten.push(stream);
                        return close(&mut socket, close::NORMAL.code).await;
                    }
                    other => panic!("unexpected: {other:?}"),
                },
                _ => continue,
            };
            assert_eq!(sequence, next, "the sequence has no gap");
            if self.state.lock().behaviour.reject_sequence == Some(sequence) {
                return close(&mut socket, close::MALFORMED.code).await;
            }
            next += 1;
            // Some of the last messages are not stored, others are stored and not acknowledged.
            let is_last = number == cut_after;
            if !is_last || number % 2 == 0 {
                self.with(stream, |stored| stored.store(&message, &limits));
            }
            if is_last {
                return None;
            }
            reply(&mut socket, &DeviceReply::Ack { sequence }).await?;
        }
        None
    }

    fn with<T>(&self, stream: StreamId, with: impl FnOnce(&mut Stored) -> T) -> T {
        let mut state = self.state.lock();
        let stored = state.streams.iter_mut().find(|(other, _)| *other == stream);
        with(&mut stored.unwrap().1)
    }

    fn gateway(&self) -> Gateway {
        let settings = Settings::new(self.address.to_string());
        Gateway::new(&settings.with_token(Some("abc".parse().unwrap()))).unwrap()
    }

    fn sender(&self) -> WaveformSender {
        WaveformSender::start(self.settings()).unwrap()
    }

    fn settings(&self) -> SenderSettings {
        SenderSettings::new(
            self.gateway(),
            mrn(7),
            Device { name: "Test".to_owned(), serial: "1".to_owned() },
            channels(),
        )
    }

    /// The samples of a channel of all streams in order, and the number of streams.
    fn samples(&self, channel: usize) -> (Vec<i16>, usize) {
        let state = self.state.lock();
        let all = state.streams.iter().flat_map(|(_, stored)| stored.samples[channel].clone());
        (all.collect(), state.streams.len())
    }
}

impl Stored {
    fn store(&mut self, message: &Message, limits: &FrameLimits) {
        self.next_sequence += 1;
        match message {
            Message::Binary(bytes) => {
                for segment in Frame::decode(bytes, limits).unwrap().segments {
                    self.samples[usize::from(segment.channel)].extend(&segment.samples);
                    if segment.channel == 0 {
                        self.firsts.push(segment.first);
                    }
                }
            }
            Message::Text(text) => {
                let Ok(DeviceMessage::Numerics { values, .. }) = serde_json::from_str(text) else { return };
                self.numerics.extend(values.iter().map(|value| value.value));
            }
            _ => {}
        }
    }
}

async fn reply(socket: &mut WebSocketStream<TcpStream>, reply: &DeviceReply) -> Option<()> {
    socket.send(Message::text(serde_json::to_string(reply).unwrap())).await.ok()
}

async fn close(socket: &mut WebSocketStream<TcpStream>, code: u16) -> Option<()> {
    let frame = CloseFrame { code: code.into(), reason: "as the test wants it".into() };
    socket.close(Some(frame)).await.ok()?;
    while socket.next().await.is_some() {}
    None
}

fn channels() -> Vec<Channel> {
    let channel = |label: &str, numerator: u32| Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate { numerator, denominator: 1 },
        scale: 0.001,
        offset: 0.0,
    };
    vec![channel("II", 250), channel("V1", 125)]
}

/// Sends the frames with these numbers. The samples are their own indices.
fn send(sender: &WaveformSender, frames: std::ops::Range<u64>) {
    for frame in frames {
        let segment = |channel: u16, count: u64| Segment {
            channel,
            first: frame * count,
            lead_off: false,
            samples: (frame * count..(frame + 1) * count).map(sample).collect(),
        };
        sender
            .send_frame(frame as i64 * 200_000, vec![segment(0, SAMPLES), segment(1, SAMPLES / 2)])
            .unwrap();
    }
}

fn sample(index: u64) -> i16 {
    (index % 30_000) as i16
}

fn expected(frames: u64, per_frame: u64) -> Vec<i16> {
    (0..frames * per_frame).map(sample).collect()
}

async fn wait_for(sender: &WaveformSender, what: &str, condition: impl FnMut(&SenderState) -> bool) {
    let mut state = sender.state();
    let waited = timeout(LIMIT, state.wait_for(condition)).await;
    assert!(waited.is_ok(), "timed out waiting for {what}: {:?}", sender.state().borrow().clone());
}

#[tokio::test]
async fn samples_arrive_once_over_connections_that_are_cut() {
    // After an odd number of messages the last one is lost, after an even number its acknowledgement.
    for cut_after in [17, 8] {
        let server = Server::start(Behaviour { cut_after: Some(cut_after), ..Behaviour::default() }).await;
        let sender = server.sender();
        for number in 0..6 {
            send(&sender, number * 20..(number + 1) * 20);
            let value = DeviceNumeric {
                code: "MDC_ECG_HEART_RATE".to_owned(),
                value: number as f64,
                unit: "/min".to_owned(),
                device_time_us: 0,
            };
            sender.send_numerics(vec![value]).unwrap();
        }
        timeout(LIMIT, sender.acknowledged()).await.unwrap();
        server.state.lock().behaviour.cut_after = None;
        sender.finish(LIMIT).await.unwrap();
        assert_eq!(server.samples(0), (expected(120, SAMPLES), 1));
        assert_eq!(server.samples(1), (expected(120, SAMPLES / 2), 1));
        let state = server.state.lock();
        assert!(state.connections >= 120 / cut_after, "{}", state.connections);
        let stored = &state.streams[0].1;
        assert_eq!(stored.numerics, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!(stored.has_ended);
        let request = ("/api/v1/patients/7/waveforms".to_owned(), Some("Bearer abc".to_owned()));
        assert_eq!(state.request, Some(request));
    }
}

#[tokio::test]
async fn outage_is_bridged_by_the_disk() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let offline = Server { address, state: Arc::default() };
    let folder = tempfile::tempdir().unwrap();
    let settings = SenderSettings {
        max_memory_bytes: 64 << 10,
        spill_dir: Some(folder.path().to_owned()),
        ..offline.settings()
    };
    let sender = WaveformSender::start(settings).unwrap();
    // Ten minutes of waveforms, ten times the memory. A device is slower than this loop, so the loop waits for the disk: at
    // most 12 kB are in memory, of which a part of 16 kB is the limit.
    for part in 0..150 {
        send(&sender, part * 20..(part + 1) * 20);
        let queued = (part + 1) * 20 * FRAME_BYTES;
        wait_for(&sender, "the temporary file", |state| state.spilled_bytes + 12_000 >= queued).await;
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary file has no name");
    // On a busy machine, the first attempt to connect may end only now.
    let reason = "cannot be reached";
    wait_for(&sender, reason, |state| state.problem.as_ref().is_some_and(|problem| problem.contains(reason)))
        .await;
    let state = sender.state().borrow().clone();
    assert_eq!((state.is_connected, state.waiting, state.dropped), (false, 3_000, 0));

    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server::start_at(listener, Behaviour::default());
    sender.finish(LIMIT).await.unwrap();
    assert_eq!(server.samples(0), (expected(3_000, SAMPLES), 1));
}

#[tokio::test]
async fn full_queue_drops_the_oldest_and_leaves_a_gap_in_the_indices() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let offline = Server { address, state: Arc::default() };
    let settings = SenderSettings { max_memory_bytes: 64 << 10, spill_dir: None, ..offline.settings() };
    let sender = WaveformSender::start(settings).unwrap();
    send(&sender, 0..1_000);
    let dropped = sender.state().borrow().dropped;
    assert!((800..1_000).contains(&dropped), "{dropped}");
    let server = Server::start_at(TcpListener::bind(address).await.unwrap(), Behaviour::default());
    sender.finish(LIMIT).await.unwrap();
    let state = server.state.lock();
    let firsts = &state.streams[0].1.firsts;
    assert_eq!(*firsts, (dropped..1_000).map(|frame| frame * SAMPLES).collect::<Vec<_>>());
}

#[tokio::test]
async fn stream_that_the_server_has_lost_is_replaced_by_a_new_one() {
    let server = Server::start(Behaviour::default()).await;
    let sender = server.sender();
    send(&sender, 0..30);
    timeout(LIMIT, sender.acknowledged()).await.unwrap();
    let first = sender.state().borrow().stream.unwrap();
    {
        let mut state = server.state.lock();
        state.forgotten.push(first);
        // Ends the connection.
        state.behaviour.reject_sequence = Some(30);
    }
    send(&sender, 30..40);
    wait_for(&sender, "a new stream", |state| state.stream != Some(first)).await;
    server.state.lock().behaviour.reject_sequence = None;
    sender.finish(LIMIT).await.unwrap();
    assert_eq!(server.samples(0), (expected(40, SAMPLES), 2));
    let state = server.state.lock();
    assert_eq!(state.streams[1].1.firsts[..2], [30 * SAMPLES, 31 * SAMPLES], "the indices continue");
}

#[tokio::test]
async fn message_that_the_server_rejects_does_not_stop_the_stream() {
    let server = Server::start(Behaviour { reject_sequence: Some(3), ..Behaviour::default() }).await;
    let sender = server.sender();
    send(&sender, 0..10);
    wait_for(&sender, "a dropped message", |state| state.dropped > 0).await;
    server.state.lock().behaviour.reject_sequence = None;
    sender.finish(LIMIT).await.unwrap();
    let frames = [0, 1, 2, 4, 5, 6, 7, 8, 9];
    let state = server.state.lock();
    assert_eq!(state.streams[0].1.firsts, frames.map(|frame| frame * SAMPLES));
}

#[tokio::test]
async fn rejected_token_is_reported_and_nothing_is_lost() {
    let server = Server::start(Behaviour { status: Some(403), ..Behaviour::default() }).await;
    let sender = server.sender();
    send(&sender, 0..5);
    wait_for(&sender, "a report", |state| state.is_blocked).await;
    let state = sender.state().borrow().clone();
    assert_eq!((state.waiting, state.is_connected), (5, false));
    assert!(state.problem.unwrap().contains("does not allow this"));
    let unfinished = sender.finish(Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(unfinished.starts_with("5 messages are not acknowledged: the access token"), "{unfinished}");
}

#[tokio::test]
async fn wrong_frames_channels_and_numerics_are_rejected_at_once() {
    let server = Server::start(Behaviour::default()).await;
    let sender = server.sender();
    let segment = |channel, first, samples| Segment { channel, first, lead_off: false, samples };
    let error = |segments| sender.send_frame(0, segments).unwrap_err().to_string();
    assert!(error(Vec::new()).contains("no segments"));
    assert!(error(vec![segment(2, 0, vec![1])]).contains("no channel 2"));
    assert!(error(vec![segment(0, 0, vec![1; 300])]).contains("allows 126"));
    sender.send_frame(0, vec![segment(0, 100, vec![1; 50])]).unwrap();
    assert!(error(vec![segment(0, 120, vec![1; 50])]).contains("does not follow"));
    assert!(sender.send_numerics(Vec::new()).is_err());
    let settings = SenderSettings { channels: Vec::new(), ..server.settings() };
    assert!(WaveformSender::start(settings).is_err());
}
