//! The small strip on a tile: a few seconds that show that a heart beats and how.

use slint::{Rgba8Pixel, SharedPixelBuffer};

use super::Size;
use super::canvas::{Colour, Mask};

/// A few seconds of a lead, thinned out to what a tile can show.
#[derive(Debug, Clone, PartialEq)]
pub struct Spark {
    /// Lowest and highest of each of many equal stretches of time, in millivolt.
    columns: Vec<(f32, f32)>,
}

/// Stretches a tile's strip is kept in: more than any tile is wide would be of no use.
const COLUMNS: usize = 320;
/// The least height of the strip in millivolt: quiet noise must not fill the tile.
const LEAST_SPAN_MV: f32 = 0.8;

impl Spark {
    /// The last `seconds` of a strip's longest unbroken stretch; nothing of a strip without samples.
    #[must_use]
    pub fn of(strip: &ecg::Strip, seconds: f64) -> Option<Self> {
        let longest = strip.segments.iter().max_by_key(|segment| segment.samples.len())?;
        let wanted = (seconds * strip.sample_rate_hz).max(2.0) as usize;
        let samples = &longest.samples[longest.samples.len().saturating_sub(wanted)..];
        if samples.is_empty() {
            return None;
        }
        let columns = (0..COLUMNS.min(samples.len()))
            .map(|column| {
                let count = COLUMNS.min(samples.len());
                let (from, to) = (column * samples.len() / count, (column + 1) * samples.len() / count);
                // One sample of the next stretch is taken along, so that the stretches touch.
                samples[from..(to + 1).min(samples.len())]
                    .iter()
                    .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), sample| {
                        (low.min(*sample), high.max(*sample))
                    })
            })
            .collect();
        Some(Spark { columns })
    }
}

/// Draws it in one colour on nothing.
#[must_use]
pub fn spark(spark: &Spark, size: Size, colour: Colour) -> SharedPixelBuffer<Rgba8Pixel> {
    let mut mask = Mask::new(size);
    let (low, high) = spark.columns.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), column| {
        (low.min(column.0), high.max(column.1))
    });
    let middle = (low + high) / 2.0;
    let span = (high - low).max(LEAST_SPAN_MV);
    let thickness = 1.25 * size.scale;
    let usable = size.height as f32 - 2.0 * thickness;
    let y = |mv: f32| size.height as f32 / 2.0 - (mv - middle) / span * usable;
    let step = size.width as f32 / spark.columns.len() as f32;
    let mut points = Vec::with_capacity(spark.columns.len() * 2);
    let mut last = middle;
    for (index, (low, high)) in spark.columns.iter().enumerate() {
        let x = (index as f32 + 0.5) * step;
        // First the extreme that is nearer to where the line comes from.
        let rising = (last - low).abs() <= (last - high).abs();
        let (first, second) = if rising { (*low, *high) } else { (*high, *low) };
        points.push((x, y(first)));
        points.push((x, y(second)));
        last = second;
    }
    mask.polyline(&points, thickness);
    mask.into_picture(colour)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_becomes_a_line_from_edge_to_edge_and_an_empty_one_nothing() {
        let made = ecg::synth::generate(&ecg::synth::Settings::default());
        let small = Spark::of(&made.strip, 4.0).unwrap();
        let size = Size::new(120.0, 30.0, 1.0);
        let picture = spark(&small, size, Colour::opaque(0x00_ff_00));
        let covered =
            |column: u32| (0..30).any(|row| picture.as_slice()[(row * 120 + column) as usize].a > 100);
        assert!((1..119).all(covered));
        assert_eq!(Spark::of(&ecg::Strip { segments: Vec::new(), ..made.strip }, 4.0), None);
    }

    #[test]
    fn a_flat_line_is_drawn_in_the_middle() {
        let flat = Spark::of(&ecg::Strip::from_samples(250.0, vec![0.7; 1000]), 4.0).unwrap();
        let picture = spark(&flat, Size::new(40.0, 21.0, 1.0), Colour::opaque(0xff_ff_ff));
        for row in 0..21_usize {
            let covered = picture.as_slice()[row * 40 + 20].a > 100;
            assert_eq!(covered, row == 10, "row {row}");
        }
    }
}
