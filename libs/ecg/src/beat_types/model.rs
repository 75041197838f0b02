//! Boosted trees: the sum of many small decision trees is a log-odds (J. H. Friedman, "Greedy function approximation:
//! a gradient boosting machine", Annals of Statistics 29(5), 2001). They are trained by `examples/fit_beat_types`.

use std::borrow::Cow;

use super::features::BEAT_FEATURES;

/// Number of decisions of a tree, in three levels.
pub const DECISIONS: usize = 7;
/// Number of leaves of a tree.
pub const LEAVES: usize = DECISIONS + 1;

/// A complete binary tree of depth three. The children of decision `n` are `2 n + 1` (the feature is at most the
/// limit) and `2 n + 2` (above it).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tree {
    /// Index of the feature of each decision.
    pub features: [u8; DECISIONS],
    /// Limit of each decision.
    pub limits: [f32; DECISIONS],
    /// Contribution of each leaf to the log-odds.
    pub leaves: [f32; LEAVES],
}

impl Tree {
    /// Index of the leaf for these features.
    #[must_use]
    pub fn leaf(&self, features: &[f32; BEAT_FEATURES]) -> usize {
        let mut at = 0;
        while at < DECISIONS {
            let value = features[usize::from(self.features[at])];
            at = 2 * at + 1 + usize::from(value > self.limits[at]);
        }
        at - DECISIONS
    }
}

/// The trees of one decision between two classes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// Constant term of the log-odds.
    pub bias: f32,
    /// The trees, whose leaves are added.
    pub trees: Cow<'static, [Tree]>,
}

impl Forest {
    /// Log-odds of a beat with these features.
    #[must_use]
    pub fn log_odds(&self, features: &[f32; BEAT_FEATURES]) -> f32 {
        self.bias + self.trees.iter().map(|tree| tree.leaves[tree.leaf(features)]).sum::<f32>()
    }
}

/// The two decisions of the classifier.
#[derive(Debug, Clone, PartialEq)]
pub struct BeatWeights {
    /// Ventricular against all others.
    pub ventricular: Forest,
    /// Supraventricular against normal.
    pub supraventricular: Forest,
}
