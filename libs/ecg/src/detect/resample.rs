//! Conversion from any sampling rate to the working rate.
//!
//! Each working sample is a weighted mean of the input around it with triangular weights. The half width is
//! one working sample, so that the zeros of the filter keep aliases out of the QRS band. For slow input it is
//! one input sample, which is linear interpolation.

use super::tuning::WORK_HZ;

/// Inputs that are processed together, so that the compiler emits SIMD code.
const LANES: usize = 4;
/// Number of outputs whose weights are tabulated. After this many outputs, the phase of any whole rate
/// repeats.
const LONGEST_TURN: usize = WORK_HZ as usize;
/// Shorter periods are repeated, so that the loop is long enough.
const SHORTEST_TURN: usize = 25;
/// Relative tolerance for a rate that is a whole fraction.
const SAME: f64 = 1e-12;

#[derive(Debug, Clone)]
pub(crate) struct Resampler {
    /// Input samples per working sample.
    ratio: f64,
    /// Half the width of the weights in input samples.
    half: f64,
    /// Number of inputs per output: all with a weight, rounded up to whole lanes.
    taps: usize,
    /// The outputs of one period and their weights, `taps` for each.
    places: Vec<Place>,
    weights: Vec<[f32; LANES]>,
    /// First input of a period relative to its start, and the number of inputs.
    before: i64,
    span: usize,
    /// Inputs per period, if that is a whole number: the weights of all periods are then the same.
    stride: Option<i64>,
    /// The next output: number of complete periods, first input of its period, and its index in the period.
    turns: usize,
    start: i64,
    next: usize,
    /// Offset subtracted from the input, so that a large offset costs no precision.
    offset: Option<f32>,
    /// Copy of the input at its edges.
    edge: Vec<f32>,
}

/// The inputs of one output.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Index relative to the first input of the period.
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

    /// Computes the weights of the outputs of the current period.
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

    /// Appends the working samples that are complete. All of `input` is finite; `dropped` samples before it
    /// were dropped.
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
            // The period is not complete yet.
            let place = self.places[self.next];
            let from = start + self.before + place.first as i64;
            if from + place.length as i64 > input.len() as i64 {
                return;
            }
            // Before its start the signal has its first value. Inputs after the end have zero weight.
            self.edge.clear();
            let last = input.len() as i64 - 1;
            let around = from..from + self.taps as i64;
            self.edge.extend(around.map(|at| input[at.clamp(0, last) as usize]));
            let weights = &self.weights[self.next * self.taps / LANES..][..self.taps / LANES];
            out.push(average(self.edge.as_chunks().0, weights, offset));
            self.next += 1;
        }
    }

    /// Computes a whole period with `CHUNKS` times `LANES` inputs per output. `input` starts with the inputs
    /// of the first.
    fn turn<const CHUNKS: usize>(&self, input: &[f32], offset: f32, out: &mut Vec<f32>) {
        let weights = self.weights.as_chunks::<CHUNKS>().0;
        out.extend(self.places.iter().zip(weights).map(|(place, weights)| {
            average(input[place.first..][..CHUNKS * LANES].as_chunks().0, weights, offset)
        }));
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Place>() * self.places.capacity()
            + size_of::<[f32; LANES]>() * self.weights.capacity()
            + 4 * self.edge.capacity()
    }

    /// Number of working samples that `inputs` input samples complete.
    pub(crate) fn outputs_of(&self, inputs: u64) -> usize {
        let last = (inputs as f64 - self.half) / self.ratio;
        if last < 0.0 { 0 } else { last as usize + 1 }
    }

    /// Position of a working sample in input samples.
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
