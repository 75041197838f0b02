//! Speed of plotting: `cargo bench -p bedside-ecg --bench plot`

#![allow(clippy::expect_used, reason = "a benchmark that cannot run has nothing else to say")]

use std::hint::black_box;
use std::time::Instant;

use ecg::plot::{Options, png, svg};
use ecg::synth::{self, Settings};

fn main() {
    for (name, sample_rate_hz, duration_s) in [
        ("28 s at 360 Hz", 360.0, 28.0),
        ("28 s at 2 kHz", 2000.0, 28.0),
        ("10 s at 500 Hz", 500.0, 10.0),
        ("half an hour at 360 Hz", 360.0, 1800.0),
        ("24 h at 360 Hz", 360.0, 86_400.0),
    ] {
        let settings = Settings { sample_rate_hz, duration_s, noise_mv: 0.03, ..Settings::default() };
        let strip = synth::generate(&settings).strip;
        let analysis = ecg::analyze(&strip);
        let options = Options::default();
        let picture = png(&strip, &analysis, &options).expect("a strip with samples can be drawn");
        let document = svg(&strip, &analysis, &options).expect("a strip with samples can be drawn");
        let png_ms = best_ms(|| {
            black_box(png(&strip, &analysis, &options).expect("as before"));
        });
        let svg_ms = best_ms(|| {
            black_box(svg(&strip, &analysis, &options).expect("as before"));
        });
        println!(
            "{name}: PNG {png_ms:.1} ms ({} kB), SVG {svg_ms:.1} ms ({} kB)",
            picture.len() / 1000,
            document.len() / 1000
        );
    }
}

fn best_ms(mut draw: impl FnMut()) -> f64 {
    let mut spans: Vec<f64> = (0..31)
        .map(|_| {
            let start = Instant::now();
            draw();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    spans.sort_by(f64::total_cmp);
    // The fastest run is the least disturbed one.
    spans[0]
}
