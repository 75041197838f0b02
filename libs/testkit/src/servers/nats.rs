//! A `nats-server` with JetStream.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::signal;
use crate::programs;

/// Time limit for a start.
const START: Duration = Duration::from_secs(60);

/// A `nats-server` with JetStream. Dropping it kills the server and removes its directory.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    store: PathBuf,
    source: Source,
    port: u16,
    monitor_port: u16,
    process: Option<Child>,
}

/// A server that is ready.
struct Launched {
    process: Child,
    port: u16,
    monitor_port: u16,
}

/// Configuration of a server.
#[derive(Debug)]
enum Source {
    /// A generated configuration with these additional lines.
    Settings(String),
    /// The shipped configuration. Only ports and directories are overridden.
    Shipped { environment: Vec<(String, String)> },
}

/// Path of the shipped configuration. Included files are relative to it.
const SHIPPED: &str = "etc/nats/nats.conf";
/// Store directory in the shipped configuration.
const SHIPPED_STORE: &str = "/var/lib/nats";

impl NatsServer {
    /// Starts a server on a free loopback port, with an empty store that syncs each write.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with additional configuration lines, such as users and permissions.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start_with(settings: &str) -> Self {
        Self::start_generated(None, settings)
    }

    /// Starts a server with its store in this directory.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start_in(store: &Path) -> Self {
        Self::start_generated(Some(store), "")
    }

    fn start_generated(store: Option<&Path>, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = store.map_or_else(|| folder.path().join("store"), Path::to_owned);
        Self::start_from(folder, store, Source::Settings(settings.to_owned()))
    }

    /// Starts a server with the shipped configuration `config`. `files` are the files that it includes, with absolute paths;
    /// `environment` are the variables that it reads.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start_shipped(config: &str, files: &[(&str, &str)], environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = folder.path().join("store");
        assert!(config.contains(SHIPPED_STORE), "the configuration stores streams in {SHIPPED_STORE}");
        let config = config.replace(SHIPPED_STORE, &store.to_string_lossy());
        for (path, text) in files.iter().chain(&[(SHIPPED, &*config)]) {
            let path = folder.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().expect("a directory")).expect("directories can be created");
            fs::write(path, text).expect("files can be written");
        }
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_from(folder, store, Source::Shipped { environment })
    }

    fn start_from(folder: TempDir, store: PathBuf, source: Source) -> Self {
        let mut server = NatsServer { folder, store, source, port: 0, monitor_port: 0, process: None };
        let launched = server.launch(None).unwrap_or_else(|reason| panic!("{reason}"));
        server.set_launched(launched);
        server
    }

    /// Address for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Port on 127.0.0.1. A restart keeps it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Monitoring port on 127.0.0.1. A restart changes it.
    #[must_use]
    pub fn monitor_port(&self) -> u16 {
        self.monitor_port
    }

    /// The process id.
    ///
    /// # Panics
    /// If the server was killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").id()
    }

    /// Whether the server has ended by itself.
    ///
    /// # Panics
    /// If the server was killed.
    pub fn has_ended(&mut self) -> bool {
        let process = self.process.as_mut().expect("the server runs");
        process.try_wait().expect("the process can be queried").is_some()
    }

    /// Pauses the server (SIGSTOP): connections stay open, and nothing is answered.
    ///
    /// # Panics
    /// If the server was killed or the signal cannot be sent.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Resumes the server after [`NatsServer::pause`].
    ///
    /// # Panics
    /// If the server was killed or the signal cannot be sent.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// The store directory.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Kills the server (SIGKILL) and waits until it has ended. The store remains.
    ///
    /// # Panics
    /// If the process cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("nats-server can be killed");
            process.wait().expect("nats-server ends");
        }
    }

    /// Starts the server again on the same port and store. Kills it first if it runs.
    ///
    /// # Panics
    /// If the server cannot be started.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + START;
        loop {
            match self.launch(Some(self.port)) {
                Ok(launched) => {
                    self.set_launched(launched);
                    return;
                }
                // Another process can use the port for a moment, as the local end of a connection.
                Err(reason) if reason.contains("address already in use") && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(reason) => panic!("{reason}"),
            }
        }
    }

    fn set_launched(&mut self, launched: Launched) {
        self.process = Some(launched.process);
        (self.port, self.monitor_port) = (launched.port, launched.monitor_port);
    }

    /// Starts the program and waits until it is ready.
    fn launch(&self, port: Option<u16>) -> Result<Launched, String> {
        let port = port.map_or(-1, i32::from).to_string();
        let mut command = Command::new(programs::find("nats-server", "BEDSIDE_TEST_NATS_SERVER"));
        match &self.source {
            Source::Settings(settings) => {
                let config = self.folder.path().join("nats.conf");
                let store = &self.store;
                // The limit is high so that tests do not depend on free disk space.
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
        let output = process.stderr.take().expect("the error stream is piped");
        let (lines, received) = mpsc::channel();
        thread::spawn(move || {
            // Reads to the end, also without a receiver, because the server would block on a full pipe.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + START;
        let mut log = String::new();
        let (mut bound, mut monitor) = (None, None);
        let port_of = |address: &str| address.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        loop {
            let ended = match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
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
                    log.push_str(&line);
                    log.push('\n');
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => "ended before it was ready",
                Err(RecvTimeoutError::Timeout) => "is not ready in time",
            };
            let _ = process.kill();
            let _ = process.wait();
            return Err(format!("nats-server {ended}; its log:\n{log}"));
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
    fn restarted_server_keeps_its_port() {
        let mut server = NatsServer::start();
        let address = ("127.0.0.1", server.port());
        assert!(TcpStream::connect(address).is_ok());
        server.kill();
        assert!(TcpStream::connect(address).is_err());
        server.restart();
        assert!(TcpStream::connect(address).is_ok());
    }
}
