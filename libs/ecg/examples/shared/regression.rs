//! Logistic regression by Newton's method, with standardised features and a ridge penalty.

/// Ridge penalty of the standardised weights, relative to the total weight of the examples.
const RIDGE: f64 = 1e-3;
const NEWTON_STEPS: usize = 30;

/// A training example.
pub(crate) struct Example<'a> {
    pub(crate) features: &'a [f64],
    pub(crate) positive: bool,
    pub(crate) weight: f64,
}

/// Fits the weights of the features, followed by the bias. The weights of the examples need not sum to one.
pub(crate) fn fit(examples: &[Example<'_>]) -> Vec<f64> {
    let count = examples.first().map_or(0, |example| example.features.len());
    let unknowns = count + 1;
    let total: f64 = examples.iter().map(|example| example.weight).sum();
    let (mut mean, mut deviation) = (vec![0.0; count], vec![0.0; count]);
    for example in examples {
        for (mean, feature) in mean.iter_mut().zip(example.features) {
            *mean += example.weight / total * feature;
        }
    }
    for example in examples {
        for ((deviation, feature), mean) in deviation.iter_mut().zip(example.features).zip(&mean) {
            *deviation += example.weight / total * (feature - mean).powi(2);
        }
    }
    for deviation in &mut deviation {
        *deviation = deviation.sqrt().max(1e-9);
    }
    let mut beta = vec![0.0; unknowns];
    let mut row = vec![1.0; unknowns];
    for _ in 0..NEWTON_STEPS {
        let mut gradient = vec![0.0; unknowns];
        let mut hessian = vec![vec![0.0; unknowns]; unknowns];
        for example in examples {
            for (index, feature) in example.features.iter().enumerate() {
                row[index] = (feature - mean[index]) / deviation[index];
            }
            let score: f64 = row.iter().zip(&beta).map(|(left, right)| left * right).sum();
            let probability = 1.0 / (1.0 + (-score).exp());
            let weight = example.weight / total;
            let error = weight * (f64::from(example.positive) - probability);
            let curvature = weight * probability * (1.0 - probability);
            for left in 0..unknowns {
                gradient[left] += error * row[left];
                let scaled = curvature * row[left];
                for (sum, right) in hessian[left].iter_mut().zip(&row).skip(left) {
                    *sum += scaled * right;
                }
            }
        }
        // Only the upper triangle was summed.
        for left in 1..unknowns {
            let (above, below) = hessian.split_at_mut(left);
            for (value, row) in below[0].iter_mut().zip(above) {
                *value = row[left];
            }
        }
        for index in 0..count {
            gradient[index] -= RIDGE * beta[index];
            hessian[index][index] += RIDGE;
        }
        let step = solve(hessian, gradient);
        for (beta, step) in beta.iter_mut().zip(&step) {
            *beta += step;
        }
        if step.iter().all(|step| step.abs() < 1e-8) {
            break;
        }
    }
    let mut out: Vec<f64> = (0..count).map(|index| beta[index] / deviation[index]).collect();
    let shift: f64 = out.iter().zip(&mean).map(|(weight, mean)| weight * mean).sum();
    out.push(beta[count] - shift);
    out
}

/// Solves a symmetric positive definite system by Gaussian elimination.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for pivot in 0..size {
        let pivot_row = matrix[pivot].clone();
        for row in pivot + 1..size {
            let factor = matrix[row][pivot] / pivot_row[pivot];
            for (value, above) in matrix[row].iter_mut().zip(&pivot_row).skip(pivot) {
                *value -= factor * above;
            }
            right[row] -= factor * right[pivot];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * right[column]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}
