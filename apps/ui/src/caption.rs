//! Writes a caption above a picture, so that a saved picture says whose it is.
//!
//! Fonts are those of the operating system, with a fallback for every script, as in the windows. Call it off the UI thread: the
//! first call reads the list of fonts.

use std::io::Cursor;

use image::{GenericImage, ImageFormat, Rgb, RgbImage};
use parley::{
    FontContext, FontWeight, GenericFamily, Layout, LayoutContext, OverflowWrap, PositionedLayoutItem,
    StyleProperty,
};
use swash::scale::{Render, ScaleContext, Source, StrikeWith};
use swash::zeno::Format;

use crate::picture::{PictureError, decode};

/// The font size is this share of the width of the picture, within the limits below in pixels.
const SIZE_SHARE: f32 = 1.0 / 55.0;
const MIN_SIZE: f32 = 14.0;
const MAX_SIZE: f32 = 64.0;
const INK: [u8; 3] = [0x16, 0x21, 0x2c];

/// The caption of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The first lines, in bold: who the patient is.
    pub title: String,
    /// The following lines: when the picture was recorded.
    pub detail: String,
}

impl Caption {
    /// Writes the caption above a PNG or JPEG picture. Returns a PNG file. The picture itself is not changed.
    ///
    /// # Errors
    /// [`PictureError`].
    pub fn write_above(&self, picture: &[u8]) -> Result<Vec<u8>, PictureError> {
        let damaged = |error: image::ImageError| PictureError::Damaged(error.to_string());
        let (mut picture, upright) = decode(Cursor::new(picture))?;
        picture.apply_orientation(upright);
        let picture = picture.into_rgb8();
        let header = self.draw(picture.width());
        let mut page = RgbImage::new(picture.width(), header.height() + picture.height());
        page.copy_from(&header, 0, 0).map_err(damaged)?;
        page.copy_from(&picture, 0, header.height()).map_err(damaged)?;
        let mut file = Cursor::new(Vec::new());
        page.write_to(&mut file, ImageFormat::Png).map_err(damaged)?;
        Ok(file.into_inner())
    }

    /// Draws the caption on white in this width. A long name has several lines.
    fn draw(&self, width: u32) -> RgbImage {
        let size = (width as f32 * SIZE_SHARE).clamp(MIN_SIZE, MAX_SIZE);
        let margin = size * 0.8;
        let room = (width as f32 - 2.0 * margin).max(size);
        let (mut fonts, mut context) = (FontContext::new(), LayoutContext::new());
        let mut layout = |text: &str, size: f32, weight: FontWeight| {
            let mut builder = context.ranged_builder(&mut fonts, text, 1.0, true);
            builder.push_default(GenericFamily::SansSerif);
            builder.push_default(StyleProperty::FontSize(size));
            builder.push_default(StyleProperty::FontWeight(weight));
            builder.push_default(StyleProperty::OverflowWrap(OverflowWrap::Anywhere));
            let mut layout: Layout<()> = builder.build(text);
            layout.break_all_lines(Some(room));
            layout
        };
        let title = layout(&self.title, size * 1.2, FontWeight::BOLD);
        let detail = layout(&self.detail, size, FontWeight::NORMAL);
        let gap = size * 0.3;
        let height = (2.0 * margin + title.height() + gap + detail.height()).ceil() as u32;
        let mut header = RgbImage::from_pixel(width, height, Rgb([255; 3]));
        let mut scaler = ScaleContext::new();
        draw_text(&mut header, &mut scaler, &title, (margin, margin));
        draw_text(&mut header, &mut scaler, &detail, (margin, margin + title.height() + gap));
        header
    }
}

/// Draws a text with its upper left corner at `at`.
fn draw_text(target: &mut RgbImage, scaler: &mut ScaleContext, layout: &Layout<()>, at: (f32, f32)) {
    let runs =
        layout.lines().flat_map(|line| line.items().collect::<Vec<_>>()).filter_map(|item| match item {
            PositionedLayoutItem::GlyphRun(run) => Some(run),
            PositionedLayoutItem::InlineBox(_) => None,
        });
    for run in runs {
        let font = run.run().font();
        let Some(face) = swash::FontRef::from_index(font.data.data(), font.index as usize) else { continue };
        let coords = run.run().normalized_coords();
        let builder = scaler.builder(face).size(run.run().font_size());
        let mut scaled = builder.hint(true).normalized_coords(coords).build();
        for glyph in run.positioned_glyphs() {
            let Ok(id) = u16::try_from(glyph.id) else { continue };
            let sources = [Source::Outline, Source::Bitmap(StrikeWith::BestFit)];
            let Some(picture) = Render::new(&sources).format(Format::Alpha).render(&mut scaled, id) else {
                continue;
            };
            let left = (at.0 + glyph.x).round() as i32 + picture.placement.left;
            let top = (at.1 + glyph.y).round() as i32 - picture.placement.top;
            let width = picture.placement.width.max(1) as usize;
            for (y, row) in picture.data.chunks(width).enumerate() {
                for (x, coverage) in row.iter().enumerate() {
                    let place = (u32::try_from(left + x as i32), u32::try_from(top + y as i32));
                    if let (Ok(x), Ok(y)) = place
                        && let Some(pixel) = target.get_pixel_mut_checked(x, y)
                    {
                        blend(pixel, *coverage);
                    }
                }
            }
        }
    }
}

fn blend(pixel: &mut Rgb<u8>, coverage: u8) {
    for (channel, ink) in pixel.0.iter_mut().zip(INK) {
        let mixed = u32::from(*channel) * u32::from(255 - coverage) + u32::from(ink) * u32::from(coverage);
        *channel = (mixed / 255) as u8;
    }
}
