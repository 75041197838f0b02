//! What the monitor is tried beside: the real system as processes, and a screen that nobody sees. Shared by the tests and
//! the measurements; lighter than the crate of end-to-end tests, so that the app's own tests are built fast.

#![allow(dead_code, unreachable_pub, reason = "each user needs another part")]

pub mod display;
pub mod material;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use client::{Gateway, Settings};
use tempfile::TempDir;
use test_servers::{MongoServer, NatsServer};

/// How long a process may take until it is ready. Generous: all cores may be busy with other tests.
const START: Duration = Duration::from_secs(60);

/// Where a program of the system is: in the folder that BEDSIDE_TEST_PROGRAMS names, else beside the tests; built first if it
/// is not there.
fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this program");
    let beside =
        this.ancestors().find(|folder| folder.join("deps").is_dir()).expect("a build folder").to_owned();
    let folder = std::env::var_os("BEDSIDE_TEST_PROGRAMS").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if !path.is_file() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let args = [
            "build",
            "--quiet",
            "--bins",
            "-p",
            "standalone",
            "-p",
            "gateway",
            "-p",
            "ingest",
            "-p",
            "query",
            "-p",
            "ecg-worker",
        ];
        let built = Command::new(cargo).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "the programs under test cannot be built");
    }
    path
}

/// One process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// Where it said it listens, in order.
    addresses: Vec<String>,
}

impl Process {
    fn start(name: &'static str, args: Vec<String>, log: PathBuf, addresses: usize) -> Self {
        let mut process = Process { name, args, log, child: None, addresses: vec![String::new(); addresses] };
        process.restart();
        process
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again with the same arguments, and waits until it listens.
    pub fn restart(&mut self) {
        self.kill();
        let log = fs::File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut child = Command::new(program(self.name))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        let output = child.stdout.take().expect("the output is piped");
        self.child = Some(child);
        let (lines, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + START;
        for address in &mut self.addresses {
            *address = loop {
                let line = said.recv_timeout(deadline.saturating_duration_since(Instant::now()));
                let Ok(line) = line else {
                    panic!("{} is not ready; its log:\n{}", self.name, read(&self.log))
                };
                if let Some((_, address)) = line.split_once("listens on http://") {
                    break address.trim().to_owned();
                }
            };
        }
    }

    /// Keeps the port it was given at its next start.
    fn keep_port(&mut self) {
        let at = self.args.iter().position(|arg| arg == "--listen").expect("it listens");
        self.args[at + 1] = self.addresses[0].clone();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.name, read(&self.log));
        }
    }
}

fn read(path: &PathBuf) -> String {
    let mut text = String::new();
    let _ = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    text
}

/// A whole system. Dropping it ends every process and removes every file.
#[derive(Debug)]
pub struct System {
    /// The gateway, or everything in one.
    pub gateway: Process,
    _others: Vec<Process>,
    /// The broker, where there is one.
    pub nats: Option<NatsServer>,
    _mongo: Option<MongoServer>,
    _folder: TempDir,
}

impl System {
    /// Everything in one process.
    #[must_use]
    pub fn standalone() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let args = words(&["--listen", "127.0.0.1:0", "--data", &data]);
        let mut gateway = Process::start("bedside", args, folder.path().join("log"), 1);
        gateway.keep_port();
        System { gateway, _others: Vec::new(), nats: None, _mongo: None, _folder: folder }
    }

    /// Four processes on a real nats-server and a server of the MongoDB protocol.
    #[must_use]
    pub fn processes() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (nats, mongo) = (NatsServer::start(), MongoServer::start());
        let (nats_url, mongo_uri, database) = (nats.url(), mongo.uri(), mongo.fresh_database());
        let bus = ["--nats", nats_url.as_str()];
        let store = ["--mongodb", mongo_uri.as_str(), "--database", &database];
        let admin = ["--admin-listen", "127.0.0.1:0"];
        let listen = ["--listen", "127.0.0.1:0"];
        let start = |name: &'static str, parts: &[&[&str]], addresses: usize| {
            let args = parts.iter().flat_map(|part| words(part)).collect();
            Process::start(name, args, folder.path().join(format!("{name}.log")), addresses)
        };
        let ingest = start("ingest", &[&bus, &store, &admin], 1);
        let worker = start("ecg-worker", &[&bus, &admin], 1);
        let query = start("query", &[&listen, &store, &admin], 2);
        let reads = format!("http://{}", query.addresses[0]);
        let mut gateway = start("gateway", &[&listen, &bus, &["--query", &reads], &admin], 2);
        gateway.keep_port();
        System {
            gateway,
            _others: vec![ingest, worker, query],
            nats: Some(nats),
            _mongo: Some(mongo),
            _folder: folder,
        }
    }

    /// The gateway's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.gateway.addresses[0])
    }

    /// A client of the gateway.
    #[must_use]
    pub fn client(&self) -> Gateway {
        Gateway::new(&Settings::new(self.url())).expect("the gateway's address is one")
    }
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
