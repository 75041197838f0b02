//! The full system as real processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Gateway, Settings};
use tempfile::TempDir;

use crate::servers::get;
use crate::{Between, MongoServer, NatsCluster, NatsServer, Process, Proxy, SmallDisk};

/// The two ways to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One process, `bedside`, on its local adapters.
    Standalone,
    /// Five processes with a real nats-server and a server of the MongoDB protocol.
    Processes,
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Public API.
    Gateway,
    /// Writer of the store.
    Ingest,
    /// Reader of the store.
    Query,
    /// ECG analysis.
    EcgWorker,
    /// Alarms.
    Alarms,
}

impl Service {
    /// All services.
    pub const ALL: [Service; 5] =
        [Service::Gateway, Service::Ingest, Service::Query, Service::EcgWorker, Service::Alarms];
}

/// Deviations from the default system.
#[derive(Clone, Default)]
pub struct Extras {
    /// Additional arguments of the gateway.
    pub gateway: Vec<String>,
    /// Additional arguments of the alarms.
    pub alarms: Vec<String>,
    /// Additional configuration lines of the broker.
    pub nats: String,
    /// Additional arguments of the services that connect to the broker.
    pub bus: Vec<String>,
    /// Maps the port of the database to the port that the services use; default: the same port.
    pub mongodb: Option<Arc<dyn Fn(u16) -> u16 + Send + Sync>>,
    /// Additional arguments of the services that connect to the database.
    pub store: Vec<String>,
    /// Additional environment variables of each service.
    pub env: Vec<(String, String)>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extras")
            .field("gateway", &self.gateway)
            .field("bus", &self.bus)
            .finish_non_exhaustive()
    }
}

/// The full system. Dropping it ends every process and removes every file. If the test has panicked, it prints all logs.
#[derive(Debug)]
pub struct System {
    mode: Mode,
    /// gateway, ingest, query, ecg-worker, alarms; or only bedside.
    processes: Vec<Process>,
    nats: Option<NatsServer>,
    cluster: Option<NatsCluster>,
    mongo: Option<MongoServer>,
    database: Option<String>,
    lines: Vec<(Between, Proxy)>,
    /// Declared before `folder`, so that it is unmounted before its mount point is removed.
    disk: Option<SmallDisk>,
    database_disk: Option<SmallDisk>,
    folder: TempDir,
}

/// Waits until a service has connected to what it needs. It serves its admin address before that.
fn wait_until_started(address: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !get(address, "/livez").is_ok_and(|answer| answer.starts_with("200 ")) {
        assert!(Instant::now() < deadline, "the service at {address} does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl System {
    /// Starts all processes on free ports and waits until they are ready.
    ///
    /// # Panics
    /// If a process does not start.
    #[must_use]
    pub fn start(mode: Mode) -> Self {
        Self::start_with(mode, &[])
    }

    /// [`System::start`] with additional arguments of the gateway.
    ///
    /// # Panics
    /// If a process does not start.
    #[must_use]
    pub fn start_with(mode: Mode, gateway_args: &[&str]) -> Self {
        Self::start_extra(mode, &Extras { gateway: words(gateway_args), ..Extras::default() })
    }

    /// [`System::start`] with these deviations.
    ///
    /// # Panics
    /// If a process does not start.
    #[must_use]
    pub fn start_extra(mode: Mode, extras: &Extras) -> Self {
        let mut system = System::empty(mode);
        match mode {
            Mode::Standalone => system.start_standalone(extras),
            Mode::Processes => {
                let nats = NatsServer::start_with(&extras.nats);
                system.start_processes(&nats.url(), extras);
                system.nats = Some(nats);
            }
        }
        system
    }

    /// Starts a system for fault injection: its data is on small disks, and its parts are connected through proxies.
    ///
    /// # Panics
    /// If a process does not start or a file system cannot be mounted.
    #[must_use]
    pub fn start_fragile(mode: Mode, extras: &Extras) -> Self {
        let mut system = System::empty(mode);
        let disk = SmallDisk::mount(&system.folder.path().join("disk"));
        match mode {
            Mode::Standalone => {
                system.disk = Some(disk);
                system.start_standalone(extras);
            }
            Mode::Processes => {
                let store = disk.folder().join("jetstream");
                system.disk = Some(disk);
                system.database_disk = Some(SmallDisk::mount(&system.folder.path().join("database")));
                let nats = NatsServer::start_in(&store);
                let to_nats = Proxy::to(nats.port());
                let to_mongo = Arc::new(std::sync::OnceLock::new());
                let shared = Arc::clone(&to_mongo);
                let mongodb = move |port| shared.get_or_init(|| Proxy::to(port)).port();
                let extras = Extras { mongodb: Some(Arc::new(mongodb)), ..extras.clone() };
                system.start_processes(&format!("nats://127.0.0.1:{}", to_nats.port()), &extras);
                system.nats = Some(nats);
                system.lines.push((Between::ServicesAndBroker, to_nats));
                let to_mongo = to_mongo.get().cloned().expect("the services connect to the database");
                system.lines.push((Between::ServicesAndDatabase, to_mongo));
            }
        }
        let port = system.processes[0].address(0).rsplit(':').next().and_then(|port| port.parse().ok());
        system.lines.push((Between::ClientsAndGateway, Proxy::to(port.expect("the gateway has a port"))));
        system
    }

    /// Starts the services with a cluster of `size` brokers that replicates every stream to all of them.
    ///
    /// # Panics
    /// If a process does not start.
    #[must_use]
    pub fn start_on_cluster(size: usize) -> Self {
        let mut system = System::empty(Mode::Processes);
        let cluster = NatsCluster::start(size);
        let replicas = words(&["--nats-replicas", &size.to_string()]);
        system.start_processes(&cluster.urls(), &Extras { bus: replicas, ..Extras::default() });
        system.cluster = Some(cluster);
        system
    }

    fn empty(mode: Mode) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        System {
            mode,
            processes: Vec::new(),
            nats: None,
            cluster: None,
            mongo: None,
            database: None,
            lines: Vec::new(),
            disk: None,
            database_disk: None,
            folder,
        }
    }

    fn start_standalone(&mut self, extras: &Extras) {
        let data = self.data_folder();
        let mut args = words(&["--listen", "127.0.0.1:0", "--data", &data.to_string_lossy()]);
        args.extend(words(RECONCILE));
        args.extend(extras.gateway.clone());
        args.extend(extras.alarms.clone());
        let log = self.folder.path().join("bedside.log");
        let mut process = Process::start_in("bedside", args, environment(extras), log, 1);
        process.pin("--listen", process.address(0).to_owned());
        self.processes.push(process);
    }

    fn start_processes(&mut self, nats_url: &str, extras: &Extras) {
        // A proxy needs the port of the database.
        let mongo = match &self.database_disk {
            Some(disk) => MongoServer::start_in(&disk.folder().join("data")),
            None if extras.mongodb.is_some() => MongoServer::start_own(),
            None => MongoServer::start(),
        };
        let mongo_uri = match &extras.mongodb {
            Some(front) => format!("mongodb://127.0.0.1:{}/?directConnection=true", front(mongo.port())),
            None => mongo.uri(),
        };
        let bus = [words(&["--nats", nats_url]), extras.bus.clone()].concat();
        let database = mongo.fresh_database();
        let store =
            [words(&["--mongodb", &mongo_uri, "--database", &database]), extras.store.clone()].concat();
        let admin = words(&["--admin-listen", "127.0.0.1:0"]);
        let reconcile = words(RECONCILE);
        let log = |name: &str| self.folder.path().join(format!("{name}.log"));
        let start = |name: &'static str, parts: &[&[String]], addresses: usize| {
            Process::start_in(name, parts.concat(), environment(extras), log(name), addresses)
        };
        let listen = words(&["--listen", "127.0.0.1:0"]);
        let calls_token = self.secret_file("ingest-token");
        let calls = words(&["--token-file", &calls_token]);
        let mut ingest = start("ingest", &[&bus, &store, &admin, &listen, &calls, &reconcile], 2);
        ingest.pin("--listen", ingest.address(1).to_owned());
        let worker = start("ecg-worker", &[&bus, &admin], 1);
        let (secret, key) = (self.secret_file("query-token"), self.key_file());
        let mut query = start("query", &[&listen, &store, &admin, &words(&["--token-file", &secret])], 2);
        query.pin("--listen", query.address(0).to_owned());
        let reads = format!("http://{}", query.address(0));
        let reads = words(&["--query", &reads, "--query-token-file", &secret, "--key-file", &key]);
        let alarms_token = self.secret_file("alarms-token");
        let for_alarms = words(&["--token-file", &alarms_token]);
        let mut alarms = start("alarms", &[&bus, &store, &admin, &listen, &for_alarms, &extras.alarms], 2);
        alarms.pin("--listen", alarms.address(1).to_owned());
        let calls_of_alarms = format!("http://{}", alarms.address(1));
        let alarms_at = words(&["--alarms", &calls_of_alarms, "--alarms-token-file", &alarms_token]);
        let records = format!("http://{}", ingest.address(1));
        let records = words(&["--ingest", &records, "--ingest-token-file", &calls_token]);
        let mut gateway =
            start("gateway", &[&listen, &bus, &reads, &records, &alarms_at, &admin, &extras.gateway], 2);
        gateway.pin("--listen", gateway.address(0).to_owned());
        self.processes.extend([gateway, ingest, query, worker, alarms]);
        for (process, admin) in self.processes.iter().zip([1, 0, 1, 0, 0]) {
            wait_until_started(process.address(admin));
        }
        self.mongo = Some(mongo);
        self.database = Some(database);
    }

    /// File of the secret from which the gateways derive upload ids, if they are separate processes.
    #[must_use]
    pub fn key_file(&self) -> String {
        self.secret_file("key")
    }

    /// The arguments of the gateway, for a second gateway on other ports.
    #[must_use]
    pub fn gateway_arguments(&self) -> Vec<String> {
        let mut arguments = self.processes[0].args().to_vec();
        let listen = arguments.iter().position(|argument| argument == "--listen");
        if let Some(address) = listen.and_then(|at| arguments.get_mut(at + 1)) {
            *address = "127.0.0.1:0".to_owned();
        }
        arguments
    }

    /// Creates a file with a secret that is derived from its name.
    fn secret_file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{name}-of-the-tests-0123456789abcdef0123456789abcdef"))
            .expect("a secret file");
        path.to_string_lossy().into_owned()
    }

    /// The way to run.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Data directory of standalone.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path(), SmallDisk::folder).join("data")
    }

    /// The proxy between two parts, if there is one.
    #[must_use]
    pub fn line(&self, between: Between) -> Option<&Proxy> {
        self.lines.iter().find(|(place, _)| *place == between).map(|(_, line)| line)
    }

    /// The small disk of the queues, if there is one.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// The small disk of the database, if there is one.
    #[must_use]
    pub fn database_disk(&self) -> Option<&SmallDisk> {
        self.database_disk.as_ref()
    }

    /// Address of the database, without a proxy.
    #[must_use]
    pub fn database_uri(&self) -> Option<String> {
        self.mongo.as_ref().map(MongoServer::uri)
    }

    /// Name of the database, if there is a server.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Address of the gateway, for example `http://127.0.0.1:34567`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.processes[0].address(0))
    }

    /// Address of the gateway through the proxy, if there is one.
    #[must_use]
    pub fn fragile_url(&self) -> String {
        self.line(Between::ClientsAndGateway)
            .map_or(self.url(), |line| format!("http://127.0.0.1:{}", line.port()))
    }

    /// A client of the gateway.
    ///
    /// # Panics
    /// If the address is invalid, which does not happen.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        Gateway::new(&Settings::new(self.url())).expect("a valid address")
    }

    /// The process of a service. Standalone has one process for all services.
    pub fn service(&mut self, service: Service) -> &mut Process {
        let index = match (self.mode, service) {
            (Mode::Standalone, _) | (_, Service::Gateway) => 0,
            (_, Service::Ingest) => 1,
            (_, Service::Query) => 2,
            (_, Service::EcgWorker) => 3,
            (_, Service::Alarms) => 4,
        };
        &mut self.processes[index]
    }

    /// Address of health and metrics of a service.
    pub fn admin_url(&mut self, service: Service) -> String {
        let index = match (self.mode, service) {
            (Mode::Standalone, _) | (_, Service::Ingest | Service::EcgWorker | Service::Alarms) => 0,
            (_, Service::Gateway | Service::Query) => 1,
        };
        format!("http://{}", self.service(service).address(index))
    }

    /// All processes.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The broker, if there is one.
    pub fn nats(&mut self) -> Option<&mut NatsServer> {
        self.nats.as_mut()
    }

    /// The cluster of brokers, if there is one.
    pub fn cluster(&mut self) -> Option<&mut NatsCluster> {
        self.cluster.as_mut()
    }

    /// The database, if there is one.
    pub fn mongo(&mut self) -> Option<&mut MongoServer> {
        self.mongo.as_mut()
    }

    /// The logs of all processes.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes.iter().map(|process| format!("---- {}\n{}\n", process.name(), process.log())).collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Short reconciliation intervals, so that tests do not wait for minutes. Staged files of uploads that were never queued are kept
/// 24 times as long as `--stage-keep`.
const RECONCILE: &[&str] = &["--reconcile-every", "1s", "--pending-after", "2s", "--stage-keep", "1s"];

/// Environment of the services, with a short age of orphaned files.
fn environment(extras: &Extras) -> Vec<(String, String)> {
    let mut environment = vec![("BEDSIDE_ORPHAN_AGE".to_owned(), "20s".to_owned())];
    environment.extend(extras.env.clone());
    environment
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Polls until `ask` returns a value, for states that nothing announces.
///
/// # Panics
/// With the message `what`, if there is no value within 60 s.
pub async fn within<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    within_limit(Duration::from_secs(60), what, ask).await
}

/// Like [`within`], with another time limit.
///
/// # Panics
/// If there is no answer within the limit.
pub async fn within_limit<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(limit, asking)
        .await
        .unwrap_or_else(|_| panic!("not within {} s: {what}", limit.as_secs()))
}
