//! Tests of devices that stream waveforms.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Method;
use bus::{BusPorts, WaveEvent, WaveKind, WaveLog, WaveMessage};
use futures::stream::BoxStream;
use futures::{SinkExt, StreamExt};
use gateway::{AuditTarget, Config, Limits, Ports, Reads};
use proto_json::waveform::{
    Channel, Device, DeviceMessage, DeviceNumeric, DeviceReply, Frame, Numerics, SampleRate, Segment,
    StreamDescription, StreamId,
};
use proto_json::{Mrn, Timestamp};
use runtime::{ByteSize, Shutdown};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::access::with_tokens;
use crate::fixture::{Api, Start, TIMEOUT};

const SECOND: i64 = 1_000_000;
const FRAME_US: i64 = SECOND / 5;
pub(crate) const PER_FRAME: u64 = 50;

pub(crate) fn channel(label: &str, rate: u32) -> Channel {
    Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate::new(rate, 1).unwrap(),
        scale: 0.005,
        offset: 0.0,
    }
}

pub(crate) fn now_us() -> i64 {
    Timestamp::now().as_millis() * 1_000
}

/// A frame of 200 ms of one channel at 250 Hz.
pub(crate) fn frame(sequence: u64) -> Frame {
    let first = sequence * PER_FRAME;
    let samples = (first..first + PER_FRAME).map(|index| (index % 1_000) as i16).collect();
    Frame {
        sequence,
        device_time_us: sequence as i64 * FRAME_US,
        segments: vec![Segment { channel: 0, first, lead_off: false, samples }],
    }
}

/// A WebSocket connection.
pub(crate) struct Connection(WebSocketStream<TcpStream>);

impl Connection {
    /// Connects to a path. An error is the response to the handshake: status and body.
    pub(crate) async fn open(address: SocketAddr, path: &str, token: &str) -> Result<Self, (u16, String)> {
        Self::over(TcpStream::connect(address).await.unwrap(), address, path, token).await
    }

    pub(crate) async fn over(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
        token: &str,
    ) -> Result<Self, (u16, String)> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        if !token.is_empty() {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Connection(socket)),
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), String::from_utf8(body).unwrap()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.0.send(message.into()).await.unwrap();
    }

    /// Sends a message to a server that may have closed the connection.
    async fn try_send(&mut self, message: impl Into<Message>) -> bool {
        self.0.send(message.into()).await.is_ok()
    }

    pub(crate) async fn send_json(&mut self, message: &impl serde::Serialize) {
        self.send(serde_json::to_string(message).unwrap()).await;
    }

    /// Returns the next message. Pings are skipped.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(TIMEOUT, self.0.next()).await.expect("a message in time");
            match next.expect("an open connection").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// Returns code and reason of the close frame. Messages before it are skipped.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(close) = self.next().await {
                let close = close.expect("a close code");
                return (close.code.into(), close.reason.to_string());
            }
        }
    }

    #[track_caller]
    fn assert_closed(&mut self, code: u16, about: &str) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let closed = self.closed().await;
            assert_eq!(closed.0, code, "{at}: {}", closed.1);
            assert!(closed.1.contains(about), "{at}: {:?} should contain {about:?}", closed.1);
        }
    }
}

/// The first message of a device with one channel.
pub(crate) fn open_message() -> DeviceMessage {
    let device = Device { name: "Sim".to_owned(), serial: "1".to_owned() };
    DeviceMessage::Open { resume: None, device, channels: vec![channel("II", 250)], device_time_us: 0 }
}

/// What a device sends first.
struct Open {
    mrn: u64,
    serial: &'static str,
    channels: Vec<Channel>,
    resume: Option<StreamId>,
}

impl Default for Open {
    fn default() -> Self {
        Open { mrn: 7, serial: "1", channels: vec![channel("II", 250)], resume: None }
    }
}

/// A device with an open stream. Its clock starts at 0.
pub(crate) struct Simulated {
    pub(crate) connection: Connection,
    pub(crate) stream: StreamId,
    pub(crate) next: u64,
    window: u32,
}

impl Open {
    async fn connect(&self, address: SocketAddr) -> Connection {
        let mut connection =
            Connection::open(address, &format!("/api/v1/patients/{}/waveforms", self.mrn), "").await.unwrap();
        let device = Device { name: "Sim".to_owned(), serial: self.serial.to_owned() };
        let open = DeviceMessage::Open {
            resume: self.resume,
            device,
            channels: self.channels.clone(),
            device_time_us: 0,
        };
        connection.send_json(&open).await;
        connection
    }

    async fn start(&self, address: SocketAddr) -> Simulated {
        let mut connection = self.connect(address).await;
        match connection.next().await {
            Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                DeviceReply::Opened { stream, next_sequence, window, .. } => {
                    Simulated { connection, stream, next: next_sequence, window }
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

impl Simulated {
    /// Opens a stream of one channel, "II" at 250 Hz, for a patient.
    pub(crate) async fn of(api: &Api, mrn: u64) -> Self {
        Open { mrn, ..Open::default() }.start(api.address).await
    }

    /// Opens a stream with these channels for a patient.
    pub(crate) async fn with(api: &Api, mrn: u64, channels: Vec<Channel>) -> Self {
        Open { mrn, channels, ..Open::default() }.start(api.address).await
    }

    pub(crate) async fn send_frame(&mut self) {
        let frame = frame(self.next);
        self.send(&frame).await;
    }

    pub(crate) async fn send(&mut self, frame: &Frame) {
        self.connection.send(frame.encode()).await;
        self.next += 1;
    }

    async fn reply(&mut self) -> DeviceReply {
        match self.connection.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until everything that was sent is acknowledged.
    pub(crate) async fn acknowledged(&mut self) {
        loop {
            if let DeviceReply::Ack { sequence } = self.reply().await
                && sequence + 1 == self.next
            {
                return;
            }
        }
    }

    /// Sends a frame that is changed, and expects this close code.
    async fn send_bad(mut self, code: u16, about: &str, change: impl FnOnce(&mut Frame)) {
        self.send_frame().await;
        let mut frame = frame(1);
        change(&mut frame);
        self.connection.send(frame.encode()).await;
        // The frame before is acknowledged all the same.
        self.acknowledged().await;
        self.connection.assert_closed(code, about).await;
    }
}

async fn subscribed(api: &Api, mrn: u64) -> BoxStream<'static, WaveEvent> {
    api.bus.subscribe_waves(Some(Mrn::new(mrn).unwrap())).await.unwrap()
}

/// Returns the next message of the log that is no description.
async fn next_logged(waves: &mut BoxStream<'static, WaveEvent>) -> WaveMessage {
    loop {
        match tokio::time::timeout(TIMEOUT, waves.next()).await.expect("a message in time") {
            Some(WaveEvent::Message(message)) if message.kind == WaveKind::Open => {}
            Some(WaveEvent::Message(message)) => return message,
            other => panic!("{other:?}"),
        }
    }
}

/// Starts another gateway of the same system, as after a restart.
async fn another_gateway(api: &Api) -> (SocketAddr, Shutdown) {
    let (listener, shutdown) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Shutdown::new());
    let address = listener.local_addr().unwrap();
    let reads = Reads::InProcess(query::router(query::Ports::of(api.store.clone())));
    let records = ingest::Ports::of(BusPorts::of(&api.bus), api.store.clone());
    let records = Reads::InProcess(ingest::router(records));
    let alarms = alarms::Ports::of(&BusPorts::of(&api.bus), api.store.clone());
    let alarms = alarms::Alarms::new(alarms::Config::default(), alarms::Notifications::default(), alarms);
    let alarms = Reads::InProcess(alarms.router());
    let ports = Ports { bus: BusPorts::of(&api.bus), reads, records, alarms, checks: Vec::new() };
    let audit_log = Some(AuditTarget::File(api.audit_log.clone()));
    let config = Config { audit_log, ..Config::default() };
    tokio::spawn(gateway::run_on(listener, config, ports, shutdown.clone()));
    (address, shutdown)
}

#[tokio::test]
async fn messages_are_acknowledged_once_they_are_in_the_log() {
    let api = Api::open().await;
    let mut waves = api.bus.subscribe_waves(Some(Mrn::new(7).unwrap())).await.unwrap();
    let before = now_us();
    let mut device = Simulated::of(&api, 7).await;
    for _ in 0..3 {
        device.send_frame().await;
    }
    let value = DeviceNumeric {
        code: "MDC_PULS_OXIM_SAT_O2".to_owned(),
        value: 97.0,
        unit: "%".to_owned(),
        device_time_us: -SECOND,
    };
    device.connection.send_json(&DeviceMessage::Numerics { sequence: 3, values: vec![value] }).await;
    device.next += 1;
    device.acknowledged().await;
    let last = api.bus.last_wave(Mrn::new(7).unwrap(), device.stream).await.unwrap().unwrap();
    assert_eq!((last.kind, last.sequence), (WaveKind::Numerics, 3));

    let Some(WaveEvent::Message(open)) = waves.next().await else { panic!("no description") };
    let description: StreamDescription = serde_json::from_slice(&open.payload).unwrap();
    assert_eq!((open.kind, open.sequence, description.stream), (WaveKind::Open, 0, device.stream));
    assert_eq!(description.channels, [channel("II", 250)]);
    assert!(Timestamp::now().millis_since(description.opened_at) < TIMEOUT.as_millis() as i64);
    let mut first_us = None;
    for sequence in 0..3 {
        let message = next_logged(&mut waves).await;
        assert_eq!((message.kind, message.sequence), (WaveKind::Frame, sequence));
        assert_eq!(message.payload, frame(sequence).encode());
        let first_us = *first_us.get_or_insert(message.time_us);
        assert_eq!(message.time_us, first_us + sequence as i64 * FRAME_US);
        assert!((before..=now_us() + SECOND).contains(&first_us));
    }
    let message = next_logged(&mut waves).await;
    let numerics: Numerics = serde_json::from_slice(&message.payload).unwrap();
    assert_eq!((numerics.sequence, numerics.values[0].value), (3, 97.0));
    assert!(numerics.values[0].time.as_millis() < first_us.unwrap() / 1_000);

    device.connection.send_json(&DeviceMessage::End {}).await;
    device.connection.assert_closed(1000, "ended").await;
    assert_eq!(next_logged(&mut waves).await.kind, WaveKind::End);
    let resume = Some(device.stream);
    let mut ended = Open { resume, ..Open::default() }.connect(api.address).await;
    ended.assert_closed(4404, "ended").await;
}

#[tokio::test]
async fn disconnected_device_resumes_after_the_last_durable_message() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    for _ in 0..4 {
        device.send_frame().await;
    }
    device.acknowledged().await;
    let resume = Some(device.stream);
    drop(device);
    let mut device = Open { resume, ..Open::default() }.start(api.address).await;
    assert_eq!((Some(device.stream), device.next), (resume, 4));
    device.send_frame().await;
    device.acknowledged().await;
    drop(device);
    for labels in [&["II", "V1"][..], &["V1"]] {
        let channels = labels.iter().map(|label| channel(label, 250)).collect();
        let mut other = Open { resume, channels, ..Open::default() }.connect(api.address).await;
        other.assert_closed(4404, "another patient, device or set of channels").await;
    }
    let mut other = Open { resume, mrn: 8, ..Open::default() }.connect(api.address).await;
    other.assert_closed(4404, "another patient").await;
}

#[tokio::test]
async fn device_resumes_at_a_gateway_that_has_restarted() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    for _ in 0..4 {
        device.send_frame().await;
    }
    device.acknowledged().await;
    let resume = Some(device.stream);
    api.shut();
    device.connection.assert_closed(1001, "restarting").await;
    let (address, _shutdown) = another_gateway(&api).await;
    let mut device = Open { resume, ..Open::default() }.start(address).await;
    assert_eq!((Some(device.stream), device.next), (resume, 4));
    device.send_frame().await;
    device.acknowledged().await;
}

#[tokio::test]
async fn samples_keep_their_time_at_a_gateway_that_has_restarted() {
    let api = Api::open().await;
    let mut waves = subscribed(&api, 7).await;
    let mut device = Simulated::of(&api, 7).await;
    device.send_frame().await;
    device.acknowledged().await;
    let start_us = next_logged(&mut waves).await.time_us;
    let resume = Some(device.stream);
    let mut gateways = Vec::new();
    // The last message in the log is a frame, then numerics.
    for sequence in [1, 3] {
        let (address, shutdown) = another_gateway(&api).await;
        gateways.push(shutdown);
        // The message that opens the stream is late: it states the time 0 again.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut device = Open { resume, ..Open::default() }.start(address).await;
        assert_eq!(device.next, sequence);
        device.send_frame().await;
        let frame = next_logged(&mut waves).await;
        assert_eq!((frame.kind, frame.time_us), (WaveKind::Frame, start_us + sequence as i64 * FRAME_US));
        let value = DeviceNumeric {
            code: "MDC_PULS_OXIM_SAT_O2".to_owned(),
            value: 97.0,
            unit: "%".to_owned(),
            device_time_us: 0,
        };
        let numerics = DeviceMessage::Numerics { sequence: sequence + 1, values: vec![value] };
        device.connection.send_json(&numerics).await;
        device.next += 1;
        device.acknowledged().await;
        assert_eq!(next_logged(&mut waves).await.kind, WaveKind::Numerics);
    }
}

#[tokio::test]
async fn decreasing_indices_are_rejected_at_a_gateway_that_has_restarted() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    device.send_frame().await;
    device.acknowledged().await;
    let resume = Some(device.stream);
    drop(device);
    let (address, _shutdown) = another_gateway(&api).await;
    let mut device = Open { resume, ..Open::default() }.start(address).await;
    let mut frame = frame(1);
    frame.segments[0].first = 49;
    device.send(&frame).await;
    device.connection.assert_closed(4400, "decreases").await;
}

#[tokio::test]
async fn malformed_patient_id_is_rejected() {
    let api = Api::open().await;
    for mrn in ["x", "-1", "9007199254740992", "*", "%3E"] {
        let path = format!("/api/v1/patients/{mrn}/waveforms");
        let (status, body) = Connection::open(api.address, &path, "").await.err().unwrap();
        assert_eq!(status, 400, "{mrn}");
        assert!(body.contains("medical record number"), "{body}");
    }
}

/// Opens a stream with the JSON of a channel, and expects 4400.
async fn open_is_malformed(api: &Api, channels: Value, about: &str) {
    let mut connection = Connection::open(api.address, "/api/v1/patients/7/waveforms", "").await.unwrap();
    let device = json!({ "name": "Sim", "serial": "1" });
    let open = json!({ "type": "open", "device": device, "channels": channels, "device_time_us": 0 });
    connection.send(open.to_string()).await;
    connection.assert_closed(4400, about).await;
}

fn channel_json(rate: Value) -> Value {
    json!({ "label": "II", "code": "MDC_ECG_LEAD_II", "unit": "mV", "rate": rate, "scale": 0.005, "offset": 0.0 })
}

#[tokio::test]
async fn channels_without_rate_are_rejected() {
    let api = Api::open().await;
    let mut channel = channel_json(json!(null));
    open_is_malformed(&api, json!([channel]), "invalid type: null").await;
    channel.as_object_mut().unwrap().remove("rate");
    open_is_malformed(&api, json!([channel]), "missing field `rate`").await;
    open_is_malformed(&api, json!([]), "1 to 32 channels").await;
}

#[tokio::test]
async fn rates_of_0_and_of_1_mhz_are_rejected() {
    let api = Api::open().await;
    for (numerator, denominator) in [(0, 1), (1, 0), (1_000_000, 1)] {
        let rate = json!({ "numerator": numerator, "denominator": denominator });
        open_is_malformed(&api, json!([channel_json(rate)]), "outside of 1/60 to 100000 Hz").await;
    }
}

#[tokio::test]
async fn first_message_must_open_a_stream() {
    let api = Api::open().await;
    for message in [
        Message::Binary(frame(0).encode().into()),
        Message::from("{"),
        Message::from(r#"{"type":"end"}"#),
        Message::from(r#"{"type":"start"}"#),
    ] {
        let mut connection = Connection::open(api.address, "/api/v1/patients/7/waveforms", "").await.unwrap();
        connection.send(message).await;
        connection.assert_closed(4400, "").await;
    }
}

#[tokio::test]
async fn decreasing_indices_are_rejected() {
    let api = Api::open().await;
    Simulated::of(&api, 7).await.send_bad(4400, "decreases", |frame| frame.segments[0].first = 49).await;
}

#[tokio::test]
async fn indices_without_a_time_are_rejected_in_the_first_frame() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    let mut frame = frame(0);
    // Both times are larger than a number of 64 bits.
    frame.segments[0].first = 1 << 52;
    let later = Segment { first: (1 << 53) - 100, ..frame.segments[0].clone() };
    frame.segments.push(later);
    device.send(&frame).await;
    device.connection.assert_closed(4400, "is too large").await;
}

#[tokio::test]
async fn duplicate_frames_are_rejected() {
    let api = Api::open().await;
    Simulated::of(&api, 7)
        .await
        .send_bad(4400, "received already; 1 is next", |frame| frame.sequence = 0)
        .await;
}

#[tokio::test]
async fn frames_of_another_stream_are_rejected() {
    let api = Api::open().await;
    let (one, other) = (Simulated::of(&api, 7).await, Simulated::of(&api, 8).await);
    one.send_bad(4400, "no channel 3; a frame of another stream", |frame| frame.segments[0].channel = 3)
        .await;
    other.send_bad(4400, "not contiguous; 1 is next", |frame| frame.sequence = 700).await;
}

#[tokio::test]
async fn more_samples_than_declared_are_rejected() {
    let api = Api::open().await;
    let too_many = |frame: &mut Frame| frame.segments[0].samples.resize(127, 0);
    Simulated::of(&api, 7).await.send_bad(4400, "its rate allows 126", too_many).await;
    let mut device = Simulated::of(&api, 8).await;
    let mut bytes = frame(0).encode();
    // The segment declares 49 of its 50 samples.
    bytes[26] = 49;
    device.connection.send(bytes).await;
    device.connection.assert_closed(4400, "").await;
}

#[tokio::test]
async fn channels_that_drift_apart_are_rejected() {
    let api = Api::open().await;
    let channels = vec![channel("II", 250), channel("V1", 250)];
    let device = Simulated::with(&api, 7, channels).await;
    let behind = |frame: &mut Frame| {
        let late = Segment { channel: 1, first: 1_000, ..frame.segments[0].clone() };
        frame.segments.push(late);
    };
    device.send_bad(4400, "samples of V1 are 3.8 s later", behind).await;
}

#[tokio::test]
async fn clock_that_jumps_by_an_hour_is_reported_and_the_samples_continue() {
    let api = Api::open().await;
    for (mrn, jump) in [(7, 3_600 * SECOND), (8, -3_600 * SECOND)] {
        clock_changes(&api, mrn, frame(1).device_time_us + jump).await;
    }
}

#[tokio::test]
async fn clock_that_wraps_is_reported_and_the_samples_continue() {
    let api = Api::open().await;
    for (mrn, time) in [(7, i64::MIN), (8, i64::MAX), (9, -(1 << 32) * 1_000)] {
        clock_changes(&api, mrn, time).await;
    }
}

/// Sends two frames, the second with another device time.
async fn clock_changes(api: &Api, mrn: u64, device_time_us: i64) {
    let mut waves = subscribed(api, mrn).await;
    let mut device = Simulated::of(api, mrn).await;
    device.send_frame().await;
    device.send(&Frame { device_time_us, ..frame(1) }).await;
    let notice = loop {
        match device.reply().await {
            DeviceReply::Notice { code, message } => break (code, message),
            DeviceReply::Ack { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(notice.0, "clock_jump");
    assert!(notice.1.contains("continue without a gap"), "{}", notice.1);
    let times = [next_logged(&mut waves).await.time_us, next_logged(&mut waves).await.time_us];
    assert_eq!(times[1] - times[0], FRAME_US);
}

#[tokio::test]
async fn frame_of_100_mb_is_rejected_before_it_is_read() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    // The size is known from the header of the frame, before its content.
    let sent = device.connection.try_send(vec![0_u8; 100_000_000]);
    let _ = tokio::time::timeout(Duration::from_secs(3), sent).await;
    device.connection.assert_closed(4413, "").await;
    let mut device = Simulated::of(&api, 8).await;
    device.connection.send(vec![0_u8; 10_000]).await;
    device.connection.assert_closed(4413, "10000 bytes").await;
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let config = Config { device_idle: Duration::from_millis(300), ..Config::default() };
    let api = Start { config, ..Start::default() }.start().await;
    let mut before_open = Connection::open(api.address, "/api/v1/patients/6/waveforms", "").await.unwrap();
    before_open.assert_closed(4408, "`open`").await;
    let mut device = Simulated::of(&api, 7).await;
    device.send_frame().await;
    device.connection.assert_closed(4408, "no frame or numerics within 0.3 s").await;
    let resumed = Open { resume: Some(device.stream), ..Open::default() }.start(api.address).await;
    assert_eq!(resumed.next, 1);
}

#[tokio::test]
async fn device_that_ignores_the_window_is_closed_and_resumes() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    let mut sent = 0;
    while sent < 10_000 && device.connection.try_send(frame(sent).encode()).await {
        sent += 1;
    }
    device.connection.assert_closed(4429, &format!("the window is {}", device.window)).await;
    let resumed = Open { resume: Some(device.stream), ..Open::default() }.start(api.address).await;
    assert!((1..=sent).contains(&resumed.next), "{}", resumed.next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flooding_device_does_not_affect_others() {
    let api = Api::open().await;
    let mut flooding = Simulated::of(&api, 7).await;
    let (started, flood_for) = (std::time::Instant::now(), Duration::from_secs(4));
    let flood = tokio::spawn(async move {
        // As fast as the window allows.
        while started.elapsed() < flood_for {
            for _ in 0..flooding.window {
                flooding.send_frame().await;
            }
            flooding.acknowledged().await;
        }
        flooding.next
    });
    let mut device = Simulated::of(&api, 8).await;
    let mut longest = Duration::ZERO;
    while started.elapsed() < flood_for {
        let sent = std::time::Instant::now();
        device.send_frame().await;
        device.acknowledged().await;
        longest = longest.max(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let frames = flood.await.unwrap();
    assert!(frames > 100, "the device floods: {frames}");
    // 64 s of burst, and 64 times real time.
    assert!(frames <= (64 + 64 * 6) * 5, "the device is read at a limited pace: {frames}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

#[tokio::test]
async fn two_devices_on_one_channel_are_rejected() {
    let api = Api::open().await;
    let mut first = Simulated::of(&api, 7).await;
    let mut second = Open { serial: "2", ..Open::default() }.connect(api.address).await;
    second.assert_closed(4409, "Sim 1 sends the channel II").await;
    let pleth = Open { serial: "2", channels: vec![channel("Pleth", 125)], ..Open::default() };
    let _pleth = pleth.start(api.address).await;
    first.send_frame().await;
    first.acknowledged().await;
    drop(first);
    // The channel is free once the gateway has noticed that the connection has ended.
    let free = async {
        loop {
            let mut second = Open { serial: "2", ..Open::default() }.connect(api.address).await;
            if let Message::Text(_) = second.next().await {
                return;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, free).await.expect("the channel is free");
}

#[tokio::test]
async fn newer_connection_of_a_device_replaces_the_older_one() {
    let api = Api::open().await;
    let mut first = Simulated::of(&api, 7).await;
    first.send_frame().await;
    first.acknowledged().await;
    let second = Open { resume: Some(first.stream), ..Open::default() }.start(api.address).await;
    assert_eq!(second.next, 1);
    first.connection.assert_closed(4409, "another connection").await;
}

#[tokio::test]
async fn streams_beyond_the_limits_are_rejected() {
    let limits = Limits { max_device_streams: 1, ..Limits::default() };
    let api = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let _first = Simulated::of(&api, 7).await;
    let (status, body) =
        Connection::open(api.address, "/api/v1/patients/8/waveforms", "").await.err().unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("waveform streams"), "{body}");

    let limits = Limits { device_memory: ByteSize(50_000), ..Limits::default() };
    let api = Start { config: Config { limits, ..Config::default() }, ..Start::default() }.start().await;
    let _small = Simulated::of(&api, 7).await;
    let large = Open { mrn: 8, channels: vec![channel("II", 100_000)], ..Open::default() };
    large.connect(api.address).await.assert_closed(4503, "memory").await;
}

#[tokio::test]
async fn only_devices_stream_and_a_revoked_token_ends_the_stream() {
    let (api, file) = with_tokens().await;
    let path = "/api/v1/patients/7/waveforms";
    for (token, status) in [("", 401), ("wrong", 401), ("bed-secret", 403), ("station-secret", 403)] {
        let (found, body) = Connection::open(api.address, path, token).await.err().unwrap();
        assert_eq!(found, status, "{token}: {body}");
    }
    Connection::open(api.address, path, "chief-secret").await.unwrap();
    let mut connection = Connection::open(api.address, path, "monitor-secret").await.unwrap();
    let device = Device { name: "Sim".to_owned(), serial: "1".to_owned() };
    let channels = vec![channel("II", 250)];
    connection.send_json(&DeviceMessage::Open { resume: None, device, channels, device_time_us: 0 }).await;
    assert!(connection.next().await.is_text());
    let text = std::fs::read_to_string(file.path()).unwrap();
    let without = text.lines().filter(|line| !line.starts_with("monitor"));
    std::fs::write(file.path(), without.collect::<Vec<_>>().join("\n")).unwrap();
    connection.assert_closed(4401, "token").await;
    let log = std::fs::read_to_string(&api.audit_log).unwrap();
    let line = log.lines().find(|line| line.contains("\"client\":\"monitor\"")).unwrap();
    assert!(
        line.contains("/api/v1/patients/{mrn}/waveforms")
            && line.contains("\"status\":101,\"outcome\":\"ok\""),
        "{line}"
    );
}

#[tokio::test]
async fn request_that_is_no_valid_upgrade_is_rejected() {
    let api = Api::open().await;
    let upgrade = [("upgrade", "websocket"), ("connection", "upgrade")];
    let reply = api.send(Method::GET, "/api/v1/patients/7/waveforms", &upgrade, "").await;
    reply.assert_problem(400, "no WebSocket request");
    api.get("/api/v1/live").await.assert_problem(400, "no WebSocket request");
}

#[tokio::test]
async fn asyncapi_document_is_public() {
    let (api, _file) = with_tokens().await;
    let document = api.get("/api/asyncapi.json").await;
    assert_eq!((document.status.as_u16(), document.header("content-type")), (200, "application/json"));
    assert_eq!(document.json()["asyncapi"], "3.0.0");
}
