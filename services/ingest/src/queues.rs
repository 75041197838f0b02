//! Metrics of the queues and of the disk of the database, for alerts.

use std::time::Duration;

use proto_json::{Queue, Timestamp};
use runtime::disk::{self, DISK_RESERVE};
use store::DiskSpace;
use tokio::time::MissedTickBehavior;

use crate::Ports;

const EVERY: Duration = Duration::from_secs(5);

/// Updates the metrics of the queues at every period, until dropped. All ingest processes export the same values; alerts
/// use their maximum.
pub(crate) async fn watch(ports: &Ports) {
    let mut period = tokio::time::interval(EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        for queue in Queue::ALL {
            match ports.bus.queue.queue_status(queue).await {
                Ok(status) => {
                    let age = status.oldest.map_or(0, |at| Timestamp::now().millis_since(at).max(0));
                    let name = queue.name();
                    metrics::gauge!("bedside_queue_messages", "queue" => name).set(status.messages as f64);
                    metrics::gauge!("bedside_queue_in_flight", "queue" => name).set(status.in_flight as f64);
                    metrics::gauge!("bedside_queue_oldest_age_seconds", "queue" => name)
                        .set(age as f64 / 1_000.0);
                }
                Err(error) => {
                    tracing::debug!(queue = %queue, %error, "the status of the queue cannot be read");
                    break;
                }
            }
        }
    }
}

/// Updates the metrics of the database's disk at every period, until dropped.
pub(crate) async fn watch_disk(ports: &Ports) {
    let mut period = tokio::time::interval(EVERY);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        match ports.maintenance.disk_space().await {
            Ok(Some(DiskSpace { free, total })) => {
                disk::show("database", free, total, DISK_RESERVE.0);
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the disk space of the database cannot be read"),
        }
    }
}
