use proto_json::{EcgAnalysis, EcgBeatCounts, EcgIntervals, EcgQuality, EcgRate};

/// The analysis of 10 s of a regular rhythm at 250 Hz, without findings and warnings. A test changes the fields that it is about.
#[must_use]
pub fn analysis(mean_bpm: f64) -> EcgAnalysis {
    EcgAnalysis {
        duration_s: 10.0,
        sample_rate_hz: 250.0,
        lead: None,
        heart_rate: Some(EcgRate { mean_bpm, min_bpm: mean_bpm, max_bpm: mean_bpm }),
        no_heart_rate_reason: None,
        rr: None,
        quality: EcgQuality::Good,
        beat_count: 12,
        algorithm: 0,
        intervals: EcgIntervals::default(),
        rhythm: Vec::new(),
        rhythm_count: 0,
        beat_types: EcgBeatCounts::default(),
        leads: Vec::new(),
        st: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
        rows_used: 2500,
        rows_skipped: 0,
        first_skipped_lines: Vec::new(),
    }
}
