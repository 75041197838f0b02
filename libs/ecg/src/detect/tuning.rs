//! Constants of the detector. One set is used for all signals.
//!
//! They were chosen by coordinate search on half of the MIT-BIH records with and without added noise, on
//! records cut to 10 s, and at other sampling rates. docs/ECG.md reports the contribution of each stage.

/// Working rate behind the resampler: sufficient for the 5-40 Hz of a QRS complex.
pub(crate) const WORK_HZ: f64 = 125.0;

/// Converts seconds to working samples.
pub(crate) const fn work_samples(seconds: f64) -> usize {
    (seconds * WORK_HZ + 0.5) as usize
}

/// Constants of the detector, adjustable for experiments with [`crate::detect::detect_with`]. All other code
/// uses the default. Scores are natural logarithms of odds. "Noise" is the energy of everything that is not a
/// beat, relative to the energy of a beat.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Center of the band of the envelope in Hz. QRS energy has its maximum at 8-15 Hz.
    pub center_hz: f64,
    /// Standard deviation of the Gaussian window of the filter in seconds: about a quarter of a QRS complex.
    pub sigma_s: f64,
    /// Peaks below this share of the height of a beat are ignored.
    pub floor: f32,
    /// Peaks whose contrast is below this factor are ignored.
    pub contrast_floor: f32,

    /// Prior score of a peak in a clean signal.
    pub bias: f32,
    /// Prior score of a peak where noise hides everything except the template correlation.
    pub bias_in_noise: f32,
    /// Weight of the height relative to known beats (logarithm).
    pub k_level: f32,
    /// Upper limit of that height.
    pub level_max: f32,
    /// Weight of the distance below the lowest plausible beat (logarithm).
    pub k_low: f32,
    /// Weight of the strength of a wide complex.
    pub k_wide: f32,
    /// Penalty of a known template at an unusually low amplitude.
    pub low_beat: f32,
    /// Weight of the height relative to the background (logarithm).
    pub k_contrast: f32,
    /// Upper limit of that contrast.
    pub contrast_max: f32,
    /// How fast the weight of height and contrast decreases with noise.
    pub noise_damping: f32,
    /// Weight of the template evidence.
    pub k_evidence: f32,
    /// Lower limit of that evidence, as a positive number.
    pub evidence_min: f32,
    /// Upper limit of that evidence.
    pub evidence_max: f32,
    /// Weight of the upper of the two bands in which templates are compared.
    pub upper_band: f32,

    /// Variability of beats of one template, as a share of their energy.
    pub variability: f32,
    /// Change of a template per beat, as a share of its energy.
    pub drift: f32,
    /// Evidence above which a beat is assigned to a known template.
    pub learn_from: f32,
    /// Factor of the noise when a template is learned, compared with when it is matched.
    pub caution: f32,
    /// Largest noise at which a new template is learned.
    pub new_noise: f32,
    /// Initial uncertainty of a new template.
    pub new_doubt: f32,
    /// The residual of a beat counts as noise up to this multiple of the energy of its template.
    pub residual_cap: f32,

    /// Cost of an interval that differs from the typical one (squared logarithm of the ratio).
    pub k_rhythm: f32,
    /// Upper limit of that cost.
    pub rhythm_cap: f32,
    /// Cost of each beat missing in an interval.
    pub k_gap: f32,
    /// Longest interval without a missing beat, in typical intervals.
    pub gap_from: f32,
    /// Largest number of missing beats that is counted.
    pub gap_max: f32,
    /// Reduction of the cost of a missing beat in a clean signal, where a beat would be visible.
    pub gap_clean: f32,
    /// Cost of a peak at the position of a usual T wave.
    pub k_t_wave: f32,
    /// Reduction of the rhythm weight if all intervals are irregular.
    pub irregular: f32,
    /// Cost of two beats close to each other.
    pub k_early: f32,
    /// Distance in seconds below which two beats are close.
    pub early_s: f32,
    /// Share of that cost for two beats of equal height.
    pub early_base: f32,
    /// Additional share per unit of difference in height (logarithm).
    pub early_ratio: f32,
}

impl Default for Tuning {
    fn default() -> Self {
        TUNING
    }
}

impl Tuning {
    /// The constants that affect decisions, by name. The constants of the filter come from the literature and
    /// are not listed.
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

/// The default constants.
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
