//! Several `nats-server`s that hold every stream together.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::NatsServer;

/// How long the servers may take to find each other, or one of them to catch up.
const AGREE: Duration = Duration::from_secs(60);

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
        let cluster = NatsCluster { servers, health };
        cluster.agree();
        cluster
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
        self.agree();
    }

    /// Waits until every server says that it and all it holds are in order.
    fn agree(&self) {
        let deadline = Instant::now() + AGREE;
        while !self.health.iter().all(|port| is_healthy(*port).unwrap_or(false)) {
            assert!(Instant::now() < deadline, "the servers of the cluster do not agree in time");
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

fn is_healthy(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1) == Some("200"))
}
