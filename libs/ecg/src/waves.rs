//! Delineation: onset, peak and end of the P, QRS and T wave of each beat, and the intervals derived from them.
//!
//! Method. The QRS complex begins and ends where the slope stays below a share of its largest slope. A P wave begins and ends at
//! the feet of its flanks. The end of the T wave is the maximum of a running area (Q. Zhang, A. Illanes Manriquez, C. Médigue, Y. Papelier and
//! M. Sorine, "An algorithm for robust and efficient location of T-wave ends in electrocardiograms", IEEE Transactions on
//! Biomedical Engineering 53(12), 2544-2552, 2006), which is an integral and therefore robust against noise. P and T waves are
//! located in a mean of adjacent beats aligned at the R peak. A wave whose height is below the noise is reported as absent.
//!
//! Intervals are medians over the strip; an interval that too few beats support has no value.

use std::ops::Range;

use crate::analysis::Beat;
use crate::strip::Strip;

/// Length of the moving averages that smooth the signal for P and T waves, applied twice, and for the slope of the QRS complex.
const SMOOTH_S: f64 = 0.016;
const SLOPE_SMOOTH_S: f64 = 0.008;
/// Half the distance of the samples whose difference is the slope.
const SLOPE_HALF_S: f64 = 0.006;
/// Window around the R peak that contains the QRS complex.
const QRS_BEFORE_S: f64 = 0.11;
const QRS_AFTER_S: f64 = 0.15;
/// A slope of at least this share of the largest is part of the QRS complex ...
const QRS_SLOPE: f32 = 0.2;
/// ... which begins and ends where the slope stays below these shares for [`QUIET_S`].
const ONSET_SLOPE: f32 = 0.05;
const END_SLOPE: f32 = 0.1;
const QUIET_S: f64 = 0.012;

/// Number of beats on either side that P and T waves are averaged with.
const NEIGHBOURS: usize = 1;
/// A neighbour takes part if its QRS complex correlates with that of the beat.
const MIN_CORRELATION: f32 = 0.9;

/// Search window of the T end after the R peak, in units of the square root of the RR interval (Bazett), and its limit relative
/// to the interval itself.
const T_FROM: f64 = 0.24;
const T_TO: f64 = 0.62;
const T_TO_SHARE: f64 = 0.72;
/// Length of the running area for T end and T onset, and of the mean at its end.
const T_AREA_S: f64 = 0.16;
const T_ONSET_AREA_S: f64 = 0.11;
const AREA_END_S: f64 = 0.012;
/// Of a biphasic T wave the later phase counts unless its area is smaller by this factor.
const PHASE_RATIO: f32 = 6.0;
/// Window of the P wave before the QRS onset.
const P_WINDOW_S: f64 = 0.24;
const P_GAP_S: f64 = 0.01;
/// Largest distance of the ends of a P wave from its peak, and the share of its steepest slope at its ends.
const P_HALF_S: f64 = 0.1;
const P_SLOPE: f32 = 0.3;
/// Smallest height of a P or a T wave relative to the noise, and relative to the QRS complex.
const MIN_NOISE_RATIO: f32 = 2.5;
const MIN_QRS_SHARE: f32 = 0.015;
/// A T wave that is higher than the noise by this factor has a confidence of one half.
const HALF_CONFIDENCE: f32 = 3.0;
/// RR intervals outside are not used to place windows.
const RR_S: Range<f64> = 0.3..1.6;
/// Smallest number of beats, and smallest share of the beats, that support an interval.
const MIN_BEATS: usize = 3;
const MIN_SHARE: f64 = 0.4;

/// A wave of a beat. Times are seconds from the start of the strip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wave {
    /// Onset.
    pub on_s: f64,
    /// Peak: the largest deflection.
    pub peak_s: f64,
    /// End.
    pub end_s: f64,
    /// Confidence, from 0 to 1.
    pub confidence: f32,
}

/// The waves of one beat. `None`: the beat has no such wave, or it is hidden by noise or by the edge of the recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BeatWaves {
    /// Index of the beat in the list that was given.
    pub beat: usize,
    /// P wave.
    pub p: Option<Wave>,
    /// QRS complex.
    pub qrs: Option<Wave>,
    /// T wave.
    pub t: Option<Wave>,
}

/// Median and spread of an interval over a strip, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntervalMs {
    /// Median.
    pub median: f64,
    /// Interquartile range.
    pub spread: f64,
    /// Number of beats.
    pub count: usize,
}

/// Intervals of a strip. `None`: too few beats support a value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Intervals {
    /// From P onset to QRS onset.
    pub pr: Option<IntervalMs>,
    /// Duration of the QRS complex.
    pub qrs: Option<IntervalMs>,
    /// From QRS onset to T end.
    pub qt: Option<IntervalMs>,
    /// QT interval corrected by the square root of the preceding RR interval (Bazett, Heart 7, 1920).
    pub qtc_bazett: Option<IntervalMs>,
    /// QT interval corrected by its cube root (Fridericia, Acta Med Scand 53, 1920).
    pub qtc_fridericia: Option<IntervalMs>,
}

/// Delineates the beats of a strip. `beats` are in order of time; the result has one element per beat.
#[must_use]
pub fn delineate(strip: &Strip, beats: &[Beat]) -> Vec<BeatWaves> {
    let mut out = Vec::with_capacity(beats.len());
    let mut first = 0;
    for (index, segment) in strip.segments.iter().enumerate() {
        let count = beats[first..].iter().take_while(|beat| beat.segment == index).count();
        let peaks: Vec<usize> = beats[first..first + count].iter().map(|beat| beat.sample).collect();
        let lead = Lead::new(&segment.samples, strip.sample_rate_hz);
        let start_s = segment.start_s;
        let mut t_end = 0;
        for number in 0..count {
            let waves = lead.beat(&peaks, number, start_s, t_end);
            t_end = waves.t.map_or(0, |t| ((t.end_s - start_s) * strip.sample_rate_hz).round() as usize);
            out.push(BeatWaves { beat: first + number, ..waves });
        }
        first += count;
    }
    out
}

/// Median, interquartile range and number of the values, if enough of `of` beats have one.
pub(crate) fn summary(mut values: Vec<f64>, of: usize) -> Option<(f64, f64, usize)> {
    if values.len() < MIN_BEATS || (values.len() as f64) < MIN_SHARE * of as f64 {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    Some((at(0.5), at(0.75) - at(0.25), values.len()))
}

/// Derives the intervals of a strip from its waves.
#[must_use]
pub fn intervals(waves: &[BeatWaves], beats: &[Beat]) -> Intervals {
    let measured = |of: &dyn Fn(&BeatWaves) -> Option<f64>| -> Option<IntervalMs> {
        let values = waves.iter().filter_map(of).map(|seconds| 1000.0 * seconds).collect();
        let (median, spread, count) = summary(values, waves.len())?;
        Some(IntervalMs { median, spread, count })
    };
    let qt = |waves: &BeatWaves| Some(waves.t?.end_s - waves.qrs?.on_s);
    let rr = |waves: &BeatWaves| {
        let (before, this) = (beats.get(waves.beat.checked_sub(1)?)?, beats.get(waves.beat)?);
        (before.segment == this.segment).then_some(this.time_s - before.time_s)
    };
    Intervals {
        pr: measured(&|waves| Some(waves.qrs?.on_s - waves.p?.on_s)),
        qrs: measured(&|waves| waves.qrs.map(|qrs| qrs.end_s - qrs.on_s)),
        qt: measured(&qt),
        qtc_bazett: measured(&|waves| Some(qt(waves)? / rr(waves)?.sqrt())),
        qtc_fridericia: measured(&|waves| Some(qt(waves)? / rr(waves)?.cbrt())),
    }
}

/// One continuous signal and its filtered versions.
struct Lead<'a> {
    samples: &'a [f32],
    rate: f64,
    smooth: Vec<f32>,
    slope: Vec<f32>,
}

impl<'a> Lead<'a> {
    fn new(samples: &'a [f32], rate: f64) -> Self {
        let width = |seconds: f64| ((seconds * rate).round() as usize).max(1);
        let smooth = moving_average(&moving_average(samples, width(SMOOTH_S)), width(SMOOTH_S));
        let half = width(SLOPE_HALF_S);
        let last = samples.len().saturating_sub(1);
        let differences: Vec<f32> = (0..samples.len())
            .map(|at| samples[(at + half).min(last)] - samples[at.saturating_sub(half)])
            .collect();
        Lead { samples, rate, smooth, slope: moving_average(&differences, width(SLOPE_SMOOTH_S)) }
    }

    fn steps(&self, seconds: f64) -> usize {
        (seconds * self.rate).round() as usize
    }

    fn beat(&self, peaks: &[usize], number: usize, start_s: f64, t_end: usize) -> BeatWaves {
        let none = BeatWaves { beat: number, p: None, qrs: None, t: None };
        let peak = peaks[number];
        let Some(qrs) = self.qrs(peak) else { return none };
        let seconds = |at: f64| start_s + at / self.rate;
        let before = number.checked_sub(1).map(|before| peaks[before]);
        let after = peaks.get(number + 1).copied();
        let interval = |other: Option<usize>| {
            other
                .map(|other| other.abs_diff(peak) as f64 / self.rate)
                .filter(|interval| RR_S.contains(interval))
        };
        let height = range_of(&self.samples[qrs.clone()]);
        let mean = self.mean_beat(peaks, number);
        let place = |wave: Found| Wave {
            on_s: seconds(wave.on as f64),
            peak_s: seconds(wave.peak as f64),
            end_s: seconds(wave.end as f64),
            confidence: wave.ratio / (wave.ratio + HALF_CONFIDENCE),
        };
        // The T wave scales with the interval before the beat; the next beat limits it.
        let rr_s = interval(before).or(interval(after)).unwrap_or(1.0);
        let t = self.t_wave(&mean, &qrs, rr_s, after, height);
        let p = self.p_wave(&mean, &qrs, before, t_end, height);
        let qrs_wave = Found { on: qrs.start, peak, end: qrs.end, ratio: 10.0 };
        BeatWaves { beat: number, p: p.map(place), qrs: Some(place(qrs_wave)), t: t.map(place) }
    }

    /// Onset and end of the QRS complex.
    fn qrs(&self, peak: usize) -> Option<Range<usize>> {
        let from = peak.checked_sub(self.steps(QRS_BEFORE_S))?;
        let to = peak + self.steps(QRS_AFTER_S);
        let window = self.slope.get(from..to)?;
        let largest = window.iter().fold(0.0_f32, |largest, slope| largest.max(slope.abs()));
        if largest <= 0.0 {
            return None;
        }
        let steep = |slope: &f32| slope.abs() >= QRS_SLOPE * largest;
        let (first, last) = (window.iter().position(steep)?, window.iter().rposition(steep)?);
        let quiet = self.steps(QUIET_S).max(1);
        let is_quiet = |piece: &[f32], share: f32| piece.iter().all(|slope| slope.abs() < share * largest);
        let onset = (quiet..=first)
            .rev()
            .find(|at| is_quiet(&window[at - quiet..*at], ONSET_SLOPE))
            .unwrap_or(self.flattest(&window[..first]));
        let end = (last..window.len() - quiet)
            .find(|at| is_quiet(&window[at + 1..=at + quiet], END_SLOPE))
            .unwrap_or(last + self.flattest(&window[last..]));
        Some(from + onset..from + end)
    }

    fn flattest(&self, window: &[f32]) -> usize {
        let flat = window.iter().enumerate().min_by(|left, right| left.1.abs().total_cmp(&right.1.abs()));
        flat.map_or(0, |(at, _)| at)
    }

    /// Mean of the smoothed signal around a beat and similar neighbours, indexed like the signal.
    fn mean_beat(&self, peaks: &[usize], number: usize) -> Mean {
        let peak = peaks[number];
        let (before, after) = (self.steps(0.45), self.steps(0.75));
        let from = peak.saturating_sub(before);
        let to = (peak + after).min(self.smooth.len());
        let mut sum = self.smooth[from..to].to_vec();
        let mut count = 1.0_f32;
        let mut squares = vec![0.0_f32; sum.len()];
        let low = number.saturating_sub(NEIGHBOURS);
        let high = (number + NEIGHBOURS + 1).min(peaks.len());
        for (other, other_peak) in peaks.iter().enumerate().take(high).skip(low) {
            if other == number || !self.similar(peak, *other_peak) {
                continue;
            }
            let Some(start) = (other_peak + from).checked_sub(peak) else { continue };
            let Some(piece) = self.smooth.get(start..start + sum.len()) else { continue };
            // The baseline differs from beat to beat: aligned before the QRS complex.
            let level = |peak: usize| self.smooth[peak.saturating_sub(self.steps(0.06))];
            let offset = level(peak) - level(*other_peak);
            for ((sum, square), value) in sum.iter_mut().zip(&mut squares).zip(piece) {
                let difference = value + offset - *sum / count;
                *sum += value + offset;
                *square += difference * difference;
            }
            count += 1.0;
        }
        for value in &mut sum {
            *value /= count;
        }
        Mean { from, values: sum, noise: self.noise(from, to) / count.sqrt() }
    }

    fn similar(&self, one: usize, other: usize) -> bool {
        let reach = self.steps(0.08);
        let piece = |peak: usize| self.smooth.get(peak.checked_sub(reach)?..peak + reach);
        match (piece(one), piece(other)) {
            (Some(one), Some(other)) => correlation(one, other) >= MIN_CORRELATION,
            _ => false,
        }
    }

    /// Noise of the smoothed signal: what smoothing removes, scaled by the share that passes.
    fn noise(&self, from: usize, to: usize) -> f32 {
        let mut removed: Vec<f32> = (from..to).map(|at| (self.samples[at] - self.smooth[at]).abs()).collect();
        if removed.is_empty() {
            return 0.0;
        }
        let middle = removed.len() / 2;
        let median = *removed.select_nth_unstable_by(middle, f32::total_cmp).1;
        // White noise: the moving average of n samples passes 1 / √n of it.
        1.48 * median / (self.steps(SMOOTH_S).max(1) as f32).sqrt()
    }

    fn t_wave(
        &self,
        mean: &Mean,
        qrs: &Range<usize>,
        rr_s: f64,
        next: Option<usize>,
        height: f32,
    ) -> Option<Found> {
        let root = rr_s.sqrt();
        let next_s = next.map_or(f64::INFINITY, |next| (next - qrs.start) as f64 / self.rate);
        let from = (qrs.start + self.steps(T_FROM * root + 0.04)).max(qrs.end + self.steps(0.09));
        let to = qrs.start + self.steps((T_TO * root).min(T_TO_SHARE * next_s));
        let end = mean.largest_area(from, to, self.steps(T_AREA_S), self.steps(AREA_END_S), true)?;
        let start = qrs.end + self.steps(0.03);
        let peak = mean.farthest(start, end, end)?;
        let deflection = (mean.at(peak)? - mean.at(end)?).abs();
        let ratio = deflection / mean.noise.max(f32::MIN_POSITIVE);
        if ratio < MIN_NOISE_RATIO || deflection < MIN_QRS_SHARE * height {
            return None;
        }
        let low = peak.saturating_sub(self.steps(0.16)).max(start);
        let on = mean
            .largest_area_before(low..peak, end, self.steps(T_ONSET_AREA_S), self.steps(AREA_END_S))
            .unwrap_or(low);
        Some(Found { on, peak, end, ratio })
    }

    fn p_wave(
        &self,
        mean: &Mean,
        qrs: &Range<usize>,
        before: Option<usize>,
        t_end: usize,
        height: f32,
    ) -> Option<Found> {
        let to = qrs.start.checked_sub(self.steps(P_GAP_S))?;
        // The P wave follows the T wave of the beat before, or the middle of the interval if that has none.
        let middle = before.map_or(0, |before| before + (qrs.start - before) / 2);
        let free = if t_end > 0 { t_end } else { middle };
        let from = qrs.start.saturating_sub(self.steps(P_WINDOW_S)).max(free).max(mean.from);
        if to < from + self.steps(0.08) {
            return None;
        }
        let peak = mean.farthest_from_line(from, to)?;
        let deflection = mean.distance_from_line(from, to, peak)?.abs();
        let ratio = deflection / mean.noise.max(f32::MIN_POSITIVE);
        if ratio < MIN_NOISE_RATIO || deflection < MIN_QRS_SHARE * height {
            return None;
        }
        let reach = self.steps(P_HALF_S);
        let on = mean.foot(peak, peak.saturating_sub(reach).max(mean.from + 1), P_SLOPE)?;
        let end = mean.foot(peak, (peak + reach).min(qrs.start), P_SLOPE)?;
        Some(Found { on, peak, end, ratio })
    }
}

/// A wave in samples.
#[derive(Debug, Clone, Copy)]
struct Found {
    on: usize,
    peak: usize,
    end: usize,
    /// Height relative to the noise.
    ratio: f32,
}

/// A mean beat; `values` start at the sample `from` of the signal.
struct Mean {
    from: usize,
    values: Vec<f32>,
    noise: f32,
}

impl Mean {
    fn at(&self, index: usize) -> Option<f32> {
        self.values.get(index.checked_sub(self.from)?).copied()
    }

    fn piece(&self, range: Range<usize>) -> Option<&[f32]> {
        self.values.get(range.start.checked_sub(self.from)?..range.end.checked_sub(self.from)?)
    }

    /// Position in `from..to` at which the area over the `length` samples before it, relative to the level around it, is
    /// largest. With `phases`, the later of two opposite phases is preferred.
    fn largest_area(
        &self,
        from: usize,
        to: usize,
        length: usize,
        level: usize,
        phases: bool,
    ) -> Option<usize> {
        let (mut highest, mut lowest) = ((f32::NEG_INFINITY, 0), (f32::INFINITY, 0));
        for at in from..to {
            let Some(piece) = self.piece(at.saturating_sub(length)..at) else { continue };
            let Some(around) = self.piece(at.saturating_sub(level)..at + level + 1) else { continue };
            let area = area(piece, around);
            if area > highest.0 {
                highest = (area, at);
            }
            if area < lowest.0 {
                lowest = (area, at);
            }
        }
        if highest.1 == 0 {
            return None;
        }
        let (up, down) = (highest.0.max(0.0), (-lowest.0).max(0.0));
        Some(if phases && up < PHASE_RATIO * down && down < PHASE_RATIO * up {
            highest.1.max(lowest.1)
        } else if up > down {
            highest.1
        } else {
            lowest.1
        })
    }

    /// The same with the area over the samples after each position, up to `limit`.
    fn largest_area_before(
        &self,
        range: Range<usize>,
        limit: usize,
        length: usize,
        level: usize,
    ) -> Option<usize> {
        let mut best = (0.0_f32, None);
        for at in range {
            let Some(piece) = self.piece(at..(at + length).min(limit)) else { continue };
            let Some(around) = self.piece(at.saturating_sub(level)..at + level + 1) else { continue };
            let area = area(piece, around).abs();
            if area > best.0 {
                best = (area, Some(at));
            }
        }
        best.1
    }

    /// Foot of a peak on the side of `limit`: the slope has fallen below `share` of the steepest slope between them.
    fn foot(&self, peak: usize, limit: usize, share: f32) -> Option<usize> {
        let back = limit < peak;
        let along = |step: usize| if back { peak - step } else { peak + step };
        let count = peak.abs_diff(limit);
        // Positive where the signal moves away from the level of the peak.
        let sign = (self.at(peak)? - self.at(limit)?).signum();
        let slope =
            |step: usize| Some(sign * (self.at(along(step.saturating_sub(1)))? - self.at(along(step + 1))?));
        let (steepest, largest) = (1..count)
            .filter_map(|step| Some((step, slope(step)?)))
            .max_by(|left, right| left.1.total_cmp(&right.1))?;
        let foot = (steepest..count).find(|step| slope(*step).is_none_or(|slope| slope < share * largest));
        Some(along(foot.unwrap_or(count)))
    }

    /// Position in `from..to` that differs most from the value at `reference`.
    fn farthest(&self, from: usize, to: usize, reference: usize) -> Option<usize> {
        let level = self.at(reference)?;
        let piece = self.piece(from..to)?;
        let far =
            piece.iter().enumerate().max_by(|a, b| (a.1 - level).abs().total_cmp(&(b.1 - level).abs()))?;
        Some(from + far.0)
    }

    /// Distance of the value at `at` from the line through those at `from` and `to`.
    fn distance_from_line(&self, from: usize, to: usize, at: usize) -> Option<f32> {
        let (first, last) = (self.at(from)?, self.at(to)?);
        let share = (at - from) as f32 / (to - from).max(1) as f32;
        Some(self.at(at)? - first - (last - first) * share)
    }

    fn farthest_from_line(&self, from: usize, to: usize) -> Option<usize> {
        (from..to)
            .filter_map(|at| Some((at, self.distance_from_line(from, to, at)?.abs())))
            .max_by(|left, right| left.1.total_cmp(&right.1))
            .map(|(at, _)| at)
    }
}

fn area(piece: &[f32], around: &[f32]) -> f32 {
    let level = around.iter().sum::<f32>() / around.len().max(1) as f32;
    piece.iter().map(|value| value - level).sum()
}

fn range_of(samples: &[f32]) -> f32 {
    let (low, high) = crate::units::extremes(samples);
    (high - low).max(0.0)
}

fn correlation(one: &[f32], other: &[f32]) -> f32 {
    let count = one.len().min(other.len()).max(1) as f32;
    let mean = |piece: &[f32]| piece.iter().sum::<f32>() / count;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let (mut product, mut square_one, mut square_other) = (0.0, 0.0, 0.0);
    for (left, right) in one.iter().zip(other) {
        let (left, right) = (left - mean_one, right - mean_other);
        product += left * right;
        square_one += left * left;
        square_other += right * right;
    }
    let norm = f32::sqrt(square_one * square_other);
    if norm > 0.0 { product / norm } else { 0.0 }
}

/// Centered moving average of an odd number of samples, at least `width`; shorter at the edges.
fn moving_average(samples: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let mut sum = 0.0_f64;
    let sums: Vec<f64> = std::iter::once(0.0)
        .chain(samples.iter().map(|value| {
            sum += f64::from(*value);
            sum
        }))
        .collect();
    (0..samples.len())
        .map(|at| {
            let (low, high) = (at.saturating_sub(half), (at + half + 1).min(samples.len()));
            ((sums[high] - sums[low]) / (high - low) as f64) as f32
        })
        .collect()
}
