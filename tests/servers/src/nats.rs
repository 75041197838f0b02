//! A `nats-server` with JetStream.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A `nats-server` with JetStream that this test started. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    settings: String,
    port: u16,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts one on a free port of the loopback, with an empty store that syncs each write.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with further lines in its configuration file, such as users and their permissions.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = NatsServer { folder, settings: settings.to_owned(), port: 0, process: None };
        let (process, port) = server.launch(None).unwrap_or_else(|reason| panic!("{reason}"));
        server.process = Some(process);
        server.port = port;
        server
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port on 127.0.0.1; it stays the same over restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, to be paused or measured.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Ends it as `kill -9` does, and waits until it is gone. Its store stays.
    ///
    /// # Panics
    /// When the system does not let go of it.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("nats-server can be killed");
            process.wait().expect("nats-server ends");
        }
    }

    /// Starts it again on the same port and store; kills it before if it runs.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START;
        loop {
            match self.launch(Some(self.port)) {
                Ok((process, _)) => {
                    self.process = Some(process);
                    return;
                }
                // Another process may hold the port for a moment as the near end of a connection.
                Err(reason) if reason.contains("address already in use") && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(reason) => panic!("{reason}"),
            }
        }
    }

    /// Starts the program and waits until it says that it is ready; returns it with its port.
    fn launch(&self, port: Option<u16>) -> Result<(Child, u16), String> {
        let config = self.folder.path().join("nats.conf");
        let store = self.folder.path().join("store");
        let port = port.map_or(-1, i32::from);
        // Space is reserved, not used: tests shall not depend on how full the disk is.
        let text = format!(
            "host: 127.0.0.1\nport: {port}\n\
             jetstream {{ store_dir: {store:?}, sync_interval: always, max_file_store: 1TB }}\n{}\n",
            self.settings
        );
        fs::write(&config, text).map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let program = program::find("nats-server", "BEDSIDE_TEST_NATS_SERVER");
        let mut process = Command::new(&program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let log = process.stderr.take().expect("the error stream is piped");
        let (lines, heard) = mpsc::channel();
        thread::spawn(move || {
            // Reads to the end even when nobody listens any more, or the server would block on a full pipe.
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + START;
        let mut said = String::new();
        let mut bound = None;
        loop {
            let ended = match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                        bound = address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
                    }
                    if line.contains("Server is ready")
                        && let Some(port) = bound
                    {
                        return Ok((process, port));
                    }
                    said.push_str(&line);
                    said.push('\n');
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => "ended before it was ready",
                Err(RecvTimeoutError::Timeout) => "is not ready in time",
            };
            let _ = process.kill();
            let _ = process.wait();
            return Err(format!("nats-server {ended}; it said:\n{said}"));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::NatsServer;

    #[test]
    fn a_server_comes_back_on_its_port() {
        let mut server = NatsServer::start();
        let address = ("127.0.0.1", server.port());
        assert!(TcpStream::connect(address).is_ok());
        server.kill();
        assert!(TcpStream::connect(address).is_err());
        server.restart();
        assert!(TcpStream::connect(address).is_ok());
    }
}
