//! The embedded fonts: widths and bitmaps of letters.
//!
//! Both fonts are part of the program, so they are parsed once and shared. If a font cannot be parsed, text has
//! an estimated width and is not drawn. A letter that a font does not contain is drawn as its replacement glyph.

use std::sync::LazyLock;

use ab_glyph_rasterizer::{Point, Rasterizer, point};
use skrifa::charmap::Charmap;
use skrifa::instance::{LocationRef, Size};
use skrifa::metrics::GlyphMetrics;
use skrifa::outline::pen::ControlBoundsPen;
use skrifa::outline::{DrawSettings, OutlineGlyphCollection, OutlinePen};
use skrifa::{FontRef, GlyphId, MetadataProvider};

static REGULAR: LazyLock<Option<Font>> = LazyLock::new(|| Font::parsed(dejavu::sans::regular()));
static BOLD: LazyLock<Option<Font>> = LazyLock::new(|| Font::parsed(dejavu::sans::bold()));

/// An embedded font. Lengths are in units of the font size.
pub(super) struct Font {
    charmap: Charmap<'static>,
    metrics: GlyphMetrics<'static>,
    outlines: OutlineGlyphCollection<'static>,
    units_per_em: f32,
}

/// Coverage of the pixels of a letter, 0 to 255, row by row.
pub(super) struct Bitmap {
    /// Left edge in pixels to the right of the origin of the letter.
    pub(super) left: i64,
    /// Upper edge in pixels below the base line.
    pub(super) top: i64,
    /// Width in pixels, more than 0.
    pub(super) width: usize,
    pub(super) coverage: Vec<u8>,
}

/// The embedded font, regular or bold.
pub(super) fn font(bold: bool) -> Option<&'static Font> {
    if bold { BOLD.as_ref() } else { REGULAR.as_ref() }
}

impl Font {
    fn parsed(bytes: &'static [u8]) -> Option<Self> {
        let font = FontRef::new(bytes).ok()?;
        let metrics = font.metrics(Size::unscaled(), LocationRef::default());
        (metrics.units_per_em > 0).then(|| Font {
            charmap: font.charmap(),
            metrics: font.glyph_metrics(Size::unscaled(), LocationRef::default()),
            outlines: font.outline_glyphs(),
            units_per_em: f32::from(metrics.units_per_em),
        })
    }

    fn glyph(&self, letter: char) -> GlyphId {
        self.charmap.map(letter).unwrap_or(GlyphId::NOTDEF)
    }

    /// Width of a letter.
    pub(super) fn advance(&self, letter: char) -> f64 {
        f64::from(self.metrics.advance_width(self.glyph(letter)).unwrap_or(0.0) / self.units_per_em)
    }

    /// The letter at a font size of `em` pixels, with its origin on a whole pixel. `None` if it has no outline,
    /// as a space.
    pub(super) fn bitmap(&self, letter: char, em: f32) -> Option<Bitmap> {
        let outline = self.outlines.get(self.glyph(letter))?;
        let unscaled = || DrawSettings::unhinted(Size::unscaled(), LocationRef::default());
        let mut bounds = ControlBoundsPen::new();
        outline.draw(unscaled(), &mut bounds).ok()?;
        let bounds = bounds.bounding_box()?;
        let scale = em / self.units_per_em;
        // The font's y axis points upwards.
        let (left, right) = ((bounds.x_min * scale).floor(), (bounds.x_max * scale).ceil());
        let (top, bottom) = ((-bounds.y_max * scale).floor(), (-bounds.y_min * scale).ceil());
        let (width, height) = ((right - left) as usize, (bottom - top) as usize);
        if width == 0 || height == 0 {
            return None;
        }
        let mut pen = Pen {
            raster: Rasterizer::new(width, height),
            scale,
            origin: point(-left, -top),
            start: point(0.0, 0.0),
            at: point(0.0, 0.0),
        };
        outline.draw(unscaled(), &mut pen).ok()?;
        let mut coverage = Vec::with_capacity(width * height);
        pen.raster.for_each_pixel(|_, share| coverage.push((share.clamp(0.0, 1.0) * 255.0) as u8));
        Some(Bitmap { left: left as i64, top: top as i64, width, coverage })
    }
}

/// Adds an outline in units of the font to the coverage of pixels.
struct Pen {
    raster: Rasterizer,
    /// Pixels per unit.
    scale: f32,
    /// The origin of the letter in pixels.
    origin: Point,
    /// First point of the current contour.
    start: Point,
    at: Point,
}

impl Pen {
    fn pixel(&self, x: f32, y: f32) -> Point {
        point(self.origin.x + x * self.scale, self.origin.y - y * self.scale)
    }
}

impl OutlinePen for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.start = self.pixel(x, y);
        self.at = self.start;
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let to = self.pixel(x, y);
        self.raster.draw_line(self.at, to);
        self.at = to;
    }

    fn quad_to(&mut self, cx0: f32, cy0: f32, x: f32, y: f32) {
        let to = self.pixel(x, y);
        self.raster.draw_quad(self.at, self.pixel(cx0, cy0), to);
        self.at = to;
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        let to = self.pixel(x, y);
        self.raster.draw_cubic(self.at, self.pixel(cx0, cy0), self.pixel(cx1, cy1), to);
        self.at = to;
    }

    fn close(&mut self) {
        self.raster.draw_line(self.at, self.start);
        self.at = self.start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Widths in the font files, in units of 2048 per em.
    #[test]
    fn widths_are_those_of_the_font_files() {
        let width = |letter, bold| font(bold).unwrap().advance(letter) * 2048.0;
        assert_eq!((width('0', false), width('i', false), width(' ', false)), (1303.0, 569.0, 651.0));
        assert_eq!((width('0', true), width('i', true), width('…', true)), (1425.0, 702.0, 2048.0));
    }

    #[test]
    fn bitmap_covers_the_ink_of_a_letter_and_nothing_else() {
        // `H` has the height of capitals, 1493 units. One bar connects its two stems.
        let bitmap = font(false).unwrap().bitmap('H', 20.48).unwrap();
        let rows: Vec<&[u8]> = bitmap.coverage.chunks(bitmap.width).collect();
        assert_eq!((bitmap.top, rows.len()), (-15, 15), "14.93 pixels above the base line");
        let middle: Vec<u8> = rows.iter().map(|row| row[bitmap.width / 2]).collect();
        let bar: Vec<usize> = (0..15).filter(|row| middle[*row] > 0).collect();
        assert_eq!(bar, [6, 7], "rows of the bar: {middle:?}");
        assert!(rows.iter().all(|row| row[1] > 230 && row[bitmap.width - 2] > 230), "stems: {rows:?}");
        // The letter `o` has a hole: its contours have opposite directions.
        let o = font(true).unwrap().bitmap('o', 64.0).unwrap();
        let middle = o.coverage.len() / o.width / 2 * o.width;
        assert_eq!(o.coverage[middle + o.width / 2], 0);
        assert!(o.coverage[middle + 4] > 250);
    }

    #[test]
    fn letters_without_ink_have_a_width_but_no_bitmap() {
        let font = font(false).unwrap();
        assert!(font.bitmap(' ', 20.0).is_none());
        assert!(font.advance(' ') > 0.2);
    }

    #[test]
    fn letters_outside_of_the_font_are_drawn_as_the_replacement_glyph() {
        let font = font(false).unwrap();
        let (missing, also_missing) = ('\u{10ffff}', '\u{e000}');
        assert_eq!(font.advance(missing), font.advance(also_missing));
        assert!(font.bitmap(missing, 20.0).is_some());
    }
}
