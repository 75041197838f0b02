//! A synthetic medical image: a greyscale phantom of ellipses, similar to the phantoms that scanners are
//! tested with.

const SIZE: u32 = 384;

/// Centre, half axes and brightness of an ellipse. The image extends from -1 to 1 in both directions.
struct Ellipse {
    x: f64,
    y: f64,
    half_width: f64,
    half_height: f64,
    brightness: f64,
}

/// Cross-section of a torso: body, lungs, spine and heart. `seed` varies position and size of the heart.
fn ellipses(seed: u64) -> [Ellipse; 6] {
    let ellipse =
        |x, y, half_width, half_height, brightness| Ellipse { x, y, half_width, half_height, brightness };
    let shift = (seed % 7) as f64 * 0.012;
    [
        ellipse(0.0, 0.0, 0.92, 0.70, 120.0),
        ellipse(0.0, 0.0, 0.84, 0.62, -30.0),
        ellipse(-0.42, 0.02, 0.28, 0.44, -70.0),
        ellipse(0.44, 0.02, 0.26, 0.42, -70.0),
        ellipse(0.0, 0.44, 0.12, 0.13, 120.0),
        ellipse(0.10 + shift, -0.08, 0.22 + shift, 0.20, 95.0),
    ]
}

/// Returns the phantom as a PNG file of 384 x 384 pixels. Returns `None` if the encoder fails; writing to
/// memory does not fail.
pub(super) fn png(seed: u64) -> Option<Vec<u8>> {
    let ellipses = ellipses(seed);
    let at = |pixel: u32| (f64::from(pixel) + 0.5) / f64::from(SIZE) * 2.0 - 1.0;
    let mut pixels = Vec::with_capacity((SIZE * SIZE) as usize);
    for row in 0..SIZE {
        for column in 0..SIZE {
            let (x, y) = (at(column), at(row));
            let inside = ellipses.iter().filter(|ellipse| ellipse.contains(x, y));
            let brightness: f64 = inside.map(|ellipse| ellipse.brightness).sum();
            pixels.push(brightness.clamp(0.0, 255.0) as u8);
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIZE, SIZE);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk("Description".to_owned(), "Simulated phantom, not a patient".to_owned()).ok()?;
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(&pixels).ok()?;
    writer.finish().ok()?;
    Some(file)
}

impl Ellipse {
    fn contains(&self, x: f64, y: f64) -> bool {
        ((x - self.x) / self.half_width).powi(2) + ((y - self.y) / self.half_height).powi(2) <= 1.0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn phantom_is_a_small_png_that_differs_by_seed() {
        let file = super::png(900_001).unwrap();
        assert!(file.starts_with(b"\x89PNG") && file.len() < 64 << 10, "{} bytes", file.len());
        assert_ne!(file, super::png(900_004).unwrap());
    }
}
