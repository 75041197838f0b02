//! The sparkline on a tile: a few seconds of ECG.

use slint::{Rgba8Pixel, SharedPixelBuffer};

use super::canvas::{Colour, Mask};
use super::geometry::Size;

/// A few seconds of a lead, reduced to the resolution of a tile.
#[derive(Debug, Clone, PartialEq)]
pub struct Sparkline {
    /// The lowest and the highest value of each of many equal time intervals, in millivolts.
    columns: Vec<(f32, f32)>,
}

/// The maximum number of columns. Tiles are not wider than this.
const MAX_COLUMNS: usize = 320;
/// The minimum height of the plot in millivolts, so that noise does not fill the tile.
const MIN_SPAN_MV: f32 = 0.8;

impl Sparkline {
    /// Takes the last `seconds` of the longest segment of a strip. `None` if the strip has no samples.
    #[must_use]
    pub fn of(strip: &ecg::Strip, seconds: f64) -> Option<Self> {
        let longest = strip.segments.iter().max_by_key(|segment| segment.samples.len())?;
        let wanted = (seconds * strip.sample_rate_hz).max(2.0) as usize;
        let samples = &longest.samples[longest.samples.len().saturating_sub(wanted)..];
        if samples.is_empty() {
            return None;
        }
        let count = MAX_COLUMNS.min(samples.len());
        let columns = (0..count)
            .map(|column| {
                let (from, to) = (column * samples.len() / count, (column + 1) * samples.len() / count);
                // Includes the first sample of the next column, so that the columns connect.
                extremes(samples[from..(to + 1).min(samples.len())].iter().copied())
            })
            .collect();
        Some(Sparkline { columns })
    }

    /// Draws the sparkline in one colour on a transparent background.
    #[must_use]
    pub fn draw(&self, size: Size, colour: Colour) -> SharedPixelBuffer<Rgba8Pixel> {
        let mut mask = Mask::new(size);
        let (low, high) = extremes(self.columns.iter().flat_map(|&(low, high)| [low, high]));
        let middle = (low + high) / 2.0;
        let span = (high - low).max(MIN_SPAN_MV);
        let thickness = 1.25 * size.scale;
        let usable = size.height as f32 - 2.0 * thickness;
        let y = |mv: f32| size.height as f32 / 2.0 - (mv - middle) / span * usable;
        let step = size.width as f32 / self.columns.len() as f32;
        let mut points = Vec::with_capacity(self.columns.len() * 2);
        let mut last = middle;
        for (index, &(low, high)) in self.columns.iter().enumerate() {
            let x = (index as f32 + 0.5) * step;
            // The extreme closer to the end of the previous column comes first.
            let is_low_first = (last - low).abs() <= (last - high).abs();
            let (first, second) = if is_low_first { (low, high) } else { (high, low) };
            points.extend([(x, y(first)), (x, y(second))]);
            last = second;
        }
        mask.polyline(&points, thickness);
        mask.into_picture(colour)
    }
}

fn extremes(values: impl Iterator<Item = f32>) -> (f32, f32) {
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_becomes_a_line_from_edge_to_edge_and_an_empty_strip_nothing() {
        let synthetic = ecg::synth::generate(&ecg::synth::Settings::default());
        let sparkline = Sparkline::of(&synthetic.strip, 4.0).unwrap();
        let picture = sparkline.draw(Size::new(120.0, 30.0, 1.0), Colour::opaque(0x00_ff_00));
        let is_covered =
            |column: u32| (0..30).any(|row| picture.as_slice()[(row * 120 + column) as usize].a > 100);
        assert!((1..119).all(is_covered));
        assert_eq!(Sparkline::of(&ecg::Strip { segments: Vec::new(), ..synthetic.strip }, 4.0), None);
    }

    #[test]
    fn flat_line_is_drawn_in_the_middle() {
        let flat = Sparkline::of(&ecg::Strip::from_samples(250.0, vec![0.7; 1000]), 4.0).unwrap();
        let picture = flat.draw(Size::new(40.0, 21.0, 1.0), Colour::opaque(0xff_ff_ff));
        for row in 0..21_usize {
            let is_covered = picture.as_slice()[row * 40 + 20].a > 100;
            assert_eq!(is_covered, row == 10, "row {row}");
        }
    }
}
