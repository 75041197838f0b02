//! A screen that nobody sees: an X server of its own, with a mouse, whose pixels can be read.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt as _, ImageFormat, Window};
use x11rb::rust_connection::RustConnection;

/// An `Xvfb` on a free display. Dropping it ends it.
#[derive(Debug)]
pub struct Display {
    server: Child,
    name: String,
    connection: RustConnection,
    root: Window,
    size: (u16, u16),
}

impl Display {
    /// Starts one of this size in pixels.
    ///
    /// # Panics
    /// When Xvfb is not installed or does not start.
    #[must_use]
    pub fn start(width: u16, height: u16) -> Self {
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Xvfb is installed");
        let mut number = String::new();
        let output = server.stdout.take().expect("the output is piped");
        BufReader::new(output).read_line(&mut number).expect("Xvfb says its number");
        let name = format!(":{}", number.trim());
        let (connection, screen) = x11rb::connect(Some(&name)).expect("Xvfb lets us in");
        let root = connection.setup().roots[screen].root;
        Display { server, name, connection, root, size: (width, height) }
    }

    /// For the variable `DISPLAY`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pixels of a part of the screen: red, green, blue.
    ///
    /// # Panics
    /// When the part is not on the screen.
    #[must_use]
    pub fn grab(&self, x: i16, y: i16, width: u16, height: u16) -> Vec<u8> {
        let image = self
            .connection
            .get_image(ImageFormat::Z_PIXMAP, self.root, x, y, width, height, u32::MAX)
            .expect("asked")
            .reply()
            .expect("the part is on the screen");
        image.data.chunks_exact(4).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect()
    }

    /// All pixels: red, green, blue.
    #[must_use]
    pub fn all(&self) -> Vec<u8> {
        self.grab(0, 0, self.size.0, self.size.1)
    }

    /// Writes the screen into a PNG file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn save(&self, path: &Path) {
        let (width, height) = (u32::from(self.size.0), u32::from(self.size.1));
        image::save_buffer(path, &self.all(), width, height, image::ColorType::Rgb8)
            .expect("it can be written");
    }

    /// Moves the mouse there.
    ///
    /// # Panics
    /// When the server does not take it.
    pub fn point(&self, x: i16, y: i16) {
        self.connection.warp_pointer(x11rb::NONE, self.root, 0, 0, 0, 0, x, y).expect("taken");
        self.connection.get_input_focus().expect("asked").reply().expect("the server lives");
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
