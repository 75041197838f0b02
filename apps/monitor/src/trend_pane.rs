//! The plot of the heart rate trend: the time range, the pointer, and the picture.

use proto_json::Timestamp;
use slint::{Image, ModelRc, VecModel};
use ui::trace::{Size, Tick, TrendLimits, TrendScene, TrendStyle, TrendView};
use ui::{format, tr};

use crate::alarms::Limits;
use crate::window::{TickData, TrendData};

/// The selectable time ranges: name and minutes.
pub(crate) const RANGES: [(&str, i64); 5] =
    [("15 min", 15), ("1 h", 60), ("6 h", 360), ("24 h", 1440), ("7 d", 10_080)];

/// The plot of the trend.
#[derive(Debug)]
pub(crate) struct TrendPane {
    size: Size,
    range: usize,
    pointer: Option<f32>,
    /// The time at the right edge of the last picture in milliseconds since 1970.
    drawn_to: i64,
}

impl TrendPane {
    /// Creates a plot with this time range.
    #[must_use]
    pub(crate) fn new(range: usize) -> Self {
        TrendPane {
            size: Size::new(600.0, 200.0, 1.0),
            range: range.min(RANGES.len() - 1),
            pointer: None,
            drawn_to: 0,
        }
    }

    /// The index of the time range.
    #[must_use]
    pub(crate) fn range(&self) -> usize {
        self.range
    }

    /// Changes the time range.
    pub(crate) fn set_range(&mut self, range: usize) {
        self.range = range.min(RANGES.len() - 1);
    }

    /// Sets the size. Returns whether it has changed.
    pub(crate) fn resize(&mut self, size: Size) -> bool {
        let changed = size != self.size;
        self.size = size;
        changed
    }

    /// Sets the position of the pointer in logical pixels.
    pub(crate) fn set_pointer(&mut self, x: Option<f32>) {
        self.pointer = x.map(|x| x * self.size.scale);
    }

    /// The start of the time range.
    #[must_use]
    pub(crate) fn start(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis() - self.span_ms()).unwrap_or(now)
    }

    /// Whether the last picture is outdated by at least a pixel.
    #[must_use]
    pub(crate) fn is_outdated(&self, now: Timestamp) -> bool {
        now.as_millis() - self.drawn_to >= self.span_ms() / i64::from(self.size.width.max(1))
    }

    fn span_ms(&self) -> i64 {
        RANGES[self.range].1 * 60_000
    }

    /// Draws the trend up to now.
    pub(crate) fn draw(
        &mut self,
        scene: &TrendScene,
        limits: Option<Limits>,
        now: Timestamp,
        style: &TrendStyle,
    ) -> TrendData {
        let to_ms = now.as_millis();
        self.drawn_to = to_ms;
        let view = TrendView {
            from_ms: to_ms - self.span_ms(),
            to_ms,
            limits: limits.map(|limits| TrendLimits {
                normal: (f32::from(limits.low), f32::from(limits.high)),
                critical: (f32::from(limits.critical_low), f32::from(limits.critical_high)),
            }),
            pointer: self.pointer,
        };
        let reading = self.pointer.and_then(|x| scene.reading(&view, x, self.size)).map(|reading| {
            let time = Timestamp::from_millis(reading.at_ms)
                .map_or_else(|_| String::new(), |at| format::time_or_date(at, now));
            if reading.count == 1 && reading.low == reading.high {
                tr!("{} · {} bpm", time, format_args!("{:.0}", reading.mean))
            } else {
                tr!(
                    "{} · mean {}, {} to {} bpm",
                    time,
                    format_args!("{:.0}", reading.mean),
                    format_args!("{:.0}", reading.low),
                    format_args!("{:.0}", reading.high)
                )
            }
        });
        let shown = scene.points().iter().filter(|point| point.at_ms >= view.from_ms).count();
        let summary = || format::count(shown as u64, tr!("value"), tr!("values"));
        TrendData {
            has_values: shown > 0,
            message: if shown == 0 {
                tr!("No heart rate in the last {}", RANGES[self.range].0)
            } else {
                String::new()
            }
            .into(),
            picture: Image::from_rgb8(scene.draw(&view, self.size, style)),
            reading: reading.unwrap_or_else(summary).into(),
            rates: self.ticks(scene.rate_ticks(&view, self.size)),
            times: self.ticks(scene.time_ticks(&view, self.size)),
        }
    }

    fn ticks(&self, ticks: Vec<Tick>) -> ModelRc<TickData> {
        let ticks: Vec<TickData> = ticks
            .into_iter()
            .map(|tick| TickData { at: tick.at / self.size.scale, text: tick.text.into() })
            .collect();
        ModelRc::new(VecModel::from(ticks))
    }
}
