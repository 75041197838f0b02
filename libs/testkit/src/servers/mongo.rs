//! A server with the MongoDB protocol.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::free_port;
use crate::process::signal;
use crate::programs;

/// Time limit for a start.
const START: Duration = Duration::from_secs(60);

/// Variable with the address of a running server.
const URI: &str = "BEDSIDE_TEST_MONGODB_URI";

/// A server with the MongoDB protocol: a new one, or the one at `BEDSIDE_TEST_MONGODB_URI`. Dropping the value kills a new server
/// and removes its directory.
#[derive(Debug)]
pub struct MongoServer {
    address: Address,
}

#[derive(Debug)]
enum Address {
    Named(String),
    Own(OwnServer),
}

#[derive(Debug)]
struct OwnServer {
    folder: TempDir,
    data: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl MongoServer {
    /// Uses the server at `BEDSIDE_TEST_MONGODB_URI`, or starts one on a free loopback port.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start() -> Self {
        match env::var(URI) {
            Ok(uri) if !uri.is_empty() => MongoServer { address: Address::Named(uri) },
            _ => Self::start_own(),
        }
    }

    /// Starts a new server, for tests that restart it.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start_own() -> Self {
        Self::start_own_in(None)
    }

    /// Starts a new server with its data in this directory.
    ///
    /// # Panics
    /// If the server cannot be started.
    #[must_use]
    pub fn start_in(data: &Path) -> Self {
        Self::start_own_in(Some(data))
    }

    fn start_own_in(data: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = data.map_or_else(|| folder.path().join("data"), Path::to_owned);
        let mut server = OwnServer { folder, data, port: 0, process: None };
        server.launch(None);
        MongoServer { address: Address::Own(server) }
    }

    /// Connection string.
    #[must_use]
    pub fn uri(&self) -> String {
        match &self.address {
            Address::Named(uri) => uri.clone(),
            Address::Own(server) => format!("mongodb://127.0.0.1:{}/?directConnection=true", server.port),
        }
    }

    /// A new database name at each call.
    #[must_use]
    pub fn fresh_database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis());
        format!("bedside_test_{since}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Port on 127.0.0.1. A restart keeps it.
    ///
    /// # Panics
    /// If the server is external.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.own().port
    }

    /// The process id.
    ///
    /// # Panics
    /// If the server was killed or is external.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.own().process.as_ref().expect("the server runs").id()
    }

    /// Pauses the server (SIGSTOP): connections stay open, and nothing is answered.
    ///
    /// # Panics
    /// If the server is external or the signal cannot be sent.
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Resumes the server after [`MongoServer::pause`].
    ///
    /// # Panics
    /// If the server is external or the signal cannot be sent.
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// The process id; `None` if the server was killed or is external.
    #[must_use]
    pub fn own_pid(&self) -> Option<u32> {
        match &self.address {
            Address::Own(server) => Some(server.process.as_ref()?.id()),
            Address::Named(_) => None,
        }
    }

    /// Kills the server (SIGKILL) and waits until it has ended. The data remains.
    ///
    /// # Panics
    /// If the server is external or cannot be killed.
    pub fn kill(&mut self) {
        self.own_mut().kill();
    }

    /// Stops the server (SIGTERM) and waits until it has ended.
    ///
    /// # Panics
    /// If the server is external or the signal cannot be sent.
    pub fn stop(&mut self) {
        let server = self.own_mut();
        if let Some(mut process) = server.process.take() {
            signal(process.id(), "TERM");
            process.wait().expect("the server ends");
        }
    }

    /// Starts the server again on the same port and data. Kills it first if it runs.
    ///
    /// # Panics
    /// If the server is external or cannot be started.
    pub fn restart(&mut self) {
        let server = self.own_mut();
        server.kill();
        server.launch(Some(server.port));
    }

    fn own(&self) -> &OwnServer {
        match &self.address {
            Address::Own(server) => server,
            Address::Named(_) => panic!("the server at {URI} is external; use start_own"),
        }
    }

    fn own_mut(&mut self) -> &mut OwnServer {
        match &mut self.address {
            Address::Own(server) => server,
            Address::Named(_) => panic!("the server at {URI} is external; use start_own"),
        }
    }
}

impl OwnServer {
    /// Starts the program and waits until it answers.
    fn launch(&mut self, port: Option<u16>) {
        let program = programs::find("secantusd-py", "BEDSIDE_TEST_MONGODB_SERVER");
        let log = self.folder.path().join("log");
        let deadline = Instant::now() + START;
        loop {
            let port = port.unwrap_or_else(free_port);
            let output = File::create(&log).expect("the log of the server can be written");
            let mut process = Command::new(&program)
                // The server ignores the journal of commitTransaction unless it syncs at every commit.
                .args([
                    "--sync-on-commit",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    &port.to_string(),
                    "--storage-path",
                ])
                .arg(&self.data)
                .current_dir(self.folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(output)
                .spawn()
                .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
            let ended = loop {
                // Another server can have taken the port and answer instead.
                let answers = ping(port).is_ok();
                let ended = process.try_wait().expect("the process can be queried").is_some();
                if answers && !ended {
                    self.port = port;
                    self.process = Some(process);
                    return;
                }
                if ended || Instant::now() > deadline {
                    break ended;
                }
                thread::sleep(Duration::from_millis(20));
            };
            let _ = process.kill();
            let _ = process.wait();
            // If the server ended immediately, another process took the port: try another one.
            if !ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("{} does not answer; its log:\n{log}", program.display());
            }
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the server can be killed");
            process.wait().expect("the server ends");
        }
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends `{ ping: 1, $db: "admin" }` and waits for any answer.
fn ping(port: u16) -> io::Result<()> {
    const OP_MSG: u32 = 2013;
    let mut document: Vec<u8> = Vec::new();
    document.extend(b"\x10ping\0\x01\0\0\0");
    document.extend(b"\x02$db\0\x06\0\0\0admin\0\0");
    let document_length = 4 + document.len() as u32;
    let mut message: Vec<u8> = Vec::new();
    for number in [16 + 4 + 1 + document_length, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(document_length.to_le_bytes());
    message.extend(document);

    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&message)?;
    stream.read_exact(&mut [0; 16])
}

#[cfg(test)]
mod tests {
    use super::{MongoServer, ping};

    #[test]
    fn restarted_server_keeps_its_port() {
        let mut server = MongoServer::start_own();
        assert!(ping(server.port()).is_ok());
        server.kill();
        assert!(ping(server.port()).is_err());
        server.restart();
        assert!(ping(server.port()).is_ok());
    }
}
