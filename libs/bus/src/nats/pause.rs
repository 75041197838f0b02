//! Pauses queues and the storing of waveforms, so that a restore can replace the whole store without concurrent writers.
//!
//! The broker holds deliveries back until a deadline. If the program that paused the queues dies, they resume
//! by themselves. Deliveries made before the pause continue: wait for [`Paused::is_idle`].
//!
//! A paused broker counts a message as pending although no consumer works on it: a message that was given back
//! for a later redelivery, or whose consumer died, is not redelivered during the pause. Therefore the progress
//! reports of the consumers are received too.

use std::time::Duration;

use async_nats::Subscriber;
use futures::{FutureExt, StreamExt};
use proto_json::waveform::PARTITIONS;
use proto_json::{Queue, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::acker::IN_PROGRESS;
use super::connection::Connection;
use super::{ConsumerInfo, NatsConfig, names};
use crate::{BusError, WaveGroup};

#[derive(Deserialize)]
struct PauseReply {
    paused: bool,
}

/// Paused queues. Dropping this leaves them paused until the deadline.
#[derive(Debug)]
pub struct Paused {
    connection: Connection,
    /// The consumers, as `<stream>.<consumer>`.
    consumers: Vec<String>,
    /// Acknowledgements and progress reports of these consumers.
    acknowledgements: Vec<Subscriber>,
    /// When the last progress was reported; at first, when the queues were paused.
    progress: Instant,
}

/// Pauses queues, and the consumers that store waveforms, for `time`.
///
/// # Errors
/// If the broker cannot be reached or refuses.
pub async fn pause(config: &NatsConfig, queues: &[Queue], time: Duration) -> Result<Paused, BusError> {
    let connection = Connection::open(config).await?;
    let waves = (0..PARTITIONS)
        .map(|partition| format!("{}.{}", names::WAVES, names::wave_consumer(WaveGroup::Storage, partition)));
    let consumers: Vec<_> =
        queues.iter().map(|queue| format!("{queue}.{}", names::consumer(*queue))).chain(waves).collect();
    let mut acknowledgements = Vec::new();
    for consumer in &consumers {
        acknowledgements.push(connection.subscribe(format!("$JS.ACK.{consumer}.>")).await?);
    }
    let mut paused = Paused { connection, consumers, acknowledgements, progress: Instant::now() };
    paused.extend(time).await?;
    paused.progress = Instant::now();
    Ok(paused)
}

impl Paused {
    /// Moves the deadline to `time` from now.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn extend(&self, time: Duration) -> Result<(), BusError> {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(Timestamp::now().as_millis().saturating_add(millis))
            .map_err(BusError::refused)?;
        self.set(&json!({ "pause_until": until.to_string() }), true).await
    }

    /// Whether no consumer works on a delivery: every delivery is settled, or no consumer has reported progress
    /// for the ack wait.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn is_idle(&mut self) -> Result<bool, BusError> {
        for acknowledgements in &mut self.acknowledgements {
            while let Some(Some(message)) = acknowledgements.next().now_or_never() {
                if message.payload.starts_with(IN_PROGRESS) {
                    self.progress = Instant::now();
                }
            }
        }
        for consumer in &self.consumers {
            let info: ConsumerInfo =
                self.connection.api(&format!("CONSUMER.INFO.{consumer}"), &json!({})).await??;
            let ack_wait = Duration::from_nanos(info.config.ack_wait);
            if info.num_ack_pending > 0 && self.progress.elapsed() <= ack_wait {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Resumes the queues.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub async fn resume(self) -> Result<(), BusError> {
        self.set(&json!({}), false).await
    }

    async fn set(&self, arguments: &Value, paused: bool) -> Result<(), BusError> {
        for consumer in &self.consumers {
            let reply: PauseReply =
                self.connection.api(&format!("CONSUMER.PAUSE.{consumer}"), arguments).await??;
            if reply.paused != paused {
                return Err(BusError::refused(format!(
                    "the broker does not pause {consumer}; it has to be nats-server 2.11 or later"
                )));
            }
        }
        Ok(())
    }
}
