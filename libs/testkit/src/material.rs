//! Strips and pictures that tests make for themselves: the project holds no data of others.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use ecg::synth;

/// A CSV of `duration_s` seconds at 360 Hz and about `bpm` beats per minute; other seeds give other bytes.
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

/// The `number`th of many CSVs of 28 s at 360 Hz, about 130 KB. Each has other bytes; the signals, made once, take turns, so
/// that their pictures are unlike, too. The first call makes all of them, which takes a second.
#[must_use]
pub fn one_of_many_strips(number: u64) -> Bytes {
    const SIGNALS: u64 = 128;
    static STRIPS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let strips = STRIPS.get_or_init(|| (0..SIGNALS).map(|seed| strip_csv(75.0, 28.0, seed)).collect());
    let mut bytes = format!("# {number}\n").into_bytes();
    bytes.extend_from_slice(&strips[(number % SIGNALS) as usize]);
    bytes.into()
}

/// Writes a CSV of so many seconds at 350 Hz, a day of which is 30 million samples: ten seconds of one strip, again and
/// again, with times that go on.
///
/// # Panics
/// When it cannot be written.
pub fn long_csv(path: &Path, seconds: u32) {
    const RATE: usize = 350;
    let settings =
        synth::Settings { sample_rate_hz: RATE as f64, duration_s: 10.0, ..synth::Settings::default() };
    let made = synth::generate(&settings);
    let samples: Vec<f32> = made.strip.segments.iter().flat_map(|segment| segment.samples.clone()).collect();
    // All of a row but the whole seconds: a day is written in moments.
    let rows: Vec<String> = (0..10 * RATE)
        .map(|row| {
            let fraction = format!("{:.5}", (row % RATE) as f64 / RATE as f64);
            format!("{},{:.3}\n", &fraction[1..], samples[row % samples.len()])
        })
        .collect();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("a file can be made"));
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

/// A JPEG of noise, `side` x `side` pixels; other seeds give other bytes. 160 pixels are about 25 KB.
///
/// # Panics
/// Never for sides that a JPEG can have.
#[must_use]
pub fn jpeg(side: u16, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixels = noise(usize::from(side) * usize::from(side), seed);
    jpeg_encoder::Encoder::new(&mut bytes, 90)
        .encode(&pixels, side, side, jpeg_encoder::ColorType::Luma)
        .expect("noise can be encoded");
    bytes
}

/// A PNG of noise, `side` x `side` pixels; other seeds give other bytes.
///
/// # Panics
/// Never for sides that a PNG can have.
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

/// Bytes that no compression makes much smaller (xorshift64*, Vigna 2016).
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
