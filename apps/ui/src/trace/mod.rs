//! Pictures of signals for the screen: an ECG that can be zoomed and measured, a trend, a small strip for a tile.
//!
//! Drawn here, in plain Rust, because the software renderer strokes no paths. Everything measures in physical pixels, and
//! what stands in the pictures as words (times, scales) is left to the window, which knows fonts: see [`Tick`].

mod canvas;
mod ecg;
mod envelope;
mod sparkline;
mod trend;

pub use canvas::Colour;
pub use ecg::{Caliper, EcgScene, EcgView, Style};
pub use sparkline::Sparkline;
pub use trend::{TrendPoint, TrendReading, TrendScene, TrendStyle, TrendView};

/// Words at a place on an axis of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Physical pixels from the left, or from the top.
    pub at: f32,
    /// What stands there.
    pub text: String,
}

/// Size of a picture in physical pixels, and how many of them a logical pixel takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
    /// Scale factor of the window.
    pub scale: f32,
}

impl Size {
    /// At least one pixel and at most what a screen can have: a window that is being laid out may ask for anything.
    #[must_use]
    pub fn new(width: f32, height: f32, scale: f32) -> Self {
        let clamp = |length: f32| length.round().clamp(1.0, 8192.0) as u32;
        let scale = if scale.is_finite() { scale.clamp(0.5, 8.0) } else { 1.0 };
        Size { width: clamp(width * scale), height: clamp(height * scale), scale }
    }
}
