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

/// What the detector can be tuned by, for experiments ([`crate::detect::detect_with`]); everything else uses the one setting,
/// which is the default. Scores are in units of a natural
/// logarithm of odds; "noise" is the energy of what is no beat, relative to that of a beat.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Middle of the band whose envelope is searched for peaks, in Hz. QRS energy has its maximum at 8-15 Hz.
    pub center_hz: f64,
    /// Standard deviation of the bell that limits the filter in time, in seconds: about a quarter of a QRS complex.
    pub sigma_s: f64,
    /// Peaks lower than this share of a beat are not looked at.
    pub floor: f32,
    /// Peaks that exceed their surroundings by less than this factor are not looked at.
    pub contrast_floor: f32,

    /// Score of a peak before anything is known of it, where the signal is clean.
    pub bias: f32,
    /// The same where noise hides everything but the shape.
    pub bias_in_noise: f32,
    /// Weight of the height relative to known beats (logarithm).
    pub k_level: f32,
    /// Limit of that.
    pub level_max: f32,
    /// Weight of how much a peak is below the lowest beats (logarithm).
    pub k_low: f32,
    /// Weight of the strength of a wide complex.
    pub k_wide: f32,
    /// How much a known shape at an unusually low amplitude counts less than at a usual one.
    pub low_beat: f32,
    /// Weight of the height relative to the surroundings (logarithm).
    pub k_contrast: f32,
    /// Limit of that.
    pub contrast_max: f32,
    /// How fast height and contrast lose their say as noise grows.
    pub noise_damping: f32,
    /// Weight of the correlation to known shapes.
    pub k_evidence: f32,
    /// Limit of that, downwards.
    pub evidence_min: f32,
    /// Limit of that, upwards.
    pub evidence_max: f32,
    /// Weight of the upper of the two bands in which shapes are compared.
    pub upper_band: f32,

    /// How much beats of one shape differ from each other, as a share of their energy.
    pub variability: f32,
    /// How fast a known shape may change, as a share of its energy for each beat.
    pub drift: f32,
    /// Likeness from which a beat counts as one of a known shape.
    pub learn_from: f32,
    /// How much more noise counts when a shape is learned than when it is compared.
    pub caution: f32,
    /// New shapes are learned below this noise.
    pub new_noise: f32,
    /// Doubt with which a new shape is learned.
    pub new_doubt: f32,
    /// What a shape does not explain of a beat counts as noise up to this multiple of the shape's energy.
    pub residual_cap: f32,

    /// Cost of an interval that differs from the usual one (squared logarithm of the ratio).
    pub k_rhythm: f32,
    /// Limit of that.
    pub rhythm_cap: f32,
    /// Cost of each beat that is missing in an interval.
    pub k_gap: f32,
    /// Intervals up to this, in usual ones, miss no beat.
    pub gap_from: f32,
    /// More beats than this are not counted as missing.
    pub gap_max: f32,
    /// How much less a missing beat costs where the signal is clean: what is not seen there is not there.
    pub gap_clean: f32,
    /// Cost of a hump where the T wave of a beat is usual.
    pub k_t_wave: f32,
    /// How much less the rhythm counts when all intervals differ from the usual one.
    pub irregular: f32,
    /// Cost of two beats that are close to each other.
    pub k_early: f32,
    /// Beats closer than this, in seconds, cost.
    pub early_s: f32,
    /// How much of that they cost when they are equally high ...
    pub early_base: f32,
    /// ... and how much more for each unit by which their heights differ (logarithm).
    pub early_ratio: f32,
}

impl Default for Tuning {
    fn default() -> Self {
        TUNING
    }
}

impl Tuning {
    /// The constants that decide, by name. Those of the filter are left out: they are taken from the literature.
    pub fn weights(&mut self) -> [(&'static str, &mut f32); 35] {
        [
            ("floor", &mut self.floor),
            ("contrast_floor", &mut self.contrast_floor),
            ("bias", &mut self.bias),
            ("bias_in_noise", &mut self.bias_in_noise),
            ("k_level", &mut self.k_level),
            ("level_max", &mut self.level_max),
            ("k_low", &mut self.k_low),
            ("k_wide", &mut self.k_wide),
            ("low_beat", &mut self.low_beat),
            ("k_contrast", &mut self.k_contrast),
            ("contrast_max", &mut self.contrast_max),
            ("noise_damping", &mut self.noise_damping),
            ("k_evidence", &mut self.k_evidence),
            ("evidence_min", &mut self.evidence_min),
            ("evidence_max", &mut self.evidence_max),
            ("upper_band", &mut self.upper_band),
            ("variability", &mut self.variability),
            ("drift", &mut self.drift),
            ("learn_from", &mut self.learn_from),
            ("caution", &mut self.caution),
            ("new_noise", &mut self.new_noise),
            ("new_doubt", &mut self.new_doubt),
            ("residual_cap", &mut self.residual_cap),
            ("k_rhythm", &mut self.k_rhythm),
            ("rhythm_cap", &mut self.rhythm_cap),
            ("k_gap", &mut self.k_gap),
            ("gap_from", &mut self.gap_from),
            ("gap_max", &mut self.gap_max),
            ("gap_clean", &mut self.gap_clean),
            ("k_t_wave", &mut self.k_t_wave),
            ("irregular", &mut self.irregular),
            ("k_early", &mut self.k_early),
            ("early_s", &mut self.early_s),
            ("early_base", &mut self.early_base),
            ("early_ratio", &mut self.early_ratio),
        ]
    }
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
    k_low: 4.0,
    k_wide: 5.0,
    low_beat: 1.0,
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
    gap_clean: 0.85,
    k_t_wave: 9.0,
    irregular: 0.9,
    k_early: 3.0,
    early_s: 0.36,
    early_base: 0.2,
    early_ratio: 2.0,
};
