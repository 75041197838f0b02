//! Plots of a strip on ECG paper: 25 mm/s, 10 mm/mV, a grid of 1 and 5 mm, rows of ten seconds.
//!
//! A drawing is measured in hundredths of a millimetre. `plotters` renders it as SVG with its own back end, [`raster`]
//! as PNG, and [`pdf`] as PDF. [`Page`] arranges twelve leads on one sheet. A plot contains no name of a patient.

mod font;
mod overview;
mod page;
mod palette;
mod paper;
mod pdf;
mod raster;
mod rows;
mod scale;
mod text;

use std::sync::Arc;

use plotters::backend::SVGBackend;
use plotters_backend::DrawingBackend;

use crate::{Analysis, Report, Strip};
pub use page::Page;
use paper::{Drawing, Sheet};

/// Settings of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Pixels per millimetre of paper for PNG (2 to 20).
    pub pixels_per_mm: f64,
    /// Rows of ten seconds per page. A longer recording is shown as an overview below them.
    pub rows: usize,
    /// Time of the recording, for the header. Must not contain the name of the patient.
    pub recorded_at: Option<String>,
    /// Whether header and footer are drawn. An application that shows their contents itself draws the paper
    /// only.
    pub captions: bool,
    /// Types of the beats, intervals and rhythm, for marks and header. The types must be those of the beats of the
    /// analysis.
    pub report: Option<Arc<Report>>,
}

impl Default for Options {
    fn default() -> Self {
        Options { pixels_per_mm: 5.0, rows: 6, recorded_at: None, captions: true, report: None }
    }
}

/// Error of a plot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The strip has no samples.
    #[error("The strip has no samples to draw.")]
    Empty,
    /// The drawing library failed.
    #[error("The picture could not be drawn: {0}.")]
    Drawing(String),
    /// The PNG encoder failed.
    #[error("The picture could not be written as PNG: {0}.")]
    Encoding(#[from] png::EncodingError),
}

/// Draws a strip and its analysis as PNG.
///
/// # Errors
/// Returns [`PlotError::Empty`] if the strip has no samples.
pub fn png(strip: &Strip, analysis: &Analysis, options: &Options) -> Result<Vec<u8>, PlotError> {
    to_png(&Sheet::of(strip, analysis, options)?, options)
}

/// Draws a strip and its analysis as a PDF document with its true size.
///
/// # Errors
/// Returns [`PlotError::Empty`] if the strip has no samples.
pub fn pdf(strip: &Strip, analysis: &Analysis, options: &Options) -> Result<Vec<u8>, PlotError> {
    to_pdf(&Sheet::of(strip, analysis, options)?)
}

fn to_png(drawing: &impl Drawing, options: &Options) -> Result<Vec<u8>, PlotError> {
    let mut backend = raster::Raster::new(drawing.size(), options.pixels_per_mm)?;
    draw(drawing, &mut backend)?;
    backend.into_png()
}

fn to_pdf(drawing: &impl Drawing) -> Result<Vec<u8>, PlotError> {
    let mut backend = pdf::Pdf::new(drawing.size());
    draw(drawing, &mut backend)?;
    Ok(backend.into_document())
}

/// Share of the width of a window that a plot should fill.
const MIN_WIDTH_SHARE: f64 = 0.75;

/// A plot as pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green, blue and alpha (255) of each pixel, row by row.
    pub rgba: Vec<u8>,
}

/// Draws a strip and its analysis to fill a window: as many rows as fit, and an overview if the recording is
/// longer. The plot is never larger than the window.
///
/// # Errors
/// Returns [`PlotError::Empty`] if the strip has no samples.
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
        // Slightly smaller rows are better than fewer rows, but very small rows are not.
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

/// Draws a strip and its analysis as an SVG document with its true size in millimetres.
///
/// # Errors
/// Returns [`PlotError::Empty`] if the strip has no samples.
pub fn svg(strip: &Strip, analysis: &Analysis, options: &Options) -> Result<String, PlotError> {
    to_svg(&Sheet::of(strip, analysis, options)?)
}

fn to_svg(drawing: &impl Drawing) -> Result<String, PlotError> {
    let (width, height) = drawing.size();
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, (width, height));
        draw(drawing, &mut backend)?;
    }
    // The back end writes pixels; the document is measured in hundredths of a millimetre.
    let counted = format!("width=\"{width}\" height=\"{height}\"");
    let measured = format!(
        "width=\"{:.2}mm\" height=\"{:.2}mm\" role=\"img\"",
        f64::from(width) / 100.0,
        f64::from(height) / 100.0
    );
    Ok(document.replacen(&counted, &measured, 1))
}

fn draw<B: DrawingBackend>(drawing: &impl Drawing, backend: &mut B) -> Result<(), PlotError> {
    drawing
        .draw(backend)
        .and_then(|()| backend.present())
        .map_err(|error| PlotError::Drawing(error.to_string()))
}
