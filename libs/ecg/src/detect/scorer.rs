//! Scores of candidates, and learning from the selected beats.
//!
//! A candidate is scored by its height, its contrast and its fit to the learned templates, each relative to
//! the noise around it. Selected beats update the typical height, the rhythm and the templates.

use super::candidates::Candidate;
use super::logarithm::ln;
use super::signal::Signal;
use super::t_wave::TWave;
use super::templates::{Fit, HALF, LENGTH, Products, Templates};
use super::tuning::{Tuning, work_samples};
use super::viterbi::{Context, Lattice, Rhythm};

/// Half the length of the window in which the noise of a candidate is measured.
const NOISE_REACH: usize = work_samples(1.2);
/// Adaptation rate of the typical height, and the largest change (natural logarithm) per beat.
const LEVEL_STEP: f32 = 0.12;
const LEVEL_CHANGE: f32 = 0.7;
/// Number of intervals that the rhythm is estimated from, and the longest of them.
const INTERVALS: usize = 8;
const LONGEST_INTERVAL: usize = work_samples(3.0);
/// An interval that differs from the typical one by more than this share is irregular.
const IRREGULAR: f32 = 0.15;
/// The first pass knows no beats; the second pass knows those of the first.
const PASSES: usize = 2;
/// Noise in the two bands divided by the square of the envelope's background, before beats are known.
const FIRST_NOISE: [f32; 2] = [8.4, 1.2];
/// Number of past beats kept for noise estimation: those of the look-back at the fastest rate.
const REMEMBERED: usize = 60;
/// A rhythm is dense if at least `MIN_DENSE_BEATS` peaks of about the same height (natural logarithm) lie
/// within this distance on either side: 120 a minute.
const DENSE_REACH: usize = work_samples(1.0);
const MIN_DENSE_BEATS: usize = 5;
const SAME_HEIGHT: f32 = 0.5;
/// The peaks of a dense rhythm are evenly spaced: this share of the intervals is within this share of the
/// typical one. Peaks of noise are not.
const EVEN: f32 = 0.15;
const EVEN_SHARE: f32 = 0.75;
/// The background between the beats of a dense rhythm is estimated from the lower fifth of the envelope. For
/// Gaussian noise that quantile is lower than the background (the squared mean root) by this factor, which
/// follows from the Rayleigh distribution.
const QUIET_SHARE: f32 = 0.2;
const QUIET_OF_NOISE: f32 = 1.74;
/// Largest correction of the background of a dense rhythm.
const MAX_DENSE_CORRECTION: f32 = 4.0;
/// Amplitude in the lower band relative to a typical beat (natural logarithm) at which a complex begins to
/// count as a wide beat, and at which it fully counts.
const WIDE: (f32, f32) = (-0.7, -0.3);
/// Noise in the lower band, relative to a beat, above which wide beats cannot be distinguished from it.
const MAX_WIDE_NOISE: f32 = 0.1;
/// Intervals within a run or a couplet: 80 to 240 a minute.
const RUN_INTERVAL: (usize, usize) = (work_samples(0.25), work_samples(0.75));
/// Smallest concordance of successive beats of a run. Electrode movements do not repeat with it.
const REPEATED: f32 = 0.9;
const RUN_SHIFT: usize = 2;
/// Height of the lowest beat relative to a typical one (natural logarithm): a sixth. Lower peaks are P waves
/// or noise.
const LOWEST_BEAT: f32 = -1.8;
/// Lower limit of the relative height in the score (natural logarithm).
const LOWEST_LEVEL: f32 = -2.0;

/// A candidate with its score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scored {
    pub(crate) candidate: Candidate,
    pub(crate) score: f32,
    pub(crate) fit: Option<Fit>,
    noise: [f32; 2],
    /// Energy in the lower band.
    energy: f32,
    /// 1 in a clean signal, less the more noise could hide a beat.
    pub(crate) clean: f32,
}

/// A beat to be subtracted from the noise: its position, and the energy in the two bands that its template
/// does not explain.
#[derive(Debug, Clone, Copy)]
struct KnownBeat {
    at: usize,
    residual: [f32; 2],
}

impl KnownBeat {
    fn new(scored: &Scored) -> Self {
        KnownBeat { at: scored.candidate.at, residual: scored.fit.map_or([0.0; 2], |fit| fit.residual) }
    }
}

/// The candidates after the last accepted beat, with what is known when they are scored. A selection fills it; until
/// the next selection, single candidates are added.
#[derive(Debug, Clone, Default)]
struct Window {
    scored: Vec<Scored>,
    lattice: Lattice,
    /// Indices of the selected candidates in `scored`.
    picked: Vec<usize>,
    context: Context,
    /// Position and logarithmic height of the last beat before the window.
    last: Option<(usize, f32)>,
    /// Typical height. Zero before the first selection.
    level: f32,
    typical_energy: Option<f32>,
    /// `None` until a candidate needs it.
    noise_floor: Option<f32>,
    /// Accepted beats and the selected ones of the window; the number of the former.
    known: Vec<KnownBeat>,
    accepted: usize,
    undecided: Vec<(Candidate, Products)>,
    /// Products with the present templates, by position.
    products: Vec<(usize, Products)>,
}

/// Everything learned from the signal so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scorer {
    last: Option<Candidate>,
    intervals: Vec<f32>,
    level: Option<f32>,
    /// Energy of a beat in the lower band.
    energy: Option<f32>,
    templates: Templates,
    recent: Vec<KnownBeat>,
    window: Window,
}

impl Scorer {
    /// Selects the most plausible beats among the candidates after the last accepted one; [`Scorer::selected`] returns
    /// them. The signal is known up to `end`.
    pub(crate) fn select(&mut self, signal: &Signal, candidates: &[Candidate], end: usize, tuning: &Tuning) {
        // A constant line says nothing about the height of beats. If it did, the beats after it would be lost.
        let mut heights = signal.heights(end);
        heights.retain(|height| *height > 0.0);
        let highest = if heights.is_empty() { 0.0 } else { median(&mut heights) };
        let mut window = std::mem::take(&mut self.window);
        window.scored.clear();
        window.lattice.clear();
        window.picked.clear();
        window.undecided.clear();
        window.known.clear();
        window.known.extend_from_slice(&self.recent);
        window.accepted = self.recent.len();
        window.level = self.level.map_or(highest, |known| (known * highest).sqrt());
        if window.level > 0.0 && window.level.is_finite() {
            self.fill(&mut window, signal, candidates, end, tuning);
        } else {
            window.level = 0.0;
        }
        self.window = window;
    }

    fn fill(
        &self,
        window: &mut Window,
        signal: &Signal,
        candidates: &[Candidate],
        end: usize,
        tuning: &Tuning,
    ) {
        let decided =
            self.last.map_or(0, |last| candidates.partition_point(|candidate| candidate.at <= last.at));
        let first = candidates.get(decided).map_or(usize::MAX, |candidate| candidate.at);
        let old = window.products.partition_point(|(at, _)| *at < first);
        window.products.drain(..old);
        let floor = tuning.floor * window.level;
        for candidate in candidates[decided..].iter().filter(|candidate| candidate.height > floor) {
            let products = self.products(&mut window.products, signal, candidate.at);
            window.undecided.push((*candidate, products));
        }
        adjust_dense_rhythms(&mut window.undecided, candidates, signal, end);
        let t_wave = TWave::look_for(candidates, ln(window.level), signal.dropped == 0);
        let repeated = repeated(&window.undecided, signal);
        window.last = self.last.map(|last| (last.at, last.ln_height));
        window.typical_energy = self.energy;
        for pass in 0..PASSES {
            window.scored.clear();
            window.lattice.clear();
            // Noise around most beats, so that a run of unknown beats does not count as noise.
            window.noise_floor = repeated.contains(&true).then(|| noise_floor(signal, &window.known, end));
            let beats = &window.known[window.accepted..];
            window.context = Context::new(self.rhythm(beats, tuning), t_wave);
            let mut first = 0;
            for ((candidate, products), repeated) in window.undecided.iter().zip(&repeated) {
                let noise = if pass == 0 {
                    first_noise(candidate)
                } else {
                    first += window.known[first..]
                        .iter()
                        .take_while(|known| known.at + HALF + NOISE_REACH <= candidate.at)
                        .count();
                    noise_around(candidate.at, signal, &window.known[first..], end)
                };
                let scored = self.scored(window, signal, candidate, products, noise, *repeated, tuning);
                window.scored.push(scored);
                window.lattice.extend(&window.scored, window.last, &window.context, tuning);
            }
            window.lattice.path(&window.scored, &window.context, tuning, &mut window.picked);
            window.remember_picked();
            if pass == 0 && window.picked.len() >= 3 {
                let picked = || window.picked.iter().map(|index| &window.scored[*index]);
                let mut heights: Vec<f32> = picked().map(|scored| scored.candidate.height).collect();
                let mut energies: Vec<f32> = picked().map(|scored| scored.energy).collect();
                let energy = median(&mut energies);
                window.typical_energy =
                    self.energy.map_or(Some(energy), |known| Some((known * energy).sqrt()));
                let height = median(&mut heights);
                window.level = self.level.map_or(height, |known| (known * height).sqrt());
            }
        }
    }

    /// Products at a position, from those that are already known or else computed and added to them.
    fn products(&self, known: &mut Vec<(usize, Products)>, signal: &Signal, at: usize) -> Products {
        let index = known.partition_point(|(other, _)| *other < at);
        if let Some((_, products)) = known.get(index).filter(|(other, _)| *other == at) {
            return *products;
        }
        let products = self.templates.products(signal, at - signal.dropped);
        known.insert(index, (at, products));
        products
    }

    /// Forgets what was computed from the signal for candidates, because its end has changed.
    pub(crate) fn forget_products(&mut self) {
        self.window.products.clear();
    }

    /// Scores a candidate.
    #[allow(
        clippy::too_many_arguments,
        reason = "a candidate, its measurements and what they are compared with"
    )]
    fn scored(
        &self,
        window: &Window,
        signal: &Signal,
        candidate: &Candidate,
        products: &Products,
        noise: [f32; 2],
        repeated: bool,
        tuning: &Tuning,
    ) -> Scored {
        let fit = self.templates.fit(products, noise, tuning);
        let energy = energy_at(signal, candidate.at);
        let wide = match (window.typical_energy, window.noise_floor) {
            (Some(typical), Some(floor)) if repeated => {
                wide(energy, noise[0].min(floor), floor, typical, tuning)
            }
            _ => 0.0,
        };
        let score = score(candidate, candidate.ln_height - ln(window.level), fit, tuning) + wide;
        Scored { candidate: *candidate, score, fit, noise, energy, clean: clean(fit, tuning) }
    }

    /// Adds the last of `candidates` to those of the last selection and selects again, without learning. The signal is
    /// known up to `end`. Returns whether the selection may have changed.
    ///
    /// The candidates before it keep their scores, so this costs much less than a selection.
    pub(crate) fn add(
        &mut self,
        signal: &Signal,
        candidates: &[Candidate],
        end: usize,
        tuning: &Tuning,
    ) -> bool {
        let mut window = std::mem::take(&mut self.window);
        let added = self.add_to(&mut window, signal, candidates, end, tuning);
        self.window = window;
        added
    }

    fn add_to(
        &self,
        window: &mut Window,
        signal: &Signal,
        candidates: &[Candidate],
        end: usize,
        tuning: &Tuning,
    ) -> bool {
        let Some(candidate) = candidates.last() else { return false };
        if window.level <= 0.0 || candidate.height <= tuning.floor * window.level {
            return false;
        }
        let products = self.products(&mut window.products, signal, candidate.at);
        let mut added = [(*candidate, products)];
        adjust_dense_rhythms(&mut added, candidates, signal, end);
        let [(candidate, products)] = &added;
        let repeated = window
            .scored
            .iter()
            .rev()
            .take_while(|other| candidate.at - other.candidate.at <= RUN_INTERVAL.1)
            .any(|other| repeats(&other.candidate, candidate, signal));
        if repeated && window.noise_floor.is_none() {
            window.noise_floor = Some(noise_floor(signal, &window.known, end));
        }
        // Like a selection: the noise is measured again once the candidate is known to be a beat or not.
        for pass in 0..PASSES {
            let noise = if pass == 0 {
                first_noise(candidate)
            } else {
                window.scored.pop();
                let from =
                    window.known.partition_point(|known| known.at + HALF + NOISE_REACH <= candidate.at);
                noise_around(candidate.at, signal, &window.known[from..], end)
            };
            let scored = self.scored(window, signal, candidate, products, noise, repeated, tuning);
            window.scored.push(scored);
            window.lattice.extend(&window.scored, window.last, &window.context, tuning);
            window.lattice.path(&window.scored, &window.context, tuning, &mut window.picked);
            window.remember_picked();
        }
        true
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let Window { scored, picked, known, undecided, products, .. } = &self.window;
        // The lattice has two values and an index per candidate.
        (size_of::<Scored>() + 32) * scored.capacity()
            + size_of::<usize>() * picked.capacity()
            + size_of::<KnownBeat>() * (known.capacity() + self.recent.capacity())
            + size_of::<(Candidate, Products)>() * undecided.capacity()
            + size_of::<(usize, Products)>() * products.capacity()
            + 4 * self.intervals.capacity()
    }

    /// The beats of the last selection, in order of time.
    pub(crate) fn selected(&self) -> impl Iterator<Item = &Scored> {
        self.window.picked.iter().map(|index| &self.window.scored[*index])
    }

    /// How much better the selection is than the best one without the latest candidate.
    pub(crate) fn margin(&self, tuning: &Tuning) -> f32 {
        let Window { scored, lattice, context, .. } = &self.window;
        lattice.margin(scored, context, tuning)
    }

    /// The latest beat of the last selection.
    pub(crate) fn last_selected(&self) -> Option<Scored> {
        self.window.picked.last().map(|index| self.window.scored[*index])
    }

    /// The number of beats of the last selection, and one of them.
    pub(crate) fn selected_count(&self) -> usize {
        self.window.picked.len()
    }

    pub(crate) fn selected_at(&self, index: usize) -> Scored {
        self.window.scored[self.window.picked[index]]
    }

    /// Accepts a beat and learns from it.
    pub(crate) fn accept(&mut self, signal: &Signal, beat: &Scored, tuning: &Tuning) {
        let Scored { candidate, fit, noise, .. } = beat;
        if let Some(last) = self.last.filter(|last| candidate.at - last.at < LONGEST_INTERVAL) {
            if self.intervals.len() >= INTERVALS {
                self.intervals.remove(0);
            }
            self.intervals.push((candidate.at - last.at) as f32);
        }
        self.last = Some(*candidate);
        if self.recent.len() >= REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(KnownBeat::new(beat));
        let level = self.level.unwrap_or(candidate.height);
        let confidence = beat.confidence();
        let change = ln(candidate.height / level).clamp(-LEVEL_CHANGE, LEVEL_CHANGE);
        let caution = 1.0 + 3.0 * fit.map_or(0.0, |fit| fit.noise);
        let step = LEVEL_STEP * confidence / caution;
        self.level = Some(level * (change * step).exp());
        let energy = self.energy.unwrap_or(beat.energy);
        if energy > 0.0 && beat.energy > 0.0 {
            let change = ln(beat.energy / energy).clamp(-2.0 * LEVEL_CHANGE, 2.0 * LEVEL_CHANGE);
            self.energy = Some(energy * (change * step).exp());
        }
        self.window.products.clear();
        self.templates.learn(signal, candidate.at - signal.dropped, confidence, *noise, tuning);
    }

    fn rhythm(&self, beats: &[KnownBeat], tuning: &Tuning) -> Option<Rhythm> {
        let mut intervals = self.intervals.clone();
        intervals.extend(beats.windows(2).map(|pair| (pair[1].at - pair[0].at) as f32));
        if intervals.len() < 3 {
            return None;
        }
        let interval = median(&mut intervals);
        let off = intervals.iter().filter(|other| (**other / interval - 1.0).abs() > IRREGULAR).count();
        Some(Rhythm { interval, weight: 1.0 - tuning.irregular * off as f32 / intervals.len() as f32 })
    }
}

impl Window {
    /// Makes the selected beats known.
    fn remember_picked(&mut self) {
        self.known.truncate(self.accepted);
        self.known.extend(self.picked.iter().map(|index| KnownBeat::new(&self.scored[*index])));
    }
}

/// Noise of a candidate before beats are known.
fn first_noise(candidate: &Candidate) -> [f32; 2] {
    FIRST_NOISE.map(|factor| factor * candidate.background.powi(2) * LENGTH as f32)
}

impl Scored {
    /// The score as a probability.
    pub(crate) fn confidence(&self) -> f32 {
        1.0 / (1.0 + (-self.score).exp())
    }
}

/// Lower quartile of the noise in the lower band around the beats.
fn noise_floor(signal: &Signal, known: &[KnownBeat], end: usize) -> f32 {
    let mut first = 0;
    let mut noise = Vec::with_capacity(known.len());
    for beat in known.iter().filter(|beat| beat.at >= signal.dropped) {
        first += known[first..].iter().take_while(|known| known.at + HALF + NOISE_REACH <= beat.at).count();
        noise.push(noise_around(beat.at, signal, &known[first..], end)[0]);
    }
    if noise.is_empty() {
        return f32::INFINITY;
    }
    let place = noise.len() / 4;
    *noise.select_nth_unstable_by(place, f32::total_cmp).1
}

/// Energy in the lower band within the length of a template around `at`.
fn energy_at(signal: &Signal, at: usize) -> f32 {
    let at = at - signal.dropped;
    let last = signal.envelope.len();
    signal.energy(at.saturating_sub(HALF).min(last), (at + HALF).min(last))[0] as f32
}

/// Evidence for a wide complex of nearly the strength of a beat. Ventricular beats are low in the band of the
/// envelope.
fn wide(energy: f32, noise: f32, noise_floor: f32, typical: f32, tuning: &Tuning) -> f32 {
    if energy <= noise || typical <= 0.0 {
        return 0.0;
    }
    let strength = (ln((energy - noise) / typical) / 2.0 - WIDE.0) / (WIDE.1 - WIDE.0);
    // Electrode movements are equally wide and strong, so the evidence decreases with noise in that band.
    let quiet = (1.0 - noise_floor / (MAX_WIDE_NOISE * typical)).max(0.0);
    tuning.k_wide * quiet * strength.clamp(0.0, 1.0)
}

/// Returns for each candidate whether one of the same shape and strength lies within the interval of a run.
fn repeated(undecided: &[(Candidate, Products)], signal: &Signal) -> Vec<bool> {
    let mut out = vec![false; undecided.len()];
    for (index, (one, _)) in undecided.iter().enumerate() {
        for (other, (next, _)) in undecided.iter().enumerate().skip(index + 1) {
            if next.at - one.at > RUN_INTERVAL.1 {
                break;
            }
            if !(out[index] && out[other]) && repeats(one, next, signal) {
                (out[index], out[other]) = (true, true);
            }
        }
    }
    out
}

/// Whether `next` has the shape and strength of `one` and follows it within the interval of a run.
fn repeats(one: &Candidate, next: &Candidate, signal: &Signal) -> bool {
    (RUN_INTERVAL.0..=RUN_INTERVAL.1).contains(&(next.at - one.at))
        && (one.ln_height - next.ln_height).abs() < SAME_HEIGHT
        && one.at >= signal.dropped
        && concordance(&signal.bands[0], one.at - signal.dropped, next.at - signal.dropped) >= REPEATED
}

/// The highest concordance (Lin 1989) of two positions of a signal at shifts of up to [`RUN_SHIFT`].
fn concordance(signal: &[f32], one: usize, other: usize) -> f32 {
    let Some(fixed) = one.checked_sub(HALF).and_then(|low| signal.get(low..low + LENGTH)) else { return 0.0 };
    let energy = |piece: &[f32]| piece.iter().map(|value| value * value).sum::<f32>();
    let own = energy(fixed);
    let mut best = 0.0_f32;
    for shift in 0..=2 * RUN_SHIFT {
        let low = (other + shift).checked_sub(HALF + RUN_SHIFT);
        let Some(moved) = low.and_then(|low| signal.get(low..low + LENGTH)) else { continue };
        let both = own + energy(moved);
        if both > 0.0 {
            let product: f32 = fixed.iter().zip(moved).map(|(left, right)| left * right).sum();
            best = best.max(2.0 * product / both);
        }
    }
    best
}

/// Corrects the background of dense rhythms, where beats fill the surroundings, by measuring it in the gaps
/// between them. Noise has no gaps: its lower quantile is at a fixed ratio to its mean.
fn adjust_dense_rhythms(
    undecided: &mut [(Candidate, Products)],
    all: &[Candidate],
    signal: &Signal,
    end: usize,
) {
    let (mut piece, mut neighbours) = (Vec::new(), Vec::new());
    let mut first = 0;
    for (candidate, _) in undecided {
        first += all[first..].iter().take_while(|other| other.at + DENSE_REACH < candidate.at).count();
        neighbours.clear();
        neighbours.extend(
            all[first..]
                .iter()
                .take_while(|other| other.at <= candidate.at + DENSE_REACH)
                .filter(|other| (other.ln_height - candidate.ln_height).abs() < SAME_HEIGHT)
                .map(|other| other.at as f32),
        );
        if neighbours.len() < MIN_DENSE_BEATS || !evenly_spaced(&mut neighbours) {
            continue;
        }
        let at = candidate.at - signal.dropped;
        let range = at.saturating_sub(DENSE_REACH)..(at + DENSE_REACH).min(end - signal.dropped);
        piece.clear();
        piece.extend_from_slice(&signal.envelope[range]);
        let place = (piece.len() as f32 * QUIET_SHARE) as usize;
        let quiet = *piece.select_nth_unstable_by(place, f32::total_cmp).1;
        let background = (QUIET_OF_NOISE * quiet).max(candidate.background / MAX_DENSE_CORRECTION);
        if background < candidate.background {
            candidate.background = background;
            candidate.ln_contrast = candidate.ln_height - ln(background);
        }
    }
}

/// Whether most of these times are evenly spaced. Replaces the times by their intervals.
fn evenly_spaced(times: &mut Vec<f32>) -> bool {
    for index in 0..times.len() - 1 {
        times[index] = times[index + 1] - times[index];
    }
    times.pop();
    let interval = median(times);
    let even = times.iter().filter(|other| (**other / interval - 1.0).abs() < EVEN).count();
    even as f32 >= EVEN_SHARE * times.len() as f32
}

fn clean(fit: Option<Fit>, tuning: &Tuning) -> f32 {
    1.0 / (1.0 + tuning.noise_damping * fit.map_or(0.0, |fit| fit.noise))
}

fn score(candidate: &Candidate, ln_relative: f32, fit: Option<Fit>, tuning: &Tuning) -> f32 {
    let clean = clean(fit, tuning);
    let evidence = fit.map_or(0.0, |fit| fit.evidence.clamp(-tuning.evidence_min, tuning.evidence_max));
    let low_penalty = tuning.k_low * (LOWEST_BEAT - ln_relative).max(0.0);
    let prominence = tuning.bias
        + tuning.k_level * ln_relative.clamp(LOWEST_LEVEL, tuning.level_max)
        + tuning.k_contrast * candidate.ln_contrast.clamp(0.0, tuning.contrast_max);
    clean * (prominence - low_penalty) + (1.0 - clean) * tuning.bias_in_noise + tuning.k_evidence * evidence
}

/// Noise energy around `at` up to `end`, within the length of a template, in both bands. `beats` are in order
/// of time.
fn noise_around(at: usize, signal: &Signal, beats: &[KnownBeat], end: usize) -> [f32; 2] {
    let at = at - signal.dropped;
    let low = at.saturating_sub(NOISE_REACH);
    let high = (at + NOISE_REACH).min(end - signal.dropped);
    let mut sum = signal.energy(low, high);
    let mut count = high - low;
    let mut covered = low;
    for known in beats {
        let Some(place) = known.at.checked_sub(signal.dropped) else { continue };
        if place >= high + HALF {
            break;
        }
        let (from, to) = (place.saturating_sub(HALF).max(covered), (place + HALF).min(high));
        if from >= to {
            continue;
        }
        // The beat is subtracted; the part that no template explains remains.
        let inside = signal.energy(from, to);
        for band in 0..2 {
            sum[band] -= (inside[band] - f64::from(known.residual[band])).max(0.0);
        }
        if known.residual[0] == 0.0 {
            count -= to - from;
        }
        covered = to;
    }
    sum.map(|sum| (sum.max(0.0) / count.max(1) as f64 * LENGTH as f64) as f32)
}

/// The upper median. `values` must not be empty.
fn median(values: &mut [f32]) -> f32 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}
