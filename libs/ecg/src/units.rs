//! Units of voltage: named by a file, or inferred from the range of its values.

/// A unit of voltage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoltageUnit {
    /// V.
    Volt,
    /// mV.
    Millivolt,
    /// µV.
    Microvolt,
    /// nV.
    Nanovolt,
}

/// Plausible peak-to-peak amplitude of two seconds of ECG, in millivolts: from a tenth of a small QRS complex
/// to ten times a tall one, so that noise and drift do not change the inferred unit.
pub(crate) const PLAUSIBLE_SWING_MV: std::ops::Range<f64> = 0.02..50.0;

impl VoltageUnit {
    /// Factor from this unit to millivolts.
    pub(crate) fn to_millivolt(self) -> f64 {
        match self {
            VoltageUnit::Volt => 1e3,
            VoltageUnit::Millivolt => 1.0,
            VoltageUnit::Microvolt => 1e-3,
            VoltageUnit::Nanovolt => 1e-6,
        }
    }

    /// The name of the unit in the plural, such as `millivolts`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            VoltageUnit::Volt => "volts",
            VoltageUnit::Millivolt => "millivolts",
            VoltageUnit::Microvolt => "microvolts",
            VoltageUnit::Nanovolt => "nanovolts",
        }
    }

    /// The unit of a symbol such as `mV` or `uV`.
    pub(crate) fn from_symbol(symbol: &str) -> Option<Self> {
        match symbol.trim().to_lowercase().replace('\u{3bc}', "µ").as_str() {
            "v" | "volt" => Some(VoltageUnit::Volt),
            "mv" => Some(VoltageUnit::Millivolt),
            "uv" | "µv" => Some(VoltageUnit::Microvolt),
            "nv" => Some(VoltageUnit::Nanovolt),
            _ => None,
        }
    }

    /// The unit in which a typical peak-to-peak amplitude of two seconds is that of an ECG.
    pub(crate) fn inferred_from(swing: f64) -> Self {
        if swing < PLAUSIBLE_SWING_MV.start {
            VoltageUnit::Volt
        } else if swing < PLAUSIBLE_SWING_MV.end {
            VoltageUnit::Millivolt
        } else if swing < PLAUSIBLE_SWING_MV.end * 1e3 {
            VoltageUnit::Microvolt
        } else {
            VoltageUnit::Nanovolt
        }
    }
}

/// Median of the peak-to-peak amplitudes of windows of `window` samples. Zero if there are no samples.
pub(crate) fn typical_swing<'a>(stretches: impl Iterator<Item = &'a [f32]>, window: usize) -> f64 {
    let mut swings: Vec<f32> = stretches
        .flat_map(|samples| samples.chunks(window.max(1)))
        .map(|chunk| {
            let (low, high) = extremes(chunk);
            high - low
        })
        .collect();
    if swings.is_empty() {
        return 0.0;
    }
    let middle = swings.len() / 2;
    let (_, median, _) = swings.select_nth_unstable_by(middle, f32::total_cmp);
    f64::from(*median)
}

/// Lowest and highest of `samples`, or (∞, −∞) if there are none.
pub(crate) fn extremes(samples: &[f32]) -> (f32, f32) {
    samples
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &sample| (low.min(sample), high.max(sample)))
}
