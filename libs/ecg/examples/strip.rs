//! Prints the leads of ECG files and the analysis of the best one: `cargo run --release -p bedside-ecg --example strip -- FILE…`
//!
//! If the environment variable `PICTURES` names a folder, each strip is also written there as PNG and SVG.

use std::error::Error;
use std::fs::File;

fn main() -> Result<(), Box<dyn Error>> {
    let pictures = std::env::var("PICTURES").ok();
    for path in std::env::args().skip(1) {
        println!("{path}");
        match ecg::read_recording(File::open(&path)?, &ecg::csv::Options::default()) {
            Ok(recording) => {
                let leads: Vec<&str> = recording
                    .leads
                    .iter()
                    .map(|lead| lead.strip.lead.as_deref().unwrap_or("unnamed"))
                    .collect();
                println!(
                    "  leads {}; other signals {}",
                    leads.join(", "),
                    recording.other_signals.join(", ")
                );
                let (strip, analysis) = recording.into_best();
                let gaps = strip.gaps().count();
                println!(
                    "  {} Hz, {:.3} s, {} samples, {gaps} gaps, lead {}; rows: {} used, {} skipped",
                    strip.sample_rate_hz,
                    strip.duration_s(),
                    strip.sample_count(),
                    strip.lead.as_deref().unwrap_or("unnamed"),
                    strip.rows.used,
                    strip.rows.skipped,
                );
                match &analysis.heart_rate {
                    Some(rate) => println!("  {:.1} bpm from {} beats", rate.mean_bpm, analysis.beats.len()),
                    None => println!(
                        "  no heart rate: {}",
                        analysis.no_heart_rate_reason.as_deref().unwrap_or("")
                    ),
                }
                let name = path.replace(['/', '\\'], "_");
                if let Some(folder) = &pictures {
                    let options = ecg::plot::Options::default();
                    std::fs::write(
                        format!("{folder}/{name}.png"),
                        ecg::plot::png(&strip, &analysis, &options)?,
                    )?;
                    std::fs::write(
                        format!("{folder}/{name}.svg"),
                        ecg::plot::svg(&strip, &analysis, &options)?,
                    )?;
                }
                for warning in &strip.warnings {
                    println!("  {}: {}", warning.code, warning.message);
                }
            }
            Err(error) => println!("  {error}"),
        }
    }
    Ok(())
}
