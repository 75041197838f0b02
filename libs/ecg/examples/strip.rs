//! Reads ECG files and says what the library makes of each: `cargo run --release -p ecg --example strip -- FILE…`.

use std::error::Error;
use std::fs::File;

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        println!("{path}");
        match ecg::csv::read(File::open(&path)?, &ecg::csv::Options::default()) {
            Ok(strip) => {
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
                for warning in &strip.warnings {
                    println!("  {}: {}", warning.code, warning.message);
                }
            }
            Err(error) => println!("  {error}"),
        }
    }
    Ok(())
}
