//! The minimum and maximum of blocks of a signal, so that a day of samples is drawn as fast as a second.

/// The number of samples in a block.
const BLOCK: usize = 256;

/// The minimum and maximum of each block of a signal.
#[derive(Debug)]
pub(super) struct Envelope {
    blocks: Vec<(f32, f32)>,
}

impl Envelope {
    pub(super) fn of(samples: &[f32]) -> Self {
        Envelope { blocks: samples.chunks(BLOCK).map(extremes).collect() }
    }

    /// The minimum and maximum of `samples[from..to]`. The samples have to be those of [`Envelope::of`]. `None` for an empty range.
    pub(super) fn extremes(&self, samples: &[f32], from: usize, to: usize) -> Option<(f32, f32)> {
        let to = to.min(samples.len());
        if from >= to {
            return None;
        }
        let (first, last) = (from.div_ceil(BLOCK), to / BLOCK);
        if first >= last {
            return Some(extremes(&samples[from..to]));
        }
        let mut all = join(extremes(&samples[from..first * BLOCK]), extremes(&samples[last * BLOCK..to]));
        for block in &self.blocks[first..last] {
            all = join(all, *block);
        }
        Some(all)
    }
}

fn extremes(samples: &[f32]) -> (f32, f32) {
    samples
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), sample| (low.min(*sample), high.max(*sample)))
}

fn join(one: (f32, f32), other: (f32, f32)) -> (f32, f32) {
    (one.0.min(other.0), one.1.max(other.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_of_a_range_are_those_of_its_samples() {
        let samples: Vec<f32> = (0..5000).map(|index| ((index * 7919) % 1009) as f32).collect();
        let envelope = Envelope::of(&samples);
        for (from, to) in [(0, 5000), (0, 1), (255, 257), (256, 512), (300, 4000), (4990, 9999), (17, 290)] {
            let expected = super::extremes(&samples[from..to.min(5000)]);
            assert_eq!(envelope.extremes(&samples, from, to), Some(expected), "{from}..{to}");
        }
        assert_eq!(envelope.extremes(&samples, 5000, 6000), None);
        assert_eq!(envelope.extremes(&samples, 9, 9), None);
    }
}
