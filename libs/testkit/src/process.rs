//! A process of the system under test.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::program;

/// Time limit for a start. It is long because other tests may use all cores.
const START: Duration = Duration::from_secs(60);

/// A process of the system. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
    /// The addresses that it printed after "listens on", in this order.
    addresses: Vec<String>,
    /// Number of addresses that it prints.
    expected: usize,
}

impl Process {
    /// Starts a program and waits until it has printed `expected` addresses. Its log goes to a file.
    ///
    /// # Panics
    /// If the process ends early or takes too long.
    #[must_use]
    pub fn start(name: &'static str, args: Vec<String>, log: PathBuf, expected: usize) -> Self {
        Self::start_in(name, args, Vec::new(), log, expected)
    }

    /// [`Process::start`] with additional environment variables.
    ///
    /// # Panics
    /// If the process ends early or takes too long.
    #[must_use]
    pub fn start_in(
        name: &'static str,
        args: Vec<String>,
        env: Vec<(String, String)>,
        log: PathBuf,
        expected: usize,
    ) -> Self {
        let mut process = Process { name, args, env, log, child: None, addresses: Vec::new(), expected };
        process.launch().unwrap_or_else(|error| panic!("{error}"));
        process
    }

    fn launch(&mut self) -> Result<(), String> {
        let log = fs::File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut child = Command::new(program(self.name))
            .args(&self.args)
            .env("BEDSIDE_LOG_FORMAT", "json")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.name));
        let output = child.stdout.take().expect("the output is piped");
        self.child = Some(child);
        let (lines, received) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let deadline = Instant::now() + START;
        self.addresses.clear();
        while self.addresses.len() < self.expected {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, url)) = line.split_once("listens on http")
                        && let Some((_, address)) = url.split_once("://")
                    {
                        self.addresses.push(address.trim().to_owned());
                    }
                }
                Err(_) => return Err(format!("{} is not ready; its log:\n{}", self.name, self.log())),
            }
        }
        Ok(())
    }

    /// The address with this index, for example `127.0.0.1:34567`.
    #[must_use]
    pub fn address(&self, index: usize) -> &str {
        &self.addresses[index]
    }

    /// Replaces the value of an argument for the next start, so that a restarted process keeps its port.
    pub fn pin(&mut self, flag: &str, value: String) {
        let at = self.args.iter().position(|arg| arg == flag).expect("the argument is there");
        self.args[at + 1] = value;
    }

    /// The arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Name of the program.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The process id.
    ///
    /// # Panics
    /// If the process does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the process runs").id()
    }

    /// Kills the process (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the process and starts it again with the same arguments.
    ///
    /// # Panics
    /// If the process ends early or takes too long.
    pub fn restart(&mut self) {
        let deadline = Instant::now() + START;
        loop {
            self.kill();
            match self.launch() {
                Ok(()) => return,
                // A connection of another program can use the port for a moment.
                Err(error) if error.contains("in use") && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Pauses the process (SIGSTOP) until [`Process::resume`].
    pub fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    /// Resumes the process (SIGCONT).
    pub fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// Sends SIGTERM and returns the exit code, or `None` if a signal ended the process.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut child = self.child.take()?;
        signal(child.id(), "TERM");
        child.wait().expect("the process ends").code()
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = fs::File::open(&self.log).and_then(|mut file| file.read_to_string(&mut text));
        text
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "process {pid} receives the signal {name}");
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Resident memory of a process, in bytes (Linux).
#[must_use]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Processor time that a process has used, in seconds, with a resolution of 10 ms (Linux).
#[must_use]
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name can contain any character. User and system time are the 12th and 13th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks as f64 / 100.0)
}
