//! What the monitor is tried beside: the real system as processes. Shared by the tests and the measurements; lighter than the
//! crate of end-to-end tests, so that the app's own tests are built fast.

#![allow(dead_code, unreachable_pub, reason = "each user needs another part")]

pub mod material;

use client::{Gateway, Settings};
use tempfile::TempDir;
use testkit::{MongoServer, NatsServer, Process};

/// A whole system. Dropping it ends every process and removes every file.
#[derive(Debug)]
pub struct System {
    /// The gateway, or everything in one.
    pub gateway: Process,
    others: Vec<Process>,
    /// The broker, where there is one.
    pub nats: Option<NatsServer>,
    _mongo: Option<MongoServer>,
    folder: TempDir,
}

impl System {
    /// Everything in one process.
    #[must_use]
    pub fn standalone() -> Self {
        Self::standalone_with(&[])
    }

    /// The same with further arguments.
    #[must_use]
    pub fn standalone_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data").to_string_lossy().into_owned();
        let args = words(&[&["--listen", "127.0.0.1:0", "--data", &data], more].concat());
        let gateway = keep_port(Process::start("bedside", args, folder.path().join("log"), 1));
        System { gateway, others: Vec::new(), nats: None, _mongo: None, folder }
    }

    /// The file of patients of a system in one process.
    #[must_use]
    pub fn patients_file(&self) -> std::path::PathBuf {
        self.folder.path().join("data/patients.db")
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
        let reads = format!("http://{}", query.address(0));
        let gateway = keep_port(start("gateway", &[&listen, &bus, &["--query", &reads], &admin], 2));
        System { gateway, others: vec![ingest, worker, query], nats: Some(nats), _mongo: Some(mongo), folder }
    }

    /// The gateway's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.gateway.address(0))
    }

    /// A client of the gateway.
    #[must_use]
    pub fn client(&self) -> Gateway {
        Gateway::new(&Settings::new(self.url())).expect("the gateway's address is one")
    }
}

/// A test that fails says what the processes said.
impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in self.others.iter().chain([&self.gateway]) {
                eprintln!("---- {}\n{}", process.name(), process.log());
            }
        }
    }
}

/// Lets it have the port it was given at its next start, too.
fn keep_port(mut gateway: Process) -> Process {
    gateway.pin("--listen", gateway.address(0).to_owned());
    gateway
}

fn words(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
