//! The trace of a tile on the overview.

use proto_json::LiveMode;
use slint::Image;
use ui::trace::{Colour, Size, Sweep, SweepScale, SweepStyle, Tail};

use super::patient::{ChannelKind, LivePatient, SignalState};

/// The time that a tile shows, in seconds.
const SECONDS: f64 = 5.0;
/// The time that is kept for a tile, in seconds: more than it shows, so that late samples fill in.
pub const KEPT_S: f64 = 8.0;
/// The time between two checks of the vertical scale, in microseconds.
const FIT_US: i64 = 1_000_000;
/// The share of the height that the trace fills.
const FILL: f64 = 0.82;
/// The smallest range of an ECG in millivolts, so that noise does not fill the tile.
const MIN_ECG_SPAN: f64 = 0.8;

/// The live trace of one tile. It shows the first ECG lead, or the first channel if there is none.
#[derive(Debug)]
pub struct LiveTile {
    /// The streams of the patient.
    pub patient: LivePatient,
    sweep: Option<Sweep>,
    picture: Image,
    fitted_us: i64,
    state: SignalState,
}

impl Default for LiveTile {
    fn default() -> Self {
        LiveTile {
            patient: LivePatient::new(LiveMode::Overview, KEPT_S),
            sweep: None,
            picture: Image::default(),
            fitted_us: 0,
            state: SignalState::Waiting,
        }
    }
}

impl LiveTile {
    /// Whether the patient streams, or has streamed.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.patient.has_signal()
    }

    /// The state of the channel that is shown.
    #[must_use]
    pub fn state(&self) -> SignalState {
        self.state
    }

    /// The picture of the trace.
    #[must_use]
    pub fn picture(&self) -> Image {
        self.picture.clone()
    }

    /// Forgets the picture: size or theme have changed, or other channels are streamed.
    pub fn reset(&mut self) {
        self.sweep = None;
    }

    /// Draws up to the current time. Returns whether picture or state have changed.
    pub fn draw(&mut self, size: Size, style: SweepStyle, now_us: i64) -> bool {
        let Some((at, channel)) = self.patient.shown_channels().first().copied() else { return false };
        let state = self.patient.state(at, channel, now_us);
        if state == SignalState::Waiting {
            return false;
        }
        let is_stopped = matches!(state, SignalState::Stopped(_));
        let Some(stream) = self.patient.streams_mut().get_mut(at) else { return false };
        let has_changed = state != self.state;
        // A trace that has stopped is drawn once.
        if is_stopped && !has_changed && self.sweep.is_some() {
            return false;
        }
        self.state = state;
        let Some(head) = stream.playout.advance(now_us) else { return has_changed };
        let (Some(description), Some(live)) =
            (stream.description.channels.get(channel), stream.channels.get_mut(channel))
        else {
            return has_changed;
        };
        let scale =
            SweepScale { pixels_per_s: f64::from(size.width) / SECONDS, centre: 0.0, pixels_per_unit: 1.0 };
        let is_new = self.sweep.is_none();
        let sweep = self.sweep.get_or_insert_with(|| Sweep::new(size, size.width, style, scale));
        if is_new || now_us - self.fitted_us >= FIT_US {
            self.fitted_us = now_us;
            let from = head as f64 * 1e-6 - SECONDS;
            if let Some((low, high)) = live.history.range(from, from + SECONDS) {
                let is_ecg = ChannelKind::of(description) == ChannelKind::Ecg;
                let span = if is_ecg && description.unit == "mV" { MIN_ECG_SPAN } else { 0.0 };
                sweep.set_scale(fitted(sweep, is_new, low, high, span));
            }
        }
        sweep.draw(&mut live.history, head, if is_stopped { Tail::Stopped } else { Tail::Live });
        // There is only one strip.
        match sweep.take_changed().last() {
            Some((_, pixels)) => {
                self.picture = Image::from_rgba8_premultiplied(pixels);
                true
            }
            None => has_changed,
        }
    }

    /// The number of columns that were drawn since the last reset.
    #[must_use]
    pub fn columns_drawn(&self) -> u64 {
        self.sweep.as_ref().map_or(0, Sweep::columns_drawn)
    }
}

/// A scale at which the range fills the picture. The scale stays while the range fits and fills at least half of the height, so that
/// the trace does not change its size with each beat.
pub(super) fn fitted(sweep: &Sweep, is_new: bool, low: f64, high: f64, min_span: f64) -> SweepScale {
    let before = sweep.scale();
    let height = f64::from(sweep.size().height);
    let span = (high - low).max(min_span).max(1e-9);
    let top = sweep.value(0.0).max(sweep.value(height));
    let bottom = sweep.value(0.0).min(sweep.value(height));
    let fits = low >= bottom && high <= top && span >= (top - bottom) * 0.5;
    if fits && !is_new {
        return before;
    }
    let scale = SweepScale { centre: (low + high) / 2.0, pixels_per_unit: height * FILL / span, ..before };
    if is_similar(before, scale) { before } else { scale }
}

fn is_similar(one: SweepScale, other: SweepScale) -> bool {
    let share = one.pixels_per_unit / other.pixels_per_unit;
    (0.97..1.03).contains(&share) && (one.centre - other.centre).abs() * one.pixels_per_unit < 1.0
}

/// The colours of a tile in the dark and the light theme. The background is transparent.
#[must_use]
pub fn style(kind: ChannelKind, is_dark: bool) -> SweepStyle {
    let (live, stopped, mark) = match (kind, is_dark) {
        (ChannelKind::Ecg, true) => (0x3d_f0_7a, 0x6f_81_92, 0x00_b7_d6),
        (ChannelKind::Ecg, false) => (0x0b_7a_3c, 0x86_95_a4, 0x00_7c_92),
        (_, true) => (0x35_d6_f2, 0x6f_81_92, 0x00_b7_d6),
        (_, false) => (0x00_6f_8e, 0x86_95_a4, 0x00_7c_92),
    };
    SweepStyle {
        background: Colour::opaque(0).with_alpha(0),
        live: Colour::opaque(live),
        stopped: Colour::opaque(stopped),
        mark: Colour::opaque(mark),
    }
}

#[cfg(test)]
mod tests {
    use client::ReceivedColumns;
    use proto_json::{Column, ColumnBlock};

    use super::super::patient::tests::{START, channel, stream};
    use super::*;

    const SIZE: Size = Size { width: 150, height: 50, scale: 1.0 };

    #[test]
    fn tile_draws_few_columns_per_frame_and_stops_visibly() {
        let style = style(ChannelKind::Ecg, true);
        let stream = stream(1, vec![channel("II", "MDC_ECG_LEAD_II", 250)]);
        let mut tile = LiveTile::default();
        let (mut now, mut drawn) = (START, 0);
        for frame in 0..100_i64 {
            let block = ColumnBlock {
                channel: 0,
                lead_off: false,
                first: Column::at(START) + frame * 12,
                columns: (0..12).map(|at| Column { min: 0, max: if at == 5 { 1000 } else { 30 } }).collect(),
            };
            let time_us = START + frame * 200_000;
            let received = ReceivedColumns { stream: stream.clone(), time_us, blocks: vec![block] };
            tile.patient.columns(&received, time_us + 230_000);
            now = time_us + 230_000;
            for refresh in 0..12 {
                drawn += u64::from(tile.draw(SIZE, style, now + refresh * 16_667));
            }
        }
        assert_eq!(tile.state(), SignalState::Live);
        // 30 pixels per second for 20 s, with the columns beside each, and the whole picture when the scale is found.
        assert!((580..=620).contains(&drawn), "{drawn} of 1200 frames");
        assert!(tile.columns_drawn() < 6000, "{}", tile.columns_drawn());
        let live = tile.picture().to_rgba8_premultiplied().unwrap();
        assert!(tile.draw(SIZE, style, now + 2_100_000), "it has stopped");
        assert!(matches!(tile.state(), SignalState::Stopped(_)));
        let stopped = tile.picture().to_rgba8_premultiplied().unwrap();
        let greens = |picture: &slint::SharedPixelBuffer<slint::Rgba8Pixel>| {
            picture.as_slice().iter().filter(|pixel| pixel.g > 200 && pixel.r < 120 && pixel.b < 160).count()
        };
        assert!(greens(&live) > 100 && greens(&stopped) == 0, "{} {}", greens(&live), greens(&stopped));
        assert!(!tile.draw(SIZE, style, now + 60_000_000), "nothing changes after that");
    }
}
