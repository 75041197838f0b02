//! A screen nobody looks at: Xvfb, what is on it, and the hands that type. For tests and measurements of the real app.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing takes this long unless it is broken; a debug build draws slowly.
const LIMIT: Duration = Duration::from_secs(60);

/// An X server of its own, whose picture lies in a file.
pub struct Screen {
    server: Child,
    pub display: String,
    folder: TempDir,
}

impl Screen {
    pub fn start(width: u32, height: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            .arg("-fbdir")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed: see scripts/test");
        let mut number = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut number).unwrap();
        Screen { server, display: format!(":{}", number.trim()), folder }
    }

    /// What is on it now. Xvfb keeps it as an XWD file.
    pub fn shot(&self) -> Shot {
        let file = fs::read(self.folder.path().join("Xvfb_screen0")).unwrap();
        let field = |index: usize| {
            let bytes: [u8; 4] = file[index * 4..index * 4 + 4].try_into().unwrap();
            u32::from_be_bytes(bytes) as usize
        };
        let (width, height, line) = (field(4), field(5), field(12));
        assert_eq!((field(7), field(11)), (0, 32), "least significant byte first, four bytes a pixel");
        let start = field(0) + field(19) * 12;
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in file[start..].chunks_exact(line).take(height) {
            rgb.extend(row[..width * 4].chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
        }
        Shot { width: width as u32, height: height as u32, rgb }
    }

    /// Lets a hand do something, in the words of xdotool.
    pub fn hand(&self, words: &[&str]) -> String {
        let output = Command::new("xdotool").args(words).env("DISPLAY", &self.display).output();
        let output = output.expect("xdotool is installed: see scripts/test");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Goes on once the picture is so.
    pub fn until(&self, what: &str, mut there: impl FnMut(&Shot) -> bool) -> Shot {
        let begun = Instant::now();
        loop {
            let shot = self.shot();
            if there(&shot) {
                return shot;
            }
            assert!(begun.elapsed() < LIMIT, "never {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Goes on once the picture no longer changes, but for a cursor that blinks.
    #[allow(dead_code, reason = "not everybody needs all")]
    pub fn settled(&self) -> Shot {
        let mut last = self.shot();
        let mut alike = 0;
        self.until("the picture stands still", |shot| {
            std::thread::sleep(Duration::from_millis(60));
            alike = if shot.difference(&last) < 0.0005 { alike + 1 } else { 0 };
            last = shot.clone();
            alike >= 5
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A picture of the screen.
#[derive(Clone, PartialEq)]
pub struct Shot {
    pub width: u32,
    pub height: u32,
    rgb: Vec<u8>,
}

impl Shot {
    /// Share of pixels of about this colour.
    pub fn share(&self, color: [u8; 3]) -> f64 {
        let same = |pixel: &&[u8]| pixel.iter().zip(color).all(|(part, wanted)| part.abs_diff(wanted) <= 3);
        self.rgb.chunks_exact(3).filter(same).count() as f64 / (self.rgb.len() / 3) as f64
    }

    /// Number of different colours.
    #[allow(dead_code, reason = "not everybody needs all")]
    pub fn colors(&self) -> usize {
        self.rgb.chunks_exact(3).collect::<std::collections::HashSet<_>>().len()
    }

    /// Share of pixels that differ.
    #[allow(dead_code, reason = "not everybody needs all")]
    pub fn difference(&self, other: &Shot) -> f64 {
        let pairs = self.rgb.chunks_exact(3).zip(other.rgb.chunks_exact(3));
        pairs.filter(|(one, other)| one != other).count() as f64 / (self.rgb.len() / 3) as f64
    }

    #[allow(dead_code, reason = "not everybody needs all")]
    pub fn save(&self, path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::save_buffer(path, &self.rgb, self.width, self.height, image::ColorType::Rgb8).unwrap();
    }
}

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
            .env("DISPLAY", &screen.display)
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
    pub fn fill(&self, screen: &Screen, width: u32, height: u32) {
        let window = screen.hand(&["search", "--sync", "--onlyvisible", "--name", "Bedside Patient"]);
        let window = window.lines().next().unwrap().to_owned();
        let (wide, high) = (width.to_string(), height.to_string());
        screen.hand(&["windowmove", &window, "0", "0"]);
        screen.hand(&["windowsize", &window, &wide, &high]);
        screen.hand(&["windowfocus", "--sync", &window]);
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
