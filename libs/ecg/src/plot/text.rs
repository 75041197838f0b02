//! Text on the sheet. Sizes are in millimetres; widths are those of the embedded font.

use plotters::style::{FontStyle, IntoFont, RGBColor, TextStyle};
use plotters_backend::text_anchor::{HPos, Pos, VPos};
use plotters_backend::{DrawingBackend, DrawingErrorKind};

use super::font::font;

/// Fonts of the SVG. The first is the one embedded for PNG.
const FAMILY: &str = "DejaVu Sans, Verdana, Arial, sans-serif";
/// `plotters` interprets the line height as the font size.
pub(super) const LINE_PER_SIZE: f64 = 1.24;

/// Style of a text.
#[derive(Clone, Copy)]
pub(super) struct TextLook {
    pub(super) size_mm: f64,
    pub(super) bold: bool,
    pub(super) color: RGBColor,
    pub(super) align: HPos,
}

impl TextLook {
    pub(super) const fn new(size_mm: f64, color: RGBColor) -> Self {
        TextLook { size_mm, bold: false, color, align: HPos::Left }
    }

    pub(super) const fn bold(self) -> Self {
        TextLook { bold: true, ..self }
    }

    pub(super) const fn centred(self) -> Self {
        TextLook { align: HPos::Center, ..self }
    }

    pub(super) const fn right(self) -> Self {
        TextLook { align: HPos::Right, ..self }
    }

    /// Draws `text`, vertically centred at `at` (hundredths of a millimetre).
    pub(super) fn draw<B: DrawingBackend>(
        &self,
        backend: &mut B,
        text: &str,
        at: (i32, i32),
    ) -> Result<(), DrawingErrorKind<B::ErrorType>> {
        let font = (FAMILY, self.size_mm * 100.0 * LINE_PER_SIZE).into_font();
        let font = font.style(if self.bold { FontStyle::Bold } else { FontStyle::Normal });
        let style = TextStyle::from(font).color(&self.color).pos(Pos::new(self.align, VPos::Center));
        backend.draw_text(text, &style, at)
    }

    /// Width of `text` in millimetres.
    pub(super) fn width_mm(&self, text: &str) -> f64 {
        width_em(text, self.bold) * self.size_mm
    }

    /// `text`, truncated with an ellipsis if it is wider than `width_mm`.
    pub(super) fn fitted(&self, text: &str, width_mm: f64) -> String {
        let Some(font) = font(self.bold) else { return text.to_owned() };
        let room = width_mm / self.size_mm;
        let ellipsis = font.advance('…');
        let mut used = 0.0;
        let mut kept = 0;
        for (at, letter) in text.char_indices() {
            if used + ellipsis <= room {
                kept = at;
            }
            used += font.advance(letter);
            if used > room {
                return format!("{}…", text.get(..kept).unwrap_or_default().trim_end());
            }
        }
        text.to_owned()
    }
}

/// Width of `text` in units of the font size.
fn width_em(text: &str, bold: bool) -> f64 {
    let Some(font) = font(bold) else { return text.chars().count() as f64 * 0.65 };
    text.chars().map(|letter| font.advance(letter)).sum()
}
