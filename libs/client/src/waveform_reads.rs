//! Reads of stored waveforms.

use proto_json::waveform::{SampleRate, StreamId};
use proto_json::waveform_reads::{StoredWaveform, StoredWaveforms, WaveformFormat};
use proto_json::{Mrn, Timestamp};

use crate::{ClientError, Download, Gateway};

impl Gateway {
    /// The stored channels of a patient with their intervals and gaps between two times.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stored_waveforms(
        &self,
        mrn: Mrn,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StoredWaveforms, ClientError> {
        let mut url = self.api(&["patients", &mrn.to_string(), "waveforms", "channels"]);
        let [from, to] = [from, to].map(|time| time.to_string());
        url.query_pairs_mut().append_pair("from", &from).append_pair("to", &to);
        self.json(url).await
    }

    /// The samples of a channel between two times, or an overview with this number of columns.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stored_waveform(
        &self,
        mrn: Mrn,
        channel: &str,
        (from, to): (Timestamp, Timestamp),
        points: Option<u32>,
    ) -> Result<StoredWaveform, ClientError> {
        let mut url = self.api(&["patients", &mrn.to_string(), "waveforms"]);
        let [from, to] = [from, to].map(|time| time.to_string());
        url.query_pairs_mut()
            .append_pair("channel", channel)
            .append_pair("from", &from)
            .append_pair("to", &to);
        if let Some(points) = points {
            url.query_pairs_mut().append_pair("points", &points.to_string());
        }
        self.json(url).await
    }

    /// A file with the channels of a stream that have this sample rate.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export_waveforms(
        &self,
        mrn: Mrn,
        (stream, rate): (StreamId, SampleRate),
        (from, to): (Timestamp, Timestamp),
        format: WaveformFormat,
    ) -> Result<Download, ClientError> {
        let mut url = self.api(&["patients", &mrn.to_string(), "waveforms", "export"]);
        let [from, to] = [from, to].map(|time| time.to_string());
        url.query_pairs_mut()
            .append_pair("format", format.name())
            .append_pair("from", &from)
            .append_pair("to", &to)
            .append_pair("stream", &stream.to_string())
            .append_pair("rate", &format!("{}/{}", rate.numerator, rate.denominator));
        self.download(url).await
    }
}
