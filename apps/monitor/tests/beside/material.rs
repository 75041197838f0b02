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

/// A picture of soft shapes, `side` x `side` pixels; other seeds give other bytes.
#[must_use]
pub fn picture(side: u32, seed: u32, format: ImageFormat) -> Vec<u8> {
    let pixels = image::ImageBuffer::from_fn(side, side, |x, y| {
        let at = |value: u32| f64::from(value) / f64::from(side) * 9.0;
        let shade = (at(x) + f64::from(seed)).sin() * (at(y) - f64::from(seed)).cos();
        Luma([(128.0 + 110.0 * shade) as u8])
    });
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format).expect("a picture can be written");
    bytes.into_inner()
}
