//! A virtual screen (Xvfb) with screenshots, keyboard and pointer (xdotool).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Time limit of a wait. Debug builds draw slowly.
const LIMIT: Duration = Duration::from_secs(60);

/// An `Xvfb` server on a free display. Its frame buffer is in a file. Dropping the value ends the server.
#[derive(Debug)]
pub struct Screen {
    server: Child,
    display: String,
    size: (u32, u32),
    folder: TempDir,
}

impl Screen {
    /// Starts a screen of this size in pixels.
    ///
    /// # Panics
    /// If Xvfb is not installed or does not start.
    #[must_use]
    pub fn start(width: u32, height: u32) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
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
        let output = server.stdout.take().expect("the output is piped");
        BufReader::new(output).read_line(&mut number).expect("Xvfb prints its display number");
        Screen { server, display: format!(":{}", number.trim()), size: (width, height), folder }
    }

    /// Value for the variable `DISPLAY`.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }

    /// A screenshot.
    #[must_use]
    pub fn shot(&self) -> Shot {
        self.part(0, 0, self.size.0, self.size.1)
    }

    /// A screenshot of a rectangle.
    ///
    /// # Panics
    /// If the rectangle is not on the screen.
    #[must_use]
    pub fn part(&self, x: u32, y: u32, width: u32, height: u32) -> Shot {
        assert!(x + width <= self.size.0 && y + height <= self.size.1, "the rectangle is on the screen");
        // The file is in XWD format: a header of big-endian numbers, a colour table, rows of pixels.
        let mut file =
            File::open(self.folder.path().join("Xvfb_screen0")).expect("Xvfb writes its frame buffer");
        let mut header = [0; 100];
        file.read_exact(&mut header).expect("the frame buffer has a header");
        let field = |index: usize| {
            let bytes = [0, 1, 2, 3].map(|byte| header[index * 4 + byte]);
            u32::from_be_bytes(bytes)
        };
        assert_eq!((field(7), field(11)), (0, 32), "least significant byte first, four bytes a pixel");
        let line = field(12);
        let start = field(0) + field(19) * 12 + y * line;
        file.seek(SeekFrom::Start(u64::from(start))).expect("the frame buffer is complete");
        let mut rows = vec![0; line as usize * height as usize];
        file.read_exact(&mut rows).expect("the frame buffer is complete");
        let mut rgb = Vec::with_capacity((width * height * 3) as usize);
        for row in rows.chunks_exact(line as usize) {
            let row = &row[x as usize * 4..(x + width) as usize * 4];
            rgb.extend(row.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
        }
        Shot { width, height, rgb }
    }

    /// Runs xdotool with these arguments and returns its output.
    ///
    /// # Panics
    /// If xdotool is not installed or fails.
    pub fn hand(&self, words: &[&str]) -> String {
        let output = Command::new("xdotool").args(words).env("DISPLAY", &self.display).output();
        let output = output.expect("xdotool is installed: see scripts/test");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Makes the window with this name fill the screen and focuses it.
    ///
    /// # Panics
    /// If the window does not appear.
    pub fn fill(&self, window: &str) {
        let found = self.hand(&["search", "--sync", "--onlyvisible", "--name", window]);
        let window = found.lines().next().expect("the window was found");
        self.hand(&["windowmove", window, "0", "0"]);
        self.hand(&["windowsize", window, &self.size.0.to_string(), &self.size.1.to_string()]);
        self.hand(&["windowfocus", "--sync", window]);
    }

    /// Waits until a screenshot satisfies the condition and returns it.
    ///
    /// # Panics
    /// If none does within the time limit.
    pub fn until(&self, what: &str, mut there: impl FnMut(&Shot) -> bool) -> Shot {
        let begun = Instant::now();
        loop {
            let shot = self.shot();
            if there(&shot) {
                return shot;
            }
            assert!(begun.elapsed() < LIMIT, "never {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until the screen no longer changes, except for a blinking cursor.
    pub fn settled(&self) -> Shot {
        let mut last = self.shot();
        let mut alike = 0;
        self.until("the screen does not change", |shot| {
            thread::sleep(Duration::from_millis(60));
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

/// A screenshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shot {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub rgb: Vec<u8>,
}

impl Shot {
    /// Share of pixels with nearly this colour, 0 to 1.
    #[must_use]
    pub fn share(&self, color: [u8; 3]) -> f64 {
        let same = |pixel: &&[u8]| pixel.iter().zip(color).all(|(part, wanted)| part.abs_diff(wanted) <= 3);
        self.rgb.chunks_exact(3).filter(same).count() as f64 / (self.rgb.len() / 3) as f64
    }

    /// Number of distinct colours.
    #[must_use]
    pub fn colors(&self) -> usize {
        self.rgb.chunks_exact(3).collect::<std::collections::HashSet<_>>().len()
    }

    /// Share of pixels that differ, 0 to 1.
    #[must_use]
    pub fn difference(&self, other: &Shot) -> f64 {
        let pairs = self.rgb.chunks_exact(3).zip(other.rgb.chunks_exact(3));
        pairs.filter(|(one, other)| one != other).count() as f64 / (self.rgb.len() / 3) as f64
    }
}
