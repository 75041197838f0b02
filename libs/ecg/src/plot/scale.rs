//! Scale of the trace and height of the rows.

use crate::Strip;

/// Paper speed in millimetres per second.
pub(super) const SPEED_MM_PER_S: f64 = 25.0;
/// Seconds of a row.
pub(super) const ROW_S: f64 = 10.0;
/// Gains in millimetres per millivolt, from the standard one down.
const GAINS_MM_PER_MV: [f64; 6] = [10.0, 5.0, 2.5, 1.0, 0.5, 0.1];
/// Smallest and largest height of a row in millimetres.
const ROW_HEIGHT_MM: (f64, f64) = (25.0, 50.0);
/// Margins above and below the trace in millimetres. The upper one contains beat marks.
const MARGIN_MM: (f64, f64) = (6.0, 3.0);
/// Share of samples that may be cut off at each end, so that a spike does not compress the rest.
const CUT_SHARE: f64 = 0.0005;

/// Scale of the trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) gain_mm_per_mv: f64,
    pub(super) row_height_mm: f64,
    /// Position of the baseline from the top of the row.
    pub(super) baseline_mm: f64,
}

impl Scale {
    /// The largest gain at which nearly all of the trace fits into a row.
    pub(super) fn of(rows: &[Vec<f32>]) -> Self {
        let mut deviations: Vec<f32> = Vec::new();
        for row in rows {
            let middle = f64::from(median(row));
            deviations.extend(row.iter().map(|sample| (f64::from(*sample) - middle) as f32));
        }
        let (low, high) = quantiles(&mut deviations);
        let needed = |gain: f64| (high - low) * gain + MARGIN_MM.0 + MARGIN_MM.1;
        let smallest = GAINS_MM_PER_MV[GAINS_MM_PER_MV.len() - 1];
        let gain =
            GAINS_MM_PER_MV.into_iter().find(|&gain| needed(gain) <= ROW_HEIGHT_MM.1).unwrap_or(smallest);
        // An extreme signal has the gain that fits it.
        let span = (high - low).max(f64::MIN_POSITIVE);
        let gain = if needed(gain) > ROW_HEIGHT_MM.1 { 40.0 / span } else { gain };
        let row_height_mm = ((needed(gain) / 5.0).ceil() * 5.0).clamp(ROW_HEIGHT_MM.0, ROW_HEIGHT_MM.1);
        let spare = (row_height_mm - needed(gain)).max(0.0);
        let baseline_mm = MARGIN_MM.0 + spare / 2.0 + high * gain;
        Scale {
            gain_mm_per_mv: gain,
            row_height_mm,
            baseline_mm: baseline_mm.clamp(5.0, row_height_mm - 3.0),
        }
    }

    /// Voltage of the calibration pulse: 1 mV, or more at gains that make it invisible.
    pub(super) fn pulse_mv(&self) -> f64 {
        if self.gain_mm_per_mv >= 2.5 { 1.0 } else { 10.0 / self.gain_mm_per_mv }
    }

    /// Text such as `25 mm/s, 10 mm/mV`.
    pub(super) fn text(&self) -> String {
        let gain = self.gain_mm_per_mv;
        if gain >= 0.1 { format!("25 mm/s   {gain} mm/mV") } else { format!("25 mm/s   {gain:.1e} mm/mV") }
    }
}

/// Samples of each row of the page, without gaps.
pub(super) fn samples_of_rows(strip: &Strip, rows: usize) -> Vec<Vec<f32>> {
    let mut samples = vec![Vec::new(); rows];
    for (row, samples) in samples.iter_mut().enumerate() {
        let start_s = row as f64 * ROW_S;
        for segment in &strip.segments {
            let range = index_range(segment.start_s, segment.samples.len(), strip.sample_rate_hz, start_s);
            samples.extend_from_slice(segment.samples.get(range).unwrap_or_default());
        }
    }
    samples
}

/// Range of the samples of a segment in the row that starts at `row_start_s`.
pub(super) fn index_range(
    segment_start_s: f64,
    count: usize,
    rate_hz: f64,
    row_start_s: f64,
) -> std::ops::Range<usize> {
    // The conversion to an integer saturates.
    let index =
        |time_s: f64| (((time_s - segment_start_s) * rate_hz - 1e-6).ceil().max(0.0) as usize).min(count);
    let start = index(row_start_s);
    start..index(row_start_s + ROW_S).max(start)
}

/// Median of the finite samples; 0 where there are none.
pub(super) fn median(samples: &[f32]) -> f32 {
    let mut finite: Vec<f32> = samples.iter().copied().filter(|sample| sample.is_finite()).collect();
    if finite.is_empty() {
        return 0.0;
    }
    let middle = finite.len() / 2;
    *finite.select_nth_unstable_by(middle, f32::total_cmp).1
}

fn quantiles(values: &mut Vec<f32>) -> (f64, f64) {
    values.retain(|value| value.is_finite());
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let cut = (values.len() as f64 * CUT_SHARE) as usize;
    let last = values.len() - 1;
    let low = *values.select_nth_unstable_by(cut, f32::total_cmp).1;
    let high = *values.select_nth_unstable_by(last - cut, f32::total_cmp).1;
    (f64::from(low).min(0.0), f64::from(high).max(0.0))
}
