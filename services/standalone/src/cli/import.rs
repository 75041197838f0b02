//! `bedside import`: moves patients in from the database of the original server.

use std::path::PathBuf;

use super::{CliError, GatewayArgs};

/// Move patients in from the database of the original server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A further run changes nothing that is there; it must use a token of the same name. What could not be taken goes to
standard error, or to the file of --report. Both files name patients: keep them as safe as the data.

Examples:
  bedside import --from mongodb://old-server/patient_db --dry-run
  bedside import --from mongodb://old-server/patient_db --state moved --report not-taken.jsonl"
)]
pub(crate) struct ImportArgs {
    /// Connection string of the old database
    #[arg(long, value_name = "URI", env = "BEDSIDE_IMPORT_FROM", hide_env_values = true)]
    from: String,
    /// The collection of patients, where there are several collections
    #[arg(long, value_name = "NAME")]
    collection: Option<String>,
    /// Time zone of the old server's clock, as in Europe/Berlin; by default the one of this machine
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Patients moved at the same time
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    concurrency: usize,
    /// File that notes who has been moved; a further run with it leaves them out
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// File for what could not be taken, a JSON object per line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Read and judge everything, send nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    gateway: GatewayArgs,
}

#[cfg(not(feature = "full-stack"))]
impl ImportArgs {
    #[allow(clippy::unused_async, reason = "as the other commands")]
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let _ = self;
        Err(CliError::told(
            "this bedside was built without the driver of MongoDB; build it with --features full-stack, or use the one in \
             the container image",
        ))
    }
}

#[cfg(feature = "full-stack")]
mod full {
    use std::collections::HashSet;
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, IsTerminal, Write};
    use std::path::Path;

    use import::{Counts, Finding, ImportError, Options, Outcome};
    use jiff::tz::TimeZone;

    use super::super::say;
    use super::{CliError, ImportArgs};

    impl ImportArgs {
        pub(crate) async fn run(self) -> Result<(), CliError> {
            let gateway = self.gateway.connect()?;
            let zone = match &self.time_zone {
                None => TimeZone::system(),
                Some(name) => TimeZone::get(name)
                    .map_err(|error| CliError::told(format!("--time-zone {name} cannot be used: {error}")))?,
            };
            let done = self.state.as_deref().map_or_else(|| Ok(HashSet::new()), moved_before)?;
            let before = done.len();
            let options = Options {
                collection: self.collection,
                zone,
                concurrency: self.concurrency,
                done,
                dry_run: self.dry_run,
                ..Options::new(self.from)
            };
            let mut state = match self.state.filter(|_| !self.dry_run) {
                Some(path) => Some(Notes::open(path, true)?),
                None => None,
            };
            let mut report = match self.report {
                Some(path) => Some(Notes::open(path, false)?),
                None => None,
            };
            let mut progress = Progress { seen: before, findings: 0, shown: io::stderr().is_terminal() };
            let counts = import::run(&gateway, &options, |outcome, total| {
                for finding in &outcome.findings {
                    match &mut report {
                        Some(report) => report.note(&serde_json::to_string(finding).unwrap_or_default())?,
                        None => progress.say(finding),
                    }
                }
                if let Some(state) = &mut state {
                    state.note(&outcome.id)?;
                }
                progress.count(&outcome, total);
                Ok(())
            })
            .await
            .map_err(|error| CliError::told(error.to_string()))?;
            progress.end();
            summary(counts, progress.findings, before, options.dry_run)
        }
    }

    fn summary(counts: Counts, findings: usize, before: usize, dry_run: bool) -> Result<(), CliError> {
        let Counts { patients, ecg_images, heart_rates, medical_images } = counts;
        let verb = if dry_run { "would be moved" } else { "are moved" };
        say(format!(
            "{patients} patients {verb}, with {ecg_images} pictures of ECGs, {heart_rates} heart rates and {medical_images} \
             medical images."
        ))?;
        if before > 0 {
            say(format!("{before} patients were moved before."))?;
        }
        match findings {
            0 => say("Everything could be taken."),
            1 => say("1 place was not taken as it is."),
            _ => say(format!("{findings} places were not taken as they are.")),
        }
    }

    struct Progress {
        seen: usize,
        findings: usize,
        shown: bool,
    }

    impl Progress {
        fn say(&self, finding: &Finding) {
            let Finding { id, place, reason } = finding;
            let end = if self.shown { "\r\x1b[K" } else { "" };
            eprintln!("{end}patient {id}: {place} {reason}");
        }

        fn count(&mut self, outcome: &Outcome, total: usize) {
            self.seen += 1;
            self.findings += outcome.findings.len();
            if self.shown {
                eprint!("\r{} of {total} patients", self.seen);
            } else if self.seen.is_multiple_of(1_000) {
                eprintln!("{} of {total} patients", self.seen);
            }
        }

        fn end(&self) {
            if self.shown {
                eprint!("\r\x1b[K");
            }
        }
    }

    fn moved_before(state: &Path) -> Result<HashSet<String>, CliError> {
        match fs::read_to_string(state) {
            // A line that was cut off is no id of anybody: that patient is moved again, which changes nothing.
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            Err(error) => Err(CliError::told(format!("{} cannot be read: {error}", state.display()))),
        }
    }

    /// A file that gets a line at a time.
    struct Notes {
        path: std::path::PathBuf,
        file: File,
    }

    impl Notes {
        fn open(path: std::path::PathBuf, append: bool) -> Result<Self, CliError> {
            let mut options = OpenOptions::new();
            options.create(true).append(append).write(true).truncate(!append);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(&path) {
                Ok(file) => Ok(Notes { path, file }),
                Err(error) => Err(CliError::told(format!("{} cannot be written: {error}", path.display()))),
            }
        }

        fn note(&mut self, line: &str) -> Result<(), ImportError> {
            writeln!(self.file, "{line}")
                .map_err(|cause| ImportError::Note { path: self.path.clone(), cause })
        }
    }
}
