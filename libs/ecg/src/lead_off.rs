//! Finds the parts of a signal in which the lead is off or the amplifier is saturated.
//!
//! An electrode on a living body always delivers noise, so a line that is constant for half a second comes
//! from a lead that is off. A signal without any noise, such as a generated one, is treated differently: its
//! baseline may be constant, so a constant line counts only if it lasts longer than a pause can.
//!
//! The signal arrives sample by sample. A decision depends on the last seconds before the constant line alone, so a
//! stream and a whole recording give the same parts.

/// Shortest constant line that counts as lead off.
pub(crate) const MIN_FLAT_S: f64 = 0.5;
/// A level that exceeds the range of the rest by this share of the range is a saturated amplifier.
const LEVEL_TOLERANCE: f32 = 1e-4;
/// A recording has noise if the lower quartile of its second differences exceeds this share of its range.
const MIN_NOISE: f32 = 2e-4;
/// Shortest constant line that counts as lead off in a signal without noise.
const MAX_NOISELESS_PAUSE_S: f64 = 6.0;
/// Length of the signal before a constant line that the line is compared with.
const HISTORY_S: f64 = 10.0;

/// State of a lead after a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeadState {
    /// The lead records.
    On,
    /// The lead is off since this many samples, the present one included. This is the first sample at which this is
    /// certain.
    Lost(usize),
    /// The lead is still off.
    Off,
    /// The present sample is the first after the lead was off.
    Back,
}

/// Decides for each sample whether the lead is off.
#[derive(Debug, Clone)]
pub(crate) struct LeadOff {
    shortest: usize,
    longest: usize,
    /// The value of the last samples, and how many have it.
    value: f32,
    run: usize,
    is_off: bool,
    /// The last part of the recording without lead off, the present run included.
    history: Vec<f32>,
    kept: usize,
}

impl LeadOff {
    /// For `rate` samples per second.
    pub(crate) fn new(rate: f64) -> Self {
        LeadOff {
            shortest: ((MIN_FLAT_S * rate) as usize).max(2),
            longest: ((MAX_NOISELESS_PAUSE_S * rate) as usize).max(3),
            value: f32::NAN,
            run: 0,
            is_off: false,
            history: Vec::new(),
            kept: ((HISTORY_S * rate) as usize).max(1),
        }
    }

    /// Memory on the heap in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        4 * self.history.capacity()
    }

    /// Processes one sample.
    pub(crate) fn push(&mut self, value: f32) -> LeadState {
        if value == self.value {
            self.run += 1;
            if self.is_off {
                return LeadState::Off;
            }
            self.history.push(value);
            if (self.run == self.shortest || self.run == self.longest) && self.is_lost() {
                self.is_off = true;
                self.history.truncate(self.history.len() - self.run);
                return LeadState::Lost(self.run);
            }
            return LeadState::On;
        }
        self.value = value;
        self.run = 1;
        // The longest run that is decided on is part of what is kept.
        if self.history.len() >= 2 * (self.kept + self.longest) {
            self.history.drain(..self.history.len() - self.kept);
        }
        self.history.push(value);
        if std::mem::take(&mut self.is_off) { LeadState::Back } else { LeadState::On }
    }

    /// Whether the present run of equal samples comes from a lead that is off.
    fn is_lost(&self) -> bool {
        if self.run >= self.longest {
            return true;
        }
        let before = &self.history[..self.history.len() - self.run];
        let before = &before[before.len().saturating_sub(self.kept)..];
        let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut changes = Vec::with_capacity(before.len());
        let mut start = 0;
        while start < before.len() {
            // A constant line that did not count as lead off says nothing about noise.
            let run = before[start..].iter().take_while(|value| **value == before[start]).count();
            if run < self.shortest {
                for at in start.max(1)..(start + run).min(before.len().saturating_sub(1)) {
                    low = low.min(before[at]);
                    high = high.max(before[at]);
                    changes.push((before[at - 1] - 2.0 * before[at] + before[at + 1]).abs());
                }
            }
            start += run;
        }
        if changes.len() < self.shortest {
            return true;
        }
        let place = changes.len() / 4;
        let noise = *changes.select_nth_unstable_by(place, f32::total_cmp).1;
        // A level outside the range of the rest is a saturated amplifier.
        let tolerance = LEVEL_TOLERANCE * (high - low);
        self.value > high + tolerance || self.value < low - tolerance || noise > MIN_NOISE * (high - low)
    }
}
