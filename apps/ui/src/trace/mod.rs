//! Pictures of signals: an ECG with zoom and calipers, a trend of heart rates, and a sparkline.
//!
//! The pictures are drawn here because the software renderer of Slint does not stroke paths. All lengths are in physical
//! pixels. Texts such as times and scales are not drawn; they are returned as [`Tick`]s for the window.

mod canvas;
mod ecg;
mod envelope;
mod geometry;
mod sparkline;
mod trend;

pub use canvas::Colour;
pub use ecg::{Beat, Caliper, EcgScene, EcgStyle, EcgView};
pub use geometry::{Size, Tick};
pub use sparkline::Sparkline;
pub use trend::{TrendPoint, TrendReading, TrendScene, TrendStyle, TrendView};
