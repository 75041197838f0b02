//! Size and speed of stored waveforms on real ECG: `cargo bench -p bedside-store --bench waveforms -- DIR`.
//!
//! DIR has records of the MIT-BIH Arrhythmia Database. Both leads of de Chazal's set DS1 are compressed in chunks of 10
//! s and 60 s; then a day of three leads at 250 Hz and pleth at 125 Hz, made from these records, is appended, sealed
//! and read in a SQLite store. Without DIR, nothing is measured. Source of DS1: de Chazal, O'Dwyer, Reilly, "Automatic
//! classification of heartbeats using ECG morphology and heartbeat interval features", IEEE Transactions on Biomedical
//! Engineering 51(7), 2004.

#![allow(clippy::unwrap_used, reason = "a benchmark fails on the first error")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto_json::waveform::{Channel, Device, SampleRate, StreamDescription, StreamId, partition_of};
use proto_json::{Mrn, Timestamp};
use store::sqlite::SqliteStore;
use store::waveforms::{
    Chunk, ChunkBuilder, ChunkKey, NewPiece, Run, StoredStream, envelope_of_chunks, envelope_of_heads,
};
use store::{WaveformReader, WaveformStore};

const DS1: [&str; 22] = [
    "101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122", "124", "201", "203", "205",
    "207", "208", "209", "215", "220", "223", "230",
];

/// Start of the stored day.
const START_MS: i64 = 1_800_000_000_000;
const DAY_S: u64 = 24 * 3_600;
/// Duration of a piece.
const PIECE_S: u64 = 2;

fn main() {
    let Some(folder) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) else {
        println!("give the directory with the records of the MIT-BIH Arrhythmia Database");
        return;
    };
    let leads: Vec<Vec<i16>> = DS1.iter().flat_map(|record| record_of(Path::new(&folder), record)).collect();
    compression(&leads);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(day(&leads));
}

/// Both signals of a record in format 212.
fn record_of(folder: &Path, record: &str) -> [Vec<i16>; 2] {
    let bytes = std::fs::read(folder.join(format!("{record}.dat"))).unwrap();
    let mut signals = [Vec::new(), Vec::new()];
    for [low, high, other] in bytes.as_chunks::<3>().0 {
        let twelve = |low: &u8, high: u8| ((i16::from(*low) | i16::from(high) << 8) << 4) >> 4;
        signals[0].push(twelve(low, high & 0x0f));
        signals[1].push(twelve(other, high >> 4));
    }
    signals
}

fn rate(numerator: u32) -> SampleRate {
    SampleRate::new(numerator, 1).unwrap()
}

fn chunk(first: u64, samples: &[i16]) -> Chunk {
    let mut builder = ChunkBuilder::default();
    builder.add(first, START_MS * 1_000, false, samples);
    builder.finish().unwrap()
}

fn compression(leads: &[Vec<i16>]) {
    let rate = rate(360);
    let key = ChunkKey { stream: StreamId::generate(), channel: 0, window: 0 };
    for seconds in [10, 60] {
        let (mut bits, mut head_bits, mut samples) = (0, 0, 0);
        let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
        for lead in leads {
            for part in lead.chunks_exact(seconds * 360) {
                let start = Instant::now();
                let encoded = chunk(0, part).encode(key, rate).unwrap();
                writing += start.elapsed();
                let start = Instant::now();
                let read = Chunk::decode(key, &encoded.head, &encoded.data).unwrap();
                reading += start.elapsed();
                assert_eq!(read.values, part);
                bits += encoded.data.len() * 8;
                head_bits += encoded.head.len() * 8;
                samples += part.len();
            }
        }
        let per_sample = |bits: usize| bits as f64 / samples as f64;
        let speed = |time: Duration| samples as f64 / time.as_secs_f64() / 1e6;
        println!(
            "chunks of {seconds} s: {:.3} bits per sample, and {:.3} for head and pyramid; \
             {:.1} million samples/s written, {:.1} read",
            per_sample(bits),
            per_sample(head_bits),
            speed(writing),
            speed(reading)
        );
    }
}

fn description() -> Arc<StreamDescription> {
    let channel = |label: &str, numerator| Channel {
        label: label.to_owned(),
        code: "MDC_ECG_LEAD_II".to_owned(),
        unit: "mV".to_owned(),
        rate: rate(numerator),
        scale: 0.005,
        offset: 0.0,
    };
    Arc::new(StreamDescription {
        stream: StreamId::generate(),
        mrn: Mrn::new(7).unwrap(),
        device: Device { name: "Benchmark".to_owned(), serial: "1".to_owned() },
        channels: vec![channel("I", 250), channel("II", 250), channel("V", 250), channel("Pleth", 125)],
        opened_at: Timestamp::from_millis(START_MS).unwrap(),
        clock: None,
    })
}

/// The samples of a piece: those of the records, one after the other.
fn piece(stream: &Arc<StreamDescription>, leads: &[Vec<i16>], second: u64) -> NewPiece {
    let runs = (0_u16..).zip(&stream.channels).map(|(number, channel)| {
        let per_second = u64::from(channel.rate.numerator);
        let first = second * per_second;
        let samples = (first..first + PIECE_S * per_second).map(|index| {
            let lead = &leads[(usize::from(number) + (index / 650_000) as usize) % leads.len()];
            lead[index as usize % lead.len()]
        });
        Run { channel: number, first, zero_us: START_MS * 1_000, lead_off: false, samples: samples.collect() }
    });
    NewPiece { stream: stream.clone(), runs: runs.collect() }
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(START_MS + second as i64 * 1_000).unwrap()
}

async fn day(leads: &[Vec<i16>]) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("store.db")).unwrap();
    let stream = description();
    store.open_waveform(&stream).await.unwrap();
    let partition = partition_of(&stream.mrn);
    // Pieces are made before the clock runs; 30 are appended at once, as for 30 patients.
    let mut writing = Duration::ZERO;
    for minute in 0..DAY_S / 60 {
        let pieces: Vec<NewPiece> =
            (0..60 / PIECE_S).map(|number| piece(&stream, leads, minute * 60 + number * PIECE_S)).collect();
        let start = Instant::now();
        store.append_waveforms(pieces, at(minute * 60)).await.unwrap();
        if minute % 10 == 9 {
            store.seal_waveforms(partition, at(minute * 60 + 75), 100).await.unwrap();
        }
        writing += start.elapsed();
    }
    store.seal_waveforms(partition, at(DAY_S + 1_000), 100).await.unwrap();
    let samples: u64 = stream.channels.iter().map(|channel| u64::from(channel.rate.numerator) * DAY_S).sum();
    let bytes = std::fs::metadata(folder.path().join("store.db")).unwrap().len();
    println!(
        "a day of four channels: {:.1} million samples/s appended and sealed; {:.2} bits per sample in the file",
        samples as f64 / writing.as_secs_f64() / 1e6,
        (bytes * 8) as f64 / samples as f64
    );
    let of = store.waveform_stream(stream.stream).await.unwrap().unwrap();
    random_reads(&store, &of).await;
    overviews(&store, &of).await;
    let start = Instant::now();
    let mut read = 0;
    for hour in 0..24 {
        let times = (START_MS + hour * 3_600_000) * 1_000..(START_MS + (hour + 1) * 3_600_000) * 1_000;
        read += store
            .waveform_chunks(&of, 1, times)
            .await
            .unwrap()
            .iter()
            .map(|chunk| chunk.values.len())
            .sum::<usize>();
    }
    println!(
        "reading a lead of the day: {:.1} million samples/s",
        read as f64 / start.elapsed().as_secs_f64() / 1e6
    );
}

async fn random_reads(store: &SqliteStore, of: &StoredStream) {
    let mut state = 1_u64;
    let mut times = Vec::new();
    for _ in 0..2_000 {
        // Constants of Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let from = START_MS * 1_000 + (state >> 33) as i64 % (DAY_S as i64 * 1_000_000 - 10_000_000);
        let start = Instant::now();
        let chunks = store.waveform_chunks(of, 1, from..from + 10_000_000).await.unwrap();
        times.push(start.elapsed());
        assert!((1..=2).contains(&chunks.len()));
    }
    times.sort_unstable();
    let milliseconds = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("random reads of 10 s: p50 {:.2} ms, p99 {:.2} ms", milliseconds(0.5), milliseconds(0.99));
}

async fn overviews(store: &SqliteStore, of: &StoredStream) {
    let rate = rate(250);
    let begin = START_MS * 1_000;
    for (name, seconds, points) in [("24 h", DAY_S, 2_000), ("1 h", 3_600, 2_000), ("10 min", 600, 2_000)] {
        let times = begin..begin + seconds as i64 * 1_000_000;
        let mut spent = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            let columns = if seconds > 2 * points as u64 {
                let heads = store.waveform_heads(of, 1, times.clone()).await.unwrap();
                envelope_of_heads(&heads, &times, points, rate)
            } else {
                let chunks = store.waveform_chunks(of, 1, times.clone()).await.unwrap();
                envelope_of_chunks(&chunks, &times, points, rate)
            };
            spent.push(start.elapsed());
            assert!(columns.iter().all(Option::is_some));
        }
        spent.sort_unstable();
        let [median, worst] = [spent[10], spent[19]].map(|time| time.as_secs_f64() * 1e3);
        println!("overview of {name} in {points} columns: median {median:.1} ms, worst {worst:.1} ms");
    }
}
