//! The plot of an ECG: standard scale of 25 mm/s and 10 mm/mV, zoom, pan, calipers and marks of beats.

use std::sync::Arc;

use ecg::Strip;
use slint::{Rgb8Pixel, SharedPixelBuffer};

use super::canvas::{Canvas, Colour, Mask};
use super::envelope::Envelope;
use super::geometry::{Size, Tick};

/// Seconds and millivolts per millimetre of ECG paper at 25 mm/s and 10 mm/mV.
const SECONDS_PER_MM: f64 = 1.0 / 25.0;
const MV_PER_MM: f64 = 1.0 / 10.0;
/// Logical pixels per millimetre: about the size of paper on a screen with 96 dots per inch.
const PIXELS_PER_MM: f64 = 4.0;
/// The maximum paper speed in mm/s.
const MAX_SPEED: f64 = 400.0;
/// The minimum and maximum gain in mm/mV.
const GAIN_RANGE: (f64, f64) = (0.5, 80.0);
/// The minimum distance of marked beats in logical pixels. Beats are not marked if they are closer.
const MIN_BEAT_DISTANCE: f64 = 3.0;

/// The colours of an ECG plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EcgStyle {
    background: Colour,
    fine: Colour,
    coarse: Colour,
    trace: Colour,
    beat: Colour,
    /// Marks of beats with a label.
    labelled_beat: Colour,
    caliper: Colour,
    unusable: Colour,
    label: Colour,
}

impl EcgStyle {
    /// Dark, with a green trace, as on a bedside monitor.
    pub const MONITOR: EcgStyle = EcgStyle {
        background: Colour::opaque(0x06_0d_0a),
        fine: Colour::opaque(0x0f_1f_18),
        coarse: Colour::opaque(0x1c_38_2c),
        trace: Colour::opaque(0x3d_f0_7a),
        beat: Colour::opaque(0x8f_b8_ff),
        labelled_beat: Colour::opaque(0xff_b3_5c),
        caliper: Colour::opaque(0xff_d1_4a),
        unusable: Colour::opaque(0x8a_94_90).with_alpha(70),
        label: Colour::opaque(0x9f_c4_b2),
    };
    /// Like ECG paper.
    pub const PAPER: EcgStyle = EcgStyle {
        background: Colour::opaque(0xff_f9_f6),
        fine: Colour::opaque(0xfb_e3_dd),
        coarse: Colour::opaque(0xf0_b9_ae),
        trace: Colour::opaque(0x14_24_2c),
        beat: Colour::opaque(0x1d_5f_c9),
        labelled_beat: Colour::opaque(0xb3_4a_00),
        caliper: Colour::opaque(0x8a_2b_c2),
        unusable: Colour::opaque(0x80_80_80).with_alpha(70),
        label: Colour::opaque(0x7a_4a_40),
    };

    /// The colour of texts on the picture: red, green, blue.
    #[must_use]
    pub fn label(&self) -> [u8; 3] {
        self.label.rgb
    }

    /// The colour of the labels of beats: red, green, blue.
    #[must_use]
    pub fn beat_label(&self) -> [u8; 3] {
        self.labelled_beat.rgb
    }
}

/// A beat of a strip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beat {
    /// The time of the R peak in seconds from the start of the strip.
    pub time_s: f64,
    /// The confidence of the detection, from 0 to 1.
    pub confidence: f32,
    /// The type of the beat, such as `V`. Empty for a normal beat and for a beat of unknown type.
    pub label: &'static str,
}

/// A strip that is prepared for drawing.
#[derive(Debug)]
pub struct EcgScene {
    strip: Arc<Strip>,
    envelopes: Vec<Envelope>,
    beats: Vec<Beat>,
    /// Unusable segments in seconds.
    unusable: Vec<(f64, f64)>,
    /// The voltage range of the trace without its rarest extremes, in millivolts.
    low: f64,
    high: f64,
}

impl EcgScene {
    /// `beats` are in ascending order of their times. `unusable` are segments in seconds.
    #[must_use]
    pub fn new(strip: Arc<Strip>, beats: Vec<Beat>, unusable: Vec<(f64, f64)>) -> Self {
        let envelopes = strip.segments.iter().map(|segment| Envelope::of(&segment.samples)).collect();
        let (low, high) = typical_range(&strip);
        EcgScene { strip, envelopes, beats, unusable, low, high }
    }

    /// The duration in seconds.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.strip.duration_s()
    }

    /// The number of beats.
    #[must_use]
    pub fn beat_count(&self) -> usize {
        self.beats.len()
    }

    /// Draws the visible part.
    #[must_use]
    pub fn draw(&self, view: &EcgView, size: Size, style: &EcgStyle) -> SharedPixelBuffer<Rgb8Pixel> {
        let mut canvas = Canvas::new(size, style.background);
        let scale = f64::from(size.scale);
        let map = Map::of(view, size);
        draw_grid(&mut canvas, &map, size, style);
        for (from, to) in self.unusable_segments() {
            if map.x(to) > 0.0 && map.x(from) < size.width as f32 {
                canvas.fill(map.x(from), 0.0, map.x(to), size.height as f32, style.unusable);
            }
        }
        if view.shows_beats {
            self.draw_beats(&mut canvas, &map, size, style);
        }
        let mut mask = Mask::new(size);
        let thickness = (1.4 * scale) as f32;
        for (segment, envelope) in self.strip.segments.iter().zip(&self.envelopes) {
            for line in map.lines(segment, envelope, self.strip.sample_rate_hz, size.width) {
                mask.polyline(&line, thickness);
            }
        }
        canvas.paint(&mask, style.trace);
        if let Some(caliper) = &view.caliper {
            draw_caliper(&mut canvas, &map, caliper, size, style);
        }
        canvas.finish()
    }

    /// The visible part as a text for screen readers.
    #[must_use]
    pub fn description(&self, view: &EcgView, size: Size) -> String {
        let map = Map::of(view, size);
        let to = (map.time(size.width as f32)).min(self.duration_s());
        format!("{:.1} s to {:.1} s of {:.1} s", view.start_s.max(0.0), to.max(0.0), self.duration_s())
    }

    fn unusable_segments(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.strip.gaps().map(|gap| (gap.start_s, gap.end_s)).chain(self.unusable.iter().copied())
    }

    /// The labels of the visible beats, at their positions. Empty if beats are not marked.
    #[must_use]
    pub fn beat_labels(&self, view: &EcgView, size: Size) -> Vec<Tick> {
        let map = Map::of(view, size);
        let beats = if view.shows_beats { self.marked_beats(&map, size) } else { &[] };
        let labelled = beats.iter().filter(|beat| !beat.label.is_empty());
        labelled.map(|beat| Tick { at: map.x(beat.time_s), text: beat.label.to_owned() }).collect()
    }

    /// The visible beats. Empty if they are too close to mark them.
    fn marked_beats(&self, map: &Map, size: Size) -> &[Beat] {
        let (from, to) = (map.time(-10.0), map.time(size.width as f32 + 10.0));
        let first = self.beats.partition_point(|beat| beat.time_s < from);
        let last = self.beats.partition_point(|beat| beat.time_s <= to);
        let shown = &self.beats[first..last.max(first)];
        let room = f64::from(size.width) / shown.len().max(1) as f64;
        if room < MIN_BEAT_DISTANCE * f64::from(size.scale) { &[] } else { shown }
    }

    fn draw_beats(&self, canvas: &mut Canvas, map: &Map, size: Size, style: &EcgStyle) {
        let shown = self.marked_beats(map, size);
        for (is_labelled, colour) in [(false, style.beat), (true, style.labelled_beat)] {
            let mut mask = Mask::new(size);
            let (top, arm) = (5.0 * size.scale, 3.5 * size.scale);
            for beat in shown.iter().filter(|beat| beat.label.is_empty() != is_labelled) {
                let x = map.x(beat.time_s);
                let faint = Colour { alpha: 55, ..colour };
                canvas.fill(x - size.scale / 2.0, top + arm, x + size.scale / 2.0, size.height as f32, faint);
                // Filled if the confidence is high, otherwise an outline.
                let (left, right, tip) = ((x - arm, top), (x + arm, top), (x, top + 1.5 * arm));
                mask.polyline(&[left, right, tip, left], size.scale);
                if beat.confidence >= 0.5 {
                    let mut width = 0.0;
                    while width < arm {
                        mask.polyline(&[(x - width, top), tip, (x + width, top)], size.scale);
                        width += size.scale * 0.75;
                    }
                }
            }
            canvas.paint(&mask, colour);
        }
    }
}

/// The range of the trace without 0.5 % of the samples at either end. For a long strip, estimated from some of its samples.
fn typical_range(strip: &Strip) -> (f64, f64) {
    let step = strip.sample_count() / 50_000 + 1;
    let mut subset: Vec<f32> =
        strip.segments.iter().flat_map(|segment| segment.samples.iter().step_by(step).copied()).collect();
    if subset.is_empty() {
        return (-0.5, 0.5);
    }
    subset.sort_unstable_by(f32::total_cmp);
    let cut = subset.len() / 200;
    (f64::from(subset[cut]), f64::from(subset[subset.len() - 1 - cut]))
}

/// Two points of a measurement: seconds and millivolts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Caliper {
    /// The first point.
    pub from: (f64, f64),
    /// The second point.
    pub to: (f64, f64),
}

impl Caliper {
    /// The difference between the two points: time, voltage, and the rate that corresponds to the time as an RR interval.
    #[must_use]
    pub fn reading(&self) -> String {
        let seconds = (self.to.0 - self.from.0).abs();
        let mv = self.to.1 - self.from.1;
        let time = format!("{:.0} ms · {mv:+.2} mV", seconds * 1000.0);
        if (0.15..=6.0).contains(&seconds) { format!("{time} · {:.0} bpm", 60.0 / seconds) } else { time }
    }
}

/// The visible part of a strip and its scale.
#[derive(Debug, Clone, PartialEq)]
pub struct EcgView {
    /// The time at the left edge in seconds.
    pub start_s: f64,
    /// The voltage in the middle in millivolts.
    pub centre_mv: f64,
    /// The paper speed in millimetres per second. The standard is 25.
    pub speed: f64,
    /// The gain in millimetres per millivolt. The standard is 10.
    pub gain: f64,
    /// The measurement of the calipers.
    pub caliper: Option<Caliper>,
    /// Whether beats are marked.
    pub shows_beats: bool,
}

impl EcgView {
    /// The start of a strip at 25 mm/s and 10 mm/mV. A trace that does not fit has a smaller gain.
    #[must_use]
    pub fn of(scene: &EcgScene, size: Size) -> Self {
        let height_mm = f64::from(size.height) / f64::from(size.scale) / PIXELS_PER_MM;
        let needed = (scene.high - scene.low) * 1.15;
        let gain = [10.0, 5.0, 2.5, 1.25].into_iter().find(|gain| needed * gain <= height_mm).unwrap_or(1.0);
        EcgView {
            start_s: 0.0,
            centre_mv: (scene.low + scene.high) / 2.0,
            speed: 25.0,
            gain,
            caliper: None,
            shows_beats: true,
        }
    }

    /// Shows the whole strip.
    pub fn fit(&mut self, scene: &EcgScene, size: Size) {
        let width_mm = f64::from(size.width) / f64::from(size.scale) / PIXELS_PER_MM;
        self.start_s = 0.0;
        self.speed = (width_mm / scene.duration_s().max(0.1)).min(MAX_SPEED);
    }

    /// Multiplies the paper speed by `factor`. The time at the physical pixel `x` stays in place.
    pub fn zoom(&mut self, factor: f64, x: f32, scene: &EcgScene, size: Size) {
        let under = Map::of(self, size).time(x);
        let width_mm = f64::from(size.width) / f64::from(size.scale) / PIXELS_PER_MM;
        let slowest = (width_mm / scene.duration_s().max(0.1)).min(25.0);
        self.speed = (self.speed * factor).clamp(slowest, MAX_SPEED);
        self.start_s += under - Map::of(self, size).time(x);
        self.keep_inside(scene, size);
    }

    /// Multiplies the gain by `factor`.
    pub fn amplify(&mut self, factor: f64) {
        self.gain = (self.gain * factor).clamp(GAIN_RANGE.0, GAIN_RANGE.1);
    }

    /// Moves the visible part by physical pixels.
    pub fn pan(&mut self, dx: f32, dy: f32, scene: &EcgScene, size: Size) {
        let map = Map::of(self, size);
        self.start_s -= f64::from(dx) / map.x_per_s;
        self.centre_mv =
            (self.centre_mv + f64::from(dy) / map.y_per_mv).clamp(scene.low - 1.0, scene.high + 1.0);
        self.keep_inside(scene, size);
    }

    fn keep_inside(&mut self, scene: &EcgScene, size: Size) {
        let shown = f64::from(size.width) / Map::of(self, size).x_per_s;
        self.start_s = self.start_s.clamp(0.0, (scene.duration_s() - shown).max(0.0));
    }

    /// The time in seconds and the voltage in millivolts at a physical pixel.
    #[must_use]
    pub fn point(&self, x: f32, y: f32, size: Size) -> (f64, f64) {
        let map = Map::of(self, size);
        (map.time(x), map.mv(y))
    }

    /// The paper speed and the gain as a text.
    #[must_use]
    pub fn scale(&self) -> String {
        let number = |value: f64| {
            if value < 9.95 && (value - value.round()).abs() > 0.05 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            }
        };
        format!("{} mm/s · {} mm/mV", number(self.speed), number(self.gain))
    }

    /// The labels of the time axis, at grid lines.
    #[must_use]
    pub fn ticks(&self, size: Size) -> Vec<Tick> {
        let map = Map::of(self, size);
        let step = map.step_s(80.0 * f64::from(size.scale));
        let first = (map.time(0.0) / step).ceil().max(0.0) as i64;
        (first..)
            .map(|index| index as f64 * step)
            // The text with speed and gain is at the right edge.
            .take_while(|time| map.x(*time) < size.width as f32 - 160.0 * size.scale)
            .map(|time| Tick { at: map.x(time), text: axis_time(time, step) })
            .collect()
    }
}

/// A time from the start of the strip. The precision depends on the distance of the labels in seconds.
fn axis_time(seconds: f64, step: f64) -> String {
    let whole = seconds.round() as i64;
    if step < 1.0 {
        format!("{seconds:.1} s")
    } else if whole < 60 {
        format!("{whole} s")
    } else if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
    }
}

/// Converts seconds and millivolts to physical pixels and back.
#[derive(Debug, Clone, Copy)]
struct Map {
    start_s: f64,
    centre_mv: f64,
    x_per_s: f64,
    y_per_mv: f64,
    middle: f64,
    pixels_per_mm: f64,
}

impl Map {
    fn of(view: &EcgView, size: Size) -> Self {
        let pixels_per_mm = PIXELS_PER_MM * f64::from(size.scale);
        Map {
            start_s: view.start_s,
            centre_mv: view.centre_mv,
            x_per_s: view.speed * pixels_per_mm,
            y_per_mv: view.gain * pixels_per_mm,
            middle: f64::from(size.height) / 2.0,
            pixels_per_mm,
        }
    }

    fn x(&self, seconds: f64) -> f32 {
        ((seconds - self.start_s) * self.x_per_s) as f32
    }

    fn y(&self, mv: f64) -> f32 {
        (self.middle - (mv - self.centre_mv) * self.y_per_mv) as f32
    }

    fn time(&self, x: f32) -> f64 {
        self.start_s + f64::from(x) / self.x_per_s
    }

    fn mv(&self, y: f32) -> f64 {
        self.centre_mv + (self.middle - f64::from(y)) / self.y_per_mv
    }

    /// The shortest round time that is at least `pixels` wide, in seconds.
    fn step_s(&self, pixels: f64) -> f64 {
        const STEPS: [f64; 16] = [
            0.2, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
            14400.0, 21600.0,
        ];
        STEPS.into_iter().find(|step| step * self.x_per_s >= pixels).unwrap_or(43_200.0)
    }

    /// The visible part of a segment as lines: all samples, or the envelope of each pixel column if there are more than two
    /// samples per pixel.
    fn lines(
        &self,
        segment: &ecg::Segment,
        envelope: &Envelope,
        rate_hz: f64,
        width: u32,
    ) -> Vec<Vec<(f32, f32)>> {
        let samples = &segment.samples;
        let index = |x: f64| (self.start_s + x / self.x_per_s - segment.start_s) * rate_hz;
        let first = index(-2.0).floor().max(0.0) as usize;
        let last = (index(f64::from(width) + 2.0).ceil() + 1.0).clamp(0.0, samples.len() as f64) as usize;
        if first >= last {
            return Vec::new();
        }
        let per_pixel = rate_hz / self.x_per_s;
        let y = |value: f32| self.y(f64::from(value));
        if per_pixel <= 2.0 {
            let time = |at: usize| segment.start_s + at as f64 / rate_hz;
            return vec![(first..last).map(|at| (self.x(time(at)), y(samples[at]))).collect()];
        }
        let mut line = Vec::new();
        let mut from = first;
        let mut column = ((first as f64 / rate_hz + segment.start_s - self.start_s) * self.x_per_s).floor();
        while from < last {
            column += 1.0;
            let to = (index(column).ceil().max(0.0) as usize).clamp(from, last);
            if let Some((low, high)) = envelope.extremes(samples, from, to) {
                let x = (column - 0.5) as f32;
                let (entering, leaving) = (samples[from], samples[to - 1]);
                line.push((x, y(entering)));
                let rising = entering <= leaving;
                line.push((x, y(if rising { low } else { high })));
                line.push((x, y(if rising { high } else { low })));
                line.push((x, y(leaving)));
            }
            from = to.max(from);
            if column > f64::from(width) + 4.0 {
                break;
            }
        }
        vec![line]
    }
}

fn draw_grid(canvas: &mut Canvas, map: &Map, size: Size, style: &EcgStyle) {
    // Boxes of 1 mm and 5 mm at the standard scale: 0.04 s by 0.1 mV, and 0.2 s by 0.5 mV.
    let small = (SECONDS_PER_MM, MV_PER_MM);
    let room = 3.0 * f64::from(size.scale);
    let thin = size.scale.floor().max(1.0);
    let mut lines = |step_s: f64, step_mv: f64, colour: Colour| {
        if step_s * map.x_per_s >= room {
            let first = (map.time(0.0) / step_s).ceil() as i64;
            let last = (map.time(size.width as f32) / step_s).floor() as i64;
            for index in first..=last {
                canvas.vertical(map.x(index as f64 * step_s), thin, colour);
            }
        }
        if step_mv * map.y_per_mv >= room {
            let first = (map.mv(size.height as f32) / step_mv).ceil() as i64;
            let last = (map.mv(0.0) / step_mv).floor() as i64;
            for index in first..=last {
                canvas.horizontal(map.y(index as f64 * step_mv), thin, colour);
            }
        }
    };
    lines(small.0, small.1, style.fine);
    let coarse_s = if 5.0 * small.0 * map.x_per_s >= 2.0 * room {
        5.0 * small.0
    } else {
        map.step_s(5.0 * map.pixels_per_mm)
    };
    let coarse_mv = if 5.0 * small.1 * map.y_per_mv >= 2.0 * room { 5.0 * small.1 } else { 1.0 };
    lines(coarse_s, coarse_mv, style.coarse);
}

fn draw_caliper(canvas: &mut Canvas, map: &Map, caliper: &Caliper, size: Size, style: &EcgStyle) {
    let (from, to) =
        ((map.x(caliper.from.0), map.y(caliper.from.1)), (map.x(caliper.to.0), map.y(caliper.to.1)));
    let between = style.caliper.with_alpha(28);
    canvas.fill(from.0.min(to.0), 0.0, from.0.max(to.0), size.height as f32, between);
    for point in [from, to] {
        canvas.vertical(point.0, size.scale.round(), style.caliper.with_alpha(220));
        canvas.fill(
            from.0.min(to.0),
            point.1,
            from.0.max(to.0),
            point.1 + size.scale.round(),
            style.caliper.with_alpha(150),
        );
    }
    let mut mask = Mask::new(size);
    mask.segment(from, to, 1.2 * size.scale);
    for point in [from, to] {
        mask.segment(point, point, 6.0 * size.scale);
    }
    canvas.paint(&mask, style.caliper);
}

#[cfg(test)]
#[path = "ecg_tests.rs"]
mod tests;
