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
}

impl Default for Options {
    fn default() -> Self {
        Options { pixels_per_mm: 5.0, rows: 6, recorded_at: None }
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
