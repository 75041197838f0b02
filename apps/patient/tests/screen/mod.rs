//! The real app on a screen nobody looks at. For tests and measurements.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
pub use testkit::Screen;

/// The real app on a screen. Dropping it ends it.
pub struct Running {
    app: Child,
    folder: TempDir,
}

impl Running {
    /// Starts it with a folder of its own; it has not shown anything yet.
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

    /// Makes its window fill the screen and take the keyboard.
    pub fn fill(&self, screen: &Screen) {
        screen.fill("Bedside Patient");
    }

    #[allow(dead_code, reason = "not everybody needs all")]
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
