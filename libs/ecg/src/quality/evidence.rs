//! Evidence for a heart rhythm in a segment: a logistic regression on the quality indices.
//!
//! docs/ECG.md names the data that [`EVIDENCE_WEIGHTS`] were fitted on, and reports the performance on unseen patients.
//! `examples/fit_evidence` fits other weights and compares them.

use super::{Indices, exclusion};

/// Number of features of the regression.
pub const EVIDENCE_FEATURES: usize = 10;

/// Segments with fewer beats provide less evidence.
const ENOUGH_BEATS: f64 = 8.0;
/// RR variation that is assumed if there are too few intervals, and its lower limit: paced rhythms vary less than that.
const DEFAULT_RR_VARIATION: f64 = 0.4;
const MIN_RR_VARIATION: f64 = 0.02;

/// Weights of the regression: log-odds = `bias` + sum of `features` times [`evidence_features`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvidenceWeights {
    /// Constant term.
    pub bias: f64,
    /// Weight of each feature.
    pub features: [f64; EVIDENCE_FEATURES],
}

/// The weights in use. They are older than `examples/fit_evidence`, which does not reproduce them; its weights accept more
/// noise.
pub const EVIDENCE_WEIGHTS: EvidenceWeights = EvidenceWeights {
    bias: -19.182,
    features: [2.251, 1.354, -1.093, 1.273, 1.45, 8.359, -14.509, -0.545, -1.368, -1.661],
};

impl EvidenceWeights {
    /// Log-odds that a segment with these features contains a heart rhythm.
    #[must_use]
    pub fn log_odds(&self, features: &[f64; EVIDENCE_FEATURES]) -> f64 {
        self.bias + self.features.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f64>()
    }
}

/// The features of a segment. `None` if a rule excludes that it is an ECG, whatever its features.
#[must_use]
pub fn evidence_features(found: &Indices) -> Option<[f64; EVIDENCE_FEATURES]> {
    exclusion(found).is_none().then(|| features(found))
}

/// Log-odds of a segment that no rule excludes.
pub(super) fn log_odds(found: &Indices) -> f64 {
    EVIDENCE_WEIGHTS.log_odds(&features(found))
}

fn features(found: &Indices) -> [f64; EVIDENCE_FEATURES] {
    [
        // Beats have one shape, over the whole beat and in the QRS complex.
        -(1.02 - found.concordance.unwrap_or(0.5)).ln(),
        -(1.05 - found.template_share.unwrap_or(0.0)).ln(),
        found.rr_variation.unwrap_or(DEFAULT_RR_VARIATION).clamp(MIN_RR_VARIATION, 1.5).ln(),
        // Two detectors agree, and one is certain.
        found.agreement,
        (-(1.02 - f64::from(found.confidence)).ln()).min(3.0),
        // A QRS complex is short and returns to the baseline.
        f64::from(found.compactness).min(0.95),
        (f64::from(found.step) - 0.25).max(0.0),
        found.kurtosis.clamp(1.0, 100.0).ln(),
        found.sharpness.clamp(0.01, 1.0).ln(),
        // A few beats are similar and evenly spaced by chance more often.
        (ENOUGH_BEATS / found.beats.max(1) as f64).max(1.0).ln(),
    ]
}
