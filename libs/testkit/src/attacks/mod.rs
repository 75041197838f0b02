//! Clients that take what they can get, and what an ordinary client notices of them.
//!
//! The attackers run in a process of their own, at low priority: what it costs to attack is not to be mistaken for what it
//! costs to be attacked.

mod clients;

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use client::{Gateway, Settings, Upload, UploadFile};
use proto_json::{BlobHash, FileKind, Mrn};

use crate::{Extras, Mode, System, material, resident_bytes};

pub use clients::attack;

/// Every attack, with what it does.
pub const ATTACKS: [(&str, &str); 15] = [
    ("idle-connections", "2,000 connections without a token that ask for `/` every second"),
    ("flood-without-token", "64 connections without a token that ask for `/` as fast as they are answered"),
    ("slow-legacy-bodies", "64 uploads of 58 MB that stop at 50 MB and go on with 5 KB each second"),
    ("large-legacy-bodies", "16 uploads of 58 MB at the same time, again and again"),
    ("unread-downloads", "520 downloads of 20 MB that nobody reads"),
    ("slow-heads", "2,000 connections, a letter of a request head each second"),
    ("slow-bodies", "1,000 connections, 1,100 bytes of an upload each second"),
    ("endless-bodies", "8 uploads that do not end, as fast as they are taken, through both doors"),
    ("bombs", "pictures of 40,000 x 40,000 pixels in a few KB, and of 64 megapixels of one colour"),
    ("deep-json", "30 MB of opening brackets, again and again"),
    ("many-parts", "forms of a million parts"),
    ("long-csv", "30 MB of CSV that is no ECG, again and again"),
    ("unread-streams", "2,000 event streams that nobody reads, while patients change"),
    ("flood-of-uploads", "64 connections that upload pictures as fast as they are taken"),
    ("flood-of-reads", "64 connections that read lists and plots as fast as they are given"),
];

/// No attack: a process that keeps all processors busy at the priority of the attackers, and leaves the server alone. What
/// is noticed of it is noticed of any other program on the same machine, and nothing that the server could mend: syncs of
/// a virtual disk, for one, take longer while its processors are never idle.
pub const NO_ATTACK: &str = "none";

const ATTACKER: &str = "attacker-secret";
/// Token of the ordinary client.
pub const NURSE: &str = "nurse-secret";

/// What an ordinary client has noticed.
#[derive(Debug, Clone, Default)]
pub struct Noticed {
    /// Times of uploads, in ms, sorted.
    pub uploads: Vec<f64>,
    /// Times of reads, in ms, sorted.
    pub reads: Vec<f64>,
    /// Requests that failed, and how.
    pub failures: Vec<String>,
    /// The most memory that the server held, in bytes.
    pub resident: u64,
}

/// The value below which so much of a sorted list lies.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// A system that knows an ordinary client and an attacker, each by a token.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn system(folder: &Path, mode: Mode) -> System {
    system_with(folder, mode, &[])
}

/// The same with further arguments for the gateway.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn system_with(folder: &Path, mode: Mode, args: &[&str]) -> System {
    let line = |name: &str, secret: &str| format!("{name} admin {}\n", BlobHash::of(secret.as_bytes()));
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, line("nurse", NURSE) + &line("attacker", ATTACKER)).expect("a file of tokens");
    let tokens = tokens.to_string_lossy();
    let gateway = ["--tokens", &tokens].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
    System::start_extra(mode, &Extras { gateway, ..Extras::default() })
}

/// The ordinary client of such a system.
///
/// # Panics
/// Never: the address is one.
#[must_use]
pub fn nurse(system: &System) -> Gateway {
    let settings = Settings { token: Some(NURSE.parse().expect("a token")), ..Settings::new(system.url()) };
    Gateway::new(&settings).expect("the gateway's address is one")
}

/// Uploads a picture and reads a patient, again and again with a pause between, for so long.
pub async fn notice(system: &System, time: Duration) -> Noticed {
    let gateway = nurse(system);
    let mut noticed = Noticed::default();
    let mrn = Mrn::new(7).expect("a number");
    let end = Instant::now() + time;
    let mut seed = u64::from(std::process::id()) << 32 | u64::from(Instant::now().elapsed().subsec_nanos());
    while Instant::now() < end {
        seed += 1;
        let image = UploadFile::from_bytes(FileKind::MedicalImage, "image.jpg", material::jpeg(160, seed));
        let begun = Instant::now();
        match gateway.upload(mrn, &Upload::of(vec![image]), |_| {}).await {
            Ok(_) => noticed.uploads.push(begun.elapsed().as_secs_f64() * 1e3),
            Err(error) => noticed.failures.push(format!("upload: {error}")),
        }
        let begun = Instant::now();
        match gateway.patient(mrn).await {
            Ok(_) => noticed.reads.push(begun.elapsed().as_secs_f64() * 1e3),
            Err(error) => noticed.failures.push(format!("read: {error}")),
        }
        let held: u64 = system.processes().iter().filter_map(|process| resident_bytes(process.pid())).sum();
        noticed.resident = noticed.resident.max(held);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    noticed.uploads.sort_by(f64::total_cmp);
    noticed.reads.sort_by(f64::total_cmp);
    noticed
}

/// Attackers in a process of their own; ended when dropped.
#[derive(Debug)]
pub struct Attackers(Child);

impl Attackers {
    /// Starts an attack, by the program that calls [`attack`] with these arguments.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(program: &Path, name: &str, system: &System) -> Self {
        let address = system.url().replace("http://", "");
        let mut attackers = Command::new("nice");
        attackers.args(["-n", "19"]).arg(program).args(["--attack", name, &address, ATTACKER]);
        Attackers(attackers.spawn().expect("the attackers start"))
    }

    /// Whether they are still at it: an attack that ended by itself shows nothing.
    ///
    /// # Panics
    /// Never where processes can be asked.
    pub fn go_on(&mut self) -> bool {
        self.0.try_wait().expect("a process can be asked").is_none()
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
