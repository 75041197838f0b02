//! The sample ledger: devices stream waveforms during the faults, and every acknowledged sample must be stored once, bit for
//! bit.
//!
//! The value of a sample follows from patient, channel and index, so that the ledger consists of the numbers of the frames
//! that were sent. Some frames are left out on purpose: their samples are a gap, and nothing may be stored there. A sender
//! repeats a message until it is acknowledged, so at the end all frames are acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::{Gateway, SenderSettings, WaveformSender};
use proto_json::waveform_reads::StoredWaveform;
use proto_json::{Channel, Device, MISSING_SAMPLE, Mrn, SampleRate, Segment, Timestamp};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Label and samples per second of the channels.
const CHANNELS: [(&str, u32); 2] = [("II", 250), ("V1", 125)];
const FRAME: Duration = Duration::from_millis(200);
const FRAMES_PER_SECOND: u64 = 5;
/// Record numbers that uploads do not use.
const FIRST_MRN: u64 = 70_000;
/// One frame of this number is left out.
const GAP_EVERY: u64 = 37;
/// Time in which all messages must be acknowledged, and all samples be stored, after the last fault.
const LIMIT: Duration = Duration::from_secs(90);
/// Range of one read: fewer samples than the longest answer.
const READ_MS: i64 = 600_000;

/// Devices that stream until the end of the faults.
pub(super) struct WaveLoad {
    streams: Vec<JoinHandle<Ledger>>,
    stop: Arc<AtomicBool>,
    started: Timestamp,
}

/// What one device has sent.
struct Ledger {
    mrn: Mrn,
    /// Numbers of the frames.
    frames: BTreeSet<u64>,
    violations: Vec<String>,
}

impl WaveLoad {
    pub(super) fn start(gateway: &Gateway, streams: u64, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Timestamp::now();
        let streams = (0..streams)
            .map(|number| {
                let mrn = Mrn::new(FIRST_MRN + number).expect("a valid number");
                tokio::spawn(stream(gateway.clone(), mrn, seed, Arc::clone(&stop)))
            })
            .collect();
        WaveLoad { streams, stop, started }
    }

    /// Ends the streams, and compares what is stored with the ledgers. Returns the number of samples and the
    /// violations.
    pub(super) async fn finish(self, gateway: &Gateway) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut samples, mut violations) = (0, Vec::new());
        let deadline = Instant::now() + LIMIT;
        for stream in self.streams {
            let ledger = stream.await.expect("a device does not panic");
            for (label, rate) in CHANNELS {
                // Samples become readable after they are acknowledged.
                let found = loop {
                    let found = match read(gateway, ledger.mrn, label, self.started).await {
                        Ok(stored) => ledger.compare(label, rate, &stored),
                        Err(error) => vec![format!("patient {}, {label}: {error}", ledger.mrn)],
                    };
                    if found.is_empty() || Instant::now() > deadline {
                        break found;
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                };
                violations.extend(found);
                samples += ledger.frames.len() as u64 * u64::from(rate) / FRAMES_PER_SECOND;
            }
            violations.extend(ledger.violations);
        }
        (samples, violations)
    }
}

async fn stream(gateway: Gateway, mrn: Mrn, seed: u64, stop: Arc<AtomicBool>) -> Ledger {
    let device = Device { name: "Ledger".to_owned(), serial: mrn.to_string() };
    let channel = |(label, rate): &(&str, u32)| Channel {
        label: (*label).to_owned(),
        code: "MDC_ECG_ELEC_POTL".to_owned(),
        unit: "mV".to_owned(),
        rate: SampleRate { numerator: *rate, denominator: 1 },
        scale: 0.001,
        offset: 0.0,
    };
    let channels = CHANNELS.iter().map(channel).collect();
    let sender =
        WaveformSender::start(SenderSettings::new(gateway, mrn, device, channels)).expect("valid channels");
    let start = Instant::now();
    let start_us = Timestamp::now().as_millis() * 1_000;
    let mut ledger = Ledger { mrn, frames: BTreeSet::new(), violations: Vec::new() };
    for number in 0_u32.. {
        sleep_until(start + FRAME * (number + 1)).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let frame = u64::from(number);
        if mix(seed ^ mrn.get(), frame).is_multiple_of(GAP_EVERY) {
            continue;
        }
        let segment = |(channel, (label, rate)): (u16, &(&str, u32))| {
            let count = u64::from(*rate) / FRAMES_PER_SECOND;
            let first = frame * count;
            let samples = (first..first + count).map(|index| sample(mrn, label, index)).collect();
            Segment { channel, first, lead_off: false, samples }
        };
        let segments = (0..).zip(&CHANNELS).map(segment).collect();
        let time_us = start_us + i64::from(number) * FRAME.as_micros() as i64;
        sender.send_frame(time_us, segments).expect("a valid frame");
        ledger.frames.insert(frame);
    }
    if timeout(LIMIT, sender.acknowledged()).await.is_err() {
        let state = sender.state().borrow().clone();
        ledger.violations.push(format!("patient {mrn}: messages are not acknowledged: {state:?}"));
    }
    let dropped = sender.state().borrow().dropped;
    if dropped > 0 {
        ledger.violations.push(format!("patient {mrn}: {dropped} messages were dropped"));
    }
    let _ = sender.finish(Duration::from_secs(5)).await;
    ledger
}

/// The sample with this index: a slow triangle with noise, so that the codec of the store has work to do.
fn sample(mrn: Mrn, label: &str, index: u64) -> i16 {
    let triangle = (index % 2_000).abs_diff(1_000) as i16;
    let noise = mix(mrn.get() ^ u64::from(label.len() as u32), index) % 64;
    triangle + noise as i16
}

/// SplitMix64 of two numbers.
fn mix(one: u64, other: u64) -> u64 {
    let mut word = one.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ other.wrapping_mul(0xd6e8_feb8_6659_fd93);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A stored sample: its index, and its value.
type Stored = (u64, i16);

/// All stored samples of a channel since `from`, in the order of the answers.
async fn read(gateway: &Gateway, mrn: Mrn, label: &str, from: Timestamp) -> Result<Vec<Stored>, String> {
    let mut samples = Vec::new();
    let mut from = from.plus_millis(-1_000);
    let end = Timestamp::now().plus_millis(1_000);
    while from < end {
        let to = from.plus_millis(READ_MS).min(end);
        let read = gateway.stored_waveform(mrn, label, (from, to), None).await;
        match read.map_err(|error| error.to_string())? {
            StoredWaveform::Samples { segments, .. } => {
                for segment in segments {
                    samples.extend((segment.first..).zip(segment.samples));
                }
            }
            StoredWaveform::Envelope { .. } => return Err("an overview instead of samples".to_owned()),
        }
        from = to;
    }
    Ok(samples)
}

impl Ledger {
    /// Compares the stored samples of a channel with the frames that were sent. Returns at most one violation of each kind.
    fn compare(&self, label: &str, rate: u32, stored: &[Stored]) -> Vec<String> {
        let count = u64::from(rate) / FRAMES_PER_SECOND;
        let (mut changed, mut invented, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for (index, value) in stored.iter().filter(|(_, value)| *value != MISSING_SAMPLE) {
            if !self.frames.contains(&(index / count)) {
                invented.push(*index);
            } else if *value != sample(self.mrn, label, *index) {
                changed.push(*index);
            }
            if !seen.insert(*index) {
                repeated.push(*index);
            }
        }
        let sent = self.frames.iter().flat_map(|frame| frame * count..(frame + 1) * count);
        let missing: Vec<u64> = sent.filter(|index| !seen.contains(index)).collect();
        [
            ("acknowledged, but not stored", missing),
            ("stored with another value", changed),
            ("stored, but never sent", invented),
            ("stored more than once", repeated),
        ]
        .into_iter()
        .filter(|(_, indices)| !indices.is_empty())
        .map(|(what, indices)| {
            let first: Vec<_> = indices.iter().take(3).collect();
            format!("patient {}, {label}: {} samples are {what}, such as {first:?}", self.mrn, indices.len())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledger_finds_lost_changed_invented_and_repeated_samples() {
        let mrn = Mrn::new(FIRST_MRN).unwrap();
        let ledger = Ledger { mrn, frames: [0, 2].into(), violations: Vec::new() };
        let right: Vec<Stored> =
            (0..50).chain(100..150).map(|index| (index, sample(mrn, "II", index))).collect();
        assert!(ledger.compare("II", 250, &right).is_empty());
        let gap: Vec<Stored> = right.iter().copied().chain([(60, MISSING_SAMPLE)]).collect();
        assert!(ledger.compare("II", 250, &gap).is_empty(), "a gap may be filled with missing samples");
        let found = |stored: &[Stored]| ledger.compare("II", 250, stored);
        assert!(found(&right[1..])[0].contains("1 samples are acknowledged, but not stored, such as [0]"));
        let mut changed = right.clone();
        changed[3].1 += 1;
        assert!(found(&changed)[0].contains("another value, such as [3]"));
        let invented: Vec<Stored> = right.iter().copied().chain([(70, 5)]).collect();
        assert!(found(&invented)[0].contains("never sent, such as [70]"));
        let repeated: Vec<Stored> = right.iter().copied().chain([right[9]]).collect();
        assert!(found(&repeated)[0].contains("more than once, such as [9]"));
    }
}
