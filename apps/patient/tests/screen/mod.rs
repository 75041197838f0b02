//! Starts the app on a virtual screen, for tests and benchmarks.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
pub use testkit::Screen;

/// The process of the app. Dropping it ends the process.
pub struct Running {
    app: Child,
    folder: TempDir,
}

impl Running {
    /// Starts the app with a folder of its own. Does not wait until it shows its window.
    pub fn launch(screen: &Screen, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_patient"));
        for name in ["GATEWAY", "TOKEN", "TOKEN_FILE", "CA", "NATS", "NATS_CREDS", "THEME"] {
            command.env_remove(format!("BEDSIDE_{name}"));
        }
        let app = command
            .args(args)
            .env("DISPLAY", screen.display())
            .env_remove("WAYLAND_DISPLAY")
            .env("SLINT_BACKEND", "winit-software")
            .env("BEDSIDE_SETTINGS", folder.path().join("settings.json"))
            .env("BEDSIDE_OUTBOX", folder.path().join("outbox"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Running { app, folder }
    }

    /// Makes the window fill the screen and focuses it.
    pub fn fill(&self, screen: &Screen) {
        screen.fill("Bedside Patient");
    }

    #[allow(dead_code, reason = "used by the benchmark only")]
    pub fn pid(&self) -> u32 {
        self.app.id()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.app.kill();
        let _ = self.app.wait();
    }
}
