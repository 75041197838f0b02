//! Indices of signal quality of one segment.

use super::agreement;
use super::spectrum::Spectrum;
use crate::detect::Detection;

/// Approximate rate at which the indices are computed: QRS energy is below 40 Hz.
const WORK_HZ: f64 = 125.0;
/// Part of a beat that is compared with other beats: half a QRS complex before the R peak, the ST segment
/// after it.
const BEFORE_BEAT_S: f64 = 0.15;
const AFTER_BEAT_S: f64 = 0.35;
/// Beats are compared at shifts of up to this many samples, since R peaks are known to one sample of the
/// input.
const SHIFT: usize = 2;
/// A beat below this confidence is doubtful.
const DOUBTFUL: f32 = 0.8;
/// Half the length of a QRS complex, and the concordance of complexes of one group.
const QRS_HALF_S: f64 = 0.09;
const SAME_QRS: f64 = 0.85;
/// Differences up to this share of the range count as flat.
const FLAT_TOLERANCE: f32 = 0.001;
/// Length of the moving average that is subtracted as baseline for the kurtosis.
const BASELINE_S: f64 = 1.0;

/// Indices of signal quality of one segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Indices {
    /// Largest minus smallest value.
    pub range: f32,
    /// Share of steps of 8 ms that change by less than a thousandth of the range: high if the lead is off.
    pub flat: f64,
    /// Share of samples that repeat their predecessor at the lower or upper extreme: high if the amplifier is
    /// saturated.
    pub clipped: f64,
    /// Share of the variance explained by two levels (Otsu, IEEE Trans Syst Man Cybern 9(1), 1979): near 1
    /// for square waves, even with noise.
    pub two_levels: f64,
    /// Median over the beats of the difference between the signal after and before the QRS complex, relative
    /// to its height. High for steps, low for QRS complexes.
    pub step: f32,
    /// Kurtosis (kSQI): 3 for Gaussian noise, 1.5 for a sine, above 5 for most ECGs (Li, Mark and Clifford,
    /// Physiol Meas 29(1), 2008; Clifford et al., Physiol Meas 33(9), 2012).
    pub kurtosis: f64,
    /// Power of 5-15 Hz divided by power of 5-40 Hz (pSQI): QRS complexes have most power below 15 Hz, muscle
    /// noise above (Li, Mark and Clifford 2008; limits of Clifford et al. 2012).
    pub qrs_power: f64,
    /// Power of 5-40 Hz divided by power of 1-40 Hz: low for waves rounder than a QRS complex, such as
    /// triangle waves.
    pub sharpness: f64,
    /// Power of 1-40 Hz divided by power of 0-40 Hz (basSQI): low if the baseline drifts (Clifford et al.
    /// 2012).
    pub baseline: f64,
    /// Largest share of the power above 1 Hz within 1.2 Hz: near 1 for hum and tones.
    pub tone: f64,
    /// Beats that two different detectors agree on, divided by the beats that either found (bSQI; Li, Mark
    /// and Clifford 2008).
    pub agreement: f64,
    /// Median over the beats of the best concordance with another beat of the segment, from before the QRS
    /// complex to the T wave. Concordance (Lin, Biometrics 45(1), 1989) is a correlation that also decreases
    /// with a difference in amplitude. Orphanidou et al. (IEEE J Biomed Health Inform 19(3), 2015) correlate
    /// with the mean beat instead; premature beats resemble each other, not the mean. `None` if fewer than
    /// two beats lie completely within the segment.
    pub concordance: Option<f64>,
    /// Share of the beats whose QRS complex matches the most common one with a concordance of [`SAME_QRS`] or
    /// more. `None` if fewer than three beats lie completely within the segment.
    pub template_share: Option<f64>,
    /// Median over the beats of the slope power within 0.05 s of the R peak divided by that within 0.2 s. A
    /// QRS complex is short; a syllable is longer.
    pub compactness: f32,
    /// Standard deviation of the RR intervals divided by their mean: low in a regular rhythm, 0.2 to 0.4 in
    /// atrial fibrillation. `None` if there are fewer than two intervals.
    pub rr_variation: Option<f64>,
    /// Median over the beats of the height in the QRS band divided by the background.
    pub contrast: f32,
    /// Median over the beats of the confidence of the detector.
    pub confidence: f32,
    /// Share of the beats with a confidence below 0.8.
    pub doubtful: f64,
    /// Median over the beats of the correlation with the learned templates.
    pub correlation: f32,
    /// Number of beats.
    pub beats: usize,
    /// Beats per second.
    pub beats_per_s: f64,
}

impl Indices {
    /// Indices of `samples` at `rate` samples per second. Positions in `beats` are counted from a sample
    /// `start` before.
    pub(super) fn new(samples: &[f32], rate: f64, start: u64, beats: &[Detection]) -> Self {
        let rate = crate::detect::supported_rate(rate);
        let (low, high) = extremes(samples);
        let range = high - low;
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let work = Work::new(samples, rate);
        let at: Vec<usize> = beats.iter().map(|beat| work.index(beat.sample - start)).collect();
        let spectrum = Spectrum::new(&work.samples, work.rate);
        let power = |from: f64, to: f64| spectrum.power(from, to);
        let median = |of: fn(&Detection) -> Option<f32>| median_of(beats.iter().filter_map(of).collect());
        Indices {
            range,
            flat: share(
                work.samples
                    .windows(2)
                    .filter(|pair| (pair[1] - pair[0]).abs() <= FLAT_TOLERANCE * range)
                    .count(),
                work.samples.len(),
            ),
            clipped: share(
                // `&` and `|` instead of `&&` and `||`, so that the loop becomes SIMD code.
                samples
                    .windows(2)
                    .filter(|pair| (pair[0] == pair[1]) & ((pair[0] == low) | (pair[0] == high)))
                    .count(),
                samples.len(),
            ),
            two_levels: two_levels(&work.samples),
            step: median_of(at.iter().filter_map(|at| step(&work.samples, work.rate, *at)).collect())
                .unwrap_or(0.0),
            kurtosis: kurtosis(&remove_baseline(&work.samples, (BASELINE_S * work.rate) as usize)),
            qrs_power: power(5.0, 15.0) / power(5.0, 40.0),
            sharpness: power(5.0, 40.0) / power(1.0, 40.0),
            baseline: power(1.0, 40.0) / power(0.0, 40.0),
            tone: spectrum.tone(),
            agreement: agreement::bsqi(&work.samples, work.rate, &at),
            concordance: concordance(&smoothed(&work.samples), work.rate, &at),
            template_share: template_share(&smoothed(&work.samples), work.rate, &at),
            compactness: median_of(
                at.iter().filter_map(|at| compactness(&work.samples, work.rate, *at)).collect(),
            )
            .unwrap_or(0.0),
            rr_variation: rr_variation(beats),
            contrast: median(|beat| Some(beat.contrast)).unwrap_or(0.0),
            confidence: median(|beat| Some(beat.confidence)).unwrap_or(0.0),
            doubtful: share(beats.iter().filter(|beat| beat.confidence < DOUBTFUL).count(), beats.len()),
            correlation: median(|beat| beat.correlation).unwrap_or(1.0),
            beats: beats.len(),
            beats_per_s: beats.len() as f64 * rate / samples.len().max(1) as f64,
        }
    }
}

/// The segment at about [`WORK_HZ`]: means of a whole number of samples.
struct Work {
    samples: Vec<f32>,
    rate: f64,
    step: usize,
}

impl Work {
    fn new(samples: &[f32], rate: f64) -> Self {
        let step = ((rate / WORK_HZ).round() as usize).max(1);
        // A large offset is subtracted because it would cost precision.
        let offset = samples.first().copied().unwrap_or(0.0);
        let mean = |piece: &[f32]| piece.iter().map(|value| value - offset).sum::<f32>() / step as f32;
        Work { samples: samples.chunks_exact(step).map(mean).collect(), rate: rate / step as f64, step }
    }

    fn index(&self, sample: u64) -> usize {
        (sample as usize / self.step).min(self.samples.len().saturating_sub(1))
    }
}

fn median_of(mut values: Vec<f32>) -> Option<f32> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f32::total_cmp).1)
}

/// Subtracts from each sample the mean of the `width` samples around it.
fn remove_baseline(samples: &[f32], width: usize) -> Vec<f32> {
    let mut sum = 0.0_f64;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(samples.iter().map(|value| {
            sum += f64::from(*value);
            sum
        }))
        .collect();
    let around = |at: usize| {
        let (low, high) = (at.saturating_sub(width / 2), (at + width / 2 + 1).min(samples.len()));
        ((sums[high] - sums[low]) / (high - low) as f64) as f32
    };
    samples.iter().enumerate().map(|(at, value)| value - around(at)).collect()
}

/// Otsu's criterion, computed on a histogram.
fn two_levels(samples: &[f32]) -> f64 {
    const BINS: usize = 64;
    let (low, high) = extremes(samples);
    let scale = BINS as f32 / (high - low);
    let mut counts = [0.0_f64; BINS];
    for value in samples {
        counts[(((value - low) * scale) as usize).min(BINS - 1)] += 1.0;
    }
    let all = samples.len() as f64;
    let place = |bin: usize| bin as f64 / BINS as f64;
    let mean = (0..BINS).map(|bin| place(bin) * counts[bin]).sum::<f64>() / all;
    let variance = (0..BINS).map(|bin| (place(bin) - mean).powi(2) * counts[bin]).sum::<f64>() / all;
    let (mut below, mut moment, mut best) = (0.0, 0.0, 0.0_f64);
    for (bin, count) in counts.iter().enumerate() {
        below += count / all;
        moment += place(bin) * count / all;
        if below > 0.0 && below < 1.0 {
            best = best.max((mean * below - moment).powi(2) / (below * (1.0 - below)));
        }
    }
    best / variance
}

fn step(samples: &[f32], rate: f64, beat: usize) -> Option<f32> {
    let offset = |seconds: f64| (seconds * rate).round() as usize;
    let (far, near) = (offset(0.14), offset(0.08));
    let around = samples.get(beat.checked_sub(far)?..beat + far + 1)?;
    let mean = |piece: &[f32]| piece.iter().sum::<f32>() / piece.len() as f32;
    let side = far - near;
    let (before, after) = (mean(&around[..side]), mean(&around[around.len() - side..]));
    let (low, high) = extremes(around);
    (high > low).then(|| (after - before).abs() / (high - low))
}

fn kurtosis(samples: &[f32]) -> f64 {
    let count = samples.len().max(1) as f64;
    let mean = samples.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let (square, fourth) = samples.iter().fold((0.0, 0.0), |(square, fourth), value| {
        let off = (f64::from(*value) - mean).powi(2);
        (square + off, fourth + off * off)
    });
    fourth * count / (square * square)
}

/// Moving average of three samples: components above 30 Hz reduce the concordance of beats.
fn smoothed(samples: &[f32]) -> Vec<f32> {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Vec::new() };
    let mut out = Vec::with_capacity(samples.len());
    out.push(*first);
    out.extend(samples.windows(3).map(|three| (three[0] + three[1] + three[2]) / 3.0));
    out.resize(samples.len(), *last);
    out
}

/// Coefficient of variation of the RR intervals.
fn rr_variation(beats: &[Detection]) -> Option<f64> {
    if beats.len() < 3 {
        return None;
    }
    let interval = |pair: &[Detection]| (pair[1].sample - pair[0].sample) as f64;
    let count = (beats.len() - 1) as f64;
    let mean = beats.windows(2).map(interval).sum::<f64>() / count;
    let square = beats.windows(2).map(|pair| (interval(pair) - mean).powi(2)).sum::<f64>() / count;
    Some(square.sqrt() / mean)
}

/// Median over the beats of the best concordance with another beat of the segment.
fn concordance(samples: &[f32], rate: f64, beats: &[usize]) -> Option<f64> {
    let (before, after) = ((BEFORE_BEAT_S * rate) as usize, (AFTER_BEAT_S * rate) as usize);
    let whole: Vec<usize> = beats
        .iter()
        .copied()
        .filter(|at| *at > before + SHIFT && at + after + SHIFT < samples.len())
        .collect();
    if whole.len() < 2 {
        return None;
    }
    let length = before + after;
    // Each beat takes a whole number of lanes, padded with zeros.
    let room = length.next_multiple_of(LANES);
    let mut centered = vec![0.0_f32; whole.len() * room];
    let mut energies = Vec::with_capacity(whole.len());
    for (at, out) in whole.iter().zip(centered.chunks_exact_mut(room)) {
        energies.push(detrend(&samples[at - before..at + after], &mut out[..length]));
    }
    let mut moved = vec![0.0_f32; room];
    let best = whole.iter().enumerate().map(|(one, at)| {
        let mut best = -1.0_f32;
        for shift in 0..=2 * SHIFT {
            let start = at - before + shift - SHIFT;
            let energy = detrend(&samples[start..start + length], &mut moved[..length]);
            for (other, (beat, other_energy)) in centered.chunks_exact(room).zip(&energies).enumerate() {
                let both = energy + other_energy;
                if other != one && both > 0.0 {
                    best = best.max(2.0 * dot(&moved, beat) / both);
                }
            }
        }
        best
    });
    median_of(best.collect()).map(f64::from)
}

/// Share of the largest group of matching QRS complexes.
fn template_share(samples: &[f32], rate: f64, beats: &[usize]) -> Option<f64> {
    let half = (QRS_HALF_S * rate).round() as usize;
    let length = 2 * half + 1;
    let whole = beats.iter().filter(|at| **at > half && *at + half + 1 < samples.len());
    let places: Vec<usize> = whole.map(|at| at - half).collect();
    if places.len() < 3 {
        return None;
    }
    let mut pieces = vec![0.0_f32; 3 * places.len() * length];
    let mut energies = vec![0.0_f32; 3 * places.len()];
    for (index, place) in places.iter().enumerate() {
        for shift in 0..3 {
            let at = 3 * index + shift;
            let start = place + shift - 1;
            energies[at] =
                detrend(&samples[start..start + length], &mut pieces[at * length..(at + 1) * length]);
        }
    }
    let piece = |at: usize| &pieces[at * length..(at + 1) * length];
    let like = |one: usize, other: usize| {
        let middle = 3 * one + 1;
        (3 * other..3 * other + 3).any(|moved| {
            let both = energies[middle] + energies[moved];
            let product: f32 = piece(middle).iter().zip(piece(moved)).map(|(left, right)| left * right).sum();
            both > 0.0 && f64::from(2.0 * product / both) >= SAME_QRS
        })
    };
    let most = (0..places.len())
        .map(|one| (0..places.len()).filter(|other| *other != one && like(one, *other)).count())
        .max()?;
    Some(most as f64 / (places.len() - 1) as f64)
}

fn compactness(samples: &[f32], rate: f64, beat: usize) -> Option<f32> {
    let (near, far) = ((0.05 * rate).round() as usize, (0.2 * rate).round() as usize);
    let around = samples.get(beat.checked_sub(far)?..beat + far + 1)?;
    let power = |piece: &[f32]| piece.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f32>();
    let all = power(around);
    (all > 0.0).then(|| power(&around[far - near..=far + near]) / all)
}

/// Subtracts the least-squares line from a beat. Returns the energy of the result.
fn detrend(beat: &[f32], out: &mut [f32]) -> f32 {
    let length = beat.len() as f32;
    let mean = sum_of(beat, |value| value) / length;
    let middle = (length - 1.0) / 2.0;
    let up: f32 =
        beat.iter().enumerate().map(|(index, value)| (index as f32 - middle) * (value - mean)).sum();
    // The denominator is the sum of (index - middle)².
    let slope = up / (length * (length * length - 1.0) / 12.0);
    for (index, (out, value)) in out.iter_mut().zip(beat).enumerate() {
        *out = value - mean - slope * (index as f32 - middle);
    }
    sum_of(out, |value| value * value)
}

/// Number of partial sums: one per SIMD lane, so that additions do not wait for each other.
const LANES: usize = 8;

fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (left, right) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    sums.iter().sum()
}

fn sum_of(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let lanes = values.chunks_exact(LANES);
    let rest: f32 = lanes.remainder().iter().map(|value| of(*value)).sum();
    for lane in lanes {
        for (sum, value) in sums.iter_mut().zip(lane) {
            *sum += of(*value);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Smallest and largest value; infinite if there are none.
fn extremes(values: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut take = |lane: usize, value: f32| {
        // Comparisons become SIMD instructions and skip NaN; `f32::min` does not become one.
        low[lane] = if value < low[lane] { value } else { low[lane] };
        high[lane] = if value > high[lane] { value } else { high[lane] };
    };
    let lanes = values.chunks_exact(LANES);
    for value in lanes.remainder() {
        take(0, *value);
    }
    for values in lanes {
        for (lane, value) in values.iter().enumerate() {
            take(lane, *value);
        }
    }
    (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}
