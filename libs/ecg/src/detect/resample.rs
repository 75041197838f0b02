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
/// Shorter turns are repeated, so that there is something to loop over.
const SHORTEST_TURN: usize = 25;
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
    /// Outputs of one turn and their weights, `taps` for each.
    places: Vec<Place>,
    weights: Vec<[f32; LANES]>,
    /// First input that is looked at, counted from the start of the turn, and number of all of them.
    before: i64,
    span: usize,
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

/// The inputs of one output.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Counted from the first input of the turn that is looked at.
    first: usize,
    /// Number of inputs that have a weight.
    length: usize,
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
        let whole = whole.map(|length| length * SHORTEST_TURN.div_ceil(length));
        let length = whole.unwrap_or(LONGEST_TURN);
        let mut resampler = Resampler {
            ratio,
            half,
            taps,
            places: Vec::with_capacity(length),
            weights: Vec::with_capacity(length * taps / LANES),
            before: 0,
            span: 0,
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
        self.places.clear();
        self.weights.clear();
        for place in 0..length {
            let center = start - self.start as f64 + place as f64 * self.ratio;
            let first = (center - self.half).floor() as i64 + 1;
            if place == 0 {
                self.before = first;
            }
            let last = (center + self.half).ceil() as i64;
            let relative = (first - self.before) as usize;
            self.places.push(Place { first: relative, length: (last - first) as usize });
            self.span = relative + self.taps;
            let weight = |tap: usize| {
                let distance = ((first + tap as i64) as f64 - center).abs();
                (1.0 - distance / self.half).max(0.0)
            };
            let total: f64 = (0..self.taps).map(weight).sum();
            self.weights.extend((0..self.taps / LANES).map(|chunk| -> [f32; LANES] {
                std::array::from_fn(|lane| (weight(chunk * LANES + lane) / total) as f32)
            }));
        }
    }

    /// Appends the working samples that became known. `input` is all finite; `dropped` samples before it were dropped.
    pub(crate) fn run(&mut self, input: &[f32], dropped: u64, out: &mut Vec<f32>) {
        let Some(first) = input.first() else { return };
        let offset = *self.offset.get_or_insert(*first);
        loop {
            if self.next == self.places.len() {
                self.next = 0;
                self.turns += 1;
                match self.stride {
                    Some(stride) => self.start += stride,
                    None => self.tabulate(self.places.len()),
                }
            }
            let start = self.start - dropped as i64;
            if self.next == 0
                && let Some(input) =
                    usize::try_from(start + self.before).ok().and_then(|from| input.get(from..))
                && input.len() >= self.span
            {
                match self.taps / LANES {
                    1 => self.turn::<1>(input, offset, out),
                    2 => self.turn::<2>(input, offset, out),
                    3 => self.turn::<3>(input, offset, out),
                    4 => self.turn::<4>(input, offset, out),
                    _ => {
                        out.extend(self.places.iter().zip(self.weights.chunks_exact(self.taps / LANES)).map(
                            |(place, weights)| {
                                average(input[place.first..][..self.taps].as_chunks().0, weights, offset)
                            },
                        ))
                    }
                }
                self.next = self.places.len();
                continue;
            }
            // Not all of the turn is known yet.
            let place = self.places[self.next];
            let from = start + self.before + place.first as i64;
            if from + place.length as i64 > input.len() as i64 {
                return;
            }
            // As if the signal had always been at its first value; what comes after it has no weight.
            self.edge.clear();
            let last = input.len() as i64 - 1;
            let around = from..from + self.taps as i64;
            self.edge.extend(around.map(|at| input[at.clamp(0, last) as usize]));
            let weights = &self.weights[self.next * self.taps / LANES..][..self.taps / LANES];
            out.push(average(self.edge.as_chunks().0, weights, offset));
            self.next += 1;
        }
    }

    /// A whole turn of outputs with `CHUNKS` times `LANES` inputs for each; `input` starts with those of the first.
    fn turn<const CHUNKS: usize>(&self, input: &[f32], offset: f32, out: &mut Vec<f32>) {
        let weights = self.weights.as_chunks::<CHUNKS>().0;
        out.extend(self.places.iter().zip(weights).map(|(place, weights)| {
            average(input[place.first..][..CHUNKS * LANES].as_chunks().0, weights, offset)
        }));
    }

    /// Position of a working sample among the input samples.
    pub(crate) fn input_position(&self, work: f64) -> f64 {
        work * self.ratio
    }
}

#[inline(always)]
fn average(around: &[[f32; LANES]], weights: &[[f32; LANES]], offset: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    for (values, weights) in around.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += weights[lane] * (values[lane] - offset);
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
