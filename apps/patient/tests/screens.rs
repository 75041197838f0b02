//! Takes screenshots of the main states of the app (Xvfb, software renderer) in both themes and two sizes, and compares them.
//! They are saved in `screenshots/patient` in the build folder.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that cannot go on has to fail"
)]

mod screen;

use std::path::{Path, PathBuf};

use screen::{Running, Screen};
use testkit::{Mode, Service, Shot, System, test_data};

/// Colours of a theme that identify the states.
struct Colors {
    window: [u8; 3],
    good: [u8; 3],
    warning: [u8; 3],
    danger: [u8; 3],
}

const LIGHT: Colors = Colors {
    window: [0xee, 0xf2, 0xf6],
    good: [0xe1, 0xf4, 0xe9],
    warning: [0xfd, 0xf1, 0xdc],
    danger: [0xfd, 0xe6, 0xe6],
};
const DARK: Colors = Colors {
    window: [0x10, 0x15, 0x1b],
    good: [0x14, 0x35, 0x2a],
    warning: [0x3a, 0x2c, 0x12],
    danger: [0x42, 0x1b, 0x1c],
};
const PAPER: [u8; 3] = [255, 248, 246];

fn folder() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_patient"));
    program.parent().and_then(Path::parent).unwrap().join("screenshots/patient")
}

/// An artificial image with soft shapes.
fn radiograph(path: &Path) {
    let (width, height) = (900_u32, 700_u32);
    let picture = image::GrayImage::from_fn(width, height, |x, y| {
        let (dx, dy) = (f64::from(x) - 450.0, f64::from(y) - 350.0);
        let bone = |offset: f64, wide: f64| (-((dx - offset - dy * 0.08) / wide).powi(2)).exp();
        let tissue = (-(dx / 330.0).powi(2)).exp() * 60.0;
        let joint = 1.0 - 0.75 * (-((dy - 20.0 + dx * dx / 900.0) / 14.0).powi(2)).exp();
        image::Luma([
            (tissue + (bone(-70.0, 60.0) + bone(80.0, 48.0)) * 130.0 * joint).clamp(0.0, 255.0) as u8
        ])
    });
    picture.save(path).unwrap();
}

fn save(shot: &Shot, path: &Path) {
    std::fs::create_dir_all(folder()).unwrap();
    image::save_buffer(path, &shot.rgb, shot.width, shot.height, image::ColorType::Rgb8).unwrap();
}

/// Presses Enter until the dialog closes. The dialog ignores it while the record number is looked up.
fn confirm(screen: &Screen, question: &Shot) {
    screen.until("it is confirmed", |shot| {
        // The window behind a dialog is darkened.
        let gone = shot.difference(question) > 0.3;
        if !gone {
            screen.hand(&["key", "Return"]);
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        gone
    });
}

struct Album<'a> {
    system: &'a mut System,
    files: &'a Path,
    size: (u32, u32),
    theme: &'static str,
    colors: Colors,
    taken: Vec<(String, Shot)>,
}

impl Album<'_> {
    fn take(&mut self, name: &str, shot: Shot) {
        let (width, height) = self.size;
        save(&shot, &folder().join(format!("{name}-{}-{width}x{height}.png", self.theme)));
        assert!(shot.colors() > 20, "{name} is blank");
        for (other, earlier) in &self.taken {
            assert!(shot.difference(earlier) > 0.001, "{name} looks like {other}");
        }
        self.taken.push((name.to_owned(), shot));
    }

    fn app(&self, screen: &Screen, gateway: &str, args: &[&str]) -> Running {
        let app = Running::launch(screen, &[&["--theme", self.theme, "--gateway", gateway], args].concat());
        app.fill(screen);
        screen.until("the window is drawn", |shot| shot.share(self.colors.window) > 0.02);
        app
    }

    fn file(&self, name: &str) -> String {
        self.files.join(name).to_str().unwrap().to_owned()
    }

    fn fill(mut self) {
        let screen = Screen::start(self.size.0, self.size.1);
        let url = self.system.url();
        let strip = self.file("strip.csv");
        let (knee, holter) = (self.file("knee.png"), self.file("holter.csv"));

        let app = self.app(&screen, &url, &[]);
        let empty = screen.settled();
        self.take("empty", empty.clone());
        for (key, name) in [("ctrl+comma", "settings"), ("F1", "about")] {
            screen.hand(&["key", key]);
            screen.until(name, |shot| shot.difference(&empty) > 0.3);
            self.take(name, screen.settled());
            screen.hand(&["key", "Escape"]);
            screen.until("it is closed", |shot| shot.difference(&empty) < 0.02);
        }
        drop(app);

        let known = ["--mrn", "1042", "--name", "Ida Noether", &strip, &knee];
        let app = self.app(&screen, &url, &known);
        screen.until("the strip is drawn", |shot| shot.share(PAPER) > 0.02);
        let filled = screen.settled();
        self.take("filled", filled.clone());
        screen.hand(&["key", "ctrl+u"]);
        screen.until("the question", |shot| shot.difference(&filled) > 0.3);
        let question = screen.settled();
        self.take("confirm", question.clone());
        confirm(&screen, &question);
        screen.until("the answer", |shot| shot.share(self.colors.good) > 0.01);
        self.take("done", screen.settled());
        drop(app);

        let app = self.app(&screen, &url, &["--mrn", "1042", &holter, &knee]);
        screen.until("the strip is drawn", |shot| shot.share(PAPER) > 0.02);
        let filled = screen.settled();
        screen.hand(&["key", "ctrl+u"]);
        screen.until("the question", |shot| shot.difference(&filled) > 0.3);
        let question = screen.settled();
        self.system.service(Service::Gateway).pause();
        confirm(&screen, &question);
        self.take("uploading", screen.settled());
        self.system.service(Service::Gateway).kill();
        screen.until("it is kept", |shot| shot.share(self.colors.warning) > 0.01);
        self.take("offline", screen.settled());
        drop(app);
        self.system.service(Service::Gateway).restart();

        let letter = self.file("letter.txt");
        let app = self.app(&screen, &url, &["--mrn", "1042", &letter, &knee]);
        screen.until("the error", |shot| shot.share(self.colors.danger) > 0.01);
        self.take("error", screen.settled());
        assert!(app.path("outbox").is_dir());
    }
}

#[test]
fn screenshots_of_all_states_in_both_themes_at_two_sizes() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("strip.csv"), test_data::strip_csv(72.0, 30.0, 3)).unwrap();
    // Larger than all buffers on the way, so that the upload cannot complete.
    std::fs::write(files.path().join("holter.csv"), test_data::strip_csv(64.0, 3600.0, 3)).unwrap();
    std::fs::write(files.path().join("letter.txt"), "Dear colleague,\nplease find the strip attached.\n")
        .unwrap();
    radiograph(&files.path().join("knee.png"));
    let mut system = System::start(Mode::Standalone);
    for size in [(900, 600), (1920, 1080)] {
        for (theme, colors) in [("light", LIGHT), ("dark", DARK)] {
            let system = &mut system;
            Album { system, files: files.path(), size, theme, colors, taken: Vec::new() }.fill();
        }
    }
}
