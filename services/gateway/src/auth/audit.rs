//! The audit log: one line of JSON for each access to patient data.
//!
//! It is a log of its own, apart from the diagnostic log: the log level does not affect it. A line names the patient by a
//! keyed pseudonym unless record numbers are asked for, so that the log can be kept where logs are kept. Names, measured
//! values and tokens never go into it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto_json::{Mrn, Timestamp};
use runtime::{Secret, StartError};
use serde::Serialize;

/// How often the file is looked at: a program that rotates logs may have renamed it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where audit lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard error, among the lines of the diagnostic log.
    Stderr,
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
}

impl FromStr for AuditTarget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is `stderr`, `stdout` or the path of a file".to_owned()),
            "stderr" => Ok(AuditTarget::Stderr),
            "stdout" | "-" => Ok(AuditTarget::Stdout),
            path => Ok(AuditTarget::File(path.into())),
        }
    }
}

/// How audit lines name a patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditPatient {
    /// By a keyed hash of the record number: `bedside audit pseudonym` computes it.
    #[default]
    Pseudonym,
    /// By the record number.
    Number,
}

/// The pseudonym of a patient in audit lines: 16 hexadecimal digits of a keyed hash of the record number.
#[must_use]
pub fn pseudonym(key: &Secret, mrn: Mrn) -> String {
    let hash = key.keyed_hash("audit pseudonym", &[mrn.to_string().as_bytes()]);
    let digits = hash.iter().take(8).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// Writes audit lines.
pub(crate) struct AuditLog {
    sink: Mutex<Sink>,
    patient: AuditPatient,
    key: Secret,
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("patient", &self.patient).finish_non_exhaustive()
    }
}

impl AuditLog {
    /// # Errors
    /// When the file cannot be opened for writing.
    pub(crate) fn open(target: AuditTarget, patient: AuditPatient, key: Secret) -> Result<Self, StartError> {
        let output = match target {
            AuditTarget::Stderr => Output::Stderr,
            AuditTarget::Stdout => Output::Stdout,
            AuditTarget::File(path) => Output::File(AuditFile::open(path).map_err(StartError::config)?),
        };
        Ok(AuditLog { sink: Mutex::new(Sink { output, failed: false }), patient, key })
    }

    /// How a line names this patient.
    pub(crate) fn patient(&self, mrn: Mrn) -> String {
        match self.patient {
            AuditPatient::Pseudonym => pseudonym(&self.key, mrn),
            AuditPatient::Number => mrn.to_string(),
        }
    }

    /// Writes a line. A line that cannot be written is counted and reported in the diagnostic log; the request goes on,
    /// because monitoring patients comes first.
    pub(crate) fn write(&self, event: &impl Serialize) {
        let line = Line { timestamp: Timestamp::now(), level: "INFO", target: "audit", event };
        let Ok(mut line) = serde_json::to_vec(&line) else { return };
        line.push(b'\n');
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        match sink.output.write(&line) {
            Ok(()) => sink.failed = false,
            Err(error) => {
                metrics::counter!("bedside_gateway_audit_failures_total").increment(1);
                if !sink.failed {
                    tracing::error!(%error, "audit lines cannot be written");
                }
                sink.failed = true;
            }
        }
    }
}

/// What all lines have in common; the same keys as lines of the diagnostic log.
#[derive(Serialize)]
struct Line<'a, E> {
    timestamp: Timestamp,
    level: &'static str,
    target: &'static str,
    #[serde(flatten)]
    event: &'a E,
}

struct Sink {
    output: Output,
    /// The last line could not be written.
    failed: bool,
}

enum Output {
    Stderr,
    Stdout,
    File(AuditFile),
}

impl Output {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().lock().write_all(line),
            Output::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line).and_then(|()| out.flush())
            }
            Output::File(file) => file.write(line),
        }
    }
}

struct AuditFile {
    path: PathBuf,
    file: File,
    looked_at: Instant,
    /// A line was cut off by an error, such as a full disk: the next one begins on a line of its own.
    cut_off: bool,
}

impl AuditFile {
    fn open(path: PathBuf) -> Result<Self, String> {
        match append(&path) {
            Ok(file) => Ok(AuditFile { path, file, looked_at: Instant::now(), cut_off: false }),
            Err(error) => Err(format!("--audit-log: {} cannot be written: {error}", path.display())),
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.looked_at.elapsed() >= LOOK_EVERY {
            self.looked_at = Instant::now();
            if !is_at(&self.file, &self.path) {
                self.file = append(&self.path)?;
                self.cut_off = false;
            }
        }
        let begun =
            self.cut_off.then_some(b"\n".as_slice()).into_iter().chain([line]).collect::<Vec<_>>().concat();
        self.cut_off = true;
        self.file.write_all(&begun)?;
        self.cut_off = false;
        Ok(())
    }
}

/// Only its owner can read a new file.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether the file still has this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |open: std::fs::Metadata, there: std::fs::Metadata| {
        open.ino() == there.ino() && open.dev() == there.dev()
    };
    file.metadata().ok().zip(std::fs::metadata(path).ok()).is_some_and(|(open, there)| same(open, there))
}

#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_read_from_its_name_or_path() {
        assert_eq!("stderr".parse(), Ok(AuditTarget::Stderr));
        assert_eq!("-".parse(), Ok(AuditTarget::Stdout));
        assert_eq!("/var/log/audit".parse(), Ok(AuditTarget::File("/var/log/audit".into())));
        assert!("".parse::<AuditTarget>().is_err());
    }

    #[test]
    fn pseudonym_depends_on_key_and_record_number() {
        let (key, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let mrn = |number| Mrn::new(number).unwrap();
        assert_eq!(pseudonym(&key, mrn(7)), pseudonym(&key, mrn(7)));
        assert_ne!(pseudonym(&key, mrn(7)), pseudonym(&key, mrn(8)));
        assert_ne!(pseudonym(&key, mrn(7)), pseudonym(&other, mrn(7)));
    }

    #[test]
    fn file_that_was_rotated_away_is_opened_anew() {
        #[derive(Serialize)]
        struct Event {
            number: u32,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let key = Secret::generate().unwrap();
        let log = AuditLog::open(AuditTarget::File(path.clone()), AuditPatient::Number, key).unwrap();
        log.write(&Event { number: 1 });
        let rotated = folder.path().join("audit.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        // As if the time to look at the file had come.
        if let Output::File(file) = &mut log.sink.lock().unwrap().output {
            file.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap();
        }
        log.write(&Event { number: 2 });
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert!(read(&rotated).ends_with("\"target\":\"audit\",\"number\":1}\n"), "{}", read(&rotated));
        assert!(read(&path).ends_with("\"number\":2}\n") && read(&path).lines().count() == 1);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
