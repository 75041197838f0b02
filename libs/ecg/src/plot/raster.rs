//! A `plotters` back end for pixels: grid lines on whole pixels, anti-aliased traces, text in the embedded
//! font, and PNG with a palette.

use std::collections::HashMap;

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

use super::font::{Bitmap, font};
use super::palette::{indexed, packed};
use super::text::LINE_PER_SIZE;
use super::{Pixels, PlotError};

/// Levels of pixel coverage. Few levels keep the number of colours within a palette.
const COVER_STEPS: u32 = 15;
/// Half the height of a lower-case letter relative to the font size. Text is centred on it, as `0.5ex` in
/// SVG.
const HALF_LETTER: f64 = 0.273;
/// Scan lines per row of pixels when areas are filled.
const SUBROWS: i64 = 4;
/// Limit in pixels.
const MAX_PIXELS: usize = 64_000_000;

/// Drawing into memory cannot fail.
pub(super) type Never = std::convert::Infallible;

/// An image addressed in hundredths of a millimetre.
pub(super) struct Raster {
    /// Size in hundredths of a millimetre.
    size: (u32, u32),
    width: usize,
    height: usize,
    /// Pixels per hundredth of a millimetre.
    scale: f64,
    /// 0x00RRGGBB.
    pixels: Vec<u32>,
    /// Coverage of the current path, 0 to 255. All zero between paths.
    cover: Vec<u8>,
    /// By letter, font size in sixteenths of a pixel, and weight.
    letters: HashMap<(char, u32, bool), Option<Bitmap>>,
}

impl Raster {
    pub(super) fn new(size: (u32, u32), pixels_per_mm: f64) -> Result<Self, PlotError> {
        let finite = if pixels_per_mm.is_finite() { pixels_per_mm } else { 5.0 };
        Raster::at_scale(size, finite.clamp(2.0, 20.0) / 100.0)
    }

    /// Like [`Raster::new`], for a window of any size.
    pub(super) fn for_window(size: (u32, u32), pixels_per_mm: f64) -> Result<Self, PlotError> {
        let finite = if pixels_per_mm.is_finite() { pixels_per_mm } else { 1.0 };
        Raster::at_scale(size, finite.clamp(0.1, 40.0) / 100.0)
    }

    fn at_scale(size: (u32, u32), scale: f64) -> Result<Self, PlotError> {
        let width = (f64::from(size.0) * scale).round() as usize;
        let height = (f64::from(size.1) * scale).round() as usize;
        if width * height > MAX_PIXELS {
            return Err(PlotError::Drawing(format!("{width} x {height} pixels are too many")));
        }
        Ok(Raster {
            size,
            width,
            height,
            scale,
            pixels: vec![0x00ff_ffff; width * height],
            cover: vec![0; width * height],
            letters: HashMap::new(),
        })
    }

    fn pixel(&self, hundredths: i32) -> f64 {
        f64::from(hundredths) * self.scale
    }

    /// Fills whole pixels from `from` up to, not including, `to`.
    fn fill(&mut self, from: (i64, i64), to: (i64, i64), color: BackendColor) {
        let inside = |value: i64, limit: usize| value.clamp(0, limit as i64) as usize;
        let (left, right) = (inside(from.0, self.width), inside(to.0, self.width));
        let cover = (color.alpha.clamp(0.0, 1.0) * 255.0).round() as u32;
        let ink = packed(color);
        let rows = inside(from.1, self.height)..inside(to.1, self.height);
        if right == left + 1 && cover >= 255 {
            // Fast path for a vertical line of one pixel, of which a grid has hundreds.
            let column = self.pixels.get_mut(rows.start * self.width + left..).unwrap_or_default();
            column.iter_mut().step_by(self.width).take(rows.len()).for_each(|pixel| *pixel = ink);
            return;
        }
        for y in rows {
            let Some(row) = self.pixels.get_mut(y * self.width + left..(y * self.width + right).max(left))
            else {
                continue;
            };
            if cover >= 255 {
                row.fill(ink);
            } else {
                row.iter_mut().for_each(|pixel| *pixel = blended(*pixel, ink, cover));
            }
        }
    }

    /// Draws a horizontal or vertical line on whole pixels.
    fn crisp_line(&mut self, from: BackendCoord, to: BackendCoord, width: u32, color: BackendColor) {
        let thick = (f64::from(width) * self.scale).round().max(1.0) as i64;
        let start = |hundredths: i32| ((self.pixel(hundredths) - thick as f64 / 2.0).round()) as i64;
        let (x0, x1) = (start(from.0.min(to.0)), start(from.0.max(to.0)));
        let (y0, y1) = (start(from.1.min(to.1)), start(from.1.max(to.1)));
        self.fill((x0, y0), (x1 + thick, y1 + thick), color);
    }

    /// Adds an anti-aliased line to the coverage.
    fn soft_line(&mut self, from: (f32, f32), to: (f32, f32), half: f32) {
        let reach = half + 1.0;
        let inside = |value: f32, limit: usize| value.clamp(0.0, limit as f32) as usize;
        let (left, right) = (from.0.min(to.0) - reach, from.0.max(to.0) + reach);
        let (top, bottom) = (from.1.min(to.1) - reach, from.1.max(to.1) + reach);
        let columns = inside(left.floor(), self.width)..inside(right.ceil(), self.width);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let square = dx * dx + dy * dy;
        let inverse = if square > 0.0 { 1.0 / square } else { 0.0 };
        for y in inside(top.floor(), self.height)..inside(bottom.ceil(), self.height) {
            let base = y * self.width;
            let Some(row) = self.cover.get_mut(base + columns.start..base + columns.end) else { continue };
            let py = y as f32 + 0.5 - from.1;
            for (x, cover) in (columns.start..).zip(row) {
                let px = x as f32 + 0.5 - from.0;
                // Distance of the center of the pixel from the line.
                let along = ((px * dx + py * dy) * inverse).clamp(0.0, 1.0);
                let (ox, oy) = (px - along * dx, py - along * dy);
                let ink = (half + 0.5 - (ox * ox + oy * oy).sqrt()).clamp(0.0, 1.0);
                *cover = (*cover).max((ink * 255.0) as u8);
            }
        }
    }

    /// Adds one scan line of coverage from `left` to `right`, in pixels, anti-aliased at both ends.
    fn cover_span(&mut self, row: usize, left: f64, right: f64) {
        let (left, right) = (left.clamp(0.0, self.width as f64), right.clamp(0.0, self.width as f64));
        let columns = left.floor() as usize..right.ceil() as usize;
        let start = row * self.width;
        let Some(cover) =
            self.cover.get_mut(start + columns.start..(start + columns.end).max(start + columns.start))
        else {
            return;
        };
        for (x, cover) in columns.zip(cover) {
            let x = x as f64;
            let share = (right.min(x + 1.0) - left.max(x)).max(0.0);
            *cover = cover.saturating_add((share * 255.0 / SUBROWS as f64).round() as u8);
        }
    }

    /// Blends the coverage between two rows into the image and clears it.
    fn lay_cover(&mut self, top: f32, bottom: f32, color: BackendColor) {
        let ink = packed(color);
        let inside = |value: f32| value.clamp(0.0, self.height as f32) as usize;
        let range = inside(top.floor()) * self.width..inside(bottom.ceil()) * self.width;
        let (Some(pixels), Some(cover)) = (self.pixels.get_mut(range.clone()), self.cover.get_mut(range))
        else {
            return;
        };
        for (pixel, cover) in pixels.iter_mut().zip(cover) {
            if *cover > 0 {
                *pixel = blended(*pixel, ink, stepped(u32::from(*cover), color.alpha));
                *cover = 0;
            }
        }
    }

    fn write(&mut self, letter: char, em: f64, bold: bool, origin: (f64, f64), color: BackendColor) {
        let key = (letter, (em * 16.0) as u32, bold);
        let make = || font(bold)?.bitmap(letter, em as f32);
        let Some(bitmap) = self.letters.entry(key).or_insert_with(make) else { return };
        // Letters are placed on whole pixels, so that equal letters look equal.
        let left = origin.0.round() as i64 + bitmap.left;
        let top = origin.1.round() as i64 + bitmap.top;
        let ink = packed(color);
        for (y, row) in (top..).zip(bitmap.coverage.chunks(bitmap.width)) {
            for (x, cover) in (left..).zip(row) {
                if !(0..self.width as i64).contains(&x) || !(0..self.height as i64).contains(&y) {
                    continue;
                }
                if let Some(pixel) = self.pixels.get_mut(y as usize * self.width + x as usize) {
                    *pixel = blended(*pixel, ink, stepped(u32::from(*cover), color.alpha));
                }
            }
        }
    }

    /// Returns the image as RGBA pixels.
    pub(super) fn into_pixels(self) -> Pixels {
        let color = |pixel: u32| [(pixel >> 16) as u8, (pixel >> 8) as u8, pixel as u8, 255];
        let rgba = self.pixels.iter().copied().flat_map(color).collect();
        Pixels { width: self.width as u32, height: self.height as u32, rgba }
    }

    /// Returns the image as PNG with a palette.
    pub(super) fn into_png(self) -> Result<Vec<u8>, PlotError> {
        let mut file = Vec::with_capacity(self.pixels.len() / 8);
        let mut encoder = png::Encoder::new(&mut file, self.width as u32, self.height as u32);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Fast);
        let per_metre = (self.scale * 100_000.0).round() as u32;
        encoder.set_pixel_dims(Some(png::PixelDimensions {
            xppu: per_metre,
            yppu: per_metre,
            unit: png::Unit::Meter,
        }));
        let (palette, data) = indexed(&self.pixels, self.width);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(palette);
        // Rows of ECG paper repeat.
        encoder.set_filter(png::Filter::Up);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&data)?;
        writer.finish()?;
        Ok(file)
    }
}

/// Coverage rounded to few levels, multiplied by the opacity.
fn stepped(cover: u32, alpha: f64) -> u32 {
    let cover = (f64::from(cover) * alpha.clamp(0.0, 1.0)) as u32;
    (cover * COVER_STEPS + 127) / 255 * 255 / COVER_STEPS
}

/// Blends `ink` over `under` with a coverage of 0 to 255.
fn blended(under: u32, ink: u32, cover: u32) -> u32 {
    let mix = |shift: u32| {
        let (below, above) = (under >> shift & 0xff, ink >> shift & 0xff);
        (below * (255 - cover) + above * cover + 127) / 255
    };
    mix(16) << 16 | mix(8) << 8 | mix(0)
}

impl DrawingBackend for Raster {
    type ErrorType = Never;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<Never>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<Never>> {
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        point: BackendCoord,
        color: BackendColor,
    ) -> Result<(), DrawingErrorKind<Never>> {
        let (x, y) = (self.pixel(point.0).floor() as i64, self.pixel(point.1).floor() as i64);
        self.fill((x, y), (x + 1, y + 1), color);
        Ok(())
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Never>> {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        fill: bool,
    ) -> Result<(), DrawingErrorKind<Never>> {
        let ((left, top), (right, bottom)) = (upper_left, bottom_right);
        if fill {
            let whole = |hundredths: i32| self.pixel(hundredths).round() as i64;
            let (from, to) = ((whole(left), whole(top)), (whole(right), whole(bottom)));
            self.fill(from, to, style.color());
            return Ok(());
        }
        self.draw_path([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], style)
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Never>> {
        let points: Vec<BackendCoord> = path.into_iter().collect();
        let (color, width) = (style.color(), style.stroke_width());
        if points.windows(2).all(|pair| pair[0].0 == pair[1].0 || pair[0].1 == pair[1].1)
            && points.len() < 1000
        {
            for pair in points.windows(2) {
                self.crisp_line(pair[0], pair[1], width, color);
            }
            return Ok(());
        }
        let half = (f64::from(width) * self.scale / 2.0).max(0.5) as f32;
        let at = |point: BackendCoord| (self.pixel(point.0) as f32, self.pixel(point.1) as f32);
        let points: Vec<(f32, f32)> = points.into_iter().map(at).collect();
        let (mut top, mut bottom) = (f32::MAX, f32::MIN);
        for pair in points.windows(2) {
            self.soft_line(pair[0], pair[1], half);
            top = top.min(pair[0].1).min(pair[1].1);
            bottom = bottom.max(pair[0].1).max(pair[1].1);
        }
        self.lay_cover(top - half - 2.0, bottom + half + 2.0, color);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vertices: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<Never>> {
        let points: Vec<(f64, f64)> =
            vertices.into_iter().map(|(x, y)| (self.pixel(x), self.pixel(y))).collect();
        let top = points.iter().map(|point| point.1).fold(f64::MAX, f64::min).max(0.0).floor();
        let bottom =
            points.iter().map(|point| point.1).fold(f64::MIN, f64::max).min(self.height as f64).ceil();
        let mut crossings = Vec::new();
        for row in top as i64 * SUBROWS..bottom as i64 * SUBROWS {
            let y = (row as f64 + 0.5) / SUBROWS as f64;
            crossings.clear();
            for (index, from) in points.iter().enumerate() {
                let to = points[(index + 1) % points.len()];
                if (from.1 <= y) != (to.1 <= y) {
                    crossings.push(from.0 + (y - from.1) / (to.1 - from.1) * (to.0 - from.0));
                }
            }
            crossings.sort_by(f64::total_cmp);
            for pair in crossings.chunks_exact(2) {
                self.cover_span((row / SUBROWS) as usize, pair[0], pair[1]);
            }
        }
        self.lay_cover(top as f32, bottom as f32, style.color());
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        at: BackendCoord,
    ) -> Result<(), DrawingErrorKind<Never>> {
        let bold = matches!(style.style(), FontStyle::Bold);
        let em = style.size() / LINE_PER_SIZE * self.scale;
        let advance = |letter| font(bold).map_or(0.0, |font| font.advance(letter) * em);
        let width: f64 = text.chars().map(advance).sum();
        let mut x = self.pixel(at.0)
            - match style.anchor().h_pos {
                HPos::Left => 0.0,
                HPos::Center => width / 2.0,
                HPos::Right => width,
            };
        let y = self.pixel(at.1)
            + match style.anchor().v_pos {
                VPos::Top => em * 0.76,
                VPos::Center => em * HALF_LETTER,
                VPos::Bottom => -em * HALF_LETTER,
            };
        for letter in text.chars() {
            self.write(letter, em, bold, (x, y), style.color());
            x += advance(letter);
        }
        Ok(())
    }
}
