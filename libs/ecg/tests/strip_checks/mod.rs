//! Invariants of the result of any reader for any input, shared by the property tests and the fuzz target.

use ecg::Strip;

/// Asserts the invariants of a strip.
pub(crate) fn assert_in_order(strip: &Strip, bytes: usize) {
    assert!((40.0..=20_000.0).contains(&strip.sample_rate_hz));
    assert!(strip.segments.iter().all(|segment| !segment.samples.is_empty() && segment.start_s.is_finite()));
    assert!(strip.segments.iter().flat_map(|segment| &segment.samples).all(|sample| sample.is_finite()));
    assert!(strip.gaps().all(|gap| gap.end_s > gap.start_s - 1e-6));
    // A row gives one sample and fills a few missing ones at most.
    assert!(strip.sample_count() <= 410 * bytes, "{} samples of {bytes} bytes", strip.sample_count());
    assert!(strip.rows.first_skipped_lines.len() <= 10);
}
