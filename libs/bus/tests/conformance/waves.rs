//! Live waveforms: the log, its consumers, live subscriptions and vitals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{
    BusPorts, EnqueueError, PartitionEvent, QueueLimits, TAKEOVER, VitalsEvent, WaveDelivery, WaveEvent,
    WaveGroup, WaveKind, WaveLag, WaveLog, WaveMessage,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::waveform::{PARTITIONS, StreamId, Vitals, VitalsSource, partition_of};
use proto_json::{EcgQuality, Mrn, Timestamp};

use crate::fixture::{Adapter, Fixture, limits, mrn, patient_policy};

type Events = BoxStream<'static, PartitionEvent>;

/// A frame whose payload depends on its number.
fn frame(mrn: Mrn, stream: StreamId, sequence: u64) -> WaveMessage {
    WaveMessage {
        mrn,
        stream,
        kind: WaveKind::Frame,
        sequence,
        time_us: 1_900_000_000_000_000 + sequence as i64 * 200_000,
        payload: Bytes::from(vec![sequence as u8; 900]),
    }
}

/// Appends frames with these numbers and returns them.
async fn append(
    waves: &dyn WaveLog,
    mrn: Mrn,
    stream: StreamId,
    sequences: std::ops::Range<u64>,
) -> Vec<WaveMessage> {
    let mut sent = Vec::new();
    for sequence in sequences {
        let message = frame(mrn, stream, sequence);
        waves.append(message.clone()).await.unwrap();
        sent.push(message);
    }
    sent
}

async fn consume(ports: &BusPorts, group: WaveGroup, mrn: Mrn) -> Events {
    ports.waves.consume_waves(group, partition_of(&mrn), 64).await.unwrap()
}

/// The next event, which must be a delivery.
async fn delivery(events: &mut Events) -> WaveDelivery {
    match events.next().await.unwrap() {
        PartitionEvent::Delivery(delivery) => delivery,
        other => panic!("{other:?}"),
    }
}

/// The next deliveries with this content, in this order. Nothing is acknowledged.
async fn deliveries(events: &mut Events, expected: &[WaveMessage]) -> Vec<WaveDelivery> {
    let mut received = Vec::new();
    for message in expected {
        let delivery = delivery(events).await;
        assert_eq!(delivery.message, *message);
        assert!(delivery.is_active());
        received.push(delivery);
    }
    received
}

async fn acquired(events: &mut Events) {
    let event = events.next().await.unwrap();
    assert!(matches!(event, PartitionEvent::Acquired), "{event:?}");
}

async fn nothing_comes(events: &mut Events) -> bool {
    tokio::time::timeout(Duration::from_millis(150), events.next()).await.is_err()
}

/// Waits until the broker reports this lag: acknowledgements are not confirmed.
async fn until_lag(waves: &dyn WaveLog, group: WaveGroup, expected: WaveLag) {
    while waves.wave_lag(group).await.unwrap() != expected {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn lag(pending: u64, unacknowledged: u64) -> WaveLag {
    WaveLag { pending, unacknowledged }
}

pub(crate) async fn messages_are_delivered_unchanged_and_in_order(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (sender, receiver) = (fixture.join().await, fixture.join().await);
    // Several streams of two patients in one partition, concurrently.
    let other = (8..).map(mrn).find(|other| partition_of(other) == partition_of(&mrn(7))).unwrap();
    let streams =
        [(mrn(7), StreamId::generate()), (mrn(7), StreamId::generate()), (other, StreamId::generate())];
    let mut events = consume(&receiver, WaveGroup::Storage, mrn(7)).await;
    let sending = streams.map(|(mrn, stream)| {
        let waves = Arc::clone(&sender.waves);
        tokio::spawn(async move { append(&*waves, mrn, stream, 0..100).await })
    });
    acquired(&mut events).await;
    let mut received: BTreeMap<String, Vec<WaveMessage>> = BTreeMap::new();
    for number in 0..300 {
        let delivery = delivery(&mut events).await;
        received.entry(delivery.message.stream.to_string()).or_default().push(delivery.message.clone());
        if number % 10 == 9 {
            delivery.ack_through().await.unwrap();
        }
    }
    for (sent, (_, stream)) in sending.into_iter().zip(streams) {
        assert_eq!(received[&stream.to_string()], sent.await.unwrap());
    }
    assert!(nothing_comes(&mut events).await);
    until_lag(&*receiver.waves, WaveGroup::Storage, lag(0, 0)).await;
    // The other group reads the same log.
    until_lag(&*receiver.waves, WaveGroup::Analysis, lag(300, 0)).await;
}

pub(crate) async fn repeated_message_is_stored_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let ports = fixture.join().await;
    let stream = StreamId::generate();
    let message = frame(mrn(7), stream, 0);
    let repeated = (0..8).map(|_| ports.waves.append(message.clone()));
    for outcome in futures::future::join_all(repeated).await {
        outcome.unwrap();
    }
    // Another kind with the same number, and a description that is repeated with a later time, are other messages.
    let of_kind = |kind, time_us| WaveMessage { kind, time_us, ..frame(mrn(7), stream, 0) };
    let others = [of_kind(WaveKind::Numerics, 1), of_kind(WaveKind::Open, 1), of_kind(WaveKind::Open, 2)];
    for other in &others {
        ports.waves.append(other.clone()).await.unwrap();
        ports.waves.append(other.clone()).await.unwrap();
    }
    fixture.crash().await;
    let ports = fixture.join().await;
    ports.waves.append(message.clone()).await.unwrap();
    let last = append(&*ports.waves, mrn(7), stream, 1..2).await;
    let mut events = consume(&ports, WaveGroup::Storage, mrn(7)).await;
    acquired(&mut events).await;
    deliveries(&mut events, &[vec![message], others.to_vec(), last].concat()).await;
    assert!(nothing_comes(&mut events).await);
}

pub(crate) async fn appended_messages_survive_a_crash(adapter: Adapter) {
    let fixture = adapter.fixture();
    let ports = fixture.join().await;
    let stream = StreamId::generate();
    let sent = append(&*ports.waves, mrn(7), stream, 0..20).await;
    {
        let mut events = consume(&ports, WaveGroup::Storage, mrn(7)).await;
        acquired(&mut events).await;
        deliveries(&mut events, &sent[..10]).await;
    }
    fixture.crash().await;
    let ports = fixture.join().await;
    let mut events = consume(&ports, WaveGroup::Storage, mrn(7)).await;
    acquired(&mut events).await;
    let received = deliveries(&mut events, &sent).await;
    received[19].ack_through().await.unwrap();
    assert_eq!(ports.waves.last_wave(mrn(7), stream).await.unwrap().as_ref(), sent.last());
    let later = append(&*ports.waves, mrn(7), stream, 20..22).await;
    deliveries(&mut events, &later).await;
}

pub(crate) async fn unacknowledged_messages_are_redelivered_first_after_a_consumer_died(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (first, second) = (fixture.join().await, fixture.join().await);
    let stream = StreamId::generate();
    let sent = append(&*first.waves, mrn(7), stream, 0..10).await;
    let mut dying = consume(&first, WaveGroup::Storage, mrn(7)).await;
    acquired(&mut dying).await;
    let received = deliveries(&mut dying, &sent).await;
    received[3].ack_through().await.unwrap();
    until_lag(&*second.waves, WaveGroup::Storage, lag(0, 6)).await;
    let mut events = consume(&second, WaveGroup::Storage, mrn(7)).await;
    assert!(nothing_comes(&mut events).await, "the partition has an active consumer");
    drop(dying);
    let died = Instant::now();
    // The broker would deliver this message before those that it has to repeat.
    let later = append(&*first.waves, mrn(7), stream, 10..11).await;
    acquired(&mut events).await;
    let received = deliveries(&mut events, &[&sent[4..], &later[..]].concat()).await;
    assert!(died.elapsed() < TAKEOVER, "{:?}", died.elapsed());
    received[6].ack_through().await.unwrap();
    until_lag(&*second.waves, WaveGroup::Storage, lag(0, 0)).await;
    assert!(nothing_comes(&mut events).await);
}

pub(crate) async fn new_consumer_of_the_analysis_receives_the_last_seconds_again(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (first, second) = (fixture.join().await, fixture.join().await);
    let stream = StreamId::generate();
    let sent = append(&*first.waves, mrn(7), stream, 0..400).await;
    let mut dying = consume(&first, WaveGroup::Analysis, mrn(7)).await;
    acquired(&mut dying).await;
    for message in &sent {
        let delivery = delivery(&mut dying).await;
        assert_eq!(delivery.message, *message);
        if message.sequence < 390 {
            delivery.ack_through().await.unwrap();
        }
    }
    until_lag(&*second.waves, WaveGroup::Analysis, lag(0, 10)).await;
    let mut events = consume(&second, WaveGroup::Analysis, mrn(7)).await;
    drop(dying);
    let later = append(&*first.waves, mrn(7), stream, 400..402).await;
    acquired(&mut events).await;
    for message in &sent[..390] {
        match events.next().await.unwrap() {
            PartitionEvent::Replayed(replayed) => assert_eq!(replayed, *message),
            other => panic!("{other:?} instead of message {}", message.sequence),
        }
    }
    let received = deliveries(&mut events, &[&sent[390..], &later[..]].concat()).await;
    received[11].ack_through().await.unwrap();
    until_lag(&*second.waves, WaveGroup::Analysis, lag(0, 0)).await;
}

pub(crate) async fn partition_has_one_active_consumer_per_group(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (first, second) = (fixture.join().await, fixture.join().await);
    let stream = StreamId::generate();
    let mut active = consume(&first, WaveGroup::Storage, mrn(7)).await;
    append(&*first.waves, mrn(7), stream, 0..1).await;
    acquired(&mut active).await;
    delivery(&mut active).await.ack_through().await.unwrap();
    let mut standby = consume(&second, WaveGroup::Storage, mrn(7)).await;
    let mut other_group = consume(&second, WaveGroup::Analysis, mrn(7)).await;
    acquired(&mut other_group).await;
    // Longer than any lease, with and without messages.
    for round in 0..5 {
        let sent = append(&*first.waves, mrn(7), stream, round + 1..round + 2).await;
        deliveries(&mut active, &sent).await[0].ack_through().await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    assert!(nothing_comes(&mut standby).await);
    drop(active);
    append(&*first.waves, mrn(7), stream, 6..7).await;
    acquired(&mut standby).await;
    assert_eq!(delivery(&mut standby).await.message.sequence, 6);
}

pub(crate) async fn consumer_holds_at_most_max_in_flight_messages(adapter: Adapter) {
    const LIMIT: usize = 5;
    let fixture = adapter.fixture();
    let ports = fixture.join().await;
    let stream = StreamId::generate();
    let sent = append(&*ports.waves, mrn(7), stream, 0..40).await;
    let mut events =
        ports.waves.consume_waves(WaveGroup::Storage, partition_of(&mrn(7)), LIMIT).await.unwrap();
    acquired(&mut events).await;
    let held = deliveries(&mut events, &sent[..LIMIT]).await;
    // Longer than the ack wait: a consumer that is only slow receives nothing twice and keeps its partition.
    assert!(tokio::time::timeout(Duration::from_millis(2_500), events.next()).await.is_err());
    assert!(held.iter().all(WaveDelivery::is_active));
    assert_eq!(ports.waves.wave_lag(WaveGroup::Storage).await.unwrap(), lag(35, 5));
    held[4].ack_through().await.unwrap();
    for part in sent[LIMIT..].chunks(LIMIT) {
        let received = deliveries(&mut events, part).await;
        // Later messages of the partition that were in the log.
        assert!(received[0].pending < 40);
        received.last().unwrap().ack_through().await.unwrap();
    }
    until_lag(&*ports.waves, WaveGroup::Storage, lag(0, 0)).await;
}

pub(crate) async fn full_log_refuses_messages_and_keeps_those_it_has(adapter: Adapter) {
    let limits = QueueLimits { max_wave_bytes: 64 << 10, ..limits() };
    let fixture = adapter.fixture_with(patient_policy(), limits);
    let ports = fixture.join().await;
    let stream = StreamId::generate();
    let mut sent = Vec::new();
    let refused = loop {
        let message = frame(mrn(7), stream, sent.len() as u64);
        match ports.waves.append(message.clone()).await {
            Ok(()) => sent.push(message),
            Err(error) => break error,
        }
        assert!(sent.len() < 80);
    };
    assert!(matches!(refused, EnqueueError::Full), "{refused}");
    assert!(sent.len() > 30);
    let mut events = ports.waves.consume_waves(WaveGroup::Storage, partition_of(&mrn(7)), 80).await.unwrap();
    acquired(&mut events).await;
    deliveries(&mut events, &sent).await;
}

pub(crate) async fn last_message_of_a_stream_is_found(adapter: Adapter) {
    let fixture = adapter.fixture();
    let ports = fixture.join().await;
    let (stream, other) = (StreamId::generate(), StreamId::generate());
    let sent = append(&*ports.waves, mrn(7), stream, 0..3).await;
    append(&*ports.waves, mrn(7), other, 0..3).await;
    for _ in 0..2 {
        let ports = fixture.join().await;
        assert_eq!(ports.waves.last_wave(mrn(7), stream).await.unwrap().as_ref(), sent.last());
        assert_eq!(ports.waves.last_wave(mrn(8), stream).await.unwrap(), None, "it is of another patient");
        assert_eq!(ports.waves.last_wave(mrn(7), StreamId::generate()).await.unwrap(), None);
        drop(ports);
        fixture.crash().await;
    }
}

pub(crate) async fn live_subscribers_receive_one_patient_or_all(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (sender, subscriber) = (fixture.join().await, fixture.join().await);
    let mut of_all = subscriber.waves.subscribe_waves(None).await.unwrap();
    let mut of_one = subscriber.waves.subscribe_waves(Some(mrn(2))).await.unwrap();
    let streams =
        [(mrn(1), StreamId::generate()), (mrn(2), StreamId::generate()), (mrn(22), StreamId::generate())];
    for sequence in 0..3 {
        for (mrn, stream) in streams {
            append(&*sender.waves, mrn, stream, sequence..sequence + 1).await;
        }
    }
    for sequence in 0..3 {
        for (mrn, stream) in streams {
            let expected = WaveEvent::Message(frame(mrn, stream, sequence));
            assert_eq!(of_all.next().await.unwrap(), expected);
            if mrn == streams[1].0 {
                assert_eq!(of_one.next().await.unwrap(), expected);
            }
        }
    }
}

pub(crate) async fn slow_live_subscriber_loses_messages_and_is_notified(adapter: Adapter) {
    const MANY: u64 = 6_000;
    let fixture = adapter.fixture_in_memory();
    let (sender, subscriber) = (fixture.join().await, fixture.join().await);
    let mut slow = subscriber.waves.subscribe_waves(Some(mrn(1))).await.unwrap();
    let stream = StreamId::generate();
    let small =
        |sequence| WaveMessage { payload: Bytes::from_static(b"x"), ..frame(mrn(1), stream, sequence) };
    let sending = (0..MANY).map(|sequence| sender.waves.append(small(sequence)));
    let sent = futures::stream::iter(sending).buffered(256).collect::<Vec<_>>().await;
    assert!(sent.iter().all(Result::is_ok));
    let mut received = 0;
    while let WaveEvent::Message(_) = slow.next().await.unwrap() {
        received += 1;
        assert!(received < MANY, "nothing was lost");
    }
    // The subscription continues.
    sender.waves.append(small(MANY)).await.unwrap();
    while slow.next().await.unwrap() != WaveEvent::Message(small(MANY)) {}
}

fn vitals(patient: u64, second: i64) -> Vitals {
    Vitals {
        mrn: mrn(patient),
        stream: None,
        time: Timestamp::from_millis(1_900_000_000_000 + 1_000 * second).unwrap(),
        values: Vec::new(),
        rhythm: None,
        quality: EcgQuality::Good,
        lead_off: Vec::new(),
        source: VitalsSource::Device,
        streams: Default::default(),
        beats: None,
    }
}

pub(crate) async fn subscribers_receive_each_second_of_vitals_once(adapter: Adapter) {
    let fixture = adapter.fixture();
    let (sender, subscriber) = (fixture.join().await, fixture.join().await);
    let mut of_all = subscriber.waves.subscribe_vitals(None).await.unwrap();
    let mut of_one = subscriber.waves.subscribe_vitals(Some(mrn(2))).await.unwrap();
    // The second 1 of patient 2 is published twice, and the second 0 late. A clock that is set back by an hour is followed.
    let published = [(1, 1), (2, 1), (2, 1), (2, 0), (2, 2), (1, 2), (2, -3_600), (2, -3_599)];
    for (patient, second) in published {
        sender.waves.publish_vitals(&vitals(patient, second)).await.unwrap();
    }
    let event = |(patient, second)| VitalsEvent::Vitals(Box::new(vitals(patient, second)));
    for expected in [(1, 1), (2, 1), (2, 2), (1, 2), (2, -3_600), (2, -3_599)] {
        assert_eq!(of_all.next().await.unwrap(), event(expected));
    }
    for expected in [(2, 1), (2, 2), (2, -3_600), (2, -3_599)] {
        assert_eq!(of_one.next().await.unwrap(), event(expected));
    }
}

/// Joins all partitions and counts those that it has.
fn count_partitions(
    fixture_ports: BusPorts,
) -> (tokio::sync::watch::Receiver<usize>, tokio::task::JoinSet<()>) {
    let (held, count) = tokio::sync::watch::channel(0);
    let held = Arc::new(held);
    let mut tasks = tokio::task::JoinSet::new();
    for partition in 0..PARTITIONS {
        let (ports, held) = (fixture_ports.clone(), Arc::clone(&held));
        tasks.spawn(async move {
            let mut events = ports.waves.consume_waves(WaveGroup::Analysis, partition, 16).await.unwrap();
            while let Some(event) = events.next().await {
                match event {
                    PartitionEvent::Acquired => held.send_modify(|held| *held += 1),
                    PartitionEvent::Released => held.send_modify(|held| *held -= 1),
                    PartitionEvent::Replayed(_) => {}
                    PartitionEvent::Delivery(delivery) => delivery.ack_through().await.unwrap(),
                }
            }
        });
    }
    (count, tasks)
}

/// Sends a message to each partition every 50 ms.
async fn load(ports: BusPorts) {
    let patient_in = |partition| (1..).map(mrn).find(|mrn| partition_of(mrn) == partition).unwrap();
    let streams: Vec<(Mrn, StreamId)> =
        (0..PARTITIONS).map(|p| (patient_in(p), StreamId::generate())).collect();
    for sequence in 0.. {
        for (patient, stream) in &streams {
            let _ = ports.waves.append(frame(*patient, *stream, sequence)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until(count: &mut tokio::sync::watch::Receiver<usize>, wanted: impl FnMut(&usize) -> bool) {
    count.wait_for(wanted).await.unwrap();
}

/// Processes share the partitions. The local adapter has one process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_share_the_partitions() {
    crate::with_timeout(async {
        let fixture: Fixture = Adapter::Nats.fixture();
        let load = tokio::spawn(load(fixture.join().await));
        let (mut first, _first) = count_partitions(fixture.join().await);
        until(&mut first, |held| *held == 16).await;
        let (mut second, mut second_tasks) = count_partitions(fixture.join().await);
        until(&mut second, |held| *held == 8).await;
        until(&mut first, |held| *held == 8).await;
        second_tasks.abort_all();
        while second_tasks.join_next().await.is_some() {}
        let died = Instant::now();
        until(&mut first, |held| *held == 16).await;
        assert!(died.elapsed() < TAKEOVER, "{:?}", died.elapsed());
        load.abort();
    })
    .await;
}

/// A restart of the broker loses the pins and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_continue_after_a_restart_of_the_broker() {
    crate::with_timeout(async {
        let fixture = Adapter::Nats.fixture();
        let (sender, receiver) = (fixture.join().await, fixture.join().await);
        let stream = StreamId::generate();
        let mut live = receiver.waves.subscribe_waves(None).await.unwrap();
        let mut events = consume(&receiver, WaveGroup::Storage, mrn(7)).await;
        append(&*sender.waves, mrn(7), stream, 0..1).await;
        acquired(&mut events).await;
        let first = delivery(&mut events).await;
        first.ack_through().await.unwrap();
        until_lag(&*receiver.waves, WaveGroup::Storage, lag(0, 0)).await;
        let _ = live.next().await;
        fixture.crash().await;
        let sent = append(&*sender.waves, mrn(7), stream, 1..3).await;
        let released = events.next().await.unwrap();
        assert!(matches!(released, PartitionEvent::Released), "{released:?}");
        assert!(!first.is_active());
        acquired(&mut events).await;
        // A broker that is killed may forget the last acknowledgements.
        let mut next = delivery(&mut events).await;
        if next.message.sequence == 0 {
            next = delivery(&mut events).await;
        }
        assert_eq!(next.message, sent[0]);
        deliveries(&mut events, &sent[1..]).await;
        while live.next().await.unwrap() != WaveEvent::Lagged {}
        let later = append(&*sender.waves, mrn(7), stream, 3..4).await;
        while live.next().await.unwrap() != WaveEvent::Message(later[0].clone()) {}
    })
    .await;
}
