//! Flags of the patient app.

use std::path::PathBuf;

use ui::ConnectionArgs;

/// Upload a patient's name, record number, medical images and ECG strips. Not for clinical use.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(
    name = "patient",
    version,
    after_help = "Keys: Ctrl+O select files, Ctrl+U upload, Ctrl+R reset all, Ctrl+Q quit, Ctrl+, settings, F1 about, \
                  Tab to move, Delete on a file to remove it, Esc to cancel.

Settings are kept in bedside/patient.json in your folder of configurations, uploads that wait for the gateway in
bedside/patient-outbox in your folder of data. What is given as a flag wins over the environment, and both over the
file."
)]
pub struct Args {
    /// Files to choose right away: PNG and JPEG as medical images, all others as ECGs
    pub files: Vec<PathBuf>,
    /// Medical record number to start with
    #[arg(long, value_name = "NUMBER")]
    pub mrn: Option<String>,
    /// Name to start with
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder in which uploads wait until the gateway has them
    #[arg(long, env = "BEDSIDE_OUTBOX", value_name = "DIR")]
    pub outbox: Option<PathBuf>,
    /// How to reach the system.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

impl Args {
    /// The outbox's folder.
    pub(crate) fn outbox_folder(&self) -> PathBuf {
        self.outbox.clone().unwrap_or_else(|| {
            let data = dirs::data_local_dir().or_else(dirs::home_dir).unwrap_or_default();
            data.join("bedside").join("patient-outbox")
        })
    }
}
