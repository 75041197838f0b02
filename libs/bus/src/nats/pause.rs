//! Pauses queues, so that whoever exchanges the whole store meets no writer.
//!
//! The broker holds deliveries back until a time, so that a program that dies with queues paused does not stop them for
//! ever. What was delivered before goes on: wait for [`Paused::is_idle`].

use std::time::Duration;

use proto_json::{Queue, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::link::Link;
use super::{ConsumerInfo, NatsConfig, names};
use crate::BusError;

#[derive(Deserialize)]
struct PauseAnswer {
    paused: bool,
}

/// Queues whose messages wait. Dropped, it leaves them paused until their time has come.
#[derive(Debug)]
pub struct Paused {
    link: Link,
    /// Each queue in each lane, as `<stream>.<consumer>`.
    consumers: Vec<String>,
}

/// Pauses queues for this long.
///
/// # Errors
/// When the broker cannot be reached or refuses.
pub async fn pause(config: &NatsConfig, queues: &[Queue], time: Duration) -> Result<Paused, BusError> {
    let link = Link::connect(config).await?;
    let in_lanes = queues.iter().flat_map(|queue| (0..config.lanes.max(1)).map(move |lane| (*queue, lane)));
    let consumers = in_lanes
        .map(|(queue, lane)| format!("{}.{}", names::stream(queue.name(), lane), names::consumer(queue)))
        .collect();
    let paused = Paused { link, consumers };
    paused.extend(time).await?;
    Ok(paused)
}

impl Paused {
    /// Stays paused for this long from now on.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn extend(&self, time: Duration) -> Result<(), BusError> {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(Timestamp::now().as_millis().saturating_add(millis))
            .map_err(BusError::refused)?;
        self.set(&json!({ "pause_until": until.to_string() }), true).await
    }

    /// Whether everything that was delivered is settled.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn is_idle(&self) -> Result<bool, BusError> {
        for consumer in &self.consumers {
            let info: ConsumerInfo =
                self.link.api(&format!("CONSUMER.INFO.{consumer}"), &json!({})).await??;
            if info.num_ack_pending > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Delivers again.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub async fn resume(self) -> Result<(), BusError> {
        self.set(&json!({}), false).await
    }

    async fn set(&self, arguments: &Value, paused: bool) -> Result<(), BusError> {
        for consumer in &self.consumers {
            let answer: PauseAnswer =
                self.link.api(&format!("CONSUMER.PAUSE.{consumer}"), arguments).await??;
            if answer.paused != paused {
                return Err(BusError::refused(format!(
                    "the broker does not pause {consumer}; it has to be nats-server 2.11 or later"
                )));
            }
        }
        Ok(())
    }
}
