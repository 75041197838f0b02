//! The constants of the detector, each with what it means and where it comes from.

/// Samples per second of everything behind the resampler: enough for the 5-30 Hz of a QRS complex, and no more.
pub(crate) const WORK_HZ: f64 = 125.0;

/// Seconds as a number of working samples.
pub(crate) const fn work_samples(seconds: f64) -> usize {
    (seconds * WORK_HZ + 0.5) as usize
}

/// What the detector can be tuned by. There is one setting, [`TUNING`]; the type exists so that experiments can vary it.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub(crate) center_hz: f64,
    pub(crate) sigma_s: f64,
    pub(crate) differences: usize,
    pub(crate) theta: f32,
    pub(crate) k_level: f32,
    pub(crate) level_max: f32,
    pub(crate) contrast: f32,
    pub(crate) k_contrast: f32,
    pub(crate) k_shape: f32,
    pub(crate) shape_zero: f32,
    pub(crate) k_rhythm: f32,
    pub(crate) rhythm_cap: f32,
    pub(crate) k_gap: f32,
    pub(crate) k_early: f32,
    pub(crate) early_s: f32,
    pub(crate) bias: f32,
}

/// The one setting.
pub(crate) const TUNING: Tuning = Tuning {
    center_hz: 12.0,
    sigma_s: 0.025,
    differences: 1,
    theta: 0.35,
    k_level: 3.0,
    level_max: 1.0,
    contrast: 3.0,
    k_contrast: 1.0,
    k_shape: 2.0,
    shape_zero: 0.6,
    k_rhythm: 2.0,
    rhythm_cap: 1.5,
    k_gap: 3.0,
    k_early: 3.0,
    early_s: 0.36,
    bias: 0.0,
};
