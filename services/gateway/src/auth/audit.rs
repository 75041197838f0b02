//! The audit log: one JSON line for each access to patient data.
//!
//! It is independent of the diagnostic log and of the log level. A line contains a keyed pseudonym of the
//! patient, or the record number if configured. Names, measured values and tokens are never written.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto_json::{Mrn, Timestamp};
use runtime::{Secret, StartError};
use serde::Serialize;

/// Interval at which the file is checked for rotation.
const ROTATION_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Destination of audit lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard error, together with the diagnostic log.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file; lines are appended.
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

/// How audit lines identify a patient.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AuditPatient {
    /// A keyed hash of the record number. `bedside audit pseudonym` computes it.
    #[default]
    Pseudonym,
    /// The record number.
    Number,
}

/// Returns the pseudonym of a patient: 16 hexadecimal digits of a keyed hash of the record number.
#[must_use]
pub fn pseudonym(key: &Secret, mrn: Mrn) -> String {
    let hash = key.keyed_hash("audit pseudonym", &[mrn.to_string().as_bytes()]);
    let digits = hash.iter().take(8).map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The audit log.
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
    /// Opens the log.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub(crate) fn open(target: AuditTarget, patient: AuditPatient, key: Secret) -> Result<Self, StartError> {
        let output = match target {
            AuditTarget::Stderr => Output::Stderr,
            AuditTarget::Stdout => Output::Stdout,
            AuditTarget::File(path) => Output::File(AuditFile::open(path).map_err(StartError::config)?),
        };
        Ok(AuditLog { sink: Mutex::new(Sink { output, failed: false }), patient, key })
    }

    /// Returns the identifier of a patient in audit lines.
    pub(crate) fn patient(&self, mrn: Mrn) -> String {
        match self.patient {
            AuditPatient::Pseudonym => pseudonym(&self.key, mrn),
            AuditPatient::Number => mrn.to_string(),
        }
    }

    /// Writes a line. A failure is counted and logged, and the request continues: access to patient data has
    /// priority over the audit log.
    pub(crate) fn write(&self, event: &impl Serialize) {
        let line = Line { timestamp: Timestamp::now(), level: "INFO", target: "audit", event };
        let Ok(mut line) = serde_json::to_vec(&line) else { return };
        line.push(b'\n');
        let mut sink = self.sink.lock();
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

/// The common fields of all lines. The keys are those of the diagnostic log.
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
    /// Whether the last write failed.
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
    checked_at: Instant,
    /// The last line was written incompletely, for example because the disk is full. The next line starts
    /// with a newline.
    incomplete: bool,
}

impl AuditFile {
    fn open(path: PathBuf) -> Result<Self, String> {
        match append(&path) {
            Ok(file) => Ok(AuditFile { path, file, checked_at: Instant::now(), incomplete: false }),
            Err(error) => Err(format!("--audit-log: {} cannot be written: {error}", path.display())),
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.checked_at.elapsed() >= ROTATION_CHECK_INTERVAL {
            self.checked_at = Instant::now();
            if !is_at(&self.file, &self.path) {
                self.file = append(&self.path)?;
                self.incomplete = false;
            }
        }
        let line = self
            .incomplete
            .then_some(b"\n".as_slice())
            .into_iter()
            .chain([line])
            .collect::<Vec<_>>()
            .concat();
        self.incomplete = true;
        self.file.write_all(&line)?;
        self.incomplete = false;
        Ok(())
    }
}

/// Opens a file for appending. A new file is readable only by its owner.
fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns whether the open file is still the one at this path.
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
    fn target_is_parsed_from_name_or_path() {
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
    fn rotated_file_is_reopened() {
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
        // Simulate that the check interval has passed.
        if let Output::File(file) = &mut log.sink.lock().output {
            file.checked_at = Instant::now().checked_sub(ROTATION_CHECK_INTERVAL).unwrap();
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
