//! Command line arguments of the patient app.

use std::path::PathBuf;

use ui::{ConnectionArgs, WindowArgs};

/// Upload a patient's name, record number, medical images and ECG strips. Not for clinical use.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(
    name = "patient",
    version,
    after_help = "Keys: Ctrl+O select files, Ctrl+U upload, Ctrl+R reset all, Ctrl+Q quit, Ctrl+, settings, F1 about, F11 \
                  full screen, Tab next field, Delete remove the focused file, Esc cancel.

Settings are stored in bedside/patient.json in the user's configuration folder. Uploads that wait for the gateway are
stored in bedside/patient-outbox in the user's data folder. Flags override environment variables, and both override
the settings file."
)]
pub struct Args {
    /// Files to select at start: PNG and JPEG files as medical images, all others as ECGs
    pub files: Vec<PathBuf>,
    /// Initial medical record number
    #[arg(long, value_name = "NUMBER")]
    pub mrn: Option<String>,
    /// Initial name
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Folder in which uploads wait until the gateway has accepted them
    #[arg(long, env = "BEDSIDE_OUTBOX", value_name = "DIR")]
    pub outbox: Option<PathBuf>,
    /// How to connect to the gateway and the broker.
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// How the window starts.
    #[command(flatten)]
    pub window: WindowArgs,
}

impl Args {
    /// Folder of the outbox.
    pub(crate) fn outbox_folder(&self) -> PathBuf {
        self.outbox.clone().unwrap_or_else(|| {
            let data = dirs::data_local_dir().or_else(dirs::home_dir).unwrap_or_default();
            data.join("bedside").join("patient-outbox")
        })
    }
}
