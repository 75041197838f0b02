//! Training of boosted trees by Newton steps on the logistic loss, with histograms of binned features. Deterministic.

use ecg::beat_types::{BEAT_FEATURES, DECISIONS, Forest, LEAVES, Tree};

/// Number of bins of a feature.
const BINS: usize = 32;
/// Share of each Newton step that is taken.
const STEP: f64 = 0.15;
/// Penalty on the leaves, and smallest curvature of a leaf, in units of an example of weight one.
const PENALTY: f64 = 10.0;
const LEAST_CURVATURE: f64 = 5.0;

/// A training example.
pub(crate) struct Example<'a> {
    pub(crate) features: &'a [f32; BEAT_FEATURES],
    pub(crate) positive: bool,
    pub(crate) weight: f64,
}

/// Fits the trees. Limits and leaves are rounded to four significant digits, as they are printed.
pub(crate) fn fit(examples: &[Example<'_>], trees: usize) -> Forest {
    let limits: Vec<Vec<f32>> = (0..BEAT_FEATURES).map(|feature| quantiles(examples, feature)).collect();
    let bins: Vec<Vec<u8>> = (0..BEAT_FEATURES)
        .map(|feature| {
            let bin = |value: f32| limits[feature].partition_point(|limit| *limit < value) as u8;
            examples.iter().map(|example| bin(example.features[feature])).collect()
        })
        .collect();
    let total = |positive: bool| -> f64 {
        examples.iter().filter(|example| example.positive == positive).map(|example| example.weight).sum()
    };
    let bias = rounded((total(true).max(1e-3) / total(false).max(1e-3)).ln() as f32);
    let mut scores = vec![bias; examples.len()];
    let mut out = Vec::with_capacity(trees);
    for _ in 0..trees {
        let slopes: Vec<[f64; 2]> = examples
            .iter()
            .zip(&scores)
            .map(|(example, score)| {
                let probability = 1.0 / (1.0 + f64::from(-score).exp());
                let error = f64::from(u8::from(example.positive)) - probability;
                [example.weight * error, example.weight * probability * (1.0 - probability)]
            })
            .collect();
        let tree = grow(&bins, &limits, &slopes);
        for (score, example) in scores.iter_mut().zip(examples) {
            *score += tree.leaves[tree.leaf(example.features)];
        }
        out.push(tree);
    }
    Forest { bias, trees: out.into() }
}

/// Up to `BINS - 1` limits between equally frequent bins.
fn quantiles(examples: &[Example<'_>], feature: usize) -> Vec<f32> {
    let mut values: Vec<f32> = examples.iter().map(|example| example.features[feature]).collect();
    values.sort_unstable_by(f32::total_cmp);
    let mut limits: Vec<f32> = (1..BINS)
        .filter_map(|bin| values.get(bin * values.len() / BINS))
        .map(|value| rounded(*value))
        .collect();
    limits.dedup();
    limits
}

fn rounded(value: f32) -> f32 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

fn grow(bins: &[Vec<u8>], limits: &[Vec<f32>], slopes: &[[f64; 2]]) -> Tree {
    let mut tree = Tree { features: [0; DECISIONS], limits: [f32::MAX; DECISIONS], leaves: [0.0; LEAVES] };
    let mut node = vec![0_u8; slopes.len()];
    let gain = |sums: [f64; 2]| sums[0] * sums[0] / (sums[1] + PENALTY);
    let mut first = 0;
    while first < DECISIONS {
        let width = first + 1;
        let mut best = vec![(0.0_f64, 0_usize, usize::MAX); width];
        let mut sums = vec![[0.0_f64; 2]; width];
        for (node, slope) in node.iter().zip(slopes) {
            let sum = &mut sums[usize::from(*node) - first];
            *sum = [sum[0] + slope[0], sum[1] + slope[1]];
        }
        for (feature, bins) in bins.iter().enumerate() {
            let mut histogram = vec![[[0.0_f64; 2]; BINS]; width];
            for ((bin, node), slope) in bins.iter().zip(&node).zip(slopes) {
                let cell = &mut histogram[usize::from(*node) - first][usize::from(*bin)];
                *cell = [cell[0] + slope[0], cell[1] + slope[1]];
            }
            for (at, histogram) in histogram.iter().enumerate() {
                let mut low = [0.0; 2];
                for (bin, cell) in histogram.iter().enumerate().take(limits[feature].len()) {
                    low = [low[0] + cell[0], low[1] + cell[1]];
                    let high = [sums[at][0] - low[0], sums[at][1] - low[1]];
                    if low[1] < LEAST_CURVATURE || high[1] < LEAST_CURVATURE {
                        continue;
                    }
                    let gained = gain(low) + gain(high) - gain(sums[at]);
                    if gained > best[at].0 {
                        best[at] = (gained, feature, bin);
                    }
                }
            }
        }
        for (at, (_, feature, bin)) in best.iter().enumerate() {
            if let Some(limit) = limits[*feature].get(*bin) {
                tree.features[first + at] = *feature as u8;
                tree.limits[first + at] = *limit;
            }
        }
        for (at, node) in node.iter_mut().enumerate() {
            let (_, feature, bin) = best[usize::from(*node) - first];
            let above = bin != usize::MAX && usize::from(bins[feature][at]) > bin;
            *node = 2 * *node + 1 + u8::from(above);
        }
        first = 2 * first + 1;
    }
    let mut sums = [[0.0_f64; 2]; LEAVES];
    for (node, slope) in node.iter().zip(slopes) {
        let sum = &mut sums[usize::from(*node) - DECISIONS];
        *sum = [sum[0] + slope[0], sum[1] + slope[1]];
    }
    tree.leaves = sums.map(|sum| rounded((STEP * sum[0] / (sum[1] + PENALTY)) as f32));
    tree
}
