//! The test fixture: the services in this process, with the local bus or with NATS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bus::local::LocalBus;
use bus::nats::{NatsBus, NatsConfig};
use bus::{BusPorts, QueueLimits, RetryPolicy};
use bytes::Bytes;
use client::{AlarmsEvent, Feed, FeedEvent, FeedMode, Gateway, Settings, Upload, UploadAnswer, UploadFile};
use proto_json::alarms::{Alarm, AlarmState};
use proto_json::{FileKind, Mrn, RecordId, UploadReceipt};
use runtime::{Shutdown, StartError};
use store::sqlite::SqliteStore;
use tempfile::TempDir;
use testkit::Clock;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Time limit of each wait.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Ingest and ECG worker, and the ports of gateways.
pub(crate) struct System {
    pub(crate) bus: BusPorts,
    store: Arc<SqliteStore>,
    shutdown: Shutdown,
    _folder: TempDir,
}

impl System {
    fn alarms(&self) -> gateway::Reads {
        let ports = alarms::Ports::of(&self.bus, self.store.clone());
        let alarms = alarms::Alarms::new(alarms::Config::default(), alarms::Notifications::default(), ports);
        gateway::Reads::InProcess(alarms.router())
    }

    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local =
            LocalBus::open(&folder.path().join("q.db"), RetryPolicy::default(), QueueLimits::default())
                .unwrap();
        System::on(folder, BusPorts::of(&local))
    }

    pub(crate) async fn on_broker(config: NatsConfig) -> Self {
        let broker = NatsBus::connect(config).await.unwrap();
        System::on(tempfile::tempdir().unwrap(), BusPorts::of(&broker))
    }

    fn on(folder: TempDir, bus: BusPorts) -> Self {
        let store = SqliteStore::open(&folder.path().join("p.db")).unwrap();
        let shutdown = Shutdown::new();
        let ports = ingest::Ports::of(bus.clone(), store.clone());
        tokio::spawn(ingest::run(ingest::Config::default(), ports, shutdown.clone()));
        let ports = ecg_worker::Ports { queue: bus.queue.clone(), staging: bus.staging.clone() };
        tokio::spawn(ecg_worker::run(ecg_worker::Config { concurrency: None }, ports, shutdown.clone()));
        System { bus, store, shutdown, _folder: folder }
    }

    pub(crate) async fn gateway(&self) -> GatewayServer {
        self.gateway_at("127.0.0.1:0".parse().unwrap(), gateway::Config::default()).await
    }

    pub(crate) async fn gateway_at(&self, address: SocketAddr, config: gateway::Config) -> GatewayServer {
        let deadline = Instant::now() + LIMIT;
        let listener = loop {
            match http_server::bind(address).await {
                Ok(listener) => break listener,
                // A connection of another test may use the port for a moment.
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let address = listener.local_addr().unwrap();
        let ports = gateway::Ports {
            bus: self.bus.clone(),
            reads: gateway::Reads::InProcess(query::router(query::Ports::of(self.store.clone()))),
            alarms: self.alarms(),
            records: gateway::Reads::InProcess(ingest::router(ingest::Ports::of(
                self.bus.clone(),
                self.store.clone(),
            ))),
            checks: Vec::new(),
        };
        let shutdown = Shutdown::new();
        let task = tokio::spawn(gateway::run_on(listener, config, ports, shutdown.clone()));
        GatewayServer { address, shutdown, task }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

/// A running gateway.
pub(crate) struct GatewayServer {
    pub(crate) address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), StartError>>,
}

impl GatewayServer {
    pub(crate) fn client(&self) -> Gateway {
        client_of(self.address)
    }

    /// Stops the gateway and releases its address.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
        self.address
    }
}

pub(crate) fn client_of(address: SocketAddr) -> Gateway {
    Gateway::new(&Settings::new(address.to_string())).unwrap()
}

pub(crate) fn mrn(value: u64) -> Mrn {
    Mrn::new(value).unwrap()
}

/// A synthetic ECG without noise as a CSV file.
pub(crate) fn strip(duration_s: f64, mean_bpm: f64) -> Bytes {
    let settings = ecg::synth::Settings { duration_s, mean_bpm, ..ecg::synth::Settings::default() };
    ecg::synth::csv(&ecg::synth::generate(&settings).strip).into()
}

pub(crate) fn ecg_upload(bytes: Bytes) -> Upload {
    Upload::of(vec![UploadFile::from_bytes(FileKind::Ecg, "strip.csv", bytes)])
}

pub(crate) fn named(name: &str) -> Upload {
    Upload { name: Some(name.to_owned()), rename: true, ..Upload::of(Vec::new()) }
}

pub(crate) async fn store(gateway: &Gateway, patient: u64, upload: &Upload) -> UploadReceipt {
    match gateway.upload(mrn(patient), upload, |_| {}).await.unwrap() {
        UploadAnswer::Stored(receipt) => receipt,
        UploadAnswer::Accepted(accepted) => panic!("only accepted: {accepted:?}"),
    }
}

/// Reads a feed and records its events, the latest versions and the mode.
pub(crate) struct FeedReader {
    feed: Feed,
    pub(crate) mode: Option<FeedMode>,
    pub(crate) versions: BTreeMap<u64, u64>,
    pub(crate) events: Vec<FeedEvent>,
    /// The open alarms, and why they are not known.
    pub(crate) alarms: BTreeMap<RecordId, Alarm>,
    pub(crate) alarms_failure: Option<String>,
}

impl FeedReader {
    pub(crate) fn of(feed: Feed) -> Self {
        FeedReader {
            feed,
            mode: None,
            versions: BTreeMap::new(),
            events: Vec::new(),
            alarms: BTreeMap::new(),
            alarms_failure: None,
        }
    }

    /// Reads the feed until `condition` holds. Returns how long that took, without the time in which the machine was suspended.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&FeedReader) -> bool,
    ) -> Duration {
        let (start, clock) = (Instant::now(), Clock::start());
        while !condition(self) {
            let event = match timeout_at(start + LIMIT, self.feed.next()).await {
                Ok(Some(event)) => event,
                Ok(None) => panic!("the feed ended before: {what}"),
                Err(_) => panic!(
                    "timed out waiting for: {what}; {:?}, {:?}, {:?}",
                    self.mode, self.versions, self.events
                ),
            };
            match &event {
                FeedEvent::Connection(state) => self.mode = Some(state.mode),
                FeedEvent::Damaged(_) | FeedEvent::Outdated(_) => {}
                FeedEvent::Alarms(event) => self.apply_alarms(event.clone()),
                FeedEvent::Snapshot(all) => {
                    self.versions = all.iter().map(|patient| (patient.mrn.get(), patient.version)).collect();
                }
                FeedEvent::Updated(update) => {
                    let before = self.versions.insert(update.patient.mrn.get(), update.patient.version);
                    assert!(before < Some(update.patient.version), "{before:?} then {update:?}");
                }
            }
            self.events.push(event);
        }
        clock.elapsed()
    }

    fn apply_alarms(&mut self, event: AlarmsEvent) {
        match event {
            AlarmsEvent::Snapshot(alarms) => {
                self.alarms = alarms.into_iter().map(|alarm| (alarm.id, alarm)).collect();
                self.alarms_failure = None;
            }
            AlarmsEvent::Updated(alarm) => {
                let before = self.alarms.get(&alarm.id).map(|alarm| alarm.version);
                assert!(before < Some(alarm.version), "{before:?} then {alarm:?}");
                if alarm.state == AlarmState::Ended {
                    self.alarms.remove(&alarm.id);
                } else {
                    self.alarms.insert(alarm.id, *alarm);
                }
            }
            AlarmsEvent::Unavailable(reason) => self.alarms_failure = Some(reason),
        }
    }

    pub(crate) async fn until_mode(&mut self, mode: FeedMode) -> Duration {
        self.until(&format!("{mode:?}"), |reader| reader.mode == Some(mode)).await
    }

    pub(crate) async fn until_version(&mut self, patient: u64, version: u64) -> Duration {
        let what = format!("patient {patient} at {version}");
        self.until(&what, |reader| reader.versions.get(&patient) >= Some(&version)).await
    }
}
