//! Limb leads III, aVR, aVL and aVF, derived from leads I and II.
//!
//! The limb leads are differences of the potentials of three electrodes, so two of them determine the others. Einthoven's
//! law is III = II - I (Einthoven, Fahr and de Waart, Pflügers Archiv, 1913). The augmented leads are
//! aVR = -(I + II) / 2, aVL = I - II / 2 and aVF = II - I / 2 (Goldberger, American Heart Journal, 1942).
//!
//! Both leads must be recorded at the same time with the same amplification and filters. A derived lead exists where
//! both leads have samples. Precordial leads cannot be derived.

use crate::strip::{RowCounts, Segment, Strip};

/// Names of the derived leads, in the order of [`derive`] and [`limb_leads`].
pub const DERIVED: [&str; 4] = ["III", "aVR", "aVL", "aVF"];

/// Why leads cannot be derived.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeadsError {
    /// The sampling rates differ.
    #[error("leads I and II have {0} and {1} samples per second: resample one of them first")]
    Rates(f64, f64),
    /// The leads have no common time.
    #[error("leads I and II were not recorded at the same time")]
    NoOverlap,
}

/// III, aVR, aVL and aVF of simultaneous samples of I and II, in the unit of the samples. For live recordings.
#[must_use]
pub fn derive(one: f32, two: f32) -> [f32; 4] {
    [two - one, -(one + two) / 2.0, one - two / 2.0, two - one / 2.0]
}

/// III, aVR, aVL and aVF where both `one` (lead I) and `two` (lead II) have samples. Start times are rounded to whole
/// samples.
///
/// # Errors
/// The leads have different sampling rates, or no common time.
pub fn limb_leads(one: &Strip, two: &Strip) -> Result<[Strip; 4], LeadsError> {
    let rate = one.sample_rate_hz;
    if rate != two.sample_rate_hz {
        return Err(LeadsError::Rates(rate, two.sample_rate_hz));
    }
    let first = |segment: &Segment| (segment.start_s * rate).round() as i64;
    let mut out = DERIVED.map(|name| Strip {
        sample_rate_hz: rate,
        lead: Some(name.to_owned()),
        segments: Vec::new(),
        warnings: Vec::new(),
        rows: RowCounts::default(),
    });
    // Segments are in order of time, so those of II that end before a segment of I are not needed again.
    let mut from = 0;
    for left in &one.segments {
        let (left_start, left_end) = (first(left), first(left) + left.samples.len() as i64);
        while two
            .segments
            .get(from)
            .is_some_and(|right| first(right) + right.samples.len() as i64 <= left_start)
        {
            from += 1;
        }
        for right in two.segments[from..].iter().take_while(|right| first(right) < left_end) {
            let start = left_start.max(first(right));
            let end = left_end.min(first(right) + right.samples.len() as i64);
            let piece =
                |segment: &'_ Segment| (start - first(segment)) as usize..(end - first(segment)) as usize;
            let (left_samples, right_samples) = (&left.samples[piece(left)], &right.samples[piece(right)]);
            let start_s = if start == left_start { left.start_s } else { right.start_s };
            let derived = || left_samples.iter().zip(right_samples).map(|(one, two)| derive(*one, *two));
            for (index, strip) in out.iter_mut().enumerate() {
                strip.rows.used += (end - start) as u64;
                let samples = derived().map(|derived| derived[index]).collect();
                strip.segments.push(Segment { start_s, samples });
            }
        }
    }
    if out[0].segments.is_empty() { Err(LeadsError::NoOverlap) } else { Ok(out) }
}
