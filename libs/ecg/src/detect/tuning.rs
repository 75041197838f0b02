//! The constants of the detector, each with what it means. There is one setting for all signals.
//!
//! They were chosen by coordinate search on half of the MIT-BIH records with and without added noise, in records cut to
//! 10 s, and at other sampling rates; docs/ECG.md says what each stage is worth.

/// Samples per second of everything behind the resampler: enough for the 5-40 Hz of a QRS complex, and no more.
pub(crate) const WORK_HZ: f64 = 125.0;

/// Seconds as a number of working samples.
pub(crate) const fn work_samples(seconds: f64) -> usize {
    (seconds * WORK_HZ + 0.5) as usize
}

/// What the detector can be tuned by; the type exists so that experiments can vary it. Scores are in units of a natural
/// logarithm of odds; "noise" is the energy of what is no beat, relative to that of a beat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// Middle of the band whose envelope is searched for peaks, in Hz. QRS energy has its maximum at 8-15 Hz.
    pub(crate) center_hz: f64,
    /// Standard deviation of the bell that limits the filter in time, in seconds: about a quarter of a QRS complex.
    pub(crate) sigma_s: f64,
    /// Peaks lower than this share of a beat are not looked at.
    pub(crate) floor: f32,
    /// Peaks that exceed their surroundings by less than this factor are not looked at.
    pub(crate) contrast_floor: f32,

    /// Score of a peak before anything is known of it, where the signal is clean.
    pub(crate) bias: f32,
    /// The same where noise hides everything but the shape.
    pub(crate) bias_in_noise: f32,
    /// Weight of the height relative to known beats (logarithm), and its limit.
    pub(crate) k_level: f32,
    pub(crate) level_max: f32,
    /// Weight of the height relative to the surroundings (logarithm), and its limit.
    pub(crate) k_contrast: f32,
    pub(crate) contrast_max: f32,
    /// How fast height and contrast lose their say as noise grows.
    pub(crate) noise_damping: f32,
    /// Weight of the likeness to known shapes, and its limits.
    pub(crate) k_evidence: f32,
    pub(crate) evidence_min: f32,
    pub(crate) evidence_max: f32,
    /// Weight of the upper of the two bands in which shapes are compared.
    pub(crate) upper_band: f32,

    /// How much beats of one shape differ from each other, as a share of their energy.
    pub(crate) variability: f32,
    /// How fast a known shape may change, as a share of its energy for each beat.
    pub(crate) drift: f32,
    /// Likeness from which a beat counts as one of a known shape.
    pub(crate) learn_from: f32,
    /// How much more noise counts when a shape is learned than when it is compared.
    pub(crate) caution: f32,
    /// New shapes are learned below this noise, and with this doubt.
    pub(crate) new_noise: f32,
    pub(crate) new_doubt: f32,
    /// What a shape does not explain of a beat counts as noise up to this multiple of the shape's energy.
    pub(crate) residual_cap: f32,

    /// Cost of an interval that differs from the usual one (squared logarithm of the ratio), and its limit.
    pub(crate) k_rhythm: f32,
    pub(crate) rhythm_cap: f32,
    /// Cost of each beat that is missing: of an interval, in usual ones, beyond `gap_from`, at most `gap_max` of them.
    pub(crate) k_gap: f32,
    pub(crate) gap_from: f32,
    pub(crate) gap_max: f32,
    /// How much less the rhythm counts when all intervals differ from the usual one.
    pub(crate) irregular: f32,
    /// Cost of two beats closer than `early_s` seconds: `early_base`, and more the more their heights differ.
    pub(crate) k_early: f32,
    pub(crate) early_s: f32,
    pub(crate) early_base: f32,
    pub(crate) early_ratio: f32,
}

/// The one setting.
pub(crate) const TUNING: Tuning = Tuning {
    center_hz: 12.0,
    sigma_s: 0.025,
    floor: 0.06,
    contrast_floor: 1.6,
    bias: -2.5,
    bias_in_noise: -0.85,
    k_level: 0.4,
    level_max: 0.7,
    k_contrast: 2.5,
    contrast_max: 3.3,
    noise_damping: 10.0,
    k_evidence: 1.2,
    evidence_min: 3.0,
    evidence_max: 4.0,
    upper_band: 0.7,
    variability: 0.13,
    drift: 0.001,
    learn_from: 1.5,
    caution: 4.0,
    new_noise: 0.15,
    new_doubt: 0.2,
    residual_cap: 3.0,
    k_rhythm: 2.0,
    rhythm_cap: 2.5,
    k_gap: 5.0,
    gap_from: 1.3,
    gap_max: 3.0,
    irregular: 0.9,
    k_early: 3.0,
    early_s: 0.36,
    early_base: 0.2,
    early_ratio: 2.0,
};
