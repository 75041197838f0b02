//! The sweep of one channel of a live waveform, as on a bedside monitor: the trace is drawn from left to right, an erase bar
//! precedes it, and it starts again at the left edge.
//!
//! The horizontal position is the time modulo the duration of the pane, so that late samples are drawn where they belong and all
//! panes of the same width are in step. Only columns that have changed are drawn. The picture consists of vertical strips; only
//! strips with changed columns are given to the window again.
//!
//! Invariants: the pixels depend only on samples, playhead and style, not on the history of calls (except at the limits of
//! rounding). A gap in the samples is a gap in the trace. A trace that has stopped has another colour and an edge, so that it never
//! looks live. The memory is that of the picture.

use slint::{Rgba8Pixel, SharedPixelBuffer};

use super::canvas::{Colour, Mask};
use super::geometry::Size;
use super::history::History;

/// The width of the erase bar in logical pixels.
const ERASE_BAR: f64 = 14.0;
/// How far the line of a sample reaches into the columns beside it, in columns.
const REACH: i64 = 3;
/// The number of cells per column above which only the extremes of each column are drawn.
const MAX_CELLS_PER_COLUMN: f64 = 2.5;

/// The colours of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepStyle {
    /// The background. It may be transparent.
    pub background: Colour,
    /// The trace while it is live.
    pub live: Colour,
    /// The trace after it has stopped.
    pub stopped: Colour,
    /// The edge of a trace that has stopped, and the dashes of a disconnected sensor.
    pub mark: Colour,
}

/// The scale of a sweep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepScale {
    /// Physical pixels per second.
    pub pixels_per_s: f64,
    /// The value in the middle of the picture, in the unit of the channel.
    pub centre: f64,
    /// Physical pixels per unit of the channel.
    pub pixels_per_unit: f64,
}

/// The order of the columns in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// A sweep with an erase bar.
    Sweep,
    /// The newest column at the right edge, for a trace that the user has frozen.
    Scroll,
}

/// How the trace ends at the playhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The trace moves.
    Live,
    /// The signal has stopped: a visible edge after the last sample, and the whole trace in another colour.
    Stopped,
    /// The user has frozen the trace: no edge.
    Frozen,
}

/// The picture of a sweep.
#[derive(Debug)]
pub struct Sweep {
    size: Size,
    strip_width: u32,
    style: SweepStyle,
    scale: SweepScale,
    order: Order,
    tail: Tail,
    strips: Vec<SharedPixelBuffer<Rgba8Pixel>>,
    changed: Vec<bool>,
    /// The column of the playhead in the picture, counted from 1970. `None` if the whole picture has to be drawn.
    drawn: Option<i64>,
    /// The number of columns that were drawn since the start, for tests and measurements.
    columns_drawn: u64,
}

impl Sweep {
    /// An empty picture whose strips have this width in physical pixels.
    #[must_use]
    pub fn new(size: Size, strip_width: u32, style: SweepStyle, scale: SweepScale) -> Self {
        let strip_width = strip_width.clamp(1, size.width);
        let count = size.width.div_ceil(strip_width);
        let strips: Vec<SharedPixelBuffer<Rgba8Pixel>> = (0..count)
            .map(|strip| {
                let width = strip_width.min(size.width - strip * strip_width);
                let mut buffer = SharedPixelBuffer::new(width, size.height);
                buffer.make_mut_slice().fill(blend(style.background, style.live, 0));
                buffer
            })
            .collect();
        Sweep {
            size,
            strip_width,
            style,
            scale,
            order: Order::Sweep,
            tail: Tail::Live,
            changed: vec![true; strips.len()],
            strips,
            drawn: None,
            columns_drawn: 0,
        }
    }

    /// The size in physical pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The scale.
    #[must_use]
    pub fn scale(&self) -> SweepScale {
        self.scale
    }

    /// Changes the scale. The next call of [`Sweep::draw`] draws the whole picture.
    pub fn set_scale(&mut self, scale: SweepScale) {
        if scale != self.scale {
            (self.scale, self.drawn) = (scale, None);
        }
    }

    /// Changes the colours. The next call of [`Sweep::draw`] draws the whole picture.
    pub fn set_style(&mut self, style: SweepStyle) {
        if style != self.style {
            (self.style, self.drawn) = (style, None);
        }
    }

    /// Changes the order of the columns. The next call of [`Sweep::draw`] draws the whole picture.
    pub fn set_order(&mut self, order: Order) {
        if order != self.order {
            (self.order, self.drawn) = (order, None);
        }
    }

    /// The time that the picture shows, from its oldest column to the playhead, in seconds since 1970. `None` before it is drawn.
    #[must_use]
    pub fn visible_s(&self) -> Option<(f64, f64)> {
        let head = self.drawn?;
        let second = |column: i64| column as f64 / self.scale.pixels_per_s;
        Some((second(self.oldest(head)), second(head + 1)))
    }

    /// The time of a horizontal position in physical pixels, in seconds since 1970. For [`Order::Scroll`].
    #[must_use]
    pub fn time_s(&self, x: f64) -> Option<f64> {
        let head = self.drawn?;
        Some(((head + 1 - i64::from(self.size.width)) as f64 + x) / self.scale.pixels_per_s)
    }

    /// The value of a vertical position in physical pixels, in the unit of the channel.
    #[must_use]
    pub fn value(&self, y: f64) -> f64 {
        self.scale.centre + (f64::from(self.size.height) / 2.0 - y) / self.scale.pixels_per_unit
    }

    /// The number of columns that were drawn since the start.
    #[must_use]
    pub fn columns_drawn(&self) -> u64 {
        self.columns_drawn
    }

    /// Draws up to the playhead, in microseconds since 1970: only the new columns, and columns with late samples.
    pub fn draw(&mut self, history: &mut History, head_us: i64, tail: Tail) {
        let head = (head_us as f64 * 1e-6 * self.scale.pixels_per_s).floor() as i64;
        if tail != self.tail {
            (self.tail, self.drawn) = (tail, None);
        }
        let changed = history.take_changed();
        if tail == Tail::Stopped && (changed.is_some() || self.drawn != Some(head)) {
            // The edge may be elsewhere.
            self.drawn = None;
        }
        if self.drawn == Some(head) && changed.is_none() {
            return;
        }
        let is_step = |drawn: i64| (0..i64::from(self.size.width)).contains(&(head - drawn));
        match self.drawn {
            Some(drawn) if self.order == Order::Sweep && is_step(drawn) => {
                if head > drawn {
                    // The line to the last sample before the playhead was not complete.
                    let last = history.number_at(self.second(drawn + 1));
                    let from = self.column(history, last - 1).min(drawn) - REACH;
                    self.draw_columns(history, from.max(self.oldest(head)), head, head);
                    self.erase(head.max(drawn + self.erase_bar()) + 1, head + self.erase_bar());
                }
                if let Some((first, last)) = changed {
                    let from = self.column(history, first - 1) - REACH;
                    let to = self.column(history, last + 1) + REACH;
                    self.draw_columns(history, from.max(self.oldest(head)), to.min(drawn), head);
                }
            }
            _ => {
                self.draw_columns(history, self.oldest(head), head, head);
                if self.order == Order::Sweep {
                    self.erase(head + 1, head + self.erase_bar());
                }
            }
        }
        if self.drawn.is_none() && tail == Tail::Stopped {
            self.draw_edge(history, head);
        }
        self.drawn = Some(head);
    }

    /// The strips that have changed since the last call: their positions from the left, and their pixels with premultiplied alpha.
    pub fn take_changed(&mut self) -> impl Iterator<Item = (usize, SharedPixelBuffer<Rgba8Pixel>)> + '_ {
        self.changed
            .iter_mut()
            .zip(&self.strips)
            .enumerate()
            .filter_map(|(at, (changed, strip))| std::mem::take(changed).then(|| (at, strip.clone())))
    }

    /// The number of strips.
    #[must_use]
    pub fn strip_count(&self) -> usize {
        self.strips.len()
    }

    fn second(&self, column: i64) -> f64 {
        column as f64 / self.scale.pixels_per_s
    }

    /// The column of a cell.
    fn column(&self, history: &History, cell: i64) -> i64 {
        (history.time_s(cell) * self.scale.pixels_per_s).floor() as i64
    }

    fn erase_bar(&self) -> i64 {
        let widest = i64::from(self.size.width) / 4;
        ((ERASE_BAR * f64::from(self.size.scale)).round() as i64).min(widest)
    }

    /// The oldest visible column.
    fn oldest(&self, head: i64) -> i64 {
        let erased = if self.order == Order::Sweep { self.erase_bar() } else { 0 };
        head + 1 + erased - i64::from(self.size.width)
    }

    /// The strip of a column, and the position in it.
    fn place(&self, column: i64, head: i64) -> (usize, usize) {
        let width = i64::from(self.size.width);
        let x = match self.order {
            Order::Sweep => column.rem_euclid(width),
            Order::Scroll => (column - (head + 1 - width)).clamp(0, width - 1),
        } as usize;
        let strip_width = self.strip_width as usize;
        (x / strip_width, x % strip_width)
    }

    /// Fills columns with the background.
    fn erase(&mut self, from: i64, to: i64) {
        let background = blend(self.style.background, self.style.live, 0);
        for column in from.max(to - i64::from(self.size.width) + 1)..=to {
            self.fill_column(column, to, 0, self.size.height, background);
        }
    }

    fn fill_column(&mut self, column: i64, head: i64, top: u32, bottom: u32, pixel: Rgba8Pixel) {
        let (strip, x) = self.place(column, head);
        let buffer = &mut self.strips[strip];
        let width = buffer.width() as usize;
        for row in buffer.make_mut_slice().chunks_exact_mut(width).take(bottom as usize).skip(top as usize) {
            row[x] = pixel;
        }
        self.changed[strip] = true;
    }

    /// Draws the columns `from` to `to`. The trace ends at the column `head`.
    fn draw_columns(&mut self, history: &History, from: i64, to: i64, head: i64) {
        if from > to {
            return;
        }
        self.columns_drawn += (to - from + 1) as u64;
        let size = Size { width: (to - from + 1) as u32, ..self.size };
        let mut mask = Mask::new(size);
        let dashes = self.trace(history, from, to, head, &mut mask);
        let trace = if self.tail == Tail::Stopped { self.style.stopped } else { self.style.live };
        let pixels: Vec<Rgba8Pixel> =
            (0..=255).map(|coverage| blend(self.style.background, trace, coverage)).collect();
        let dash = blend(self.style.background, self.style.mark, 255);
        let thick = self.size.scale.round().max(1.0) as usize;
        let middle = self.size.height as usize / 2;
        let dash_rows = middle.saturating_sub(thick)..middle + thick;
        for column in from..=to {
            let (strip, x) = self.place(column, head);
            let at = (column - from) as usize;
            let buffer = &mut self.strips[strip];
            let width = buffer.width() as usize;
            let is_dashed = dashes[at];
            for (y, row) in buffer.make_mut_slice().chunks_exact_mut(width).enumerate() {
                row[x] = if is_dashed && dash_rows.contains(&y) {
                    dash
                } else {
                    pixels[usize::from(mask.at(at, y))]
                };
            }
            self.changed[strip] = true;
        }
    }

    /// Draws the trace into a mask that starts at the column `from`. Returns which columns show the dashes of a disconnected sensor.
    fn trace(&self, history: &History, from: i64, to: i64, head: i64, mask: &mut Mask) -> Vec<bool> {
        let mut dashes = vec![false; (to - from + 1) as usize];
        let thickness = 1.4 * self.size.scale;
        let limit = self.second(head + 1);
        let first = history.number_at(self.second(from - REACH)) - 1;
        let last = history.number_at(self.second(to + REACH + 1)) + 1;
        let last = last.min(history.number_at(limit));
        let x = |cell: i64| (history.time_s(cell) * self.scale.pixels_per_s - from as f64) as f32;
        let middle = f64::from(self.size.height) / 2.0;
        let y = |sample: i16| {
            (middle - (history.value(sample) - self.scale.centre) * self.scale.pixels_per_unit) as f32
        };
        let merges = history.cells_per_s() / self.scale.pixels_per_s > MAX_CELLS_PER_COLUMN;
        let mut line: Vec<(f32, f32)> = Vec::new();
        let mut merged: Option<Merged> = None;
        let flush = |merged: &mut Option<Merged>, line: &mut Vec<(f32, f32)>| {
            if let Some(merged) = merged.take() {
                merged.append(line, from, y);
            }
        };
        for number in first..=last {
            let cell = history.cell(number);
            if cell.lead_off {
                let start = (history.time_s(number) * self.scale.pixels_per_s).floor() as i64;
                let end = (history.time_s(number + 1) * self.scale.pixels_per_s).ceil() as i64;
                for column in start.max(from)..end.min(to + 1) {
                    let dash = (6.0 * self.size.scale) as i64;
                    dashes[(column - from) as usize] = column.div_euclid(dash).rem_euclid(2) == 0;
                }
            }
            if cell.is_missing() || cell.lead_off || history.time_s(number) >= limit {
                flush(&mut merged, &mut line);
                mask.polyline(&line, thickness);
                line.clear();
                continue;
            }
            if merges {
                let column = self.column(history, number);
                if merged.as_ref().is_some_and(|merged| merged.column != column) {
                    flush(&mut merged, &mut line);
                }
                match &mut merged {
                    Some(merged) => {
                        (merged.low, merged.high) = (merged.low.min(cell.low), merged.high.max(cell.high));
                        merged.last = cell.high;
                    }
                    None => {
                        let (low, high) = (cell.low, cell.high);
                        merged = Some(Merged { column, first: low, low, high, last: high });
                    }
                }
                continue;
            }
            let at = x(number);
            if cell.low == cell.high {
                line.push((at, y(cell.low)));
            } else {
                // The extreme closer to the end of the previous cell comes first.
                let (low, high) = (y(cell.low), y(cell.high));
                let before = line.last().map_or(low, |point| point.1);
                let is_low_first = (before - low).abs() <= (before - high).abs();
                line.extend(if is_low_first { [(at, low), (at, high)] } else { [(at, high), (at, low)] });
            }
        }
        flush(&mut merged, &mut line);
        mask.polyline(&line, thickness);
        dashes
    }

    /// Draws the edge of a trace that has stopped, after its last sample.
    fn draw_edge(&mut self, history: &History, head: i64) {
        let end = history.end_us().map(|end| (end as f64 * 1e-6 * self.scale.pixels_per_s).floor() as i64);
        let Some(end) = end.filter(|end| *end >= self.oldest(head) && *end <= head + self.erase_bar()) else {
            return;
        };
        let mark = blend(self.style.background, self.style.mark, 255);
        let width = (2.0 * self.size.scale).round() as i64;
        for column in end + 1..=end + width {
            self.fill_column(column, head, 0, self.size.height, mark);
        }
    }
}

/// The samples of one column.
struct Merged {
    column: i64,
    first: i16,
    low: i16,
    high: i16,
    last: i16,
}

impl Merged {
    fn append(&self, line: &mut Vec<(f32, f32)>, from: i64, y: impl Fn(i16) -> f32) {
        let x = (self.column - from) as f32 + 0.5;
        let rising = self.first <= self.last;
        let (one, other) = if rising { (self.low, self.high) } else { (self.high, self.low) };
        line.extend([self.first, one, other, self.last].map(|sample| (x, y(sample))));
    }
}

/// A colour on the background with a coverage from 0 to 255, as a pixel with premultiplied alpha.
fn blend(background: Colour, above: Colour, coverage: u8) -> Rgba8Pixel {
    let share = |value: u32, of: u32| (value * of + 127) / 255;
    let alpha = share(u32::from(above.alpha), u32::from(coverage));
    let below = share(u32::from(background.alpha), 255 - alpha);
    let mix = |channel: usize| {
        (share(u32::from(above.rgb[channel]), alpha) + share(u32::from(background.rgb[channel]), below))
            .min(255) as u8
    };
    Rgba8Pixel { r: mix(0), g: mix(1), b: mix(2), a: (alpha + below).min(255) as u8 }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
