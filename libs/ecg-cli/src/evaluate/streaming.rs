//! Records pushed through `ecg::Stream` as a monitor receives them: scores of provisional and final beats, delays and
//! memory.

use std::fmt;
use std::hint::black_box;
use std::path::Path;

use ecg::score::{MATCH_WINDOW_S, Score, compare};
use ecg::stream::{EventKind, Stream};
use ecg::{Strip, wfdb};

use super::records::{Channel, reference};
use crate::timing::processor_time;
use crate::wfdb_files::RecordFiles;

/// Length of a push.
const PUSH_S: f64 = 0.2;

/// Results of one record, or sums of several.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streamed {
    name: String,
    /// All provisional beats, whether they were retracted or not.
    provisional: Score,
    last: Score,
    retracted: usize,
    /// Beats that differ between the stream and the analysis of the whole record.
    different: usize,
    /// Delays in seconds between an R peak and the end of the push that reports it.
    provisional_delays: Vec<f64>,
    final_delays: Vec<f64>,
    /// Largest memory per lead.
    heap_bytes: usize,
    samples: usize,
    seconds: f64,
}

impl Streamed {
    pub(crate) fn add(&mut self, other: &Streamed) {
        self.provisional += other.provisional;
        self.last += other.last;
        self.retracted += other.retracted;
        self.different += other.different;
        self.provisional_delays.extend(&other.provisional_delays);
        self.final_delays.extend(&other.final_delays);
        self.heap_bytes = self.heap_bytes.max(other.heap_bytes);
        self.samples += other.samples;
        self.seconds += other.seconds;
    }

    /// Number of final beats that differ from the analysis of the whole record.
    pub(crate) fn different(&self) -> usize {
        self.different
    }

    /// Number of beats scored.
    pub(crate) fn beats(&self) -> usize {
        self.last.beats()
    }
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delays = |delays: &[f64]| {
            let mut sorted = delays.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| match sorted.len() {
                0 => 0.0,
                count => sorted[((count - 1) as f64 * share).round() as usize],
            };
            format!("{:.3}/{:.3}/{:.3}", at(0.5), at(0.99), at(1.0))
        };
        write!(
            f,
            "{} provisional_f1={:.2} final_f1={:.2} missed={}/{} false={}/{} beats={} retracted={} different={} \
             provisional_delay_s={} final_delay_s={} kb_per_lead={:.0} samples_per_s={:.1e}",
            if self.name.is_empty() { "streaming" } else { &self.name },
            self.provisional.f1(),
            self.last.f1(),
            self.provisional.missed,
            self.last.missed,
            self.provisional.false_beats,
            self.last.false_beats,
            self.beats(),
            self.retracted,
            self.different,
            delays(&self.provisional_delays),
            delays(&self.final_delays),
            self.heap_bytes as f64 / 1e3,
            self.samples as f64 / self.seconds.max(1e-9),
        )
    }
}

/// Pushes all channels of a record together and scores one of them.
pub(crate) fn evaluate(path: &Path, channel: Channel) -> Result<Streamed, String> {
    let Channel::Number(channel) = channel else {
        return Err("--streaming scores one channel; give its number".to_owned());
    };
    let files = RecordFiles::open(path)?;
    let strip = files.strip(channel)?;
    let rate = strip.sample_rate_hz;
    let mut strips = Vec::new();
    let mut scored = 0;
    for index in 0..files.header.signals.len() {
        let other = files.strip(index)?;
        if index == channel {
            scored = strips.len();
        }
        if other.sample_rate_hz == rate {
            strips.push(other);
        }
    }
    let (beats, flutter) = wfdb::beats_and_flutter(
        &files.annotations(reference(path).ok_or("there are no reference beats")?)?,
        files.header.frame_rate_hz,
    );
    let frames = frames(&strips);
    let mut out = Streamed { name: files.header.name.clone(), samples: frames.len(), ..Streamed::default() };
    let (mut provisional, mut last) = (Vec::new(), Vec::new());
    let mut stream = Stream::new(rate, strips.len());
    let push = ((PUSH_S * rate).round() as usize).max(1) * strips.len();
    out.seconds = processor_time(|| {
        let mut stream = Stream::new(rate, strips.len());
        for frames in frames.chunks(push) {
            black_box(stream.push(black_box(frames)));
        }
    });
    for frames in frames.chunks(push) {
        stream.push(frames);
        let now = stream.frames();
        for event in stream.events().iter().filter(|event| event.lead == scored) {
            match event.kind {
                EventKind::Provisional(beat) => {
                    provisional.push(beat.sample);
                    out.provisional_delays.push((now - beat.sample) as f64 / rate);
                }
                EventKind::Retracted { .. } => out.retracted += 1,
                EventKind::Final(beat) => {
                    last.push(beat.sample);
                    out.final_delays.push((now - beat.sample) as f64 / rate);
                }
                _ => {}
            }
        }
        out.heap_bytes = out.heap_bytes.max(stream.heap_bytes() / strips.len());
    }
    last.extend(stream.finish().iter().filter(|event| event.lead == scored).filter_map(|event| {
        match event.kind {
            EventKind::Final(beat) => Some(beat.sample),
            _ => None,
        }
    }));
    let score = |found: &[u64]| {
        let times: Vec<f64> = found.iter().map(|sample| *sample as f64 / rate).collect();
        compare(&beats, &times, &flutter, MATCH_WINDOW_S, |_| {})
    };
    provisional.sort_unstable();
    out.provisional = score(&provisional);
    out.last = score(&last);
    let first_frame = |segment: usize| (strip.segments[segment].start_s * rate).round() as u64;
    let offline: Vec<u64> = ecg::analyze(&strip)
        .beats
        .iter()
        .map(|beat| first_frame(beat.segment) + beat.sample as u64)
        .collect();
    let missing = |list: &[u64], other: &[u64]| {
        list.iter().filter(|sample| other.binary_search(sample).is_err()).count()
    };
    out.different = missing(&last, &offline) + missing(&offline, &last);
    Ok(out)
}

/// Interleaves strips; gaps become NaN.
fn frames(strips: &[Strip]) -> Vec<f32> {
    let length = |strip: &Strip| (strip.duration_s() * strip.sample_rate_hz).round() as usize;
    let count = strips.iter().map(length).max().unwrap_or(0);
    let mut frames = vec![f32::NAN; count * strips.len()];
    for (lead, strip) in strips.iter().enumerate() {
        for segment in &strip.segments {
            let first = (segment.start_s * strip.sample_rate_hz).round() as usize;
            for (index, sample) in segment.samples.iter().enumerate() {
                if let Some(place) = frames.get_mut((first + index) * strips.len() + lead) {
                    *place = *sample;
                }
            }
        }
    }
    frames
}
