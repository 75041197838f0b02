//! A `nats-server` with JetStream.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::programs;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);

/// A `nats-server` with JetStream that this test started. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    store: PathBuf,
    source: Source,
    port: u16,
    monitor_port: u16,
    process: Option<Child>,
}

/// A server that has just become ready.
struct Launched {
    process: Child,
    port: u16,
    monitor_port: u16,
}

/// What it is configured by.
#[derive(Debug)]
enum Source {
    /// Further lines of a configuration that is made here.
    Settings(String),
    /// A configuration that is shipped, which only port and folders of this test are set over.
    Shipped { environment: Vec<(String, String)> },
}

/// Where a shipped configuration lies; what it includes lies relative to it.
const SHIPPED: &str = "etc/nats/nats.conf";
/// Where it keeps its streams.
const SHIPPED_STORE: &str = "/var/lib/nats";

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
        Self::start_made_here(None, settings)
    }

    /// Starts one with its store in this folder.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_in(store: &Path) -> Self {
        Self::start_made_here(Some(store), "")
    }

    fn start_made_here(store: Option<&Path>, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store.map_or_else(|| folder.path().join("store"), Path::to_owned);
        Self::start_from(folder, store, Source::Settings(settings.to_owned()))
    }

    /// Starts one on a configuration as it is shipped, with the files that it includes, by their paths from the root of the
    /// machine it is meant for, and the settings that it takes from the environment.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start_shipped(config: &str, files: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("store");
        assert!(config.contains(SHIPPED_STORE), "the configuration keeps its streams in {SHIPPED_STORE}");
        let config = config.replace(SHIPPED_STORE, &store.to_string_lossy());
        for (path, text) in files.iter().chain(&[(SHIPPED, &*config)]) {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
            fs::write(path, text).expect("files can be written");
        }
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_from(folder, store, Source::Shipped { environment })
    }

    fn start_from(folder: TempDir, store: PathBuf, source: Source) -> Self {
        let mut server = NatsServer { folder, store, source, port: 0, monitor_port: 0, process: None };
        let launched = server.launch(None).unwrap_or_else(|reason| panic!("{reason}"));
        server.took(launched);
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

    /// Port of its monitoring on 127.0.0.1; another one after each restart.
    #[must_use]
    pub fn monitor_port(&self) -> u16 {
        self.monitor_port
    }

    /// Its process, to be paused or measured.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Where it keeps its streams.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
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
                Ok(launched) => {
                    self.took(launched);
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

    fn took(&mut self, launched: Launched) {
        self.process = Some(launched.process);
        (self.port, self.monitor_port) = (launched.port, launched.monitor_port);
    }

    /// Starts the program and waits until it says that it is ready.
    fn launch(&self, port: Option<u16>) -> Result<Launched, String> {
        let port = port.map_or(-1, i32::from).to_string();
        let mut command = Command::new(programs::find("nats-server", "BEDSIDE_TEST_NATS_SERVER"));
        match &self.source {
            Source::Settings(settings) => {
                let config = self.folder.path().join("nats.conf");
                let store = &self.store;
                // Space is reserved, not used: tests shall not depend on how full the disk is.
                let monitor = if settings.contains("http:") { "" } else { "http: \"127.0.0.1:-1\"" };
                let text = format!(
                    "host: 127.0.0.1\nport: {port}\n{monitor}\n\
                     jetstream {{ store_dir: {store:?}, sync_interval: always, max_file_store: 1TB }}\n{settings}\n"
                );
                fs::write(&config, text)
                    .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
                command.arg("--config").arg(&config);
            }
            Source::Shipped { environment } => {
                command.arg("--config").arg(self.folder.path().join(SHIPPED));
                command.args(["--addr", "127.0.0.1", "--port", &port, "--http_port", "-1"]);
                command.envs(environment.iter().cloned());
            }
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start nats-server: {error}"))?;
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
        let (mut bound, mut monitor) = (None, None);
        let port_of = |address: &str| address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        loop {
            let ended = match heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, address)) = line.split_once("Listening for client connections on ") {
                        bound = port_of(address);
                    }
                    if let Some((_, address)) = line.split_once("Starting http monitor on ") {
                        monitor = port_of(address);
                    }
                    if line.contains("Server is ready")
                        && let (Some(port), Some(monitor_port)) = (bound, monitor)
                    {
                        return Ok(Launched { process, port, monitor_port });
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
