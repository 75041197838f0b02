//! Strips with their true rates as files, so that other programs analyse the same strips.
//!
//! `strips.f32` contains the samples of all strips in millivolts, one after the other, as 32-bit floats, little-endian.
//! `strips.tsv` has one row per strip: set, name of the record or number of the strip, sampling rate in hertz, number of
//! samples, and true rate in beats per minute.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use ecg::Strip;

/// The two files, open for writing.
#[derive(Debug)]
pub struct Export {
    directory: PathBuf,
    samples: BufWriter<File>,
    table: BufWriter<File>,
}

impl Export {
    /// Creates the directory if it does not exist, and the files in it.
    ///
    /// # Errors
    /// Returns a sentence if that fails.
    pub fn create(directory: &Path) -> Result<Self, String> {
        let create = || -> io::Result<Self> {
            std::fs::create_dir_all(directory)?;
            let file = |name: &str| File::create(directory.join(name)).map(BufWriter::new);
            let mut table = file("strips.tsv")?;
            writeln!(table, "set\tname\tsample_rate_hz\tsamples\trate_bpm")?;
            Ok(Export { directory: directory.to_owned(), samples: file("strips.f32")?, table })
        };
        create().map_err(|error| unwritable(directory, &error))
    }

    /// Adds a strip.
    ///
    /// # Errors
    /// Returns a sentence if a file cannot be written.
    pub fn add(&mut self, set: &str, name: &str, strip: &Strip, rate_bpm: f64) -> Result<(), String> {
        let mut write = || -> io::Result<()> {
            for sample in strip.segments.iter().flat_map(|segment| &segment.samples) {
                self.samples.write_all(&sample.to_le_bytes())?;
            }
            let (hertz, count) = (strip.sample_rate_hz, strip.sample_count());
            writeln!(self.table, "{set}\t{name}\t{hertz}\t{count}\t{rate_bpm:.4}")
        };
        write().map_err(|error| unwritable(&self.directory, &error))
    }

    /// Completes the files.
    ///
    /// # Errors
    /// Returns a sentence if a file cannot be written.
    pub fn finish(mut self) -> Result<(), String> {
        self.samples
            .flush()
            .and_then(|()| self.table.flush())
            .map_err(|error| unwritable(&self.directory, &error))
    }
}

fn unwritable(directory: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {error}", directory.display())
}
