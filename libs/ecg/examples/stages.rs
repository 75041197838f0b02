//! Draws the outputs of the stages of the detector for a short synthetic strip:
//!
//! `cargo run --release -p bedside-ecg --example stages -- FILE.svg`
//!
//! From top to bottom: signal and beats, contrast, template correlation, confidence. The middle third of the
//! strip contains strong noise.

use std::error::Error;
use std::fmt::Write as _;

use ecg::detect::{Detection, detect};
use ecg::synth::{self, Settings};
use ecg::{Quality, Strip, analyze};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 110.0;
const PANEL: f64 = 110.0;
const SECONDS: f64 = 30.0;
const RATE_HZ: f64 = 250.0;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: stages FILE.svg")?;
    let strip = strip();
    let samples = &strip.segments[0].samples;
    let beats = detect(samples, RATE_HZ);
    let analysis = analyze(&strip);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + 10.0,
        4.0 * PANEL + 60.0
    );
    for stretch in &analysis.quality_segments {
        let (color, word) = match stretch.quality {
            Quality::Good => ("#e9f5ea", "good"),
            Quality::Poor => ("#fdf3d8", "poor"),
            Quality::Unusable => ("#eee", "unusable"),
        };
        let (from, to) = (x(stretch.start_s), x(stretch.end_s));
        writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"30\" width=\"{:.1}\" height=\"{:.0}\" fill=\"{color}\"/><text x=\"{:.1}\" y=\"20\">quality: {word}</text>",
            to - from - 1.0,
            4.0 * PANEL,
            from + 4.0
        )?;
    }
    trace(&mut svg, samples, &beats)?;
    panel(&mut svg, 1, "height over\nsurroundings", &beats, |beat| Some(f64::from(beat.contrast) / 12.0))?;
    panel(&mut svg, 2, "correlation", &beats, |beat| beat.correlation.map(f64::from))?;
    panel(&mut svg, 3, "confidence", &beats, |beat| Some(f64::from(beat.confidence)))?;
    let words = match analysis.heart_rate {
        Some(rate) => format!("{:.0} bpm (true 72)", rate.mean_bpm),
        None => analysis.no_heart_rate_reason.unwrap_or_default(),
    };
    writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.0}\">{words}</text>\n</svg>", 4.0 * PANEL + 50.0)?;
    std::fs::write(path, svg)?;
    Ok(())
}

/// A synthetic strip with noise as strong as the beats from 10 to 20 s.
fn strip() -> Strip {
    let with_noise = |noise_mv| {
        let settings =
            Settings { sample_rate_hz: RATE_HZ, duration_s: SECONDS, noise_mv, ..Settings::default() };
        synth::generate(&settings).strip
    };
    let (mut clean, noisy) = (with_noise(0.02), with_noise(0.4));
    let middle = (10.0 * RATE_HZ) as usize..(20.0 * RATE_HZ) as usize;
    clean.segments[0].samples[middle.clone()].copy_from_slice(&noisy.segments[0].samples[middle]);
    clean
}

fn x(seconds: f64) -> f64 {
    LEFT + seconds / SECONDS * WIDTH
}

fn trace(svg: &mut String, samples: &[f32], beats: &[Detection]) -> std::fmt::Result {
    let y = |value: f32| 30.0 + PANEL * (0.75 - 0.3 * f64::from(value));
    write!(
        svg,
        "<text x=\"4\" y=\"85\">signal, beats</text><polyline fill=\"none\" stroke=\"#345\" points=\""
    )?;
    for (index, value) in samples.iter().enumerate() {
        write!(svg, "{:.1},{:.1} ", x(index as f64 / RATE_HZ), y(*value))?;
    }
    writeln!(svg, "\"/>")?;
    for beat in beats {
        let at = x(beat.sample as f64 / RATE_HZ);
        writeln!(
            svg,
            "<path d=\"M{at:.1} 42l-4 -8h8z\" fill=\"#b00020\" opacity=\"{:.2}\"/>",
            beat.confidence
        )?;
    }
    Ok(())
}

/// Draws a bar of height 0 to 1 for each beat.
fn panel(
    svg: &mut String,
    row: u32,
    name: &str,
    beats: &[Detection],
    value: impl Fn(&Detection) -> Option<f64>,
) -> std::fmt::Result {
    let foot = 30.0 + PANEL * f64::from(row + 1);
    for (line, words) in name.lines().enumerate() {
        writeln!(svg, "<text x=\"4\" y=\"{:.0}\">{words}</text>", foot - 0.55 * PANEL + 16.0 * line as f64)?;
    }
    for beat in beats {
        let Some(value) = value(beat) else { continue };
        let height = (PANEL - 15.0) * value.clamp(0.0, 1.0);
        writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"5\" height=\"{height:.1}\" fill=\"#357\"/>",
            x(beat.sample as f64 / RATE_HZ) - 2.5,
            foot - height
        )?;
    }
    writeln!(svg, "<path d=\"M{LEFT} {foot}h{WIDTH}\" stroke=\"#999\"/>")
}
