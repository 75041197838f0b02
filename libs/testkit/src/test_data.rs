//! Generated test data: ECG files and images. The repository contains no recorded data.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use ecg::synth;

/// A CSV of `duration_s` seconds at 360 Hz with about `bpm` beats per minute. Different seeds give different bytes.
#[must_use]
pub fn strip_csv(bpm: f64, duration_s: f64, seed: u64) -> Vec<u8> {
    let settings = synth::Settings {
        sample_rate_hz: 360.0,
        duration_s,
        mean_bpm: bpm,
        noise_mv: 0.01,
        seed,
        ..synth::Settings::default()
    };
    synth::csv(&synth::generate(&settings).strip)
}

/// A CSV of 28 s at 360 Hz, about 130 KB. Each number gives different bytes. 128 generated signals are reused in turn, so that
/// most plots differ as well. The first call takes a second, because it generates all signals.
#[must_use]
pub fn one_of_many_strips(number: u64) -> Bytes {
    const SIGNALS: u64 = 128;
    static STRIPS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let strips = STRIPS.get_or_init(|| (0..SIGNALS).map(|seed| strip_csv(75.0, 28.0, seed)).collect());
    let mut bytes = format!("# {number}\n").into_bytes();
    bytes.extend_from_slice(&strips[(number % SIGNALS) as usize]);
    bytes.into()
}

/// Writes a CSV of `seconds` seconds at 350 Hz (a day has 30 million samples). It repeats ten seconds of one strip with
/// increasing times.
///
/// # Panics
/// If the file cannot be written.
pub fn long_csv(path: &Path, seconds: u32) {
    const RATE: usize = 350;
    let settings =
        synth::Settings { sample_rate_hz: RATE as f64, duration_s: 10.0, ..synth::Settings::default() };
    let generated = synth::generate(&settings);
    let samples: Vec<f32> =
        generated.strip.segments.iter().flat_map(|segment| segment.samples.clone()).collect();
    // Each row without its whole seconds, so that writing a day is fast.
    let rows: Vec<String> = (0..10 * RATE)
        .map(|row| {
            let fraction = format!("{:.5}", (row % RATE) as f64 / RATE as f64);
            format!("{},{:.3}\n", &fraction[1..], samples[row % samples.len()])
        })
        .collect();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file can be created"));
    let mut text = Vec::new();
    for second in 0..seconds {
        let whole = second.to_string();
        let from = second as usize % 10 * RATE;
        text.clear();
        for row in &rows[from..from + RATE] {
            text.extend_from_slice(whole.as_bytes());
            text.extend_from_slice(row.as_bytes());
        }
        file.write_all(&text).expect("it can be written");
    }
    file.flush().expect("it can be written");
}

/// A JPEG of noise, `side` x `side` pixels. Different seeds give different bytes. 160 pixels are about 25 KB.
///
/// # Panics
/// If `side` is 0.
#[must_use]
pub fn jpeg(side: u16, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = noise(usize::from(side) * usize::from(side), seed);
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(&pixels, side, side, jpeg_encoder::ColorType::Luma)
        .expect("noise can be encoded");
    bytes
}

/// A PNG of noise, `side` x `side` pixels. Different seeds give different bytes.
///
/// # Panics
/// If `side` is 0.
#[must_use]
pub fn png(side: u32, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().expect("a header can be written");
    writer.write_image_data(&noise((side * side) as usize, seed)).expect("noise can be encoded");
    writer.finish().expect("the end can be written");
    bytes
}

/// Incompressible bytes (xorshift64*, Vigna 2016).
#[must_use]
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|_| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
        })
        .collect()
}
