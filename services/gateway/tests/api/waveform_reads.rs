//! Reads and exports of stored waveforms.

use std::ops::Range;
use std::sync::Arc;

use bus::{WaveGroup, WaveKind, WaveLog, WaveMessage};
use proto_json::waveform::{
    Channel, Device, Frame, MISSING_SAMPLE, SampleRate, Segment, StreamDescription, StreamId, partition_of,
};
use proto_json::waveform_reads::{StoredWaveform, StoredWaveforms};
use proto_json::{Mrn, Timestamp};
use serde::de::DeserializeOwned;
use store::waveforms::{NewPiece, Run};
use store::{WaveformReader, WaveformStore};

use crate::fixture::{Api, Start, TIMEOUT};

const START_MS: i64 = 1_773_500_966_250;
/// Samples 1000 to 1499 of the ECG are lost.
const GAP: Range<u64> = 1_000..1_500;
/// Of the ECG.
const END: u64 = 25_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + seconds * 1_000).unwrap()
}

fn channel(label: &str, code: &str, rate: (u32, u32)) -> Channel {
    Channel {
        label: label.to_owned(),
        code: code.to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate::new(rate.0, rate.1).unwrap(),
        scale: 0.005,
        offset: -0.25,
    }
}

/// A stream of 100 s with two leads at 250 Hz and pleth at 62.4725 Hz, most of which is sealed.
async fn stored(api: &Api) -> Arc<StreamDescription> {
    let stream = Arc::new(StreamDescription {
        stream: StreamId::generate(),
        mrn: Mrn::new(7).unwrap(),
        device: Device { name: "Monitor 3000".to_owned(), serial: "12".to_owned() },
        channels: vec![
            channel("II", "MDC_ECG_LEAD_II", (250, 1)),
            channel("V", "MDC_ECG_LEAD_V", (250, 1)),
            channel("Pleth", "MDC_PULS_OXIM_PLETH", (24_989, 400)),
        ],
        opened_at: at(0),
        clock: None,
    });
    api.store.open_waveform(&stream).await.unwrap();
    let run = |channel: u16, first: u64, samples: Vec<i16>| Run {
        channel,
        first,
        zero_us: START_MS * 1_000,
        lead_off: false,
        samples,
    };
    let pleth: Vec<i16> = (0..6_000).map(|index| value(2, index)).collect();
    let runs = vec![run(0, 0, ecg(0)), run(1, 0, ecg(1)), run(2, 0, pleth)];
    let piece = NewPiece { stream: stream.clone(), runs };
    api.store.append_waveforms(vec![piece], at(100)).await.unwrap();
    let report = api.store.seal_waveforms(partition_of(&stream.mrn), at(172), 10).await.unwrap();
    assert_eq!(report.chunks, 3);
    stream
}

fn value(channel: u16, index: u64) -> i16 {
    ((index * 7_919 + u64::from(channel) * 31) % 4_000) as i16 - 2_000
}

/// The samples of a lead, with its gap.
fn ecg(channel: u16) -> Vec<i16> {
    let sample = |index| if GAP.contains(&index) { MISSING_SAMPLE } else { value(channel, index) };
    (0..END).map(sample).collect()
}

async fn read<T: DeserializeOwned>(api: &Api, path: &str) -> T {
    let reply = api.get(path).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn path(rest: &str) -> String {
    format!("/api/v1/patients/7/waveforms{rest}")
}

async fn systems() -> [Api; 2] {
    let direct = Start { ingest: false, ..Start::default() }.start().await;
    let over_http = Start { ingest: false, query_over_http: true, ..Start::default() }.start().await;
    [direct, over_http]
}

#[tokio::test]
async fn channels_samples_and_overviews_are_those_that_were_stored() {
    for api in systems().await {
        let stream = stored(&api).await;
        let (from, to) = (at(-10), at(200));
        let list: StoredWaveforms = read(&api, &path(&format!("/channels?from={from}&to={to}"))).await;
        let labels: Vec<&str> = list.channels.iter().map(|channel| channel.channel.label.as_str()).collect();
        assert_eq!(labels, ["II", "V", "Pleth"]);
        let lead = &list.channels[0];
        assert_eq!((lead.stream, &lead.device), (stream.stream, &stream.device));
        let times: Vec<_> = lead.intervals.iter().map(|range| (range.from, range.to)).collect();
        assert_eq!(times, [(at(0), at(4)), (at(6), at(100))]);
        assert_eq!((lead.gaps.len(), lead.gaps[0].from, lead.gaps[0].to), (1, at(4), at(6)));
        assert_eq!(list.channels[2].intervals.len(), 1);
        let today: StoredWaveforms = read(&api, &path("/channels")).await;
        assert_eq!(today.channels, []);

        let range = format!("?channel=V&from={}&to={}", at(3), at(70));
        let StoredWaveform::Samples { segments, .. } = read(&api, &path(&range)).await else { panic!() };
        let found: Vec<_> = segments.iter().map(|segment| (segment.first, segment.samples.clone())).collect();
        let samples = |range: Range<u64>| range.map(|index| value(1, index)).collect::<Vec<_>>();
        assert_eq!(found, [(750, samples(750..1_000)), (1_500, samples(1_500..17_500))]);
        assert_eq!(segments[1].time_us, (START_MS + 6_000) * 1_000);
        assert_eq!(segments[1].channel, stream.channels[1]);

        // Columns of 1 s from samples, and of 20 s from the pyramid.
        for (points, seconds) in [(100, 1), (5, 20)] {
            let range =
                format!("?channel=II&from={from}&to={to}&points={points}", from = at(0), to = at(100));
            let envelope: StoredWaveform = read(&api, &path(&range)).await;
            let StoredWaveform::Envelope { streams, .. } = envelope else { panic!() };
            assert_eq!((streams.len(), streams[0].first_column), (1, 0));
            let expected: Vec<Option<[i16; 2]>> = ecg(0)
                .chunks(250 * seconds)
                .map(|part| {
                    let present = || part.iter().copied().filter(|sample| *sample != MISSING_SAMPLE);
                    Some([present().min()?, present().max()?])
                })
                .collect();
            assert_eq!(streams[0].columns, expected, "{points} columns");
        }
    }
}

#[tokio::test]
async fn exports_have_the_stored_samples() {
    for api in systems().await {
        let stream = stored(&api).await;
        let export = async |format: &str, rate: &str| {
            let (from, to, stream) = (at(-10), at(200), stream.stream);
            let query = format!("/export?format={format}&from={from}&to={to}&stream={stream}&rate={rate}");
            let reply = api.get(&path(&query)).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!(reply.header("content-disposition").starts_with("attachment; filename=\"7-2026"));
            reply
        };
        let header = export("wfdb_header", "250").await;
        let lines: Vec<&str> = header.text().lines().collect();
        let record = lines[0].split_once(' ').unwrap();
        assert_eq!(record.1, "2 250 25000 15:09:26.250000 14/03/2026");
        assert!(lines[1].starts_with(&format!("{}.dat 16 200(50)/mV 16 0 -2000 ", record.0)), "{}", lines[1]);
        let samples = export("wfdb_samples", "250").await;
        let stored: Vec<u8> = ecg(0)
            .into_iter()
            .zip(ecg(1))
            .flat_map(|(first, second)| [first.to_le_bytes(), second.to_le_bytes()].concat())
            .collect();
        assert!(samples.body == stored, "{} bytes, not {}", samples.body.len(), stored.len());

        let edf = export("edf", "250").await.body;
        // Two leads and the annotations; the record of a second has 250 samples of each lead.
        assert_eq!(
            (&edf[192..197], &edf[236..244], edf.len()),
            (&b"EDF+D"[..], &b"98      "[..], 1_024 + 98 * 1_120)
        );
        let first = edf[1_024..1_524].as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes));
        assert_eq!(first.collect::<Vec<_>>(), ecg(0)[..250]);
        let last = edf[edf.len() - 620..edf.len() - 120]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| i16::from_le_bytes(*bytes));
        assert_eq!(last.collect::<Vec<_>>(), ecg(1)[24_750..]);

        let csv = export("csv", "24989/400").await;
        let mut rows = csv.text().lines();
        assert_eq!(rows.next(), Some("# Start: 2026-03-14T15:09:26.250Z, sample rate: 24989/400 Hz"));
        assert_eq!(rows.next(), Some("time (s),Pleth (mV)"));
        let read = |row: &str| {
            let value: f64 = row.split_once(',').unwrap().1.parse().unwrap();
            ((value + 0.25) / 0.005).round() as i16
        };
        assert_eq!(
            rows.map(read).collect::<Vec<_>>(),
            (0..6_000).map(|index| value(2, index)).collect::<Vec<_>>()
        );
        let csv = export("csv", "250").await;
        assert_eq!(csv.text().lines().count() as u64, 2 + END - (GAP.end - GAP.start));
    }
}

#[tokio::test]
async fn wrong_requests_are_explained() {
    let api = Start { ingest: false, ..Start::default() }.start().await;
    let stream = stored(&api).await;
    let range = format!("from={}&to={}", at(0), at(100));
    let week = format!("from={}&to={}", at(0), at(7 * 24 * 3_600));
    for (request, status, about) in [
        ("/channels?from=yesterday".to_owned(), 400, "`from` cannot be read"),
        (format!("/channels?from={}&to={}", at(1), at(1)), 400, "before"),
        (format!("/channels?from={}&to={}", at(0), at(40 * 24 * 3_600)), 400, "31 days"),
        (format!("?{range}"), 400, "`channel` is missing"),
        ("?channel=II".to_owned(), 400, "`from` is missing"),
        (format!("?channel=aVR&{range}"), 404, "no stored channel \"aVR\""),
        (format!("?channel=II&{range}&points=0"), 400, "1 to 20000"),
        (format!("?channel=II&{range}&points=many"), 400, "1 to 20000"),
        (format!("?channel=II&{week}"), 400, "at most 2000 s"),
        (format!("?channel=II&{range}&channel=V"), 400, "query string"),
        (format!("/export?{range}"), 400, "`format` is missing"),
        (format!("/export?{range}&format=mp3"), 400, "wfdb_header, wfdb_samples, edf, csv"),
        (format!("/export?{range}&format=edf"), 400, "rate=250/1 (II, V)"),
        (format!("/export?{range}&format=edf&rate=fast"), 400, "24989/400"),
        (format!("/export?{range}&format=edf&rate=0"), 400, "outside of"),
        (format!("/export?{range}&format=edf&stream=7"), 400, "UUID"),
        (format!("/export?{range}&format=edf&stream={}", StreamId::generate()), 404, "no stored waveforms"),
    ] {
        api.get(&path(&request)).await.assert_problem(status, about);
    }
    api.get(&format!("/api/v1/patients/x/waveforms/channels?{range}")).await.assert_problem(400, "");
    let none: StoredWaveforms = read(&api, &format!("/api/v1/patients/8/waveforms/channels?{range}")).await;
    assert_eq!(none.channels, []);
    // The clock went back by a second: the samples would overlap.
    let back = Run {
        channel: 0,
        first: END,
        zero_us: (START_MS - 1_000) * 1_000,
        lead_off: false,
        samples: vec![1; 9],
    };
    let piece = NewPiece { stream: stream.clone(), runs: vec![back] };
    api.store.append_waveforms(vec![piece], at(101)).await.unwrap();
    let request = format!("/export?{range}&format=csv&rate=250");
    api.get(&path(&request)).await.assert_problem(400, "clock of the device went back");
}

/// A message of a stream. Frame `sequence` has 200 ms of the ECG leads.
fn message(of: &StreamDescription, kind: WaveKind, sequence: u64) -> WaveMessage {
    let segment = |channel: u16| Segment {
        channel,
        first: sequence * 50,
        lead_off: false,
        samples: (sequence * 50..(sequence + 1) * 50).map(|index| value(channel, index)).collect(),
    };
    let payload = match kind {
        WaveKind::Open => serde_json::to_vec(of).unwrap(),
        WaveKind::Frame => {
            Frame { sequence, device_time_us: 0, segments: vec![segment(0), segment(1)] }.encode()
        }
        WaveKind::Numerics | WaveKind::End => Vec::new(),
    };
    let time_us = START_MS * 1_000 + sequence as i64 * 200_000;
    WaveMessage { mrn: of.mrn, stream: of.stream, kind, sequence, time_us, payload: payload.into() }
}

#[tokio::test]
async fn frames_in_the_log_are_stored_once_and_read() {
    let api = Start::default().start().await;
    let of = StreamDescription {
        stream: StreamId::generate(),
        mrn: Mrn::new(7).unwrap(),
        device: Device { name: "Monitor 3000".to_owned(), serial: "12".to_owned() },
        channels: vec![channel("II", "MDC_ECG_LEAD_II", (250, 1)), channel("V", "MDC_ECG_LEAD_V", (250, 1))],
        opened_at: Timestamp::now(),
        clock: None,
    };
    api.bus.append(message(&of, WaveKind::Open, 0)).await.unwrap();
    for sequence in (0..20).chain(25..30) {
        api.bus.append(message(&of, WaveKind::Frame, sequence)).await.unwrap();
    }
    // Damaged, and of an unknown stream: both are skipped.
    let damaged = WaveMessage { payload: vec![1, 2, 3].into(), ..message(&of, WaveKind::Frame, 30) };
    api.bus.append(damaged).await.unwrap();
    let unknown = StreamDescription { stream: StreamId::generate(), ..of.clone() };
    api.bus.append(message(&unknown, WaveKind::Frame, 0)).await.unwrap();
    api.bus.append(message(&of, WaveKind::End, 31)).await.unwrap();
    // Acknowledged means stored.
    let acknowledged = async {
        loop {
            let lag = api.bus.wave_lag(WaveGroup::Storage).await.unwrap();
            if lag.pending + lag.unacknowledged == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, acknowledged).await.unwrap();
    let stored = api.store.waveform_stream(of.stream).await.unwrap().unwrap();
    let chunks = api.store.waveform_chunks(&stored, 1, 0..i64::MAX / 2).await.unwrap();
    let layout = chunks[0].layout();
    assert_eq!(
        (chunks.len(), layout.indices, layout.gaps),
        (1, 0..1_500, std::iter::once(1_000..1_250).collect())
    );
    assert_eq!(
        chunks[0].samples(1_250..1_500),
        (1_250..1_500).map(|index| value(1, index)).collect::<Vec<_>>()
    );
    assert_eq!(api.store.waveform_stream(unknown.stream).await.unwrap(), None);
}
