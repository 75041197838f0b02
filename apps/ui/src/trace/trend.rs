//! The plot of heart rates over time: the mean, the range of values in the same pixel column, and the alarm limits.

use slint::{Rgb8Pixel, SharedPixelBuffer};

use super::canvas::{Canvas, Colour, Mask};
use super::geometry::{Size, Tick};

/// A heart rate at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendPoint {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// The mean rate in beats per minute.
    pub bpm: f32,
    /// The lowest rate within the strip. The same as `bpm` if it is not known.
    pub low: f32,
    /// The highest rate within the strip. The same as `bpm` if it is not known.
    pub high: f32,
}

/// The colours of a trend plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrendStyle {
    background: Colour,
    grid: Colour,
    line: Colour,
    band: Colour,
    limit: Colour,
    critical: Colour,
    beyond: Colour,
    cursor: Colour,
}

impl TrendStyle {
    /// For the dark theme.
    pub const DARK: TrendStyle = TrendStyle {
        background: Colour::opaque(0x0e_15_1b),
        grid: Colour::opaque(0x22_2e_38),
        line: Colour::opaque(0x3d_f0_7a),
        band: Colour::opaque(0x3d_f0_7a).with_alpha(60),
        limit: Colour::opaque(0xf2_c9_4c),
        critical: Colour::opaque(0xff_80_60),
        beyond: Colour::opaque(0xf2_c9_4c).with_alpha(16),
        cursor: Colour::opaque(0xd8_e4_ee).with_alpha(170),
    };
    /// For the light theme.
    pub const LIGHT: TrendStyle = TrendStyle {
        background: Colour::opaque(0xff_ff_ff),
        grid: Colour::opaque(0xe3_e9_ee),
        line: Colour::opaque(0x0b_7a_3c),
        band: Colour::opaque(0x0b_7a_3c).with_alpha(48),
        limit: Colour::opaque(0xc2_8a_00),
        critical: Colour::opaque(0xd6_1f_26),
        beyond: Colour::opaque(0xe0_a8_00).with_alpha(22),
        cursor: Colour::opaque(0x2a_3a_48).with_alpha(170),
    };
}

/// Alarm limits in beats per minute: each pair is low, high.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendLimits {
    /// Rates outside raise an alarm.
    pub normal: (f32, f32),
    /// Rates outside raise an alarm of high priority.
    pub critical: (f32, f32),
}

/// The range of the axis if no limits are known and no values are visible, in beats per minute.
const USUAL_RANGE: (f32, f32) = (50.0, 120.0);

/// The visible part of a trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendView {
    /// Milliseconds since 1970 at the left edge.
    pub from_ms: i64,
    /// Milliseconds since 1970 at the right edge.
    pub to_ms: i64,
    /// The alarm limits, if they are known.
    pub limits: Option<TrendLimits>,
    /// The position of the pointer in physical pixels from the left.
    pub pointer: Option<f32>,
}

/// The values of one pixel column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendReading {
    /// The time of the middle value in milliseconds since 1970.
    pub at_ms: i64,
    /// The mean.
    pub mean: f32,
    /// The lowest rate.
    pub low: f32,
    /// The highest rate.
    pub high: f32,
    /// The number of values.
    pub count: usize,
}

/// The heart rates of a patient in order of time.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct TrendScene {
    points: Vec<TrendPoint>,
}

impl TrendScene {
    /// Adds values in any order. A value replaces an earlier one with the same time. If both have the same rate, the wider range
    /// stays.
    pub fn insert(&mut self, points: impl IntoIterator<Item = TrendPoint>) {
        for point in points {
            match self.points.binary_search_by_key(&point.at_ms, |known| known.at_ms) {
                Ok(at) => {
                    let known = &mut self.points[at];
                    let is_same = known.bpm == point.bpm;
                    let (low, high) = if is_same { (known.low, known.high) } else { (point.low, point.high) };
                    *known = TrendPoint { low: low.min(point.low), high: high.max(point.high), ..point };
                }
                Err(at) => self.points.insert(at, point),
            }
        }
    }

    /// All values.
    #[must_use]
    pub fn points(&self) -> &[TrendPoint] {
        &self.points
    }

    fn between(&self, from_ms: i64, to_ms: i64) -> &[TrendPoint] {
        let first = self.points.partition_point(|point| point.at_ms < from_ms);
        let last = self.points.partition_point(|point| point.at_ms <= to_ms);
        &self.points[first..last.max(first)]
    }

    /// The lowest and the highest rate of the axis: round values that include the visible values and the limits.
    #[must_use]
    pub fn axis(&self, view: &TrendView) -> (f32, f32) {
        let (low, high) = view.limits.map_or(USUAL_RANGE, |limits| limits.normal);
        let (mut low, mut high) = (low - 8.0, high + 8.0);
        for point in self.between(view.from_ms, view.to_ms) {
            low = low.min(point.low - 4.0);
            high = high.max(point.high + 4.0);
        }
        ((low / 20.0).floor().max(0.0) * 20.0, (high / 20.0).ceil() * 20.0)
    }

    /// The values at a pixel column, or the closest ones within a few pixels.
    #[must_use]
    pub fn reading(&self, view: &TrendView, x: f32, size: Size) -> Option<TrendReading> {
        let per_pixel = (view.to_ms - view.from_ms) as f64 / f64::from(size.width);
        let time = |x: f32| view.from_ms + (f64::from(x) * per_pixel) as i64;
        let nearest = self
            .between(time(x - 8.0 * size.scale), time(x + 8.0 * size.scale))
            .iter()
            .min_by_key(|point| (point.at_ms - time(x)).abs())?;
        let half = (per_pixel / 2.0) as i64;
        let near = self.between(nearest.at_ms - half, nearest.at_ms + half);
        let count = near.len();
        let mean = near.iter().map(|point| point.bpm).sum::<f32>() / count as f32;
        let (low, high) = near.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), point| {
            (low.min(point.low), high.max(point.high))
        });
        Some(TrendReading { at_ms: near[count / 2].at_ms, mean, low, high, count })
    }

    /// Draws the visible part.
    #[must_use]
    pub fn draw(&self, view: &TrendView, size: Size, style: &TrendStyle) -> SharedPixelBuffer<Rgb8Pixel> {
        let mut canvas = Canvas::new(size, style.background);
        let axis = self.axis(view);
        let y = |bpm: f32| (axis.1 - bpm) / (axis.1 - axis.0) * size.height as f32;
        let span = (view.to_ms - view.from_ms).max(1) as f64;
        let x = |at_ms: i64| ((at_ms - view.from_ms) as f64 / span * f64::from(size.width)) as f32;
        let thin = size.scale.floor().max(1.0);
        for tick in self.rate_ticks(view, size) {
            canvas.horizontal(tick.at, thin, style.grid);
        }
        for at_ms in times(view, size) {
            canvas.vertical(x(at_ms), thin, style.grid);
        }
        let (width, height) = (size.width as f32, size.height as f32);
        if let Some(TrendLimits { normal, critical }) = view.limits {
            canvas.fill(0.0, 0.0, width, y(normal.1), style.beyond);
            canvas.fill(0.0, y(normal.0), width, height, style.beyond);
            for (bpm, colour) in [
                (critical.0, style.critical),
                (critical.1, style.critical),
                (normal.0, style.limit),
                (normal.1, style.limit),
            ] {
                dashes(&mut canvas, y(bpm), size, colour);
            }
        }
        self.draw_values(&mut canvas, view, size, style, (&x, &y));
        if let Some(pointer) = view.pointer {
            let at = self.reading(view, pointer, size).map_or(pointer, |reading| x(reading.at_ms));
            canvas.vertical(at, thin, style.cursor);
        }
        canvas.finish()
    }

    fn draw_values(
        &self,
        canvas: &mut Canvas,
        view: &TrendView,
        size: Size,
        style: &TrendStyle,
        (x, y): (&dyn Fn(i64) -> f32, &dyn Fn(f32) -> f32),
    ) {
        let span = view.to_ms - view.from_ms;
        let shown = self.between(view.from_ms - span / 20, view.to_ms + span / 20);
        let gap = max_gap(shown, span);
        let mut line = Mask::new(size);
        for run in shown.chunk_by(|one, next| next.at_ms - one.at_ms <= gap) {
            let mut points = Vec::new();
            let mut band: Vec<(f32, f32, f32)> = Vec::new();
            for column in run.chunk_by(|one, next| x(one.at_ms).floor() == x(next.at_ms).floor()) {
                let mean = column.iter().map(|point| point.bpm).sum::<f32>() / column.len() as f32;
                let (low, high) =
                    column.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), point| {
                        (low.min(point.low), high.max(point.high))
                    });
                let at = x(column[column.len() / 2].at_ms);
                points.push((at, y(mean)));
                band.push((at, y(high), y(low)));
            }
            for pair in band.windows(2) {
                fill_between(canvas, pair[0], pair[1], style.band);
            }
            line.polyline(&points, 1.6 * size.scale);
            // Values that are far apart are marked as points.
            if points.len() < size.width as usize / 12 {
                for point in points {
                    line.segment(point, point, 4.0 * size.scale);
                }
            }
        }
        canvas.paint(&line, style.line);
    }

    /// The labels of the rate axis.
    #[must_use]
    pub fn rate_ticks(&self, view: &TrendView, size: Size) -> Vec<Tick> {
        let (low, high) = self.axis(view);
        let step = if high - low > 160.0 { 40.0 } else { 20.0 };
        let mut ticks = Vec::new();
        let mut bpm = low + step;
        while bpm < high {
            let at = (high - bpm) / (high - low) * size.height as f32;
            ticks.push(Tick { at, text: format!("{bpm:.0}") });
            bpm += step;
        }
        ticks
    }

    /// The labels of the time axis in local time.
    #[must_use]
    pub fn time_ticks(&self, view: &TrendView, size: Size) -> Vec<Tick> {
        let span = (view.to_ms - view.from_ms).max(1) as f64;
        times(view, size)
            .into_iter()
            .map(|at_ms| Tick {
                at: ((at_ms - view.from_ms) as f64 / span * f64::from(size.width)) as f32,
                text: local(at_ms, span),
            })
            .collect()
    }
}

/// The maximum time between two connected values in milliseconds: ten times the median, and at least a thirtieth of the range.
fn max_gap(points: &[TrendPoint], span_ms: i64) -> i64 {
    let mut steps: Vec<i64> = points.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).collect();
    if steps.is_empty() {
        return span_ms;
    }
    let middle = steps.len() / 2;
    let (_, median, _) = steps.select_nth_unstable(middle);
    (*median * 10).max(span_ms / 30)
}

fn fill_between(canvas: &mut Canvas, from: (f32, f32, f32), to: (f32, f32, f32), colour: Colour) {
    let (first, last) = (from.0.round() as i64, to.0.round() as i64);
    for column in first..last {
        let share = if to.0 > from.0 { (column as f32 - from.0) / (to.0 - from.0) } else { 0.0 };
        let top = from.1 + share * (to.1 - from.1);
        let bottom = from.2 + share * (to.2 - from.2);
        canvas.fill(column as f32, top, column as f32 + 1.0, bottom, colour);
    }
}

fn dashes(canvas: &mut Canvas, y: f32, size: Size, colour: Colour) {
    let (dash, thick) = (6.0 * size.scale, size.scale.round().max(1.0));
    let mut at = 0.0;
    while at < size.width as f32 {
        canvas.fill(at, y - thick / 2.0, at + dash, y + thick / 2.0, colour);
        at += 2.0 * dash;
    }
}

/// Round local times that are at least 90 logical pixels apart.
fn times(view: &TrendView, size: Size) -> Vec<i64> {
    const MINUTE: i64 = 60_000;
    const STEPS: [i64; 12] = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440];
    let span = (view.to_ms - view.from_ms).max(1);
    let most = (f64::from(size.width) / f64::from(size.scale) / 90.0).max(1.0);
    let step = STEPS
        .into_iter()
        .map(|minutes| minutes * MINUTE)
        .find(|step| span as f64 / *step as f64 <= most)
        .unwrap_or_else(|| ((span as f64 / most / (1440.0 * MINUTE as f64)).ceil() as i64) * 1440 * MINUTE);
    let offset = offset_ms(view.from_ms);
    let first = (view.from_ms + offset).div_euclid(step) + 1;
    (first..).map(|index| index * step - offset).take_while(|at| *at < view.to_ms).collect()
}

/// The offset of the local time from UTC in milliseconds.
fn offset_ms(at_ms: i64) -> i64 {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or(0, |time| i64::from(jiff::tz::TimeZone::system().to_offset(time).seconds()) * 1000)
}

fn local(at_ms: i64, span_ms: f64) -> String {
    let format = if span_ms > 36.0 * 3_600_000.0 { "%d %b %H:%M" } else { "%H:%M" };
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(
        |_| String::new(),
        |time| time.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 400, height: 200, scale: 1.0 };

    fn view() -> TrendView {
        TrendView {
            from_ms: 0,
            to_ms: 4_000_000,
            limits: Some(TrendLimits { normal: (50.0, 120.0), critical: (35.0, 150.0) }),
            pointer: None,
        }
    }

    fn point(at_ms: i64, bpm: f32) -> TrendPoint {
        TrendPoint { at_ms, bpm, low: bpm, high: bpm }
    }

    #[test]
    fn values_are_sorted_by_time() {
        let mut scene = TrendScene::default();
        scene.insert([point(30, 70.0), point(10, 71.0), point(20, 72.0)]);
        scene.insert([point(20, 90.0)]);
        let all: Vec<(i64, f32)> = scene.points().iter().map(|point| (point.at_ms, point.bpm)).collect();
        assert_eq!(all, [(10, 71.0), (20, 90.0), (30, 70.0)]);
    }

    #[test]
    fn range_of_a_value_stays_when_the_same_value_arrives_without_a_range() {
        let mut scene = TrendScene::default();
        let with_band = TrendPoint { low: 64.0, high: 79.0, ..point(10, 70.0) };
        scene.insert([point(10, 70.0)]);
        scene.insert([with_band]);
        scene.insert([point(10, 70.0)]);
        assert_eq!(scene.points(), [with_band]);
        scene.insert([point(10, 90.0)]);
        assert_eq!(scene.points(), [point(10, 90.0)], "another rate has its own range");
    }

    #[test]
    fn axis_includes_values_and_limits() {
        let mut scene = TrendScene::default();
        assert_eq!(scene.axis(&view()), (40.0, 140.0));
        scene.insert([point(1_000_000, 188.0), point(1_100_000, 31.0)]);
        let (low, high) = scene.axis(&view());
        assert!(low <= 31.0 && high >= 188.0);
    }

    #[test]
    fn reading_has_the_range_of_all_values_in_its_column() {
        let mut scene = TrendScene::default();
        scene.insert((0..40).map(|index| point(2_000_000 + index * 100, 60.0 + index as f32)));
        let reading = scene.reading(&view(), 200.0, SIZE).unwrap();
        assert!(reading.count > 10 && reading.low < reading.mean && reading.mean < reading.high);
        assert_eq!(scene.reading(&view(), 50.0, SIZE), None, "far from any value");
    }

    #[test]
    fn gap_in_time_is_not_bridged() {
        let mut scene = TrendScene::default();
        scene.insert((0..100).map(|index| point(index * 10_000, 80.0)));
        scene.insert((300..400).map(|index| point(index * 10_000, 80.0)));
        let picture = scene.draw(&view(), SIZE, &TrendStyle::DARK);
        let drawn = |column: usize| {
            (0..200).any(|row| {
                let pixel = picture.as_slice()[row * 400 + column];
                pixel.g.abs_diff(TrendStyle::DARK.line.rgb[1]) < 90 && pixel.r < 100
            })
        };
        assert!(drawn(50) && drawn(350));
        assert!(!drawn(200));
    }

    #[test]
    fn time_labels_do_not_overlap() {
        let scene = TrendScene::default();
        for hours in [1, 6, 24, 24 * 7, 24 * 365] {
            let view = TrendView { to_ms: hours * 3_600_000, ..view() };
            let ticks = scene.time_ticks(&view, SIZE);
            assert!(!ticks.is_empty() && ticks.len() <= 4, "{hours} h: {}", ticks.len());
        }
    }
}
