//! A cluster of `nats-server` processes.

use std::thread;
use std::time::{Duration, Instant};

use super::{free_port, get};
use crate::NatsServer;

/// Time limit until all servers are healthy, at a start and after a restart.
const HEALTHY: Duration = Duration::from_secs(60);
/// Time limit of a start, except the last attempt.
const HEALTHY_AT_START: Duration = Duration::from_secs(25);
/// Maximum number of attempts to start.
const STARTS: usize = 3;

/// A cluster of `nats-server` processes on the loopback address. Dropping it kills them.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsServer>,
    /// Monitoring port of each server.
    health: Vec<u16>,
}

impl NatsCluster {
    /// Starts `size` servers and waits until all are healthy.
    ///
    /// # Panics
    /// If they cannot be started.
    #[must_use]
    pub fn start(size: usize) -> Self {
        // Another process can take a port between its choice and its use, and servers that start at a bad moment can wait
        // for each other for a long time.
        for _ in 1..STARTS {
            let cluster = NatsCluster::start_once(size);
            match cluster.wait_until_healthy(HEALTHY_AT_START) {
                Ok(()) => return cluster,
                Err(reports) => eprintln!("a cluster is not healthy and is started again: {reports}"),
            }
        }
        let cluster = NatsCluster::start_once(size);
        cluster.wait_until_healthy(HEALTHY).expect("the servers of the cluster are healthy in time");
        cluster
    }

    fn start_once(size: usize) -> Self {
        let ports = || -> Vec<u16> { (0..size).map(|_| free_port()).collect() };
        let (routes, health) = (ports(), ports());
        let all: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let servers = routes
            .iter()
            .zip(&health)
            .enumerate()
            .map(|(index, (route, health))| {
                NatsServer::start_with(&format!(
                    "server_name: server-{index}\nhttp: \"127.0.0.1:{health}\"\n\
                     cluster {{ name: bedside, listen: \"127.0.0.1:{route}\", routes: [{}] }}",
                    all.join(", "),
                ))
            })
            .collect();
        NatsCluster { servers, health }
    }

    /// Addresses of all servers, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        self.servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// Number of servers.
    #[must_use]
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Kills a server (SIGKILL). Its store remains.
    pub fn kill(&mut self, index: usize) {
        self.servers[index].kill();
    }

    /// Starts a server again and waits until all are healthy.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn restart(&mut self, index: usize) {
        self.servers[index].restart();
        self.wait_until_healthy(HEALTHY).expect("the servers of the cluster are healthy in time");
    }

    /// Waits until every server reports that it is healthy. Otherwise returns the last report of each.
    fn wait_until_healthy(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            let reports: Vec<_> =
                self.health.iter().map(|port| get(&format!("127.0.0.1:{port}"), "/healthz")).collect();
            if reports.iter().all(|reports| matches!(reports, Ok(reports) if reports.starts_with("200 "))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{reports:?}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
