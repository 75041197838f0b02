//! Pacemaker pulses: detection, removal before beat detection, and their association with beats.
//!
//! A deflection narrower than 12 ms is a pulse, since no wave of the heart is as short. Pulses and their exponential
//! tails are removed before beats are detected, so that a pulse is never counted as a beat. A beat that consists of a tail
//! which could not be removed, or of the rest of one, is no evidence of a heart beat (`decays`). Below 250 Hz, and in
//! recordings whose bandwidth widens pulses beyond 12 ms, a pulse cannot be distinguished from a QRS complex, and none
//! is reported.

use std::ops::Range;

use crate::detect::{Detection, supported_rate};

/// Lowest sampling rate at which pulses are detected.
const MIN_RATE_HZ: f64 = 250.0;
/// Largest width of a pulse (IEC 60601-2-27 tests pulses of up to 2 ms; recorders widen them).
const MAX_WIDTH_S: f64 = 0.012;
/// A sampled pulse covers two samples, so that its flanks are at most this far from its extreme at the lowest rate.
const MIN_HALF_SAMPLES: usize = 2;
/// A wave of the heart continues to rise or fall within this distance of its extreme.
const WIDE_S: f64 = 0.036;
/// Smallest share of its height that a pulse has within its own width, on each side. A QRS complex or a pulse that a
/// recorder has widened has less on at least one side, even if it ends in a plateau or lies on the slope of a larger
/// wave.
const MIN_NARROWNESS: f32 = 0.9;
/// Smallest height of a pulse relative to the local noise.
const MIN_NOISE_RATIO: f32 = 10.0;
/// Smallest height of a pulse relative to the typical range of 2 s of the signal.
const MIN_RANGE_SHARE: f32 = 0.15;
/// Length of the window before a pulse in which the noise is measured.
const NOISE_BEFORE_S: f64 = 0.5;
/// Length of the bins of the typical range, and the number of them that count.
const RANGE_BIN_S: f64 = 2.0;
const RANGE_BINS: usize = 30;
/// Two deflections closer than this are one pulse.
const MERGE_S: f64 = 0.02;

/// Length of the window that a tail is fitted in, and the range of its time constant (AAMI EC13 4.1.4.2: 4 to 100 ms).
const TAIL_FIT_S: f64 = 0.06;
const TAIL_CONSTANTS_S: [f64; 9] = [0.002, 0.003, 0.005, 0.008, 0.013, 0.02, 0.035, 0.06, 0.12];
/// Steps of the search for the time constant between two of these. Each step reduces the interval to 0.62 of its length, so
/// that the constant is found within 0.1 %.
const TAIL_STEPS: usize = 15;
/// Largest share of the energy that a tail leaves unexplained.
const MAX_TAIL_RESIDUAL: f32 = 0.1;
/// A tail ends at this share of its height.
const MIN_TAIL_SHARE: f32 = 1e-3;
/// Length of the baseline before a pulse.
const BASELINE_S: f64 = 0.012;

/// A pulse captures a beat if the beat follows within this time ...
const MAX_CAPTURE_S: f64 = 0.35;
/// ... at a constant delay, within this tolerance.
const CAPTURE_TOLERANCE_S: f64 = 0.04;
/// Smallest share of the pulses with capture. Fewer means that pulses and beats dissociate.
const MIN_CAPTURE_SHARE: f64 = 0.8;
/// A decay does not depart from the baseline by more than this share of its height.
const MAX_DEPARTURE: f32 = 0.1;
/// Length of the mean that a decay is measured in, against noise.
const DECAY_MEAN_S: f64 = 0.004;
/// Length of the baseline before a decay.
const DECAY_BASELINE_S: f64 = 0.05;
/// A QRS complex ends, and departs from the baseline, within this time after its R peak.
const AFTER_PEAK_S: f64 = 0.2;
/// A beat with less signal after it, before the next pulse, may be a QRS complex.
const MIN_AFTER_PEAK_S: f64 = 0.1;
/// Fewer pulses than this may be artefacts.
const MIN_PULSES: usize = 3;
/// Input is processed in pieces of this length.
const PIECE: usize = 4096;

/// A pulse in a signal.
#[derive(Debug, Clone)]
struct Pulse {
    /// Sample index of its extreme.
    extreme: u64,
    /// Its samples.
    range: Range<u64>,
}

/// An exponential tail that is being subtracted: its value at the next sample, its decay per sample, and the value at
/// which it ends.
#[derive(Debug, Clone, Copy)]
struct Tail {
    value: f32,
    decay: f32,
    least: f32,
}

/// Removes pulses from a signal that arrives in pieces. Memory and delay are bounded, and the result does not depend
/// on the pieces.
///
/// A sample is passed on once it cannot be part of a pulse. This takes about 12 ms, and up to 100 ms at a pulse.
#[derive(Debug, Clone)]
pub(crate) struct PulseRemover {
    rate: f64,
    half: usize,
    wide: usize,
    /// The last seconds of the signal, the same part without pulses as far as it was passed on, and the index of their
    /// first sample.
    raw: Vec<f32>,
    clean: Vec<f32>,
    dropped: u64,
    /// The next sample that is examined as the extreme of a pulse.
    next: u64,
    /// Pulses that are not removed yet.
    pulses: Vec<Pulse>,
    tail: Option<Tail>,
    /// End of the next bin. Ranges of the latest bins, and the range of the signal before the first bin is complete.
    bin_end: u64,
    ranges: Vec<f32>,
    first_range: (f32, f32),
    threshold: f32,
    /// Positions of removed pulses that the caller has not taken yet.
    found: Vec<u64>,
    ended: bool,
}

/// Returns a signal of `rate` samples per second without its pulses.
pub(crate) fn remove(samples: &[f32], rate: f64) -> Vec<f32> {
    let mut remover = PulseRemover::new(rate);
    let mut cleaned = Vec::with_capacity(samples.len());
    remover.push(samples, |samples| cleaned.extend_from_slice(samples));
    remover.end(|samples| cleaned.extend_from_slice(samples));
    cleaned
}

/// For each beat, whether it consists only of a pulse and the decay that follows it. The pulse need not be one of `pulses`: a
/// pulse may be lower than its tail, or of the same polarity. All deflections of such a beat but the decay lie within 12 ms,
/// and the decay only approaches the baseline. A QRS complex is wider or departs from it. `cleaned` is the result of
/// [`remove`].
pub(crate) fn decays(
    samples: &[f32],
    cleaned: &[f32],
    pulses: &[usize],
    beats: &[Detection],
    rate: f64,
) -> Vec<bool> {
    if rate < MIN_RATE_HZ {
        return vec![false; beats.len()];
    }
    let steps = |seconds: f64| (seconds * rate) as usize;
    // The samples between two that are 12 ms apart.
    let width = steps(MAX_WIDTH_S).saturating_sub(1).max(1);
    let mut means = Vec::new();
    beats
        .iter()
        .map(|beat| {
            let beat = beat.sample as usize;
            let next = pulses.partition_point(|pulse| *pulse <= beat + width);
            let pulse = next
                .checked_sub(1)
                .map(|last| pulses[last])
                .filter(|last| beat <= last + steps(MAX_CAPTURE_S));
            // The next pulse ends what can be known about this one.
            let end = pulses.get(next).copied().unwrap_or(usize::MAX);
            if end < beat + steps(MIN_AFTER_PEAK_S) {
                return false;
            }
            let end = end.min(beat + steps(AFTER_PEAK_S));
            match pulse {
                Some(pulse) => [(samples, 1, false), (cleaned, 1, true), (cleaned, 2, true)].iter().any(
                    |(samples, widths, counts)| {
                        let inside = pulse..pulse + widths * width + 2;
                        is_decay(samples, inside, end, *counts, rate, &mut means)
                    },
                ),
                None => {
                    let from = beat.saturating_sub(steps(CAPTURE_TOLERANCE_S));
                    (from..beat + width)
                        .any(|start| is_decay(samples, start..start + width, end, true, rate, &mut means))
                }
            }
        })
        .collect()
}

/// Whether the signal is flat before the samples `inside`, and only approaches the same baseline from there to `end`, relative
/// to the height of the decay or, if `counts`, also of the samples inside. `means` is memory for the means.
fn is_decay(
    samples: &[f32],
    inside: Range<usize>,
    end: usize,
    counts: bool,
    rate: f64,
    means: &mut Vec<f32>,
) -> bool {
    let steps = |seconds: f64| ((seconds * rate) as usize).max(1);
    let length = steps(DECAY_MEAN_S);
    let before = samples.get(inside.start.saturating_sub(steps(DECAY_BASELINE_S))..inside.start);
    let (before, after) =
        (before.unwrap_or_default(), samples.get(inside.end..end.min(samples.len())).unwrap_or_default());
    if before.len() < length || after.len() < 2 * length {
        return false;
    }
    let level = mean(before);
    means.clear();
    means.extend(after.windows(length).map(|values| mean(values) - level));
    let sign = means.first().map_or(1.0, |first| first.signum());
    let (mut least, mut departure, mut height) = (f32::INFINITY, 0.0_f32, 0.0_f32);
    for value in means.iter().map(|value| value * sign) {
        // Beyond the baseline, the signal departs from it again.
        departure = departure.max(value - least).max(-value);
        least = least.min(value);
        height = height.max(value.abs());
    }
    if counts {
        height = samples[inside].iter().fold(height, |height, value| height.max((value - level).abs()));
    }
    let most = MAX_DEPARTURE * height;
    departure <= most && before.windows(length).all(|values| (mean(values) - level).abs() <= most)
}

/// Whether pulses and beats dissociate: too few pulses are followed by a beat at a constant delay.
pub(crate) fn dissociated(pulses: &[usize], beats: &[Detection], rate: f64) -> bool {
    // Of a pair of atrial and ventricular pulses, the second one counts. A pulse at the end has no time for its beat.
    let capture = MAX_CAPTURE_S * rate;
    let last = beats.last().map_or(0.0, |beat| beat.sample as f64);
    let single: Vec<f64> = pulses
        .iter()
        .enumerate()
        .filter(|(index, pulse)| pulses.get(index + 1).is_none_or(|next| (next - **pulse) as f64 > capture))
        .map(|(_, pulse)| *pulse as f64)
        .filter(|pulse| pulse + capture <= last + capture)
        .collect();
    if single.len() < MIN_PULSES {
        return false;
    }
    let mut delays: Vec<f64> = single
        .iter()
        .filter_map(|pulse| {
            let next =
                beats.partition_point(|beat| (beat.sample as f64) < pulse - CAPTURE_TOLERANCE_S * rate);
            let delay = beats.get(next)?.sample as f64 - pulse;
            (delay <= capture).then_some(delay)
        })
        .collect();
    if delays.is_empty() {
        return true;
    }
    let middle = delays.len() / 2;
    let median = *delays.select_nth_unstable_by(middle, f64::total_cmp).1;
    let constant =
        delays.iter().filter(|delay| (**delay - median).abs() <= CAPTURE_TOLERANCE_S * rate).count();
    (constant as f64) < MIN_CAPTURE_SHARE * single.len() as f64
}

impl PulseRemover {
    pub(crate) fn new(rate: f64) -> Self {
        let rate = supported_rate(rate);
        PulseRemover {
            rate,
            half: ((MAX_WIDTH_S / 2.0 * rate) as usize).max(MIN_HALF_SAMPLES),
            wide: (WIDE_S * rate) as usize,
            raw: Vec::new(),
            clean: Vec::new(),
            dropped: 0,
            next: 1,
            pulses: Vec::new(),
            tail: None,
            bin_end: ((RANGE_BIN_S * rate) as u64).max(1),
            ranges: Vec::new(),
            first_range: (f32::INFINITY, f32::NEG_INFINITY),
            threshold: 0.0,
            found: Vec::new(),
            ended: false,
        }
    }

    /// Processes samples and passes those that are complete to `sink`.
    pub(crate) fn push(&mut self, samples: &[f32], mut sink: impl FnMut(&[f32])) {
        if self.rate < MIN_RATE_HZ {
            sink(samples);
            return;
        }
        // Bounded memory for any length of the input.
        for piece in samples.chunks(PIECE) {
            self.raw.extend_from_slice(piece);
            self.advance(&mut sink);
        }
    }

    /// Ends the signal and passes the remaining samples to `sink`.
    pub(crate) fn end(&mut self, mut sink: impl FnMut(&[f32])) {
        self.ended = true;
        self.advance(&mut sink);
    }

    /// Ends the signal before the sample `end`. Samples after it may already have been passed on.
    pub(crate) fn end_before(&mut self, end: u64, sink: impl FnMut(&[f32])) {
        let keep = (end.saturating_sub(self.dropped) as usize).max(self.clean.len());
        self.raw.truncate(keep);
        let last = self.dropped + self.raw.len() as u64;
        self.pulses.retain(|pulse| pulse.extreme < last);
        for pulse in &mut self.pulses {
            pulse.range.end = pulse.range.end.min(last);
        }
        self.end(sink);
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        4 * (self.raw.capacity() + self.clean.capacity() + self.ranges.capacity())
            + size_of::<Pulse>() * self.pulses.capacity()
            + 8 * self.found.capacity()
    }

    /// Removes and returns the positions of the pulses removed since the last call.
    pub(crate) fn found(&mut self) -> std::vec::Drain<'_, u64> {
        self.found.drain(..)
    }

    fn index(&self, sample: u64) -> usize {
        sample.saturating_sub(self.dropped) as usize
    }

    fn steps(&self, seconds: f64) -> usize {
        (seconds * self.rate) as usize
    }

    fn advance(&mut self, sink: &mut impl FnMut(&[f32])) {
        let from = self.clean.len();
        self.search();
        self.clean_up();
        sink(&self.clean[from..]);
        let kept = 2 * self.bin();
        if self.clean.len() > 2 * kept {
            let drop = self.clean.len().min(self.index(self.next)) - kept;
            self.raw.drain(..drop);
            self.clean.drain(..drop);
            self.dropped += drop as u64;
        }
    }

    fn bin(&self) -> usize {
        self.steps(RANGE_BIN_S).max(1)
    }

    /// Whether the signal is known from a sample up to `reach` samples after it.
    fn is_known(&self, at: usize, reach: usize) -> bool {
        at + if self.ended { 1 } else { reach } < self.raw.len()
    }

    /// Examines all samples with enough signal after them as extremes of pulses.
    fn search(&mut self) {
        let bin = self.bin();
        let merge = self.steps(MERGE_S) as u64;
        let first = self.index(self.next);
        let mut at = first;
        while self.is_known(at, self.half) {
            if self.ranges.is_empty() {
                self.extend_first_range(at);
            }
            if self.dropped + at as u64 == self.bin_end {
                self.bin_end += bin as u64;
                let (low, high) = crate::units::extremes(&self.raw[at - bin..at]);
                self.add_range(high - low);
            }
            // A pulse has a sharp extreme; this excludes nearly all samples at once.
            let (before, here, after) = (self.raw[at - 1], self.raw[at], self.raw[at + 1]);
            let sides = if (here - before) * (here - after) < 0.0 {
                [0.0; 2]
            } else {
                heights(&self.raw, at, self.half)
            };
            let height = sides[0].min(sides[1]);
            if height > 0.0 && height >= self.threshold {
                if !self.is_known(at, self.wide) {
                    break;
                }
                let all = heights(&self.raw, at, self.wide);
                let is_narrow = sides.iter().zip(all).all(|(side, all)| *side >= MIN_NARROWNESS * all);
                if is_narrow && height >= MIN_NOISE_RATIO * self.noise(at) {
                    let range = extent(&self.raw, at, self.half, height);
                    let range = self.dropped + range.start as u64..self.dropped + range.end as u64;
                    match self.pulses.last_mut() {
                        Some(last) if range.start <= last.range.end + merge => {
                            last.range.end = last.range.end.max(range.end);
                        }
                        _ => self.pulses.push(Pulse { extreme: self.dropped + at as u64, range }),
                    }
                }
            }
            at += 1;
        }
        self.next += (at - first) as u64;
    }

    /// Until the first bin is complete, the range of the signal so far is the typical range.
    fn extend_first_range(&mut self, at: usize) {
        let known = if at == 1 { 0 } else { at + self.half };
        for value in &self.raw[known.min(self.raw.len())..(at + self.half + 1).min(self.raw.len())] {
            self.first_range = (self.first_range.0.min(*value), self.first_range.1.max(*value));
        }
        self.threshold = MIN_RANGE_SHARE * (self.first_range.1 - self.first_range.0).max(0.0);
    }

    /// Lower quartile of the ranges of bins, so that bins with pulses do not count.
    fn add_range(&mut self, range: f32) {
        if self.ranges.len() >= RANGE_BINS {
            self.ranges.remove(0);
        }
        self.ranges.push(range);
        let mut ranges = self.ranges.clone();
        let place = ranges.len() / 4;
        let typical = *ranges.select_nth_unstable_by(place, f32::total_cmp).1;
        self.threshold = MIN_RANGE_SHARE * typical;
    }

    /// Median of the absolute second differences around a sample, from half a second before it.
    fn noise(&self, at: usize) -> f32 {
        let low = at.saturating_sub(self.steps(NOISE_BEFORE_S));
        let around = &self.raw[low..(at + self.wide).min(self.raw.len())];
        let mut changes: Vec<f32> =
            around.windows(3).map(|three| (three[0] - 2.0 * three[1] + three[2]).abs()).collect();
        if changes.is_empty() {
            return f32::INFINITY;
        }
        let middle = changes.len() / 2;
        *changes.select_nth_unstable_by(middle, f32::total_cmp).1
    }

    /// Appends the samples that are complete to `clean`.
    fn clean_up(&mut self) {
        let (margin, fit) = (self.half as u64 + 1, self.steps(TAIL_FIT_S) as u64);
        while let Some(pulse) = self.pulses.first().cloned() {
            self.copy_until(pulse.range.start);
            let next = self.pulses.get(1).map(|next| next.range.start);
            if next.is_none() && !self.ended && self.next <= pulse.range.end + fit + margin {
                return;
            }
            self.pulses.remove(0);
            self.remove_pulse(&pulse, next);
        }
        let end = if self.ended { u64::MAX } else { self.next.saturating_sub(margin) };
        self.copy_until(end);
    }

    /// Copies samples up to `end` and subtracts the tail of the last pulse.
    fn copy_until(&mut self, end: u64) {
        let (from, to) = (self.clean.len(), self.index(end).min(self.raw.len()));
        if to <= from {
            return;
        }
        self.clean.extend_from_slice(&self.raw[from..to]);
        for sample in &mut self.clean[from..] {
            let Some(tail) = &mut self.tail else { break };
            *sample -= tail.value;
            tail.value *= tail.decay;
            if tail.value.abs() < tail.least {
                self.tail = None;
            }
        }
    }

    /// Replaces a pulse by a line. The tail is that of the pulse, if it has one that the pulse at `next` does not hide.
    fn remove_pulse(&mut self, pulse: &Pulse, next: Option<u64>) {
        let (start, end) = (self.index(pulse.range.start), self.index(pulse.range.end));
        self.tail = self.fit_tail(pulse, next);
        self.found.push(pulse.range.start);
        if let (Some(first), Some(last)) = (start.checked_sub(1), self.raw.get(end)) {
            let from = self.clean[first];
            let to = last - self.tail.map_or(0.0, |tail| tail.value);
            let count = (end + 1 - start) as f32;
            // A pulse that begins within the one before it is part of it.
            let copied = self.clean.len() - start;
            self.clean
                .extend((copied + 1..=end - start).map(|step| from + (to - from) * step as f32 / count));
        } else {
            let rest = self.raw.get(self.clean.len()..end.min(self.raw.len()));
            self.clean.extend_from_slice(rest.unwrap_or_default());
        }
    }

    /// Fits the exponential tail after a pulse.
    fn fit_tail(&self, pulse: &Pulse, next: Option<u64>) -> Option<Tail> {
        let (start, end) = (self.index(pulse.range.start), self.index(pulse.range.end));
        let limit = next.map_or(self.raw.len(), |next| self.index(next));
        let before = &self.clean[start.saturating_sub(self.steps(BASELINE_S).max(1))..start];
        let after = self.raw[..limit].get(end..end + self.steps(TAIL_FIT_S))?;
        if before.is_empty() {
            return None;
        }
        let baseline = mean(before);
        let piece: Vec<f32> = after.iter().map(|value| value - baseline).collect();
        let energy: f32 = piece.iter().map(|value| value * value).sum();
        let (residual, amplitude, decay) = fit_decay(&piece, self.rate);
        // A tail of the same polarity is the decay of the pulse and never higher; a QRS complex that follows may be.
        let height = self.raw[self.index(pulse.extreme)] - baseline;
        let is_higher = amplitude * height > 0.0 && amplitude.abs() > height.abs();
        let fits = residual <= MAX_TAIL_RESIDUAL * energy && !is_higher;
        fits.then_some(Tail { value: amplitude, decay, least: MIN_TAIL_SHARE * amplitude.abs() })
    }
}

/// The exponential decay that leaves the least energy of `piece`: that energy, the value at the first sample, and the decay
/// per sample. The rest of a tail whose time constant is not exact has the width of a QRS complex.
fn fit_decay(piece: &[f32], rate: f64) -> (f32, f32, f32) {
    let energy: f32 = piece.iter().map(|value| value * value).sum();
    let fit = |logarithm: f64| {
        let decay = (-1.0 / (logarithm.exp() * rate)).exp() as f32;
        let (mut wave, mut product, mut square) = (1.0_f32, 0.0_f32, 0.0_f32);
        for value in piece {
            product += value * wave;
            square += wave * wave;
            wave *= decay;
        }
        let amplitude = product / square;
        (energy - amplitude * product, amplitude, decay)
    };
    let constants = TAIL_CONSTANTS_S.map(f64::ln);
    let mut nearest = 0;
    let residuals = constants.map(|constant| fit(constant).0);
    for index in 1..residuals.len() {
        if residuals[index] < residuals[nearest] {
            nearest = index;
        }
    }
    // Golden-section search (Kiefer, Proc Am Math Soc 4, 1953) between the neighbours of the best constant.
    let share = (5.0_f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) =
        (constants[nearest.saturating_sub(1)], constants[(nearest + 1).min(constants.len() - 1)]);
    for _ in 0..TAIL_STEPS {
        let (left, right) = (high - share * (high - low), low + share * (high - low));
        if fit(left).0 < fit(right).0 {
            high = right;
        } else {
            low = left;
        }
    }
    fit((low + high) / 2.0)
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len() as f32
}

/// Heights of a maximum above the lowest values before and after it within `reach` samples, or depths of a minimum.
fn heights(samples: &[f32], at: usize, reach: usize) -> [f32; 2] {
    let here = samples[at];
    let before = &samples[at.saturating_sub(reach)..at];
    let after = &samples[at + 1..(at + 1 + reach).min(samples.len())];
    let is_maximum = here > samples[at - 1] || here > samples[at + 1];
    [before, after].map(|side| {
        let distance = |value: &f32| if is_maximum { here - value } else { value - here };
        side.iter().map(distance).fold(0.0_f32, f32::max)
    })
}

/// The samples around an extreme that exceed half its height, and one more on each side for the flanks.
fn extent(samples: &[f32], at: usize, width: usize, height: f32) -> Range<usize> {
    let here = samples[at];
    let inside = |value: &f32| (value - here).abs() < 0.9 * height;
    let before = samples[at.saturating_sub(width)..at].iter().rev().take_while(|value| inside(value)).count();
    let after =
        samples[at + 1..(at + 1 + width).min(samples.len())].iter().take_while(|value| inside(value)).count();
    at.saturating_sub(before + 1)..(at + after + 2).min(samples.len())
}
