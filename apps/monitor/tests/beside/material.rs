//! Strips and pictures that tests make for themselves.

use std::io::Cursor;

use ecg::synth;
use image::{ImageFormat, Luma};

/// A CSV of `duration_s` seconds at 250 Hz and about `bpm` beats per minute; other seeds give other bytes.
#[must_use]
pub fn strip_csv(bpm: f64, duration_s: f64, seed: u64) -> Vec<u8> {
    let settings = synth::Settings {
        sample_rate_hz: 250.0,
        duration_s,
        mean_bpm: bpm,
        rr_sd_ms: 12.0,
        noise_mv: 0.01,
        seed,
        ..synth::Settings::default()
    };
    synth::csv(&synth::generate(&settings).strip)
}

/// A picture like that of a slice through a chest, `side` x `side` pixels; other seeds give other bytes.
#[must_use]
pub fn picture(side: u32, seed: u32, format: ImageFormat) -> Vec<u8> {
    let pixels = image::ImageBuffer::from_fn(side, side, |x, y| {
        let at = |value: u32| f64::from(value) / f64::from(side) * 2.0 - 1.0;
        let inside = |x0: f64, y0: f64, wide: f64, high: f64| {
            let distance = (((at(x) - x0) / wide).powi(2) + ((at(y) - y0) / high).powi(2)).sqrt();
            ((1.0 - distance) * 24.0).clamp(0.0, 1.0)
        };
        let turn = (seed % 16) as f64 * 0.02;
        let body = 90.0 * inside(0.0, 0.0, 0.92, 0.72);
        let lungs = 62.0 * (inside(-0.42, turn, 0.3, 0.46) + inside(0.42, -turn, 0.3, 0.46));
        let heart = 95.0 * inside(0.1 + turn, 0.12, 0.26, 0.22) + 120.0 * inside(0.0, 0.52, 0.13, 0.12);
        Luma([(body - lungs + heart).clamp(0.0, 250.0) as u8 + (seed % 5) as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format).expect("a picture can be written");
    bytes.into_inner()
}
