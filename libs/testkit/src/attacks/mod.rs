//! Clients that attack the gateway, and the latency that another client measures meanwhile.
//!
//! The attackers run in their own process with low priority, so that the cost of the attack is not counted as the cost of the
//! server.

mod clients;

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use client::{Gateway, Settings, Upload, UploadFile};
use proto_json::{BlobHash, FileKind, Mrn};

use crate::{Extras, Mode, System, resident_bytes, test_data};

pub use clients::attack;

/// Name and description of each attack.
pub const ATTACKS: [(&str, &str); 15] = [
    ("idle-connections", "2,000 connections without a token that request `/` every second"),
    ("flood-without-token", "64 connections without a token that request `/` at full speed"),
    ("slow-legacy-bodies", "64 uploads of 58 MB that slow down to 5 KB per second at 50 MB"),
    ("large-legacy-bodies", "16 concurrent uploads of 58 MB, repeated"),
    ("unread-downloads", "520 unread downloads of 20 MB"),
    ("slow-heads", "2,000 connections, one byte of a request head per second"),
    ("slow-bodies", "1,000 connections, 1,100 bytes of an upload per second"),
    ("endless-bodies", "8 endless uploads at full speed, through both APIs"),
    ("bombs", "images of 40,000 x 40,000 pixels in a few KB, and of 64 megapixels of one colour"),
    ("deep-json", "30 MB of opening brackets, repeated"),
    ("many-parts", "forms with a million parts"),
    ("long-csv", "30 MB of CSV that is not an ECG, repeated"),
    ("unread-streams", "2,000 unread event streams while patients change"),
    ("flood-of-uploads", "64 connections that upload images at full speed"),
    ("flood-of-reads", "64 connections that read lists and plots at full speed"),
];

/// The baseline: a process that keeps all processors busy with the priority of the attackers and does not use the server. Its
/// effects are those of any other program on the machine; for example, syncs of a virtual disk take longer.
pub const NO_ATTACK: &str = "none";

const ATTACKER: &str = "attacker-secret";
/// Token of the measuring client.
pub const NURSE: &str = "nurse-secret";

/// Latencies and failures that the measuring client has seen.
#[derive(Debug, Clone, Default)]
pub struct Measurement {
    /// Durations of uploads in ms, sorted.
    pub uploads: Vec<f64>,
    /// Durations of reads in ms, sorted.
    pub reads: Vec<f64>,
    /// Failed requests with their errors.
    pub failures: Vec<String>,
    /// Highest resident memory of the server, in bytes.
    pub resident: u64,
}

/// Starts a system with tokens for the measuring client and the attackers.
///
/// # Panics
/// If the system does not start.
#[must_use]
pub fn system(folder: &Path, mode: Mode) -> System {
    system_with(folder, mode, &[])
}

/// [`system`] with additional arguments of the gateway.
///
/// # Panics
/// If the system does not start.
#[must_use]
pub fn system_with(folder: &Path, mode: Mode, args: &[&str]) -> System {
    let line = |name: &str, secret: &str| format!("{name} admin {}\n", BlobHash::of(secret.as_bytes()));
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, line("nurse", NURSE) + &line("attacker", ATTACKER)).expect("a token file");
    let tokens = tokens.to_string_lossy();
    let gateway = ["--tokens", &tokens].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    System::start_extra(mode, &Extras { gateway, ..Extras::default() })
}

/// The measuring client of such a system.
///
/// # Panics
/// If the address is invalid, which does not happen.
#[must_use]
pub fn nurse(system: &System) -> Gateway {
    let settings = Settings { token: Some(NURSE.parse().expect("a token")), ..Settings::new(system.url()) };
    Gateway::new(&settings).expect("a valid address")
}

/// Uploads an image and reads a patient repeatedly, with a pause between, for this time.
pub async fn measure(system: &System, time: Duration) -> Measurement {
    let gateway = nurse(system);
    let mut measurement = Measurement::default();
    let mrn = Mrn::new(7).expect("a number");
    let end = Instant::now() + time;
    let mut seed = u64::from(std::process::id()) << 32 | u64::from(Instant::now().elapsed().subsec_nanos());
    while Instant::now() < end {
        seed += 1;
        let image = UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", test_data::jpeg(160, seed));
        let started = Instant::now();
        match gateway.upload(mrn, &Upload::of(vec![image]), |_| {}).await {
            Ok(_) => measurement.uploads.push(started.elapsed().as_secs_f64() * 1e3),
            Err(error) => measurement.failures.push(format!("upload: {error}")),
        }
        let started = Instant::now();
        match gateway.patient(mrn).await {
            Ok(_) => measurement.reads.push(started.elapsed().as_secs_f64() * 1e3),
            Err(error) => measurement.failures.push(format!("read: {error}")),
        }
        let held: u64 = system.processes().iter().filter_map(|process| resident_bytes(process.pid())).sum();
        measurement.resident = measurement.resident.max(held);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    measurement.uploads.sort_by(f64::total_cmp);
    measurement.reads.sort_by(f64::total_cmp);
    measurement
}

/// The process of the attackers. Dropping it ends the process.
#[derive(Debug)]
pub struct Attackers(Child);

impl Attackers {
    /// Starts an attack with a program that passes its arguments to [`attack`].
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn start(program: &Path, name: &str, system: &System) -> Self {
        let address = system.url().replace("http://", "");
        let mut attackers = Command::new("nice");
        attackers.args(["-n", "19"]).arg(program).args(["--attack", name, &address, ATTACKER]);
        Attackers(attackers.spawn().expect("the attackers start"))
    }

    /// Whether the attack still runs. An attack that has ended shows nothing.
    ///
    /// # Panics
    /// If the process cannot be queried.
    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("the process can be queried").is_none()
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
