//! `bedside export`: saves stored waveforms as WFDB, EDF+ or CSV.
//!
//! Each stream and sample rate becomes a file of its own (WFDB: a header and a file of samples), because the formats
//! cannot mix rates exactly. A file that exists is never overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use client::{Download, Gateway};
use proto_json::waveform::{SampleRate, StreamId};
use proto_json::waveform_reads::{MAX_LISTED_MS, WaveformFormat, export_name};
use proto_json::{Mrn, Timestamp};
use tokio::io::AsyncWriteExt;

use super::error::{CliError, cannot_write};
use super::export::{create_private, publish};
use crate::data_dir;

/// Maximum size of a WFDB header in bytes.
const MAX_HEADER: usize = 1 << 20;

/// Format of exported waveforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// A header (.hea) and a file of samples (.dat)
    Wfdb,
    /// EDF+
    Edf,
    /// One row per sample
    Csv,
}

impl Format {
    fn files(self) -> &'static [WaveformFormat] {
        match self {
            Format::Wfdb => &[WaveformFormat::WfdbSamples, WaveformFormat::WfdbHeader],
            Format::Edf => &[WaveformFormat::Edf],
            Format::Csv => &[WaveformFormat::Csv],
        }
    }
}

/// Saves the waveforms of a patient between two times to a directory. Returns the names of the files.
pub(super) async fn export(
    gateway: &Gateway,
    mrn: Mrn,
    (from, to): (Timestamp, Timestamp),
    format: Format,
    directory: &Path,
) -> Result<Vec<String>, CliError> {
    let stored = gateway.stored_waveforms(mrn, from, to).await?;
    let rate = |numerator, denominator| SampleRate { numerator, denominator };
    let groups: BTreeSet<_> = stored
        .channels
        .iter()
        .map(|channel| (channel.stream, channel.channel.rate.numerator, channel.channel.rate.denominator))
        .collect();
    if groups.is_empty() {
        return Err(CliError::failed(format!("patient {mrn} has no stored waveforms from {from} to {to}")));
    }
    data_dir::create(directory).map_err(cannot_write(directory))?;
    let mut names = Vec::new();
    for (stream, numerator, denominator) in groups {
        let rate = rate(numerator, denominator);
        for kind in format.files() {
            let name = format!("{}.{}", export_name(mrn, from, stream, rate), kind.extension());
            let path = directory.join(&name);
            if path.exists() {
                return Err(CliError::failed(format!(
                    "{} exists and was kept; choose another directory",
                    path.display()
                )));
            }
            let download = gateway.export_waveforms(mrn, (stream, rate), (from, to), *kind).await?;
            let part = directory.join(format!(".bedside-{stream}.part"));
            save(download, &part).await?;
            publish(&part, &path).map_err(cannot_write(&path))?;
            names.push(name);
        }
    }
    Ok(names)
}

/// Saves all waveforms of a patient that were stored after a time, as WFDB. Files of an earlier export are replaced, because the
/// last ones grow. Returns the names of the files.
pub(super) async fn export_all(
    gateway: &Gateway,
    mrn: Mrn,
    since: Timestamp,
    directory: &Path,
) -> Result<Vec<String>, CliError> {
    let mut names = Vec::new();
    for stored in stored_since(gateway, mrn, since).await? {
        data_dir::create(directory).map_err(cannot_write(directory))?;
        for kind in Format::Wfdb.files() {
            let name = format!(
                "{}.{}",
                export_name(mrn, stored.first, stored.stream, stored.rate),
                kind.extension()
            );
            let part = directory.join(format!(".bedside-{}.part", stored.stream));
            save(stored.download(gateway, mrn, *kind).await?, &part).await?;
            let path = directory.join(&name);
            std::fs::rename(&part, &path).map_err(cannot_write(&path))?;
            names.push(name);
        }
    }
    Ok(names)
}

/// Saves the samples of all waveforms that were stored after a time, as `waveform-1.dat` and so on. Returns their WFDB headers as
/// the gateway made them: with names and times.
pub(super) async fn export_samples(
    gateway: &Gateway,
    mrn: Mrn,
    since: Timestamp,
    directory: &Path,
) -> Result<Vec<String>, CliError> {
    let mut headers = Vec::new();
    for stored in stored_since(gateway, mrn, since).await? {
        data_dir::create(directory).map_err(cannot_write(directory))?;
        let header = stored.download(gateway, mrn, WaveformFormat::WfdbHeader).await?;
        headers.push(String::from_utf8_lossy(&header.bytes(MAX_HEADER).await?).into_owned());
        let path = directory.join(format!("waveform-{}.dat", headers.len()));
        save(stored.download(gateway, mrn, WaveformFormat::WfdbSamples).await?, &path).await?;
    }
    Ok(headers)
}

/// Stored waveforms of one stream and sample rate.
struct Stored {
    stream: StreamId,
    rate: SampleRate,
    first: Timestamp,
    last: Timestamp,
}

impl Stored {
    async fn download(
        &self,
        gateway: &Gateway,
        mrn: Mrn,
        format: WaveformFormat,
    ) -> Result<Download, CliError> {
        let range = (self.first, self.last);
        Ok(gateway.export_waveforms(mrn, (self.stream, self.rate), range, format).await?)
    }
}

async fn stored_since(gateway: &Gateway, mrn: Mrn, since: Timestamp) -> Result<Vec<Stored>, CliError> {
    let end = gateway.now().plus_millis(1);
    let mut all = Vec::new();
    let mut from = since;
    while from < end {
        let to = from.plus_millis(MAX_LISTED_MS).min(end);
        let listed = gateway.stored_waveforms(mrn, from, to).await?;
        let mut groups = BTreeMap::new();
        for channel in &listed.channels {
            let (stream, rate) = (channel.stream, channel.channel.rate);
            for interval in &channel.intervals {
                let key = (stream, rate.numerator, rate.denominator);
                let new = Stored { stream, rate, first: interval.from, last: interval.to };
                let stored = groups.entry(key).or_insert(new);
                stored.first = stored.first.min(interval.from);
                stored.last = stored.last.max(interval.to);
            }
        }
        all.extend(groups.into_values());
        from = to;
    }
    Ok(all)
}

/// Saves a download to a file. An incomplete file is removed.
async fn save(download: Download, path: &Path) -> Result<(), CliError> {
    let written = write(download, path).await;
    if written.is_err() {
        let _ = std::fs::remove_file(path);
    }
    written
}

async fn write(mut download: Download, path: &Path) -> Result<(), CliError> {
    let fail = cannot_write(path);
    let mut file = tokio::fs::File::from_std(create_private(path).map_err(&fail)?);
    while let Some(chunk) = download.chunk().await? {
        file.write_all(&chunk).await.map_err(&fail)?;
    }
    file.sync_all().await.map_err(fail)
}
