//! Sizes and axis labels of pictures.

/// A label on an axis of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// The position in physical pixels from the left or from the top.
    pub at: f32,
    /// The text of the label.
    pub text: String,
}

/// The size of a picture in physical pixels, and the scale factor of the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// The width.
    pub width: u32,
    /// The height.
    pub height: u32,
    /// Physical pixels per logical pixel.
    pub scale: f32,
}

impl Size {
    /// Converts a size in logical pixels. The result is at least one pixel and at most as large as a screen: a window that is
    /// being laid out may request any size.
    #[must_use]
    pub fn new(width: f32, height: f32, scale: f32) -> Self {
        let clamp = |length: f32| length.round().clamp(1.0, 8192.0) as u32;
        let scale = if scale.is_finite() { scale.clamp(0.5, 8.0) } else { 1.0 };
        Size { width: clamp(width * scale), height: clamp(height * scale), scale }
    }
}
