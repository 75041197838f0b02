//! The log of live waveforms on JetStream, live subscriptions, and vitals.
//!
//! A message is one message of the stream `WAVES`. Its subject names the partition, the patient and the waveform stream;
//! its headers contain the rest. Screens receive the same messages as core NATS subscriptions, without a consumer.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::{HeaderMap, Message, StatusCode};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use proto_json::waveform::{PARTITIONS, StreamId, Vitals, vitals_subject, wave_subject};
use proto_json::{Mrn, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::pull_consumer::text;
use super::subscription::{self, Signal};
use super::{Core, NatsBus, names, staging, wave_consumer};
use crate::waves::VitalsFilter;
use crate::{
    BusError, EnqueueError, PartitionEvent, VitalsEvent, WaveEvent, WaveGroup, WaveKind, WaveLag, WaveLog,
    WaveMessage,
};

/// Bytes of one read of the log.
const READ_BYTES: usize = 1 << 20;
/// Consumers whose state is read concurrently.
const INFO_CONCURRENCY: usize = 8;

#[async_trait]
impl WaveLog for NatsBus {
    async fn append(&self, message: WaveMessage) -> Result<(), EnqueueError> {
        let mut headers = HeaderMap::new();
        headers.insert(names::MESSAGE_ID, message.id());
        headers.insert(names::WAVE_KIND, message.kind.name());
        headers.insert(names::WAVE_SEQUENCE, message.sequence.to_string());
        headers.insert(names::WAVE_TIME, message.time_us.to_string());
        let subject = wave_subject(message.mrn, Some(message.stream));
        Ok(self.core.connection.publish(subject, headers, message.payload).await??)
    }

    async fn last_wave(&self, mrn: Mrn, stream: StreamId) -> Result<Option<WaveMessage>, BusError> {
        let subject = wave_subject(mrn, Some(stream));
        let call = format!("$JS.API.DIRECT.GET.{}.{subject}", names::WAVES);
        let found = staging::direct_reply(self.core.connection.request(call, bytes::Bytes::new()).await?)?;
        found.map(|message| parse(&subject, &message).map_err(BusError::refused)).transpose()
    }

    async fn subscribe_waves(&self, of: Option<Mrn>) -> Result<BoxStream<'static, WaveEvent>, BusError> {
        let subject = of.map_or_else(|| "wave.*.*.*".to_owned(), |mrn| wave_subject(mrn, None));
        let parse = |message: &Message| parse(&message.subject, message);
        let signals = subscription::subscribe(&self.core.connection, subject, parse).await?;
        let events = signals.filter_map(|signal| async move {
            match signal {
                Signal::Message(message) => Some(WaveEvent::Message(message)),
                // `Lagged` follows when messages arrive again.
                Signal::Disconnected => None,
                Signal::Lagged => Some(WaveEvent::Lagged),
            }
        });
        Ok(events.boxed())
    }

    async fn consume_waves(
        &self,
        group: WaveGroup,
        partition: u16,
        max_in_flight: usize,
    ) -> Result<BoxStream<'static, PartitionEvent>, BusError> {
        wave_consumer::consume(&self.core, group, partition, max_in_flight).await
    }

    async fn wave_lag(&self, group: WaveGroup) -> Result<WaveLag, BusError> {
        let core = &self.core;
        futures::stream::iter((0..PARTITIONS).map(|partition| consumer_state(core, group, partition)))
            .buffer_unordered(INFO_CONCURRENCY)
            .try_fold(WaveLag::default(), |lag, state| async move {
                Ok(WaveLag {
                    pending: lag.pending + state.num_pending,
                    unacknowledged: lag.unacknowledged + state.num_ack_pending,
                })
            })
            .await
    }

    async fn publish_vitals(&self, vitals: &Vitals) -> Result<(), BusError> {
        let payload = serde_json::to_vec(vitals).map_err(BusError::encoding)?;
        let subject = vitals_subject(Some(vitals.mrn));
        self.core.connection.publish_core(subject, None, payload.into()).await
    }

    async fn subscribe_vitals(&self, of: Option<Mrn>) -> Result<BoxStream<'static, VitalsEvent>, BusError> {
        let parse = |message: &Message| {
            serde_json::from_slice::<Vitals>(&message.payload)
                .map(Box::new)
                .map_err(|error| error.to_string())
        };
        let signals = subscription::subscribe(&self.core.connection, vitals_subject(of), parse).await?;
        let mut filter = VitalsFilter::default();
        let events = signals.filter_map(move |signal| {
            std::future::ready(match signal {
                Signal::Message(vitals) => filter.admits(&vitals).then_some(VitalsEvent::Vitals(vitals)),
                Signal::Disconnected => None,
                Signal::Lagged => Some(VitalsEvent::Lagged),
            })
        });
        Ok(events.boxed())
    }
}

/// Parses a message with a waveform subject.
pub(super) fn parse(subject: &str, message: &Message) -> Result<WaveMessage, String> {
    let headers = message.headers.clone().unwrap_or_default();
    let field = |name| text(&headers, name).ok_or_else(|| format!("the header {name} is missing"));
    let number = |name| field(name)?.parse().map_err(|_| format!("the header {name} is not a number"));
    let (mrn, stream) = names::parse_wave(subject).ok_or("the subject is not that of a waveform stream")?;
    Ok(WaveMessage {
        mrn,
        stream,
        kind: WaveKind::from_name(&field(names::WAVE_KIND)?).ok_or("the kind is unknown")?,
        sequence: u64::try_from(number(names::WAVE_SEQUENCE)?).map_err(|_| "the sequence is negative")?,
        time_us: number(names::WAVE_TIME)?,
        payload: message.payload.clone(),
    })
}

/// State of the consumer of a partition.
#[derive(Debug, Deserialize)]
pub(super) struct ConsumerState {
    num_pending: u64,
    num_ack_pending: u64,
    /// Open pull requests: one per process.
    pub(super) num_waiting: u64,
    ack_floor: Position,
    delivered: Position,
    #[serde(default)]
    priority_groups: Vec<Pinned>,
}

#[derive(Debug, Deserialize)]
struct Position {
    stream_seq: u64,
}

#[derive(Debug, Deserialize)]
struct Pinned {
    #[serde(default)]
    pinned_client_id: Option<String>,
}

impl ConsumerState {
    /// Sequence number in the log of the last message that is acknowledged with all before it.
    pub(super) fn ack_floor(&self) -> u64 {
        self.ack_floor.stream_seq
    }

    /// Sequence number in the log of the last message that was delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.stream_seq
    }

    /// Whether the broker delivers to the client with this pin.
    pub(super) fn is_pinned(&self, pin: &str) -> bool {
        self.priority_groups.iter().any(|group| group.pinned_client_id.as_deref() == Some(pin))
    }
}

/// Reads the state of the consumer of a partition.
pub(super) async fn consumer_state(
    core: &Core,
    group: WaveGroup,
    partition: u16,
) -> Result<ConsumerState, BusError> {
    let call = format!("CONSUMER.INFO.{}.{}", names::WAVES, names::wave_consumer(group, partition));
    Ok(core.connection.api(&call, &json!({})).await??)
}

/// A message of the log.
#[derive(Debug)]
pub(super) struct Logged {
    /// Sequence number in the log.
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) stored_at: Option<Timestamp>,
    /// Later messages of the partition at the time of the read.
    pub(super) pending: u64,
    /// `Err` contains why it could not be parsed.
    pub(super) message: Result<WaveMessage, String>,
}

/// Where a read of the log starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// At this sequence number.
    Sequence(u64),
    /// At the first message that was stored at this time or later.
    Time(Timestamp),
}

/// Reads messages of a partition in their order: the next `limit`, or fewer if they are large or the log ends.
pub(super) async fn read(
    core: &Arc<Core>,
    partition: u16,
    from: From,
    limit: usize,
) -> Result<Vec<Logged>, BusError> {
    let mut request = HashMap::from([
        ("next_by_subj", json!(names::waves_of(partition))),
        ("batch", json!(limit)),
        ("max_bytes", json!(READ_BYTES)),
    ]);
    match from {
        From::Sequence(sequence) => request.insert("seq", json!(sequence)),
        From::Time(time) => request.insert("start_time", json!(time)),
    };
    let connection = &core.connection;
    let inbox = connection.client.new_inbox();
    let reading = async {
        let mut replies = connection.client.subscribe(inbox.clone()).await.map_err(BusError::unavailable)?;
        let call = format!("$JS.API.DIRECT.GET.{}", names::WAVES);
        let request = json!(request).to_string();
        connection
            .client
            .publish_with_reply(call, inbox, request.into())
            .await
            .map_err(BusError::unavailable)?;
        let mut found = Vec::new();
        while let Some(reply) = replies.next().await {
            match reply.status {
                None => found.push(logged(&reply)?),
                // 204 ends a read; 404: there are no messages.
                Some(StatusCode::NOT_FOUND) => return Ok(found),
                Some(status) if status.as_u16() == 204 => return Ok(found),
                Some(status) => {
                    return Err(BusError::unavailable(
                        reply.description.unwrap_or_else(|| status.to_string()),
                    ));
                }
            }
        }
        Err(BusError::unavailable("the connection is closed"))
    };
    tokio::time::timeout(core.config.request_timeout, reading).await.map_err(BusError::unavailable)?
}

fn logged(reply: &Message) -> Result<Logged, BusError> {
    let headers = reply.headers.clone().unwrap_or_default();
    let number = |name| text(&headers, name).and_then(|number| number.parse().ok());
    let sequence =
        number("Nats-Sequence").ok_or_else(|| BusError::refused("a read has no sequence number"))?;
    let subject = text(&headers, "Nats-Subject").unwrap_or_default();
    Ok(Logged {
        sequence,
        stored_at: text(&headers, "Nats-Time-Stamp").and_then(|time| time.parse().ok()),
        pending: number("Nats-Num-Pending").unwrap_or(0),
        message: parse(&subject, reply),
    })
}
