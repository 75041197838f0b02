//! Palette for PNG plots.

use std::collections::HashMap;

use plotters::style::RGBColor;
use plotters_backend::BackendColor;

use super::paper::COLORS;

/// Number of pixels compared at once with the row above.
const BLOCK: usize = 16;

/// Palette and indices of the pixels.
pub(super) fn indexed(pixels: &[u32], width: usize) -> (Vec<u8>, Vec<u8>) {
    let mut palette = Palette { known: HashMap::new(), bytes: Vec::new(), recent: [(u32::MAX, 0); 64] };
    // Flat colours come first, so that blends cannot displace them.
    for RGBColor(r, g, b) in COLORS {
        palette.index(packed(BackendColor { alpha: 1.0, rgb: (r, g, b) }));
    }
    let mut indices: Vec<u8> = Vec::with_capacity(pixels.len());
    let mut above: &[u32] = &[];
    for row in pixels.chunks(width.max(1)) {
        for (number, block) in row.chunks(BLOCK).enumerate() {
            let start = number * BLOCK;
            // Rows of ECG paper repeat, so a chunk equal to the row above is copied.
            if above.get(start..start + block.len()) == Some(block) {
                let from = indices.len() - width;
                indices.extend_from_within(from..from + block.len());
                continue;
            }
            for &pixel in block {
                indices.push(palette.index(pixel));
            }
        }
        above = row;
    }
    (palette.bytes, indices)
}

/// Colours found so far.
struct Palette {
    known: HashMap<u32, u8>,
    bytes: Vec<u8>,
    /// Cache of recent colours.
    recent: [(u32, u8); 64],
}

impl Palette {
    fn index(&mut self, pixel: u32) -> u8 {
        let slot = (pixel.wrapping_mul(0x9e37_79b1) >> 26) as usize;
        let (color, index) = self.recent[slot];
        if color == pixel {
            return index;
        }
        let index = match self.known.get(&pixel) {
            Some(&index) => index,
            None => {
                let index = self.new_or_nearest(pixel);
                self.known.insert(pixel, index);
                index
            }
        };
        self.recent[slot] = (pixel, index);
        index
    }

    /// Adds an entry while there is space, else returns the nearest. The remaining colours are rare blends at
    /// edges.
    fn new_or_nearest(&mut self, pixel: u32) -> u8 {
        let parts = [(pixel >> 16) as u8, (pixel >> 8) as u8, pixel as u8];
        if let Ok(index) = u8::try_from(self.bytes.len() / 3) {
            self.bytes.extend_from_slice(&parts);
            return index;
        }
        let distance = |color: &[u8]| -> u32 {
            color.iter().zip(parts).map(|(known, part)| u32::from(known.abs_diff(part)).pow(2)).sum()
        };
        let nearest = self.bytes.chunks_exact(3).enumerate().min_by_key(|(_, color)| distance(color));
        nearest.map_or(0, |(index, _)| index as u8)
    }
}

pub(super) fn packed(color: BackendColor) -> u32 {
    let (r, g, b) = color.rgb;
    u32::from(r) << 16 | u32::from(g) << 8 | u32::from(b)
}
