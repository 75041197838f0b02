//! A bus for a test, and what travels on it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{Delivery, EventBus, Outgoing, QueueLimits, RetryPolicy, StagingStore};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use proto_json::{Mrn, PatientSummary, PatientUpdated, Queue, Timestamp, UploadId};
use tempfile::TempDir;
use testkit::NatsServer;

/// An adapter under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adapter {
    Local,
    Nats,
    /// As in a cluster, each stream several times; what that is to outlive is tried with a real cluster, in tests/tests.
    NatsInLanes,
}

/// A bus of one test, in a folder or on a server of its own.
pub(crate) struct Rig {
    pub(crate) policy: RetryPolicy,
    pub(crate) limits: QueueLimits,
    place: Place,
}

enum Place {
    Local { folder: TempDir, generation: Mutex<u32>, bus: Mutex<Option<Arc<LocalBus>>> },
    Nats { server: Mutex<NatsServer>, lanes: usize },
}

/// One process's view of the bus.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) stage: Arc<dyn StagingStore>,
}

impl Adapter {
    pub(crate) fn rig(self) -> Rig {
        self.rig_with(patient_policy(), limits())
    }

    pub(crate) fn rig_with(self, policy: RetryPolicy, limits: QueueLimits) -> Rig {
        let place = match self {
            Adapter::Local => Place::Local {
                folder: tempfile::tempdir().unwrap(),
                generation: Mutex::default(),
                bus: Mutex::default(),
            },
            Adapter::Nats => Place::Nats { server: Mutex::new(NatsServer::start()), lanes: 1 },
            Adapter::NatsInLanes => Place::Nats { server: Mutex::new(NatsServer::start()), lanes: 3 },
        };
        Rig { policy, limits, place }
    }
}

/// Limits that no test meets by chance, and that leave the disk alone: a broker sets the room aside.
pub(crate) fn limits() -> QueueLimits {
    QueueLimits { max_staged_bytes: 1 << 30, ..QueueLimits::default() }
}

/// A policy under which nothing happens by itself within a test.
pub(crate) fn patient_policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        backoff: vec![Duration::from_millis(10)],
        ack_wait: Duration::from_secs(600),
    }
}

impl Rig {
    /// Joins as one more process. In process, there is only one.
    pub(crate) async fn join(&self) -> Peer {
        match &self.place {
            Place::Local { folder, generation, bus } => {
                let path = file(folder, *generation.lock().unwrap());
                let bus = bus
                    .lock()
                    .unwrap()
                    .get_or_insert_with(|| {
                        LocalBus::open(&path, self.policy.clone(), self.limits.clone()).unwrap()
                    })
                    .clone();
                Peer { bus: bus.clone(), stage: bus }
            }
            Place::Nats { server, lanes } => {
                let url = server.lock().unwrap().url();
                let bus = NatsBus::connect(self.config(url, *lanes)).await.unwrap();
                Peer { bus: bus.clone(), stage: bus }
            }
        }
    }

    fn config(&self, url: String, lanes: usize) -> NatsConfig {
        NatsConfig {
            retry: self.policy.clone(),
            limits: self.limits.clone(),
            lanes,
            // Here all of them are on one server: none answers while another does not, and a busy machine is no outage.
            lane_patience: Duration::from_secs(30),
            ..NatsConfig::new([url])
        }
    }

    /// Everything stops as with `kill -9`, and starts again on what was durable then. Peers have to join again in process;
    /// connections to a server come back by themselves.
    pub(crate) async fn crash(&self) {
        match &self.place {
            Place::Local { folder, generation, bus } => {
                // The files as they are at this moment, under another name: what a killed process leaves.
                let mut generation = generation.lock().unwrap();
                let (old, new) = (file(folder, *generation), file(folder, *generation + 1));
                for ending in ["", "-wal"] {
                    let from = format!("{}{ending}", old.display());
                    std::fs::copy(from, format!("{}{ending}", new.display())).unwrap();
                }
                *generation += 1;
                bus.lock().unwrap().take();
            }
            Place::Nats { server, .. } => {
                let mut server = server.lock().unwrap();
                tokio::task::block_in_place(|| server.restart());
            }
        }
    }
}

fn file(folder: &TempDir, generation: u32) -> PathBuf {
    folder.path().join(format!("bus-{generation}.sqlite"))
}

pub(crate) fn mrn(number: u64) -> Mrn {
    Mrn::new(number).unwrap()
}

/// A message whose payload is its number.
pub(crate) fn job(queue: Queue, number: u64) -> Outgoing {
    Outgoing {
        queue,
        mrn: mrn(number % 7),
        payload: Bytes::from(number.to_string()),
        reply_to: None,
        trace_parent: None,
    }
}

/// The number of a delivered [`job`].
pub(crate) fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap()
}

/// The next delivery, with its attempt begun.
pub(crate) async fn next(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    let mut delivery = fetched(deliveries).await;
    delivery.begin().await.unwrap();
    delivery
}

/// The next delivery, on which no work has begun.
pub(crate) async fn fetched(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    deliveries.next().await.expect("the stream goes on as long as the bus is there")
}

/// Whether a delivery comes within a moment. Only for what must not come: a test that passes cannot be slow for it.
pub(crate) async fn nothing_comes(deliveries: &mut BoxStream<'static, Delivery>) -> bool {
    tokio::time::timeout(Duration::from_millis(150), deliveries.next()).await.is_err()
}

pub(crate) fn update(patient: u64, version: u64) -> PatientUpdated {
    let now = Timestamp::now();
    PatientUpdated {
        upload_id: Some(UploadId::generate()),
        changes: Vec::new(),
        patient: PatientSummary {
            mrn: mrn(patient),
            name: None,
            renamed: None,
            version,
            created_at: now,
            updated_at: now,
            latest_heart_rate: None,
            latest_ecg: None,
            latest_image: None,
        },
        sent_at: None,
    }
}

/// Puts until there is room: what is deleted may make room a moment later.
pub(crate) async fn until_not_full<F: Future<Output = Result<(), bus::EnqueueError>>>(
    mut put: impl FnMut() -> F,
) {
    loop {
        match put().await {
            Err(bus::EnqueueError::Full) => tokio::task::yield_now().await,
            other => return other.unwrap(),
        }
    }
}
