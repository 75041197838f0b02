//! Strips and pictures that tests make for themselves: the project holds no data of others.

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
