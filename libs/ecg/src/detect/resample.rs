//! From any sampling rate to the one working rate.
//!
//! Each working sample is an average of the input around it with a triangular weight. Its half width is one working
//! sample, so that its zeros keep aliases away from the QRS band; for slow input it is one input sample, which makes it
//! linear interpolation.

use super::tuning::WORK_HZ;

/// Inputs that are weighed together; the loops over them become SIMD code.
const LANES: usize = 4;
/// Outputs whose weights are kept in a table. After as many, any whole rate has come back to where it began.
const LONGEST_TURN: usize = WORK_HZ as usize;
/// Rates closer to a fraction than this share are taken for it.
const SAME: f64 = 1e-12;

#[derive(Debug, Clone)]
pub(crate) struct Resampler {
    /// Input samples per working sample.
    ratio: f64,
    /// Half the width of the weight in input samples.
    half: f64,
    /// Number of inputs that are looked at for each output: all that have a weight, in whole lanes.
    taps: usize,
    /// Outputs of one turn, the weights of each, and which inputs they are for.
    turn: Vec<Place>,
    weights: Vec<f32>,
    /// Inputs of a turn, if that is a whole number: the weights of all turns are the same then.
    stride: Option<i64>,
    /// The next output: how many turns came before it, the input the turn starts with, and its place in it.
    turns: usize,
    start: i64,
    next: usize,
    /// What is subtracted from all input, so that a large offset costs no precision.
    offset: Option<f32>,
    /// Copy of the input where it does not reach far enough.
    edge: Vec<f32>,
}

/// The inputs of one output, counted from the start of its turn.
#[derive(Debug, Clone, Copy)]
struct Place {
    first: i64,
    /// One after the last that has a weight.
    end: i64,
}

impl Resampler {
    pub(crate) fn new(sample_rate_hz: f64) -> Self {
        let ratio = sample_rate_hz / WORK_HZ;
        let half = ratio.max(1.0);
        let taps = ((2.0 * half).ceil() as usize).next_multiple_of(LANES);
        let whole = (1..=LONGEST_TURN).find(|length| {
            let inputs = *length as f64 * ratio;
            (inputs - inputs.round()).abs() <= SAME * inputs
        });
        let length = whole.unwrap_or(LONGEST_TURN);
        let mut resampler = Resampler {
            ratio,
            half,
            taps,
            turn: Vec::with_capacity(length),
            weights: Vec::with_capacity(length * taps),
            stride: whole.map(|length| (length as f64 * ratio).round() as i64),
            turns: 0,
            start: 0,
            next: 0,
            offset: None,
            edge: Vec::new(),
        };
        resampler.tabulate(length);
        resampler
    }

    /// Weights of the outputs of this turn.
    fn tabulate(&mut self, length: usize) {
        let start = (self.turns * length) as f64 * self.ratio;
        self.start = start.floor() as i64;
        self.turn.clear();
        self.weights.clear();
        for place in 0..length {
            let center = start - self.start as f64 + place as f64 * self.ratio;
            let first = (center - self.half).floor() as i64 + 1;
            self.turn.push(Place { first, end: (center + self.half).ceil() as i64 });
            let weight = |tap: usize| {
                let distance = ((first + tap as i64) as f64 - center).abs();
                (1.0 - distance / self.half).max(0.0)
            };
            let total: f64 = (0..self.taps).map(weight).sum();
            self.weights.extend((0..self.taps).map(|tap| (weight(tap) / total) as f32));
        }
    }

    /// Appends the working samples that became known. `input` is all finite; `gone` samples before it were dropped.
    pub(crate) fn run(&mut self, input: &[f32], gone: u64, out: &mut Vec<f32>) {
        let Some(first) = input.first() else { return };
        let offset = *self.offset.get_or_insert(*first);
        loop {
            if self.next == self.turn.len() {
                self.next = 0;
                self.turns += 1;
                match self.stride {
                    Some(stride) => self.start += stride,
                    None => self.tabulate(self.turn.len()),
                }
            }
            let start = self.start - gone as i64;
            let before = self.next;
            let weights = self.weights[before * self.taps..].chunks_exact(self.taps);
            for (place, weights) in self.turn[before..].iter().zip(weights) {
                if start + place.end > input.len() as i64 {
                    return;
                }
                let from = start + place.first;
                let inside =
                    usize::try_from(from).ok().and_then(|from| input.get(from..)?.get(..weights.len()));
                let value = if let Some(around) = inside {
                    average(around, weights, offset)
                } else {
                    // As if the signal had always been at its first value; what comes after it has no weight.
                    self.edge.clear();
                    let last = input.len() as i64 - 1;
                    let around = from..from + weights.len() as i64;
                    self.edge.extend(around.map(|at| input[at.clamp(0, last) as usize]));
                    average(&self.edge, weights, offset)
                };
                out.push(value);
                self.next += 1;
            }
        }
    }

    /// Position of a working sample among the input samples.
    pub(crate) fn input_position(&self, work: f64) -> f64 {
        work * self.ratio
    }
}

#[inline]
fn average(around: &[f32], weights: &[f32], offset: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (values, weights) in around.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += weights[lane] * (values[lane] - offset);
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
