//! Waveforms: every sample is stored once, bit for bit, whatever is repeated, late or interrupted.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use proto_json::Timestamp;
use proto_json::waveform::{
    Channel, Device, MISSING_SAMPLE, SampleRate, StreamDescription, StreamId, partition_of,
};
use store::waveforms::{
    Chunk, NewPiece, Run, StoredStream, envelope_of_chunks, envelope_of_heads, intervals_of, spans_in,
};

use crate::harness::{Fixture, Store, at, mrn, on_every_adapter};

on_every_adapter!(
    samples_are_read_as_they_were_appended_before_and_after_sealing,
    repeated_and_overlapping_samples_are_stored_once,
    late_samples_fill_the_gap_of_a_sealed_chunk,
    gaps_and_clock_jumps_are_declared,
    idle_stream_is_sealed_completely_and_a_running_one_up_to_its_last_window,
    reads_and_seals_at_the_same_time_lose_nothing,
    only_old_chunks_are_deleted_in_bounded_batches,
    streams_are_listed_by_patient,
    overview_of_heads_agrees_with_the_samples,
);

const SECOND_US: i64 = 1_000_000;

fn channel(label: &str, numerator: u32, denominator: u32) -> Channel {
    Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate::new(numerator, denominator).unwrap(),
        scale: 0.005,
        offset: -0.25,
    }
}

/// A stream with two channels of patient `number`, opened at this second.
pub(crate) fn stream(number: u64, second: i64) -> Arc<StreamDescription> {
    Arc::new(StreamDescription {
        stream: StreamId::generate(),
        mrn: mrn(number),
        device: Device { name: "Simulator".to_owned(), serial: "1".to_owned() },
        channels: vec![channel("II", 250, 1), channel("Pleth", 24_989, 400)],
        opened_at: at(second * 1_000),
        clock: None,
    })
}

fn zero_us() -> i64 {
    at(0).as_millis() * 1_000
}

/// The value of a sample: it follows from channel and index.
fn value(channel: u16, index: u64) -> i16 {
    (f64::from(channel + 1) * 300.0 * (index as f64 / 20.0).sin()) as i16 + (index % 7) as i16
}

fn run(channel: u16, indices: Range<u64>) -> Run {
    let samples = indices.clone().map(|index| value(channel, index)).collect();
    Run { channel, first: indices.start, zero_us: zero_us(), lead_off: false, samples }
}

/// Both channels from second to second.
pub(crate) fn seconds(stream: &Arc<StreamDescription>, seconds: Range<u64>) -> NewPiece {
    let runs = (0_u16..).zip(&stream.channels).map(|(number, channel)| {
        let index = |second: u64| channel.rate.index_at(second as i64 * SECOND_US);
        run(number, index(seconds.start)..index(seconds.end))
    });
    NewPiece { stream: stream.clone(), runs: runs.collect() }
}

async fn append(store: &dyn Store, piece: NewPiece, second: i64) {
    store.append_waveforms(vec![piece], at(second * 1_000)).await.unwrap();
}

/// Appends pieces of 5 s each.
async fn append_all(store: &dyn Store, stream: &Arc<StreamDescription>, seconds_of: Range<u64>) {
    for start in seconds_of.clone().step_by(5) {
        let end = (start + 5).min(seconds_of.end);
        append(store, seconds(stream, start..end), end as i64).await;
    }
}

async fn opened(store: &dyn Store, number: u64) -> (Arc<StreamDescription>, StoredStream) {
    let stream = stream(number, 0);
    store.open_waveform(&stream).await.unwrap();
    let stored = store.waveform_stream(stream.stream).await.unwrap().unwrap();
    assert_eq!(stored.description, *stream);
    (stream, stored)
}

fn all() -> Range<i64> {
    0..i64::MAX / 2
}

/// The samples of chunks by index. Fails if a sample is there twice.
fn samples(chunks: &[Chunk]) -> BTreeMap<u64, i16> {
    let mut found = BTreeMap::new();
    for chunk in chunks {
        for (index, value) in
            (chunk.first..).zip(&chunk.values).filter(|(_, value)| **value != MISSING_SAMPLE)
        {
            assert_eq!(found.insert(index, *value), None, "sample {index} is stored twice");
        }
    }
    found
}

async fn stored(store: &dyn Store, of: &StoredStream, channel: u16) -> BTreeMap<u64, i16> {
    samples(&store.waveform_chunks(of, channel, all()).await.unwrap())
}

fn expected(channel: u16, indices: impl IntoIterator<Item = u64>) -> BTreeMap<u64, i16> {
    indices.into_iter().map(|index| (index, value(channel, index))).collect()
}

async fn seal(store: &dyn Store, of: &StoredStream, second: i64) -> store::waveforms::SealReport {
    store.seal_waveforms(partition_of(&of.description.mrn), at(second * 1_000), 100).await.unwrap()
}

async fn samples_are_read_as_they_were_appended_before_and_after_sealing(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..200).await;
    let check = async || {
        for (number, channel) in (0..).zip(&stream.channels) {
            let end = channel.rate.index_at(200 * SECOND_US);
            assert_eq!(stored(&*store, &of, number).await, expected(number, 0..end), "{}", channel.label);
        }
        // A part of the time: the chunks that overlap it.
        let times = zero_us() + 70 * SECOND_US..zero_us() + 80 * SECOND_US;
        let chunks = store.waveform_chunks(&of, 0, times.clone()).await.unwrap();
        let layouts: Vec<_> = chunks.iter().map(Chunk::layout).collect();
        let spans = spans_in(&layouts, &times, stream.channels[0].rate);
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].indices, 17_500..20_000);
        assert!(chunks.iter().map(|chunk| chunk.values.len()).sum::<usize>() <= 30_000, "{}", chunks.len());
    };
    check().await;
    let report = seal(&*store, &of, 210).await;
    assert_eq!((report.streams, report.chunks, report.damaged), (1, 6, 0));
    assert!(report.pieces >= 35, "{report:?}");
    check().await;
    assert_eq!(seal(&*store, &of, 211).await.streams, 0);
    check().await;
}

async fn repeated_and_overlapping_samples_are_stored_once(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    store.open_waveform(&stream).await.unwrap();
    append_all(&*store, &stream, 0..130).await;
    append_all(&*store, &stream, 0..130).await;
    append(&*store, seconds(&stream, 3..64), 131).await;
    let whole = expected(0, 0..130 * 250);
    assert_eq!(stored(&*store, &of, 0).await, whole);
    seal(&*store, &of, 300).await;
    assert_eq!(stored(&*store, &of, 0).await, whole);
    // A redelivery after the seal changes nothing, and leaves nothing.
    append_all(&*store, &stream, 0..130).await;
    assert_eq!(stored(&*store, &of, 0).await, whole);
    let report = seal(&*store, &of, 500).await;
    assert_eq!((report.chunks, report.pieces), (0, 26));
    assert_eq!(stored(&*store, &of, 0).await, whole);
    // Another value of a sample that is stored does not replace it.
    let mut other = run(0, 100..200);
    other.samples.fill(5);
    append(&*store, NewPiece { stream: stream.clone(), runs: vec![other] }, 500).await;
    seal(&*store, &of, 700).await;
    assert_eq!(stored(&*store, &of, 0).await, whole);
}

async fn late_samples_fill_the_gap_of_a_sealed_chunk(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..20).await;
    append_all(&*store, &stream, 40..700).await;
    seal(&*store, &of, 700).await;
    let before: Vec<u64> = (0..700 * 250).filter(|index| !(5_000..10_000).contains(index)).collect();
    assert_eq!(stored(&*store, &of, 0).await, expected(0, before));
    // Ten minutes later.
    append(&*store, seconds(&stream, 20..40), 640).await;
    assert_eq!(stored(&*store, &of, 0).await, expected(0, 0..700 * 250));
    seal(&*store, &of, 900).await;
    assert_eq!(stored(&*store, &of, 0).await, expected(0, 0..700 * 250));
    let heads = store.waveform_heads(&of, 0, all()).await.unwrap();
    assert_eq!(heads.len(), 12);
    assert!(heads.iter().all(|head| head.layout.gaps.is_empty()));
}

async fn gaps_and_clock_jumps_are_declared(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    let hour = 3_600 * SECOND_US;
    let mut first = run(0, 0..2_500);
    first.samples[100..200].fill(MISSING_SAMPLE);
    let off = Run { lead_off: true, ..run(0, 2_500..5_000) };
    let jumped = Run { zero_us: zero_us() + hour, ..run(0, 5_000..7_500) };
    append(&*store, NewPiece { stream: stream.clone(), runs: vec![first, off, jumped] }, 30).await;
    for second in [30, 200] {
        seal(&*store, &of, second).await;
        // The search is bounded by the longest chunk, which the seal has found out.
        let of = store.waveform_stream(stream.stream).await.unwrap().unwrap();
        let rate = stream.channels[0].rate;
        let heads = store.waveform_heads(&of, 0, all()).await.unwrap();
        let layouts: Vec<_> = heads.iter().map(|head| head.layout.clone()).collect();
        assert_eq!(layouts[0].gaps, vec![100..200]);
        assert_eq!(layouts[0].lead_off, vec![2_500..5_000]);
        let intervals = intervals_of(&spans_in(&layouts, &all(), rate), rate);
        let time = |index| zero_us() + rate.micros(index);
        let jump = time(5_000) + hour..time(7_500) + hour;
        assert_eq!(intervals, [time(0)..time(100), time(200)..time(5_000), jump.clone()]);
        for times in [time(10)..time(20), jump.start + 10..jump.start + 20] {
            assert_eq!(store.waveform_chunks(&of, 0, times.clone()).await.unwrap().len(), 1, "{times:?}");
        }
    }
}

async fn idle_stream_is_sealed_completely_and_a_running_one_up_to_its_last_window(
    Fixture { store, .. }: Fixture,
) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..90).await;
    assert_eq!(seal(&*store, &of, 60).await.streams, 0, "nothing is old enough");
    let report = seal(&*store, &of, 92).await;
    assert_eq!(
        (report.streams, report.chunks, report.pieces),
        (1, 2, 12),
        "the first minute of each channel"
    );
    let report = seal(&*store, &of, 190).await;
    assert_eq!((report.chunks, report.pieces), (2, 6), "the rest");
    assert_eq!(seal(&*store, &of, 1_000).await, store::waveforms::SealReport::default());
    assert_eq!(stored(&*store, &of, 0).await, expected(0, 0..90 * 250));
}

async fn reads_and_seals_at_the_same_time_lose_nothing(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..120).await;
    let sealing = |second: i64| {
        let (store, of) = (store.clone(), of.clone());
        tokio::spawn(async move { seal(&*store, &of, second).await })
    };
    let seals: Vec<_> = [210, 220, 230].map(sealing).into();
    let appending = append_all(&*store, &stream, 120..150);
    let reading = async {
        for _ in 0..20 {
            let found = stored(&*store, &of, 0).await;
            assert_eq!(
                expected(0, 0..120 * 250).iter().find(|(index, value)| found.get(index) != Some(value)),
                None
            );
        }
    };
    tokio::join!(appending, reading);
    for seal in seals {
        seal.await.unwrap();
    }
    seal(&*store, &of, 1_000).await;
    assert_eq!(stored(&*store, &of, 0).await, expected(0, 0..150 * 250));
    assert_eq!(seal(&*store, &of, 2_000).await.streams, 0, "the tail is empty");
}

async fn only_old_chunks_are_deleted_in_bounded_batches(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..300).await;
    seal(&*store, &of, 1_000).await;
    let limit = at(180_500);
    let mut batches = Vec::new();
    loop {
        let removed = store.delete_waveforms(limit, 4).await.unwrap();
        batches.push(removed);
        if removed < 4 {
            break;
        }
    }
    assert_eq!(batches, [4, 2], "three minutes of two channels");
    assert_eq!(stored(&*store, &of, 0).await, expected(0, 180 * 250..300 * 250));
    assert!(store.waveform_stream(stream.stream).await.unwrap().is_some());
    assert_eq!(store.delete_waveforms(at(10_000_000), 100).await.unwrap(), 4);
    assert_eq!(stored(&*store, &of, 0).await, BTreeMap::new());
    assert_eq!(store.waveform_stream(stream.stream).await.unwrap(), None);
}

async fn streams_are_listed_by_patient(Fixture { store, .. }: Fixture) {
    let streams = [stream(7, 10), stream(8, 20), stream(7, 30)];
    for stream in &streams {
        store.open_waveform(stream).await.unwrap();
    }
    let list = async |number: u64, before: Timestamp| {
        let found = store.waveform_streams(mrn(number), before).await.unwrap();
        found.into_iter().map(|found| found.description.stream).collect::<Vec<_>>()
    };
    assert_eq!(list(7, at(60_000)).await, [streams[0].stream, streams[2].stream]);
    assert_eq!(list(7, at(30_000)).await, [streams[0].stream]);
    assert_eq!(list(8, at(60_000)).await, [streams[1].stream]);
    assert_eq!(list(9, at(60_000)).await, []);
    assert_eq!(store.waveform_stream(StreamId::generate()).await.unwrap(), None);
}

async fn overview_of_heads_agrees_with_the_samples(Fixture { store, .. }: Fixture) {
    let (stream, of) = opened(&*store, 7).await;
    append_all(&*store, &stream, 0..240).await;
    seal(&*store, &of, 250).await;
    let rate = stream.channels[0].rate;
    let times = zero_us()..zero_us() + 240 * SECOND_US;
    let chunks = store.waveform_chunks(&of, 0, times.clone()).await.unwrap();
    let heads = store.waveform_heads(&of, 0, times.clone()).await.unwrap();
    // Columns of whole seconds.
    for points in [1, 4, 24, 120] {
        let of_samples = envelope_of_chunks(&chunks, &times, points, rate);
        assert_eq!(envelope_of_heads(&heads, &times, points, rate), of_samples, "{points} columns");
        assert!(of_samples.iter().all(Option::is_some));
    }
}
