//! `bedside import`: imports patients from the database of the original server.

use std::path::PathBuf;

use super::connection::GatewayArgs;
use super::error::CliError;
use super::output::OutputArgs;

/// Number of patients that are imported concurrently.
const DEFAULT_CONCURRENCY: usize = 4;

/// Import patients from the database of the original server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A second run changes nothing that is already stored; it must use a token of the same name. Values that cannot be imported
are written to standard error or to the --report file. Both files contain patient ids: protect them like the data.

Examples:
  bedside import --from mongodb://old-server/patient_db --dry-run
  bedside import --from mongodb://old-server/patient_db --state imported --report skipped.jsonl"
)]
pub(crate) struct ImportArgs {
    /// Connection string of the source database
    #[arg(long, value_name = "URI", env = "BEDSIDE_IMPORT_FROM", hide_env_values = true)]
    from: String,
    /// Name of the patient collection; needed if the database has several collections
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Time zone of the original server, for example Europe/Berlin; default: the time zone of this machine
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Number of patients imported concurrently
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_CONCURRENCY)]
    concurrency: usize,
    /// File that lists the imported patients; another run with the same file skips them
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// File for values that cannot be imported, one JSON object per line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Read and validate everything, but send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[cfg(not(feature = "full-stack"))]
impl ImportArgs {
    #[allow(clippy::unused_async, reason = "same signature as the other commands")]
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let _ = self;
        Err(CliError::failed(
            "this bedside was built without the MongoDB driver; build it with --features full-stack or use the container \
             image",
        ))
    }
}

#[cfg(feature = "full-stack")]
mod full {
    use std::collections::HashSet;
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, Write};
    use std::path::Path;

    use import::{Counts, Finding, ImportError, Options, PatientReport};
    use indicatif::ProgressBar;
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::super::error::{cannot_read, cannot_write};
    use super::super::progress::item_bar;
    use super::{CliError, ImportArgs, OutputArgs};

    impl ImportArgs {
        pub(crate) async fn run(self) -> Result<(), CliError> {
            let gateway = self.gateway.connect()?;
            let zone = match &self.time_zone {
                None => TimeZone::system(),
                Some(name) => TimeZone::get(name).map_err(|error| {
                    CliError::usage(format!("--time-zone {name} cannot be used: {error}"))
                })?,
            };
            let done = self.state.as_deref().map_or_else(|| Ok(HashSet::new()), imported_ids)?;
            let before = done.len();
            let options = Options {
                collection: self.collection,
                zone,
                done,
                dry_run: self.dry_run,
                ..Options::new(self.from, self.concurrency)
            };
            let mut state = match self.state.filter(|_| !self.dry_run) {
                Some(path) => Some(LineFile::open(path, true)?),
                None => None,
            };
            let mut report = match self.report {
                Some(path) => Some(LineFile::open(path, false)?),
                None => None,
            };
            let mut progress = Progress { seen: before, findings: 0, bar: item_bar(0, "patients") };
            let counts = import::run(&gateway, &options, |patient, total| {
                for finding in &patient.findings {
                    match &mut report {
                        Some(report) => {
                            report.write_line(&serde_json::to_string(finding).unwrap_or_default())?
                        }
                        None => progress.print(finding),
                    }
                }
                if let Some(state) = &mut state {
                    state.write_line(&patient.id)?;
                }
                progress.count(&patient, total);
                Ok(())
            })
            .await
            .map_err(CliError::failed)?;
            progress.bar.finish_and_clear();
            summary(counts, progress.findings, before, options.dry_run, self.output)
        }
    }

    fn summary(
        counts: Counts,
        findings: usize,
        before: usize,
        dry_run: bool,
        output: OutputArgs,
    ) -> Result<(), CliError> {
        let Counts { patients, ecg_images, heart_rates, medical_images } = counts;
        let verb = if dry_run { "would be imported" } else { "imported" };
        let mut lines = vec![format!(
            "{patients} patients {verb}, with {ecg_images} ECG images, {heart_rates} heart rates and {medical_images} \
             medical images."
        )];
        if before > 0 {
            lines.push(format!("{before} patients were imported by an earlier run."));
        }
        lines.push(match findings {
            0 => "No value was skipped or changed.".to_owned(),
            1 => "1 value was skipped or changed.".to_owned(),
            _ => format!("{findings} values were skipped or changed."),
        });
        let summary = json!({ "imported": counts, "findings": findings, "imported_earlier": before, "dry_run": dry_run });
        output.print(lines.join("\n"), &summary)
    }

    struct Progress {
        seen: usize,
        findings: usize,
        bar: ProgressBar,
    }

    impl Progress {
        fn print(&self, finding: &Finding) {
            let Finding { id, place, reason } = finding;
            self.bar.suspend(|| eprintln!("patient {id}: {place} {reason}"));
        }

        fn count(&mut self, patient: &PatientReport, total: usize) {
            self.seen += 1;
            self.findings += patient.findings.len();
            self.bar.set_length(total as u64);
            self.bar.set_position(self.seen as u64);
            if self.bar.is_hidden() && self.seen.is_multiple_of(1_000) {
                eprintln!("{} of {total} patients", self.seen);
            }
        }
    }

    fn imported_ids(state: &Path) -> Result<HashSet<String>, CliError> {
        match fs::read_to_string(state) {
            // An interrupted write leaves a partial line that matches no id. That patient is imported again,
            // which changes nothing.
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(cannot_read(state)(error)),
        }
    }

    /// A file that is written line by line.
    struct LineFile {
        path: std::path::PathBuf,
        file: File,
    }

    impl LineFile {
        fn open(path: std::path::PathBuf, append: bool) -> Result<Self, CliError> {
            let mut options = OpenOptions::new();
            options.create(true).append(append).write(true).truncate(!append);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(&path) {
                Ok(file) => Ok(LineFile { path, file }),
                Err(error) => Err(cannot_write(&path)(error)),
            }
        }

        fn write_line(&mut self, line: &str) -> Result<(), ImportError> {
            writeln!(self.file, "{line}")
                .map_err(|cause| ImportError::Note { path: self.path.clone(), cause })
        }
    }
}
