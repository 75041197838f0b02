//! Tests of screens that display live waveforms.

use std::time::Duration;

use bus::WaveLog;
use bytes::Bytes;
use proto_json::waveform::{
    Column, Frame, LiveFrame, LiveMessage, LiveMode, LiveRequest, Numeric, Segment, Vitals, VitalsSource,
};
use proto_json::{EcgQuality, Mrn, Timestamp};
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

use crate::access::with_tokens;
use crate::fixture::Api;
use crate::waveforms::{Connection, PER_FRAME, Simulated, channel, frame};

fn mrn(mrn: u64) -> Mrn {
    Mrn::new(mrn).unwrap()
}

/// A message to a screen.
#[derive(Debug, PartialEq)]
enum Received {
    Text(Box<LiveMessage>),
    Binary(LiveFrame),
}

struct Screen(Connection);

impl Screen {
    async fn open(api: &Api) -> Self {
        Screen(Connection::open(api.address, "/api/v1/live", "").await.unwrap())
    }

    async fn subscribe(&mut self, number: u64, mode: LiveMode) {
        self.0.send_json(&LiveRequest::Subscribe { mrn: mrn(number), mode }).await;
    }

    async fn next(&mut self) -> Received {
        match self.0.next().await {
            Message::Text(text) => Received::Text(serde_json::from_str(&text).unwrap()),
            Message::Binary(bytes) => Received::Binary(LiveFrame::decode(&bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    async fn text(&mut self) -> LiveMessage {
        match self.next().await {
            Received::Text(message) => *message,
            other => panic!("{other:?}"),
        }
    }

    /// Waits for the description of a stream and returns its number.
    async fn stream(&mut self) -> u16 {
        match self.text().await {
            LiveMessage::Stream { number, .. } => number,
            other => panic!("{other:?}"),
        }
    }

    /// Sequence number of the next frame.
    async fn sequence(&mut self) -> u64 {
        match self.binary().await {
            LiveFrame::Frame { frame, .. } => u64::from_le_bytes(frame[8..16].try_into().unwrap()),
            other => panic!("{other:?}"),
        }
    }

    async fn binary(&mut self) -> LiveFrame {
        match self.next().await {
            Received::Binary(frame) => frame,
            other => panic!("{other:?}"),
        }
    }
}

fn vitals(number: u64) -> Vitals {
    let numeric = Numeric {
        code: "MDC_ECG_HEART_RATE".to_owned(),
        value: 64.0,
        unit: "/min".to_owned(),
        time: Timestamp::now(),
    };
    Vitals {
        mrn: mrn(number),
        stream: None,
        time: Timestamp::now(),
        values: vec![numeric],
        rhythm: None,
        quality: EcgQuality::Good,
        lead_off: Vec::new(),
        source: VitalsSource::Analysis,
        streams: Default::default(),
        beats: None,
    }
}

#[tokio::test]
async fn screen_receives_frames_vitals_and_the_end_of_its_patients() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    let mut other = Simulated::of(&api, 8).await;
    let mut screen = Screen::open(&api).await;
    screen.subscribe(7, LiveMode::Full).await;
    let LiveMessage::Stream { number, description } = screen.text().await else { panic!("no description") };
    assert_eq!((description.mrn, description.stream), (mrn(7), device.stream));
    // The subscription at the broker is active once vitals arrive.
    let vitals = loop {
        api.bus.publish_vitals(&vitals(7)).await.unwrap();
        match tokio::time::timeout(Duration::from_millis(200), screen.text()).await {
            Ok(LiveMessage::Vitals { vitals }) => break vitals,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert_eq!(vitals.values[0].value, 64.0);
    let before = crate::waveforms::now_us();
    for sequence in 0..5 {
        other.send_frame().await;
        device.send_frame().await;
        let mut next = screen.next().await;
        while matches!(&next, Received::Text(message) if matches!(**message, LiveMessage::Vitals { .. })) {
            next = screen.next().await;
        }
        let Received::Binary(LiveFrame::Frame { number: of, time_us, frame: bytes }) = next else {
            panic!("{next:?}");
        };
        assert_eq!((of, bytes), (number, Bytes::from(frame(sequence).encode())));
        assert!((time_us - before).abs() < 60_000_000);
    }
    device.connection.send(r#"{"type":"end"}"#).await;
    assert_eq!(screen.text().await, LiveMessage::Closed { mrn: mrn(7) });
    screen.0.send_json(&LiveRequest::Unsubscribe { mrn: mrn(7) }).await;
    assert_eq!(screen.text().await, LiveMessage::Closed { mrn: mrn(7) });
    // Messages of the other patient would arrive before this one.
    screen.0.send("?").await;
    assert!(matches!(screen.text().await, LiveMessage::Rejected { .. }));
}

#[tokio::test]
async fn overview_has_the_extremes_of_60_columns_per_second() {
    let api = Api::open().await;
    let mut screen = Screen::open(&api).await;
    screen.subscribe(7, LiveMode::Overview).await;
    let mut device = Simulated::of(&api, 7).await;
    let number = screen.stream().await;
    let mut columns = std::collections::BTreeMap::<i64, Column>::new();
    for _ in 0..5 {
        device.send_frame().await;
        let LiveFrame::Columns { number: of, blocks, .. } = screen.binary().await else {
            panic!("no columns")
        };
        assert_eq!((of, blocks.len(), blocks[0].channel), (number, 1, 0));
        for (index, column) in (blocks[0].first..).zip(&blocks[0].columns) {
            let merged = columns.entry(index).or_insert(*column);
            *merged = Column { min: merged.min.min(column.min), max: merged.max.max(column.max) };
        }
    }
    // One second of samples 0, 1, 2 …
    assert!((60..=61).contains(&columns.len()), "{}", columns.len());
    let extremes: Vec<Column> = columns.into_values().collect();
    assert_eq!((extremes[0].min, extremes.last().unwrap().max), (0, 5 * PER_FRAME as i16 - 1));
    assert!(extremes.windows(2).all(|pair| pair[1].min == pair[0].max + 1), "{extremes:?}");
}

#[tokio::test]
async fn new_screen_receives_the_last_seconds_and_no_frame_twice() {
    let api = Api::open().await;
    let mut device = Simulated::of(&api, 7).await;
    device.send_frame().await;
    device.send_frame().await;
    device.acknowledged().await;
    // The frames of the first screen come from the device, those of the second from the first.
    let mut screens = [Screen::open(&api).await, Screen::open(&api).await];
    for screen in &mut screens {
        screen.subscribe(7, LiveMode::Full).await;
        screen.stream().await;
        assert_eq!([screen.sequence().await, screen.sequence().await], [0, 1]);
    }
    device.send_frame().await;
    for screen in &mut screens {
        assert_eq!(screen.sequence().await, 2);
    }
}

#[tokio::test]
async fn slow_screen_loses_waveforms_and_is_notified_which() {
    const RATE: u32 = 10_000;
    let api = Api::open().await;
    let channels = (0..4).map(|number| channel(&number.to_string(), RATE)).collect();
    let mut device = Simulated::with(&api, 7, channels).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(65_536).unwrap();
    let stream = socket.connect(api.address).await.unwrap();
    let mut screen = Screen(Connection::over(stream, api.address, "/api/v1/live", "").await.unwrap());
    screen.subscribe(7, LiveMode::Full).await;
    screen.stream().await;
    const FRAMES: u64 = 260;
    let samples = u64::from(RATE) / 2;
    for sequence in 0..FRAMES {
        let segment = |channel| Segment {
            channel,
            first: sequence * samples,
            lead_off: false,
            samples: vec![sequence as i16; samples as usize],
        };
        let segments = (0..4).map(segment).collect();
        device
            .send(&Frame { sequence, device_time_us: sequence as i64 * 500_000 - 400_000_000, segments })
            .await;
        if sequence % 16 == 15 || sequence == FRAMES - 1 {
            device.acknowledged().await;
        }
    }
    let (mut times, mut lost) = (Vec::new(), Vec::new());
    loop {
        match screen.next().await {
            Received::Binary(LiveFrame::Frame { time_us, frame, .. }) => {
                times.push(time_us);
                if u64::from_le_bytes(frame[8..16].try_into().unwrap()) == FRAMES - 1 {
                    break;
                }
            }
            Received::Text(message) => match *message {
                LiveMessage::Lost { mrn: of, from, to } => {
                    assert_eq!(of, mrn(7));
                    lost.push((times.len(), from, to));
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert!(!lost.is_empty(), "{} frames arrived", times.len());
    // Each gap in what arrived is what was announced, and nothing else is missing.
    for (index, pair) in times.windows(2).enumerate() {
        let announced = lost.iter().find(|(at, ..)| *at == index + 1);
        match announced {
            Some((_, from, to)) => {
                assert!((from.as_millis() - pair[0] / 1_000 - 500).abs() <= 1, "{index} {from} {pair:?}");
                assert!((to.as_millis() - pair[1] / 1_000).abs() <= 1, "{index}");
            }
            None => assert_eq!(pair[1] - pair[0], 500_000, "{index}"),
        }
    }
}

#[tokio::test]
async fn invalid_requests_are_answered_and_the_connection_continues() {
    let api = Api::open().await;
    let mut screen = Screen::open(&api).await;
    for (request, about) in [
        ("{", "EOF"),
        (r#"{"type":"subscribe","mrn":"*","mode":"full"}"#, "invalid type"),
        (r#"{"type":"subscribe","mrn":-1,"mode":"full"}"#, "-1"),
        (r#"{"type":"subscribe","mrn":9007199254740992,"mode":"full"}"#, "medical record number"),
        (r#"{"type":"subscribe","mrn":7,"mode":"half"}"#, "half"),
        (r#"{"type":"follow","mrn":7}"#, "follow"),
    ] {
        screen.0.send(request).await;
        let LiveMessage::Rejected { message } = screen.text().await else { panic!("{request}") };
        assert!(message.contains(about), "{message}");
    }
    screen.subscribe(7, LiveMode::Full).await;
    let _device = Simulated::of(&api, 7).await;
    screen.stream().await;
}

#[tokio::test]
async fn screens_need_a_viewer_and_their_subscriptions_are_audited() {
    let (api, _file) = with_tokens().await;
    for (token, status) in [("", 401), ("bed-secret", 403), ("monitor-secret", 403)] {
        let (found, body) = Connection::open(api.address, "/api/v1/live", token).await.err().unwrap();
        assert_eq!(found, status, "{body}");
    }
    let mut screen = Screen(Connection::open(api.address, "/api/v1/live", "station-secret").await.unwrap());
    screen.subscribe(7, LiveMode::Full).await;
    screen.0.send("?").await;
    assert!(matches!(screen.text().await, LiveMessage::Rejected { .. }));
    let log = std::fs::read_to_string(&api.audit_log).unwrap();
    let line = log.lines().find(|line| line.contains("\"subscribed\"")).unwrap();
    assert!(line.contains("\"client\":\"station\"") && line.contains("\"patient\":\""), "{line}");
}
