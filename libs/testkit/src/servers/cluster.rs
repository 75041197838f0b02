//! Several `nats-server`s that hold every stream together.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::NatsServer;

/// How long the servers may take to find each other, or one of them to catch up.
const AGREE: Duration = Duration::from_secs(60);
/// How long they may take when they are started, unless it is the last try.
const AGREE_AT_START: Duration = Duration::from_secs(25);
/// How often they are started at most.
const STARTS: usize = 3;

/// A cluster of `nats-server`s on the loopback. Dropping it kills all of them.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsServer>,
    /// Where each shows its health.
    health: Vec<u16>,
}

impl NatsCluster {
    /// Starts so many servers, and waits until all of them are in order.
    ///
    /// # Panics
    /// When they cannot be started.
    #[must_use]
    pub fn start(size: usize) -> Self {
        // Between the choice of a port and its use somebody else may have taken it; and servers that met at a bad moment
        // may wait for each other for long.
        for _ in 1..STARTS {
            let cluster = NatsCluster::start_once(size);
            match cluster.agree(AGREE_AT_START) {
                Ok(()) => return cluster,
                Err(said) => eprintln!("a cluster did not come to be and is started anew: {said}"),
            }
        }
        let cluster = NatsCluster::start_once(size);
        cluster.agree(AGREE).expect("the servers of the cluster agree in time");
        cluster
    }

    fn start_once(size: usize) -> Self {
        let (routes, health) = (free_ports(size), free_ports(size));
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

    /// Where clients connect: every server, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        self.servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// How many servers it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// Ends a server as `kill -9` does. Its store stays.
    pub fn kill(&mut self, index: usize) {
        self.servers[index].kill();
    }

    /// Starts a server again, and waits until it has caught up with the others.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&mut self, index: usize) {
        self.servers[index].restart();
        self.agree(AGREE).expect("the servers of the cluster agree in time");
    }

    /// Waits until every server says that it and all it holds are in order; else gives what each said last.
    fn agree(&self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            let said: Vec<_> = self.health.iter().map(|port| health(*port)).collect();
            if said.iter().all(|said| matches!(said, Ok(said) if said.starts_with("200 "))) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{said:?}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Ports that nobody listens to now.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| TcpListener::bind(("127.0.0.1", 0)).expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("its number").port()).collect()
}

/// Status and body of what a server says of itself.
fn health(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    Ok(format!("{status} {body}"))
}
