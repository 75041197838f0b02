//! The traces of the open patient: one to six channels in traces, with a common paper speed, freeze and calipers.

use proto_json::{Channel, LiveMode};
use serde::{Deserialize, Serialize};
use slint::Image;
use ui::trace::{Colour, History, Order, Size, Sweep, SweepScale, SweepStyle, Tail};

use super::patient::{ChannelKind, LivePatient, SignalState};
use super::tile::fitted;

/// The maximum number of traces.
pub const MAX_TRACES: usize = 6;
/// The time that is kept for the open patient, in seconds: the longest strip that can be kept, and some time for late samples.
pub const KEPT_S: f64 = 75.0;
/// Logical pixels per millimetre, as on ECG paper.
const PIXELS_PER_MM: f64 = 4.0;
/// Gains of ECG leads in millimetres per millivolt. The largest that fits is used.
const GAINS: [f64; 7] = [20.0, 10.0, 5.0, 2.5, 1.25, 0.5, 0.2];
/// The time between two checks of the vertical scale, in microseconds.
const FIT_US: i64 = 1_000_000;
/// The width of a strip of the picture in physical pixels.
pub const STRIP_WIDTH: u32 = 64;

/// The paper speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// 12.5 mm/s.
    Slow,
    /// 25 mm/s.
    #[default]
    Standard,
    /// 50 mm/s.
    Fast,
}

impl Speed {
    /// Millimetres per second.
    #[must_use]
    pub fn mm_per_s(self) -> f64 {
        match self {
            Speed::Slow => 12.5,
            Speed::Standard => 25.0,
            Speed::Fast => 50.0,
        }
    }
}

/// One channel on the screen.
#[derive(Debug)]
pub struct Trace {
    /// Position of the stream and of the channel.
    source: (usize, usize),
    channel: Channel,
    sweep: Sweep,
    /// The samples at the time of the freeze.
    frozen: Option<History>,
    fitted_us: i64,
    /// The gain of an ECG lead in millimetres per millivolt.
    gain: Option<f64>,
    state: SignalState,
}

impl Trace {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// What the channel measures.
    #[must_use]
    pub fn kind(&self) -> ChannelKind {
        ChannelKind::of(&self.channel)
    }

    /// The state of the signal.
    #[must_use]
    pub fn state(&self) -> SignalState {
        self.state
    }

    /// The gain of an ECG lead in millimetres per millivolt. `None` for a trace that fills its trace.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        self.gain
    }
}

/// The picture of a trace that has changed: trace, strip, picture.
pub type ChangedStrip = (usize, usize, Image);

/// The difference between two points of a frozen trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// Seconds.
    pub seconds: f64,
    /// The difference of the values in the unit of the channel.
    pub difference: f64,
    /// The unit.
    pub unit: String,
}

/// The traces of the open patient.
#[derive(Debug)]
pub struct LivePane {
    /// The streams of the patient.
    pub patient: LivePatient,
    traces: Vec<Trace>,
    size: Size,
    speed: Speed,
    max_traces: usize,
    /// The playheads of the streams at the time of the freeze, in microseconds since 1970.
    frozen: Option<Vec<Option<i64>>>,
}

impl LivePane {
    /// A pane without traces for a picture area of this size.
    #[must_use]
    pub fn new(size: Size, speed: Speed, max_traces: usize) -> Self {
        let patient = LivePatient::new(LiveMode::Full, KEPT_S);
        LivePane {
            patient,
            traces: Vec::new(),
            size,
            speed,
            max_traces: max_traces.clamp(1, MAX_TRACES),
            frozen: None,
        }
    }

    /// The traces.
    #[must_use]
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// The size of all traces together in physical pixels.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The height of a trace in physical pixels.
    #[must_use]
    pub fn trace_height(&self) -> u32 {
        (self.size.height / self.traces.len().max(1) as u32).max(1)
    }

    /// The maximum number of traces that the user has chosen.
    #[must_use]
    pub fn max_traces(&self) -> usize {
        self.max_traces
    }

    /// Whether the traces are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Lays the traces out for the channels of the patient. Call it when these, the size, or the number of traces have changed.
    pub fn arrange(&mut self, size: Size, max_traces: usize) {
        self.size = size;
        self.max_traces = max_traces.clamp(1, MAX_TRACES);
        let shown: Vec<(usize, usize)> =
            self.patient.shown_channels().into_iter().take(self.max_traces).collect();
        let height = (size.height / shown.len().max(1) as u32).max(1);
        let trace_size = Size { height, ..size };
        let mut before = std::mem::take(&mut self.traces);
        let pixels_per_s = self.pixels_per_s();
        for source in shown {
            let Some(stream) = self.patient.streams().get(source.0) else { continue };
            let Some(channel) = stream.description.channels.get(source.1).cloned() else { continue };
            let kept = before.iter().position(|trace| trace.channel == channel);
            let kept = kept.map(|at| before.swap_remove(at));
            let scale = SweepScale { pixels_per_s, centre: 0.0, pixels_per_unit: 1.0 };
            let style = style(ChannelKind::of(&channel));
            let mut sweep = Sweep::new(trace_size, STRIP_WIDTH, style, scale);
            let frozen = kept.and_then(|trace| trace.frozen);
            if self.frozen.is_some() {
                sweep.set_order(Order::Scroll);
            }
            let state = SignalState::Waiting;
            self.traces.push(Trace { source, channel, sweep, frozen, fitted_us: 0, gain: None, state });
        }
    }

    fn pixels_per_mm(&self) -> f64 {
        PIXELS_PER_MM * f64::from(self.size.scale)
    }

    fn pixels_per_s(&self) -> f64 {
        self.speed.mm_per_s() * self.pixels_per_mm()
    }

    /// Changes the paper speed.
    pub fn set_speed(&mut self, speed: Speed) {
        self.speed = speed;
        let pixels_per_s = self.pixels_per_s();
        for trace in &mut self.traces {
            trace.sweep.set_scale(SweepScale { pixels_per_s, ..trace.sweep.scale() });
            trace.fitted_us = 0;
        }
    }

    /// Freezes the traces, or continues them. The samples go on arriving meanwhile.
    pub fn set_frozen(&mut self, is_frozen: bool, now_us: i64) {
        if is_frozen == self.frozen.is_some() {
            return;
        }
        self.frozen = is_frozen.then(|| {
            self.patient.streams_mut().iter_mut().map(|stream| stream.playout.advance(now_us)).collect()
        });
        for trace in &mut self.traces {
            let stream = self.patient.streams().get(trace.source.0);
            let history = stream.and_then(|stream| stream.channels.get(trace.source.1));
            trace.frozen = history.filter(|_| is_frozen).map(|channel| channel.history.clone());
            trace.sweep.set_order(if is_frozen { Order::Scroll } else { Order::Sweep });
        }
    }

    /// Draws up to the current time. Returns the strips that have changed.
    pub fn draw(&mut self, now_us: i64) -> Vec<ChangedStrip> {
        let (pixels_per_mm, mut changed) = (self.pixels_per_mm(), Vec::new());
        for (at, trace) in self.traces.iter_mut().enumerate() {
            let state = self.patient.state(trace.source.0, trace.source.1, now_us);
            trace.state = state;
            let Some(stream) = self.patient.streams_mut().get_mut(trace.source.0) else { continue };
            let head = match &self.frozen {
                Some(heads) => heads.get(trace.source.0).copied().flatten(),
                None => stream.playout.advance(now_us),
            };
            let Some(channel) = stream.channels.get_mut(trace.source.1) else { continue };
            let history = trace.frozen.as_mut().unwrap_or(&mut channel.history);
            if let (Some(head), true) = (head, history.end_us().is_some()) {
                let tail = match (&self.frozen, state) {
                    (Some(_), _) => Tail::Frozen,
                    (None, SignalState::Stopped(_)) => Tail::Stopped,
                    (None, _) => Tail::Live,
                };
                if now_us - trace.fitted_us >= FIT_US && tail != Tail::Stopped {
                    let is_new = trace.fitted_us == 0;
                    trace.fitted_us = now_us;
                    let head_s = head as f64 * 1e-6;
                    let seconds = f64::from(trace.sweep.size().width) / trace.sweep.scale().pixels_per_s;
                    if let Some((low, high)) = history.range(head_s - seconds, head_s) {
                        fit(
                            &trace.channel,
                            &mut trace.gain,
                            &mut trace.sweep,
                            is_new,
                            (low, high),
                            pixels_per_mm,
                        );
                    }
                }
                trace.sweep.draw(history, head, tail);
            }
            let strips = trace.sweep.take_changed();
            changed
                .extend(strips.map(|(strip, pixels)| (at, strip, Image::from_rgba8_premultiplied(pixels))));
        }
        changed
    }

    /// The difference between two points of the frozen picture in physical pixels. The trace is that of the first point.
    #[must_use]
    pub fn measure(&self, from: (f32, f32), to: (f32, f32)) -> Option<Measurement> {
        self.frozen.as_ref()?;
        let height = self.trace_height();
        let at = (from.1.max(0.0) as u32 / height) as usize;
        let trace = self.traces.get(at)?;
        let top = f64::from(at as u32 * height);
        let value = |y: f32| trace.sweep.value(f64::from(y) - top);
        let seconds = f64::from(to.0 - from.0).abs() / trace.sweep.scale().pixels_per_s;
        Some(Measurement {
            seconds,
            difference: value(to.1) - value(from.1),
            unit: trace.channel.unit.clone(),
        })
    }

    /// The length of the longest jitter buffer, and the longest delay of the display, in microseconds.
    #[must_use]
    pub fn buffer_us(&self) -> Option<(i64, i64)> {
        let streams = self.patient.streams().iter().filter(|stream| stream.playout.delay_us() > 0);
        streams.map(|stream| (stream.playout.length_us(), stream.playout.delay_us())).max()
    }

    /// The number of columns that were drawn in all traces since they were arranged.
    #[must_use]
    pub fn columns_drawn(&self) -> u64 {
        self.traces.iter().map(|trace| trace.sweep.columns_drawn()).sum()
    }
}

/// Adapts the vertical scale to the range of the trace. An ECG in millivolts has a standard gain.
fn fit(
    channel: &Channel,
    gain: &mut Option<f64>,
    sweep: &mut Sweep,
    is_new: bool,
    (low, high): (f64, f64),
    pixels_per_mm: f64,
) {
    let per_mv = match channel.unit.as_str() {
        "mV" => Some(1.0),
        "uV" => Some(1000.0),
        "V" => Some(0.001),
        _ => None,
    };
    let Some(per_mv) = per_mv.filter(|_| ChannelKind::of(channel) == ChannelKind::Ecg) else {
        sweep.set_scale(fitted(sweep, is_new, low, high, 0.0));
        return;
    };
    let height = f64::from(sweep.size().height);
    let span_mv = (high - low) / per_mv;
    let needed = |gain: f64| span_mv * gain * pixels_per_mm;
    let current = gain.filter(|gain| needed(*gain) <= height && needed(*gain * 2.0) > height * 0.6);
    let best =
        || GAINS.into_iter().find(|gain| needed(*gain) <= height * 0.9).unwrap_or(GAINS[GAINS.len() - 1]);
    // The standard gain is not exceeded for small complexes, so that their size can be compared.
    let chosen = current.unwrap_or_else(best).min(10.0);
    let pixels_per_unit = chosen * pixels_per_mm / per_mv;
    let before = sweep.scale();
    let (top, bottom) = (sweep.value(0.0), sweep.value(height));
    let is_inside =
        *gain == Some(chosen) && before.pixels_per_unit == pixels_per_unit && low >= bottom && high <= top;
    if !is_inside {
        *gain = Some(chosen);
        sweep.set_scale(SweepScale { centre: (low + high) / 2.0, pixels_per_unit, ..before });
    }
}

/// The colour of a channel on a dark background: the usual colours of bedside monitors.
#[must_use]
pub fn colour(kind: ChannelKind) -> Colour {
    Colour::opaque(match kind {
        ChannelKind::Ecg => 0x3d_f0_7a,
        ChannelKind::Pleth => 0x35_d6_f2,
        ChannelKind::Respiration => 0xf5_e0_4e,
        ChannelKind::Pressure => 0xff_6b_6b,
        ChannelKind::Other => 0xd8_e2_ea,
    })
}

fn style(kind: ChannelKind) -> SweepStyle {
    SweepStyle {
        background: Colour::opaque(0x05_09_0c),
        live: colour(kind),
        stopped: Colour::opaque(0x5d_6b_78),
        mark: Colour::opaque(0x00_b7_d6),
    }
}

#[cfg(test)]
mod tests {
    use super::super::patient::tests::{START, channel, frame, stream};
    use super::*;

    const SIZE: Size = Size { width: 600, height: 300, scale: 1.0 };

    fn pane() -> (LivePane, std::sync::Arc<proto_json::StreamDescription>) {
        let channels = vec![
            channel("Pleth", "MDC_PULS_OXIM_PLETH", 125),
            channel("V1", "MDC_ECG_LEAD_V1", 250),
            channel("II", "MDC_ECG_LEAD_II", 250),
        ];
        (LivePane::new(SIZE, Speed::Standard, 6), stream(1, channels))
    }

    /// Streams the seconds `from` to `to`, with a step of 1 mV in lead II each second, and draws at 60 Hz.
    fn run(
        pane: &mut LivePane,
        stream: &std::sync::Arc<proto_json::StreamDescription>,
        from: u64,
        to: u64,
    ) -> usize {
        let mut strips = 0;
        for number in from * 5..to * 5 {
            let step = if number / 5 % 2 == 0 { 0 } else { 1000 };
            let now = START + number as i64 * 200_000 + 240_000;
            if pane.patient.frame(&frame(stream, number, &[Some(50), Some(0), Some(step)]), now) {
                pane.arrange(SIZE, 6);
            }
            strips += (0..12).map(|refresh| pane.draw(now + refresh * 16_667).len()).sum::<usize>();
        }
        strips
    }

    #[test]
    fn traces_are_ordered_and_calibrated_and_only_changed_strips_are_drawn() {
        let (mut pane, stream) = pane();
        run(&mut pane, &stream, 0, 4);
        let labels: Vec<&str> = pane.traces().iter().map(|trace| trace.channel().label.as_str()).collect();
        assert_eq!(labels, ["II", "V1", "Pleth"]);
        assert_eq!(pane.traces()[0].gain(), Some(10.0));
        assert_eq!(pane.traces()[2].gain(), None);
        let before = pane.columns_drawn();
        let strips = run(&mut pane, &stream, 4, 8);
        // Three traces with 100 columns per second.
        let columns = pane.columns_drawn() - before;
        assert!(columns < 4 * 3 * 100 * 8, "{columns} columns in 4 s");
        assert!(strips < 4 * 60 * 3 * 2, "{strips} strips in 4 s");
        let (length, delay) = pane.buffer_us().unwrap();
        assert!((200_000..300_000).contains(&length) && delay >= length, "{length} {delay}");
    }

    #[test]
    fn frozen_picture_stays_and_calipers_measure_it() {
        let (mut pane, stream) = pane();
        run(&mut pane, &stream, 0, 8);
        assert_eq!(pane.measure((0.0, 0.0), (100.0, 40.0)), None, "only a frozen picture is measured");
        let now = START + 8_100_000;
        pane.set_frozen(true, now);
        assert!(!pane.draw(now).is_empty(), "drawn in the order of time");
        assert_eq!(run(&mut pane, &stream, 8, 12), 0, "nothing moves");
        let measured = pane.measure((100.0, 60.0), (180.0, 20.0)).unwrap();
        assert!(
            (measured.seconds - 0.8).abs() < 1e-6 && (measured.difference - 1.0).abs() < 1e-6,
            "{measured:?}"
        );
        assert_eq!(measured.unit, "mV");
        pane.set_speed(Speed::Fast);
        assert!(!pane.draw(now + 4_000_000).is_empty());
        let measured = pane.measure((100.0, 60.0), (180.0, 20.0)).unwrap();
        assert!((measured.seconds - 0.4).abs() < 1e-6, "{measured:?}");
        pane.set_frozen(false, START + 12_100_000);
        assert!(!pane.draw(START + 12_100_000).is_empty(), "live again");
        assert!(!pane.is_frozen());
    }
}
