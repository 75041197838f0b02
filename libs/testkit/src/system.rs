//! A whole Bedside of real processes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::{Gateway, Settings};
use tempfile::TempDir;

use crate::{Between, MongoServer, NatsCluster, NatsServer, Process, Proxy, SmallDisk};

/// The two ways to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One process, `bedside`, on its local adapters.
    Standalone,
    /// Four processes on a real nats-server and a server of the MongoDB protocol.
    Processes,
}

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// HTTP in.
    Gateway,
    /// Writes the store.
    Ingest,
    /// Reads the store.
    Query,
    /// Analyses.
    EcgWorker,
}

impl Service {
    /// Every service.
    pub const ALL: [Service; 4] = [Service::Gateway, Service::Ingest, Service::Query, Service::EcgWorker];
}

/// What is other than usual in a system.
#[derive(Clone, Default)]
pub struct Extras {
    /// Further arguments for the gateway.
    pub gateway: Vec<String>,
    /// Further lines for the configuration of the broker.
    pub nats: String,
    /// Further arguments for whoever connects to the broker.
    pub bus: Vec<String>,
    /// Where the services reach the database, from its port; directly, if not given.
    pub mongodb: Option<Arc<dyn Fn(u16) -> u16 + Send + Sync>>,
    /// Further arguments for whoever connects to the database.
    pub store: Vec<String>,
    /// Further variables of the environment of each service.
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

/// A whole Bedside. Dropping it ends every process and removes every file.
#[derive(Debug)]
pub struct System {
    mode: Mode,
    /// gateway, ingest, query, ecg-worker; or bedside alone.
    processes: Vec<Process>,
    nats: Option<NatsServer>,
    cluster: Option<NatsCluster>,
    mongo: Option<MongoServer>,
    database: Option<String>,
    lines: Vec<(Between, Proxy)>,
    /// Unmounted before the folder that they are mounted in is removed.
    disk: Option<SmallDisk>,
    database_disk: Option<SmallDisk>,
    folder: TempDir,
}

impl System {
    /// Starts everything on free ports, and waits until it is ready.
    ///
    /// # Panics
    /// When something does not start.
    #[must_use]
    pub fn start(mode: Mode) -> Self {
        Self::start_with(mode, &[])
    }

    /// The same with further arguments for the gateway.
    ///
    /// # Panics
    /// When something does not start.
    #[must_use]
    pub fn start_with(mode: Mode, gateway_args: &[&str]) -> Self {
        Self::start_extra(mode, &Extras { gateway: words(gateway_args), ..Extras::default() })
    }

    /// The same with whatever is other than usual.
    ///
    /// # Panics
    /// When something does not start.
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

    /// One that can be harmed: its queue is short and lies on a small disk, its parts are connected through proxies.
    ///
    /// # Panics
    /// When something does not start, or a file system cannot be mounted.
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
                let door = Arc::clone(&to_mongo);
                let mongodb = move |port| door.get_or_init(|| Proxy::to(port)).port();
                let extras = Extras { mongodb: Some(Arc::new(mongodb)), ..extras.clone() };
                system.start_processes(&format!("nats://127.0.0.1:{}", to_nats.port()), &extras);
                system.nats = Some(nats);
                system.lines.push((Between::ServicesAndBroker, to_nats));
                let to_mongo = to_mongo.get().cloned().expect("the services asked for the database");
                system.lines.push((Between::ServicesAndDatabase, to_mongo));
            }
        }
        let port = system.processes[0].address(0).rsplit(':').next().and_then(|port| port.parse().ok());
        system.lines.push((Between::ClientsAndGateway, Proxy::to(port.expect("the gateway has a port"))));
        system
    }

    /// Starts the services as processes on a cluster of brokers, each of which holds everything.
    ///
    /// # Panics
    /// When something does not start.
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
        let log = self.folder.path().join("bedside.log");
        let mut process = Process::start_in("bedside", args, extras.env.clone(), log, 1);
        process.pin("--listen", process.address(0).to_owned());
        self.processes.push(process);
    }

    fn start_processes(&mut self, nats_url: &str, extras: &Extras) {
        // A door before it needs to know its port.
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
            Process::start_in(name, parts.concat(), extras.env.clone(), log(name), addresses)
        };
        let ingest = start("ingest", &[&bus, &store, &admin, &reconcile], 1);
        let worker = start("ecg-worker", &[&bus, &admin], 1);
        let listen = words(&["--listen", "127.0.0.1:0"]);
        let (secret, key) = (self.secret_file("query-token"), self.key_file());
        let mut query = start("query", &[&listen, &store, &admin, &words(&["--token-file", &secret])], 2);
        query.pin("--listen", query.address(0).to_owned());
        let reads = format!("http://{}", query.address(0));
        let reads = words(&["--query", &reads, "--query-token-file", &secret, "--key-file", &key]);
        let mut gateway = start("gateway", &[&listen, &bus, &reads, &admin, &extras.gateway], 2);
        gateway.pin("--listen", gateway.address(0).to_owned());
        self.processes.extend([gateway, ingest, query, worker]);
        self.mongo = Some(mongo);
        self.database = Some(database);
    }

    /// File of the secret from which the gateways compute upload ids, where they are processes of their own.
    #[must_use]
    pub fn key_file(&self) -> String {
        self.secret_file("key")
    }

    /// The arguments with which the gateway was started, for another one beside it on ports of its own.
    #[must_use]
    pub fn gateway_arguments(&self) -> Vec<String> {
        let mut arguments = self.processes[0].args().to_vec();
        let listen = arguments.iter().position(|argument| argument == "--listen");
        if let Some(address) = listen.and_then(|at| arguments.get_mut(at + 1)) {
            *address = "127.0.0.1:0".to_owned();
        }
        arguments
    }

    /// A file in this system's folder, with a secret that follows from its name.
    fn secret_file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("{name}-of-the-tests-0123456789abcdef0123456789abcdef"))
            .expect("a secret file");
        path.to_string_lossy().into_owned()
    }

    /// How it runs.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where standalone keeps its data.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.disk.as_ref().map_or(self.folder.path(), SmallDisk::folder).join("data")
    }

    /// The proxy between two parts, where there is one.
    #[must_use]
    pub fn line(&self, between: Between) -> Option<&Proxy> {
        self.lines.iter().find(|(place, _)| *place == between).map(|(_, line)| line)
    }

    /// The disk of the queue, where it is a small one.
    #[must_use]
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    /// The disk of the database, where it is a small one.
    #[must_use]
    pub fn database_disk(&self) -> Option<&SmallDisk> {
        self.database_disk.as_ref()
    }

    /// Where that server is reached without a proxy.
    #[must_use]
    pub fn database_uri(&self) -> Option<String> {
        self.mongo.as_ref().map(MongoServer::uri)
    }

    /// Name of the database, where there is a server for it.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// The gateway's address, as in `http://127.0.0.1:34567`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.processes[0].address(0))
    }

    /// The gateway's address as clients reach it that are not spared the faults of the line.
    #[must_use]
    pub fn fragile_url(&self) -> String {
        self.line(Between::ClientsAndGateway)
            .map_or(self.url(), |line| format!("http://127.0.0.1:{}", line.port()))
    }

    /// A client of the gateway.
    ///
    /// # Panics
    /// Never: the address is one.
    #[must_use]
    pub fn gateway(&self) -> Gateway {
        Gateway::new(&Settings::new(self.url())).expect("the gateway's address is one")
    }

    /// The process of a service; in standalone mode the one process for all of them.
    pub fn service(&mut self, service: Service) -> &mut Process {
        let index = match (self.mode, service) {
            (Mode::Standalone, _) | (_, Service::Gateway) => 0,
            (_, Service::Ingest) => 1,
            (_, Service::Query) => 2,
            (_, Service::EcgWorker) => 3,
        };
        &mut self.processes[index]
    }

    /// Where a service serves its health and metrics.
    pub fn admin_url(&mut self, service: Service) -> String {
        let index = match (self.mode, service) {
            (Mode::Standalone, _) | (_, Service::Ingest | Service::EcgWorker) => 0,
            (_, Service::Gateway | Service::Query) => 1,
        };
        format!("http://{}", self.service(service).address(index))
    }

    /// Every process.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The broker, where there is one.
    pub fn nats(&mut self) -> Option<&mut NatsServer> {
        self.nats.as_mut()
    }

    /// The cluster of brokers, where there is one.
    pub fn cluster(&mut self) -> Option<&mut NatsCluster> {
        self.cluster.as_mut()
    }

    /// The database, where there is one.
    pub fn mongo(&mut self) -> Option<&mut MongoServer> {
        self.mongo.as_mut()
    }

    /// What each process has logged, for when a test fails.
    #[must_use]
    pub fn logs(&self) -> String {
        self.processes.iter().map(|process| format!("---- {}\n{}\n", process.name(), process.log())).collect()
    }
}

/// A test that fails says what the processes said.
impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// Short periods of the reconciler, so that tests need not wait for minutes. Staged files of unknown uploads are kept 24 times
/// as long as others.
#[rustfmt::skip]
const RECONCILE: &[&str] = &[
    "--reconcile-every", "1s", "--pending-after", "2s", "--stage-keep", "1s", "--orphan-age", "20s",
];

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}

/// Asks again and again until there is an answer, and fails the test with `what` when there is none after 60 s. For states
/// that nothing announces.
///
/// # Panics
/// When there is none in time.
pub async fn within<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("not within 60 s: {what}"))
}
