//! Tests of [`Live`] against a server that follows the protocol of `/api/v1/live` and fails on purpose.

use std::net::SocketAddr;
use std::sync::Arc;

use client::{Gateway, Live, LiveEvent, LiveSettings, Settings};
use futures::{SinkExt, StreamExt};
use proto_json::{
    Channel, Column, ColumnBlock, Device, EcgQuality, Frame, LiveFrame, LiveMessage, LiveMode, LiveRequest,
    SampleRate, Segment, StreamDescription, Timestamp, Vitals, VitalsSource,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, accept_async};

use crate::fixture::{LIMIT, mrn};

/// A server that hands over its connections.
struct Server {
    address: SocketAddr,
    connections: mpsc::Receiver<Connection>,
}

struct Connection(WebSocketStream<TcpStream>);

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, connections) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = sender.send(Connection(accept_async(stream).await.unwrap())).await;
            }
        });
        Server { address, connections }
    }

    fn live(&self) -> Live {
        let gateway = Gateway::new(&Settings::new(self.address.to_string())).unwrap();
        Live::start(LiveSettings::new(gateway))
    }

    async fn connection(&mut self) -> Connection {
        timeout(LIMIT, self.connections.recv()).await.unwrap().unwrap()
    }
}

impl Connection {
    async fn request(&mut self) -> LiveRequest {
        loop {
            match timeout(LIMIT, self.0.next()).await.unwrap().unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn send(&mut self, message: &LiveMessage) {
        self.0.send(Message::text(serde_json::to_string(message).unwrap())).await.unwrap();
    }

    async fn send_frame(&mut self, frame: &LiveFrame) {
        self.0.send(Message::binary(frame.encode())).await.unwrap();
    }
}

fn description() -> StreamDescription {
    let channel = Channel {
        label: "II".to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate { numerator: 250, denominator: 1 },
        scale: 0.001,
        offset: 0.0,
    };
    StreamDescription {
        stream: "0198c0de-0000-7000-8000-000000000001".parse().unwrap(),
        mrn: mrn(7),
        device: Device { name: "Test".to_owned(), serial: "1".to_owned() },
        channels: vec![channel],
        opened_at: Timestamp::from_millis(0).unwrap(),
        clock: None,
    }
}

/// The frame that starts `seconds` after 1970.
fn frame(number: u16, seconds: i64) -> LiveFrame {
    let segment = Segment { channel: 0, first: seconds as u64 * 250, lead_off: false, samples: vec![3; 50] };
    let frame = Frame { sequence: 0, device_time_us: 0, segments: vec![segment] };
    LiveFrame::Frame { number, time_us: seconds * 1_000_000, frame: frame.encode().into() }
}

async fn next(live: &mut Live) -> LiveEvent {
    timeout(LIMIT, live.next()).await.unwrap().unwrap()
}

#[tokio::test]
async fn subscriptions_and_streams_continue_after_a_reconnect_and_the_gap_is_reported() {
    let mut server = Server::start().await;
    let mut live = server.live();
    live.subscriber().subscribe(mrn(7), LiveMode::Full);
    let subscribe = LiveRequest::Subscribe { mrn: mrn(7), mode: LiveMode::Full };

    let mut connection = server.connection().await;
    assert_eq!(connection.request().await, subscribe);
    connection.send(&LiveMessage::Stream { number: 5, description: description() }).await;
    connection.send_frame(&frame(5, 100)).await;
    assert!(matches!(next(&mut live).await, LiveEvent::Connection(state) if state.is_connected));
    assert_eq!(next(&mut live).await, LiveEvent::Stream(Arc::new(description())));
    let LiveEvent::Frame(received) = next(&mut live).await else { panic!("no frame") };
    assert_eq!((received.time_us, received.end_us()), (100_000_000, 100_200_000));
    assert_eq!(received.frame.segments[0].samples, [3; 50]);
    drop(connection);
    let LiveEvent::Connection(state) = next(&mut live).await else { panic!("no state") };
    assert!(!state.is_connected && state.reason.is_some(), "{state:?}");

    // On the next connection the stream has another number.
    let mut connection = server.connection().await;
    assert_eq!(connection.request().await, subscribe);
    connection.send(&LiveMessage::Stream { number: 1, description: description() }).await;
    connection.send_frame(&frame(1, 103)).await;
    assert!(matches!(next(&mut live).await, LiveEvent::Connection(state) if state.is_connected));
    let at = |millis| Timestamp::from_millis(millis).unwrap();
    assert_eq!(next(&mut live).await, LiveEvent::Lost { mrn: mrn(7), from: at(100_200), to: at(103_000) });
    let LiveEvent::Frame(received) = next(&mut live).await else { panic!("no frame") };
    assert_eq!((received.stream.mrn, received.time_us), (mrn(7), 103_000_000));
}

#[tokio::test]
async fn selection_of_patients_changes_on_an_open_connection() {
    let mut server = Server::start().await;
    let live = server.live();
    let subscriber = live.subscriber();
    subscriber.subscribe(mrn(1), LiveMode::Overview);
    let mut connection = server.connection().await;
    let subscribe = |number, mode| LiveRequest::Subscribe { mrn: mrn(number), mode };
    assert_eq!(connection.request().await, subscribe(1, LiveMode::Overview));
    subscriber.subscribe(mrn(2), LiveMode::Full);
    assert_eq!(connection.request().await, subscribe(2, LiveMode::Full));
    subscriber.subscribe(mrn(1), LiveMode::Full);
    assert_eq!(connection.request().await, subscribe(1, LiveMode::Full));
    subscriber.unsubscribe(mrn(2));
    assert_eq!(connection.request().await, LiveRequest::Unsubscribe { mrn: mrn(2) });
    assert_eq!(subscriber.subscribed().into_iter().collect::<Vec<_>>(), [(mrn(1), LiveMode::Full)]);
}

#[tokio::test]
async fn all_kinds_of_messages_become_events() {
    let mut server = Server::start().await;
    let mut live = server.live();
    live.subscriber().subscribe(mrn(7), LiveMode::Overview);
    let mut connection = server.connection().await;
    connection.request().await;
    let at = |millis| Timestamp::from_millis(millis).unwrap();
    let vitals = Vitals {
        mrn: mrn(7),
        stream: None,
        time: at(5_000),
        values: Vec::new(),
        rhythm: Some("sinus".to_owned()),
        quality: EcgQuality::Good,
        lead_off: vec!["V1".to_owned()],
        source: VitalsSource::Analysis,
        streams: Default::default(),
        beats: None,
    };
    let columns = vec![Column { min: -2, max: 9 }; 12];
    let block = ColumnBlock { channel: 0, lead_off: false, first: 60, columns };
    let blocks = vec![block];
    connection.send(&LiveMessage::Stream { number: 1, description: description() }).await;
    connection
        .send_frame(&LiveFrame::Columns { number: 1, time_us: 1_000_000, blocks: blocks.clone() })
        .await;
    // Neither an unknown stream nor a message of a later version ends the connection.
    connection.send_frame(&frame(9, 1)).await;
    connection.0.send(Message::text(r#"{"type":"later"}"#)).await.unwrap();
    connection.send(&LiveMessage::Vitals { vitals: vitals.clone() }).await;
    connection.send(&LiveMessage::Lost { mrn: mrn(7), from: at(1), to: at(2) }).await;
    connection.send(&LiveMessage::Rejected { message: "no".to_owned() }).await;
    connection.send(&LiveMessage::Closed { mrn: mrn(7) }).await;
    next(&mut live).await;
    next(&mut live).await;
    let LiveEvent::Columns(received) = next(&mut live).await else { panic!("no columns") };
    assert_eq!((received.time(), &received.blocks), (Some((1_000_000, 1_200_000)), &blocks));
    assert_eq!(next(&mut live).await, LiveEvent::Vitals(Box::new(vitals)));
    assert_eq!(next(&mut live).await, LiveEvent::Lost { mrn: mrn(7), from: at(1), to: at(2) });
    assert_eq!(next(&mut live).await, LiveEvent::Rejected { message: "no".to_owned() });
    assert_eq!(next(&mut live).await, LiveEvent::Closed { mrn: mrn(7) });
}
