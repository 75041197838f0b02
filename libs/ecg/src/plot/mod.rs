//! Pictures of a strip on ECG paper: 25 mm/s, 10 mm/mV, a grid of 1 and 5 mm, rows of ten seconds.
//!
//! One drawing, measured in hundredths of a millimetre, goes through `plotters` to two back ends: its own for SVG, and
//! [`raster`] for PNG. The picture names no patient: it shows what the strip and its analysis say, and nothing else.

mod overview;
mod palette;
mod paper;
mod raster;
mod rows;
mod scale;
mod text;

use plotters::backend::SVGBackend;
use plotters_backend::DrawingBackend;

use crate::{Analysis, Strip};
use paper::Sheet;

/// How a picture is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Pixels per millimetre of paper, for PNG (2 to 20).
    pub pixels_per_mm: f64,
    /// Rows of ten seconds on the page; what is longer is shown as an overview below them.
    pub rows: usize,
    /// When the strip was recorded, as it should stand in the header. Not the patient's name.
    pub recorded_at: Option<String>,
    /// Header and footer in words. A window that says all that beside the picture wants the paper alone.
    pub captions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { pixels_per_mm: 5.0, rows: 6, recorded_at: None, captions: true }
    }
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// Nothing to draw.
    #[error("The strip has no samples to draw.")]
    Empty,
    /// The drawing library failed.
    #[error("The picture could not be drawn: {0}.")]
    Drawing(String),
    /// The PNG encoder failed.
    #[error("The picture could not be written as PNG: {0}.")]
    Encoding(#[from] png::EncodingError),
}

/// Draws a strip with its analysis as a PNG picture.
///
/// # Errors
/// [`PlotError::Empty`] where the strip has no samples.
pub fn png(strip: &Strip, analysis: &Analysis, options: &Options) -> Result<Vec<u8>, PlotError> {
    let sheet = Sheet::of(strip, analysis, options)?;
    let mut backend = raster::Raster::new(sheet.size(), options.pixels_per_mm)?;
    draw(&sheet, &mut backend)?;
    backend.into_png()
}

/// A picture this wide, as a share of the window, is wide enough.
const MIN_WIDTH_SHARE: f64 = 0.75;

/// Pixels of a picture, for a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green, blue and 255 of each pixel, row by row.
    pub rgba: Vec<u8>,
}

/// Draws a strip with its analysis to fill a window of this size as well as it can: as many rows as fit, and the rest as
/// an overview below them. The picture is never larger than the window.
///
/// # Errors
/// [`PlotError::Empty`] where the strip has no samples.
pub fn pixels(
    strip: &Strip,
    analysis: &Analysis,
    options: &Options,
    window: (u32, u32),
) -> Result<Pixels, PlotError> {
    let choices: Vec<Options> =
        (1..=options.rows.max(1)).rev().map(|rows| Options { rows, ..options.clone() }).collect();
    let mut best: Option<(f64, Sheet<'_>)> = None;
    for choice in &choices {
        let sheet = Sheet::of(strip, analysis, choice)?;
        let (width, height) = sheet.size();
        let by_width = f64::from(window.0) * 100.0 / f64::from(width);
        let scale = by_width.min(f64::from(window.1) * 100.0 / f64::from(height));
        if best.as_ref().is_none_or(|(largest, _)| scale > *largest) {
            best = Some((scale, sheet));
        }
        // All rows a little smaller say more than fewer of them, but not many tiny ones.
        if scale >= MIN_WIDTH_SHARE * by_width {
            break;
        }
    }
    let Some((scale, mut sheet)) = best else { return Err(PlotError::Empty) };
    sheet.adapt_to(scale);
    let mut backend = raster::Raster::for_window(sheet.size(), scale)?;
    draw(&sheet, &mut backend)?;
    Ok(backend.into_pixels())
}

/// Draws a strip with its analysis as an SVG document that measures its true size in millimetres.
///
/// # Errors
/// [`PlotError::Empty`] where the strip has no samples.
pub fn svg(strip: &Strip, analysis: &Analysis, options: &Options) -> Result<String, PlotError> {
    let sheet = Sheet::of(strip, analysis, options)?;
    let (width, height) = sheet.size();
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, (width, height));
        draw(&sheet, &mut backend)?;
    }
    // The back end measures in pixels; the paper is measured in hundredths of a millimetre.
    let counted = format!("width=\"{width}\" height=\"{height}\"");
    let measured = format!(
        "width=\"{:.2}mm\" height=\"{:.2}mm\" role=\"img\"",
        f64::from(width) / 100.0,
        f64::from(height) / 100.0
    );
    Ok(document.replacen(&counted, &measured, 1))
}

fn draw<B: DrawingBackend>(sheet: &Sheet<'_>, backend: &mut B) -> Result<(), PlotError> {
    sheet
        .draw(backend)
        .and_then(|()| backend.present())
        .map_err(|error| PlotError::Drawing(error.to_string()))
}
