//! An adapter for a test, and messages to send.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{BusPorts, Delivery, Outgoing, QueueLimits, RetryPolicy};
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
}

/// The bus of one test, in its own folder or on its own server.
pub(crate) struct Fixture {
    pub(crate) policy: RetryPolicy,
    pub(crate) limits: QueueLimits,
    backend: Backend,
}

enum Backend {
    Local {
        folder: TempDir,
        generation: Mutex<u32>,
        bus: Mutex<Option<Arc<LocalBus>>>,
    },
    /// The store is removed after the server has ended.
    Nats {
        server: Mutex<NatsServer>,
        _store: Option<TempDir>,
    },
}

impl Adapter {
    pub(crate) fn fixture(self) -> Fixture {
        self.fixture_with(patient_policy(), limits())
    }

    pub(crate) fn fixture_with(self, policy: RetryPolicy, limits: QueueLimits) -> Fixture {
        let backend = match self {
            Adapter::Local => Backend::Local {
                folder: tempfile::tempdir().unwrap(),
                generation: Mutex::default(),
                bus: Mutex::default(),
            },
            Adapter::Nats => Backend::Nats { server: Mutex::new(NatsServer::start()), _store: None },
        };
        Fixture { policy, limits, backend }
    }

    /// For thousands of small messages: the store of the broker, which syncs each of them, is in memory if possible.
    pub(crate) fn fixture_in_memory(self) -> Fixture {
        match (self, tempfile::tempdir_in("/dev/shm")) {
            (Adapter::Nats, Ok(store)) => {
                let server = Mutex::new(NatsServer::start_in(store.path()));
                let backend = Backend::Nats { server, _store: Some(store) };
                Fixture { policy: patient_policy(), limits: limits(), backend }
            }
            _ => self.fixture(),
        }
    }
}

/// Limits that no test reaches by accident. The broker reserves the space, so they are small.
pub(crate) fn limits() -> QueueLimits {
    QueueLimits { max_staged_bytes: 1 << 30, max_wave_bytes: 1 << 28, ..QueueLimits::default() }
}

/// A policy under which no timeout expires within a test.
pub(crate) fn patient_policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        backoff: vec![Duration::from_millis(10)],
        ack_wait: Duration::from_secs(600),
    }
}

impl Fixture {
    /// Connects as another process. The local adapter supports one process only.
    pub(crate) async fn join(&self) -> BusPorts {
        match &self.backend {
            Backend::Local { folder, generation, bus } => {
                let path = file(folder, *generation.lock().unwrap());
                let mut bus = bus.lock().unwrap();
                let bus = bus.get_or_insert_with(|| {
                    LocalBus::open(&path, self.policy.clone(), self.limits.clone()).unwrap()
                });
                BusPorts::of(bus)
            }
            Backend::Nats { server, .. } => {
                let url = server.lock().unwrap().url();
                let config = NatsConfig {
                    retry: self.policy.clone(),
                    limits: self.limits.clone(),
                    ..NatsConfig::new([url])
                };
                BusPorts::of(&NatsBus::connect(config).await.unwrap())
            }
        }
    }

    /// Stops everything as with `kill -9`, and restarts it with what was durable. Local peers must join
    /// again; connections to a server recover by themselves.
    pub(crate) async fn crash(&self) {
        match &self.backend {
            Backend::Local { folder, generation, bus } => {
                // A copy of the files at this moment is what a killed process leaves.
                let mut generation = generation.lock().unwrap();
                let (old, new) = (file(folder, *generation), file(folder, *generation + 1));
                for ending in ["", "-wal"] {
                    let from = format!("{}{ending}", old.display());
                    std::fs::copy(from, format!("{}{ending}", new.display())).unwrap();
                }
                *generation += 1;
                bus.lock().unwrap().take();
            }
            Backend::Nats { server, .. } => {
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
        attachments: Vec::new(),
    }
}

/// The number of a delivered [`job`].
pub(crate) fn number(delivery: &Delivery) -> u64 {
    std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap()
}

/// The next delivery, begun.
pub(crate) async fn next(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    let mut delivery = fetched(deliveries).await;
    delivery.begin().await.unwrap();
    delivery
}

/// The next delivery, not begun.
pub(crate) async fn fetched(deliveries: &mut BoxStream<'static, Delivery>) -> Delivery {
    deliveries.next().await.expect("the stream lasts as long as the adapter")
}

/// Whether no delivery arrives within a moment. A slow machine cannot make this fail.
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
            admission: None,
            details: None,
        },
        sent_at: None,
    }
}

/// Repeats a call while it returns `Full`: deleting may free space with a delay.
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
