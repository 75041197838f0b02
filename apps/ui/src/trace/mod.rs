//! Pictures of signals: an ECG with zoom and calipers, a trend of heart rates, a sparkline, and the sweep of a live waveform.
//!
//! The pictures are drawn here because the software renderer of Slint does not stroke paths. All lengths are in physical
//! pixels. Texts such as times and scales are not drawn; they are returned as [`Tick`]s for the window.

mod canvas;
mod ecg;
mod envelope;
mod geometry;
mod history;
mod playout;
mod sparkline;
mod sweep;
mod trend;

pub use canvas::Colour;
pub use ecg::{Beat, Caliper, EcgScene, EcgStyle, EcgView};
pub use geometry::{Size, Tick};
pub use history::{Cell, History};
pub use playout::Playout;
pub use sparkline::Sparkline;
pub use sweep::{Order, Sweep, SweepScale, SweepStyle, Tail};
pub use trend::{TrendLimits, TrendPoint, TrendReading, TrendScene, TrendStyle, TrendView};
