//! Decoding and scaling of pictures. Call it off the UI thread.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use slint::{Image, Rgba8Pixel, SharedPixelBuffer};

use crate::tr;

/// Most pixels of a picture: what a gateway takes by default, and no bomb.
const MAX_PIXELS: u64 = 100_000_000;
/// A small picture is not blown up more than this.
const MAX_GROWTH: f64 = 8.0;
/// The maximum memory of the decoder.
const MAX_BYTES: u64 = 1 << 30;

/// The reason why a file cannot be shown as a picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{}", tr!("the file cannot be read: {}", .0))]
    Read(#[from] std::io::Error),
    /// The file is neither PNG nor JPEG.
    #[error("{}", tr!("it is not a PNG or JPEG picture"))]
    Format,
    /// The file is damaged.
    #[error("{}", tr!("the picture is damaged: {}", .0))]
    Damaged(String),
    /// The picture has too many pixels.
    #[error("{}", tr!("the picture has {} x {} pixels, which is too many", .width, .height))]
    TooLarge {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
}

/// A decoded picture. It can be sent to the UI thread and converted into an [`Image`] there.
#[derive(Debug, Clone)]
pub struct Picture {
    pixels: SharedPixelBuffer<Rgba8Pixel>,
    original: (u32, u32),
}

/// Decodes a picture within the limits of size and memory. Returns it with the orientation that has to be applied.
pub(crate) fn decode(source: impl BufRead + Seek) -> Result<(DynamicImage, Orientation), PictureError> {
    let damaged = |error: image::ImageError| PictureError::Damaged(error.to_string());
    let mut reader = ImageReader::new(source).with_guessed_format()?;
    if reader.format().is_none() {
        return Err(PictureError::Format);
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| match error {
        image::ImageError::Unsupported(_) => PictureError::Format,
        error => damaged(error),
    })?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge { width, height });
    }
    let upright = decoder.orientation().map_err(damaged)?;
    Ok((DynamicImage::from_decoder(decoder).map_err(damaged)?, upright))
}

impl Picture {
    /// Decodes a file, applies its orientation, and scales it down to fit into `fit` (width, height in pixels).
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn from_file(path: &Path, fit: Option<(u32, u32)>) -> Result<Self, PictureError> {
        Picture::decode(BufReader::new(std::fs::File::open(path)?), fit)
    }

    /// Decodes bytes, applies their orientation, and scales the picture down to fit into `fit` (width, height in pixels).
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn from_bytes(bytes: &[u8], fit: Option<(u32, u32)>) -> Result<Self, PictureError> {
        Picture::decode(Cursor::new(bytes), fit)
    }

    /// RGBA pixels, row by row.
    #[must_use]
    pub fn from_rgba(width: u32, height: u32, pixels: &[u8]) -> Option<Self> {
        let fits = u64::from(width) * u64::from(height) * 4 == pixels.len() as u64;
        fits.then(|| Picture {
            pixels: SharedPixelBuffer::clone_from_slice(pixels, width, height),
            original: (width, height),
        })
    }

    /// Width and height of an image file in pixels. Reads the header only.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn dimensions(path: &Path) -> Result<(u32, u32), PictureError> {
        let reader = ImageReader::new(BufReader::new(std::fs::File::open(path)?)).with_guessed_format()?;
        if reader.format().is_none() {
            return Err(PictureError::Format);
        }
        reader.into_dimensions().map_err(|error| match error {
            image::ImageError::Unsupported(_) => PictureError::Format,
            error => PictureError::Damaged(error.to_string()),
        })
    }

    fn decode(source: impl BufRead + Seek, fit: Option<(u32, u32)>) -> Result<Self, PictureError> {
        let (mut picture, upright) = decode(source)?;
        let (width, height) = (picture.width(), picture.height());
        if let Some((wide, high)) = fit
            && (width.max(height) > wide.max(high))
        {
            // The triangle filter is sufficient for scaling down, and several times faster than better filters.
            picture = picture.resize(wide, high, FilterType::Triangle);
        }
        picture.apply_orientation(upright);
        let rgba = picture.into_rgba8();
        let pixels = SharedPixelBuffer::clone_from_slice(rgba.as_raw(), rgba.width(), rgba.height());
        Ok(Picture { pixels, original: (width, height) })
    }

    /// The same in the size that fills `window` (width, height) in pixels, its shape kept; small pictures grow to a few times
    /// their size at most. The software renderer would leave out pixels.
    #[must_use]
    pub fn fitted(&self, window: (u32, u32)) -> Self {
        self.scaled_to(window, MAX_GROWTH)
    }

    fn scaled_to(&self, window: (u32, u32), max_growth: f64) -> Self {
        let (width, height) = self.size();
        let share = |wide: u32, high: u32| f64::from(wide) / f64::from(high.max(1));
        let scale = share(window.0, width).min(share(window.1, height)).min(max_growth);
        let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
        let (wide, high) = (scaled(width), scaled(height));
        let bytes = self.pixels.as_bytes().to_vec();
        match image::RgbaImage::from_raw(width, height, bytes) {
            Some(pixels) if (wide, high) != (width, height) => {
                let small = image::imageops::resize(&pixels, wide, high, FilterType::Triangle);
                let pixels = SharedPixelBuffer::clone_from_slice(small.as_raw(), wide, high);
                Picture { pixels, original: self.original }
            }
            _ => self.clone(),
        }
    }

    /// The part of the picture that fills `window` (width, height) in pixels at `zoom` times the size of [`Picture::fitted`],
    /// around `center` (shares of width and height). At zoom 1, that is the whole picture.
    #[must_use]
    pub fn magnified(&self, window: (u32, u32), zoom: f64, center: (f64, f64)) -> Self {
        let part = |length: u32, center: f64| {
            let visible = (f64::from(length) / zoom.max(1.0)).round().clamp(1.0, f64::from(length));
            let start = (center * f64::from(length) - visible / 2.0).round();
            (start.clamp(0.0, f64::from(length) - visible) as u32, visible as u32)
        };
        let (width, height) = self.size();
        let ((left, wide), (top, high)) = (part(width, center.0), part(height, center.1));
        if (wide, high) == (width, height) {
            return self.fitted(window);
        }
        let mut pixels = Vec::with_capacity(wide as usize * high as usize);
        for row in self.pixels.as_slice().chunks_exact(width as usize).skip(top as usize).take(high as usize)
        {
            pixels.extend(row.iter().skip(left as usize).take(wide as usize));
        }
        let mut buffer = SharedPixelBuffer::new(wide, high);
        buffer.make_mut_slice().copy_from_slice(&pixels);
        // The limit of growth is relative to the whole picture.
        Picture { pixels: buffer, original: self.original }.scaled_to(window, MAX_GROWTH * zoom)
    }

    /// Width and height of the file in pixels, however small it is shown.
    #[must_use]
    pub fn original_size(&self) -> (u32, u32) {
        self.original
    }

    /// Width and height of what is shown, in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.pixels.width(), self.pixels.height())
    }

    /// For the window.
    #[must_use]
    pub fn into_image(self) -> Image {
        Image::from_rgba8(self.pixels)
    }
}
