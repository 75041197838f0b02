//! A canvas for signals: filled areas, grid lines and anti-aliased lines.

use slint::{Rgb8Pixel, Rgba8Pixel, SharedPixelBuffer};

use super::geometry::Size;

/// A colour with an alpha value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour {
    /// Red, green, blue.
    pub rgb: [u8; 3],
    /// 0 (transparent) to 255 (opaque).
    pub alpha: u8,
}

impl Colour {
    /// An opaque colour from `0xRRGGBB`.
    #[must_use]
    pub const fn opaque(hex: u32) -> Self {
        Colour { rgb: [(hex >> 16) as u8, (hex >> 8) as u8, hex as u8], alpha: 255 }
    }

    /// The same colour with another alpha value.
    #[must_use]
    pub const fn with_alpha(self, alpha: u8) -> Self {
        Colour { alpha, ..self }
    }
}

/// A picture that is being drawn.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    height: usize,
    buffer: SharedPixelBuffer<Rgb8Pixel>,
}

impl Canvas {
    pub(super) fn new(size: Size, background: Colour) -> Self {
        let mut buffer = SharedPixelBuffer::<Rgb8Pixel>::new(size.width, size.height);
        let [r, g, b] = background.rgb;
        buffer.make_mut_slice().fill(Rgb8Pixel { r, g, b });
        Canvas { width: size.width as usize, height: size.height as usize, buffer }
    }

    /// Fills the pixels from `left`, `top` up to, but not including, `right`, `bottom`. Clips at the edges of the picture.
    pub(super) fn fill(&mut self, left: f32, top: f32, right: f32, bottom: f32, colour: Colour) {
        let clamp = |value: f32, most: usize| value.round().clamp(0.0, most as f32) as usize;
        let (left, right) = (clamp(left, self.width), clamp(right, self.width));
        let (top, bottom) = (clamp(top, self.height), clamp(bottom, self.height));
        if left >= right {
            return;
        }
        let width = self.width;
        let pixels = self.buffer.make_mut_slice();
        for row in top..bottom {
            for pixel in &mut pixels[row * width + left..row * width + right] {
                blend(pixel, colour, 255);
            }
        }
    }

    /// Draws a line from top to bottom, `thickness` whole pixels wide, centred on `x`.
    pub(super) fn vertical(&mut self, x: f32, thickness: f32, colour: Colour) {
        let left = (x - thickness / 2.0).round();
        self.fill(left, 0.0, left + thickness.max(1.0).round(), self.height as f32, colour);
    }

    /// Draws a line from left to right, `thickness` whole pixels wide, centred on `y`.
    pub(super) fn horizontal(&mut self, y: f32, thickness: f32, colour: Colour) {
        let top = (y - thickness / 2.0).round();
        self.fill(0.0, top, self.width as f32, top + thickness.max(1.0).round(), colour);
    }

    /// Paints a colour where the mask has coverage.
    pub(super) fn paint(&mut self, mask: &Mask, colour: Colour) {
        for (pixel, coverage) in self.buffer.make_mut_slice().iter_mut().zip(&mask.coverage) {
            if *coverage > 0 {
                blend(pixel, colour, *coverage);
            }
        }
    }

    pub(super) fn finish(self) -> SharedPixelBuffer<Rgb8Pixel> {
        self.buffer
    }
}

fn blend(pixel: &mut Rgb8Pixel, colour: Colour, coverage: u8) {
    let alpha = u32::from(colour.alpha) * u32::from(coverage) / 255;
    let mix = |below: u8, above: u8| {
        ((u32::from(below) * (255 - alpha) + u32::from(above) * alpha + 127) / 255) as u8
    };
    *pixel = Rgb8Pixel {
        r: mix(pixel.r, colour.rgb[0]),
        g: mix(pixel.g, colour.rgb[1]),
        b: mix(pixel.b, colour.rgb[2]),
    };
}

/// The coverage of each pixel by lines. The coverage of crossing lines is not added, so that a line has the same colour
/// everywhere.
#[derive(Debug)]
pub(super) struct Mask {
    width: usize,
    height: usize,
    coverage: Vec<u8>,
}

impl Mask {
    pub(super) fn new(size: Size) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        Mask { width, height, coverage: vec![0; width * height] }
    }

    /// Adds a line through all points with round joints, `thickness` pixels wide.
    pub(super) fn polyline(&mut self, points: &[(f32, f32)], thickness: f32) {
        if let [only] = points {
            self.segment(*only, *only, thickness);
        }
        for pair in points.windows(2) {
            self.segment(pair[0], pair[1], thickness);
        }
    }

    /// Adds a straight line with round ends. The coverage of a pixel depends on the distance of its centre from the line.
    pub(super) fn segment(&mut self, from: (f32, f32), to: (f32, f32), thickness: f32) {
        if !(from.0.is_finite() && from.1.is_finite() && to.0.is_finite() && to.1.is_finite()) {
            return;
        }
        let ((x0, y0), (x1, y1)) = if from.1 <= to.1 { (from, to) } else { (to, from) };
        let half = thickness / 2.0;
        let reach = half + 0.5;
        let first_row = (y0 - reach - 0.5).floor().max(0.0) as usize;
        let last_row = (y1 + reach).floor().min(self.height as f32 - 1.0);
        if last_row < 0.0 {
            return;
        }
        let (dx, dy) = (x1 - x0, y1 - y0);
        let length_squared = dx * dx + dy * dy;
        for row in first_row..=last_row as usize {
            let centre = row as f32 + 0.5;
            // Only the part of the line near this row covers its pixels.
            let (left, right) = if dy > 1e-3 {
                let at = |y: f32| x0 + dx * ((y - y0) / dy).clamp(0.0, 1.0);
                let (a, b) = (at(centre - reach), at(centre + reach));
                (a.min(b), a.max(b))
            } else {
                (x0.min(x1), x0.max(x1))
            };
            let first = (left - reach - 0.5).floor().max(0.0) as usize;
            let last = (right + reach).floor().min(self.width as f32 - 1.0);
            if last < 0.0 {
                continue;
            }
            for column in first..=last as usize {
                let (x, y) = (column as f32 + 0.5 - x0, centre - y0);
                let along = if length_squared > 0.0 {
                    ((x * dx + y * dy) / length_squared).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let (off_x, off_y) = (x - along * dx, y - along * dy);
                let distance = (off_x * off_x + off_y * off_y).sqrt();
                let coverage = ((reach - distance).clamp(0.0, 1.0) * 255.0) as u8;
                let cell = &mut self.coverage[row * self.width + column];
                *cell = (*cell).max(coverage);
            }
        }
    }

    /// Converts the mask into a picture in one colour on a transparent background.
    pub(super) fn into_picture(self, colour: Colour) -> SharedPixelBuffer<Rgba8Pixel> {
        let mut buffer = SharedPixelBuffer::<Rgba8Pixel>::new(self.width as u32, self.height as u32);
        for (pixel, coverage) in buffer.make_mut_slice().iter_mut().zip(&self.coverage) {
            let alpha = u32::from(colour.alpha) * u32::from(*coverage) / 255;
            let part = |channel: u8| (u32::from(channel) * alpha / 255) as u8;
            *pixel = Rgba8Pixel {
                r: part(colour.rgb[0]),
                g: part(colour.rgb[1]),
                b: part(colour.rgb[2]),
                a: alpha as u8,
            };
        }
        buffer
    }

    /// The coverage of a pixel, 0 to 255.
    pub(super) fn at(&self, column: usize, row: usize) -> u8 {
        self.coverage[row * self.width + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 20, height: 20, scale: 1.0 };

    #[test]
    fn line_through_pixel_centres_covers_only_these_pixels() {
        let mut mask = Mask::new(SIZE);
        mask.polyline(&[(2.5, 10.5), (17.5, 10.5)], 1.0);
        for column in 3..17 {
            assert_eq!(mask.at(column, 10), 255, "column {column}");
            assert_eq!(mask.at(column, 8), 0);
            assert_eq!(mask.at(column, 12), 0);
        }
        assert_eq!(mask.at(0, 10), 0);
    }

    #[test]
    fn slanted_line_has_no_gaps() {
        for end in [(18.0, 3.0), (3.0, 18.0), (18.0, 18.0), (1.0, 19.0)] {
            let mut mask = Mask::new(SIZE);
            mask.segment((1.0, 1.0), end, 1.5);
            let steps = 200;
            for step in 0..=steps {
                let share = step as f32 / steps as f32;
                let (x, y) = (1.0 + share * (end.0 - 1.0), 1.0 + share * (end.1 - 1.0));
                let (column, row) = ((x as usize).min(19), (y as usize).min(19));
                assert!(mask.at(column, row) > 120, "{end:?}: {column}, {row}");
            }
        }
    }

    #[test]
    fn lines_outside_the_picture_and_not_finite_lines_are_ignored() {
        let mut mask = Mask::new(SIZE);
        mask.segment((-50.0, -50.0), (-10.0, -10.0), 2.0);
        mask.segment((500.0, 5.0), (600.0, 5.0), 2.0);
        mask.segment((5.0, 500.0), (6.0, 700.0), 2.0);
        mask.segment((f32::NAN, 5.0), (6.0, 7.0), 2.0);
        assert!(mask.coverage.iter().all(|coverage| *coverage == 0));
    }

    #[test]
    fn alpha_blends_with_the_background() {
        let mut canvas = Canvas::new(SIZE, Colour::opaque(0x00_00_00));
        canvas.fill(0.0, 0.0, 1.0, 1.0, Colour::opaque(0xff_80_00).with_alpha(128));
        let picture = canvas.finish();
        let pixel = picture.as_slice()[0];
        assert_eq!((pixel.r, pixel.g, pixel.b), (128, 64, 0));
        assert_eq!(picture.as_slice()[1], Rgb8Pixel { r: 0, g: 0, b: 0 });
    }
}
