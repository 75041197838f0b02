//! All leads of a recording.
//!
//! A reader returns a [`Recording`] whose leads are [`Strip`]s, so that everything that works on a strip works on
//! each lead. [`Recording::analyze`] analyses all leads; the one with the best signal quality gives the heart
//! rate. The leads of a text file have the same sampling rate and the same start; those of an EDF file may have
//! different rates.

use crate::analysis::Analysis;
use crate::quality::channel_quality;
use crate::strip::{Segment, Strip};
use crate::units::VoltageUnit;
use crate::{analyze, best_channel};

/// Difference of signal qualities, 0 to 1, below which two leads are equally good.
const SIMILAR_QUALITY: f64 = 0.05;

/// A recording with at least one lead.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// The leads in the order of the file. Not empty. Their names differ ([`Strip::lead`]); leads without a name
    /// are numbered from 1 if there are several.
    pub leads: Vec<Lead>,
    /// Index in `leads` of the requested lead, or else of the one that is preferred by its name.
    pub selected: usize,
    /// Whether the selected lead was requested. It then gives the heart rate, whatever its quality.
    pub is_requested: bool,
    /// Names of the signals that are no leads, such as `RESP`, and of leads that are not usable.
    pub other_signals: Vec<String>,
}

/// One lead of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Lead {
    /// The samples in millivolts, whatever the unit of the file, with the name of the lead and the warnings of
    /// the reader.
    pub strip: Strip,
    /// Unit of voltage that the file states. `None` if the unit was inferred or the file contains counts.
    pub file_unit: Option<VoltageUnit>,
}

/// Analyses of all leads of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordingAnalysis {
    /// One analysis for each lead, in the same order.
    pub leads: Vec<Analysis>,
    /// Index of the lead that gives the heart rate: the requested one, or else the one of the best quality. Of
    /// leads of similar quality, the selected one is preferred.
    pub best: usize,
}

impl Recording {
    /// Analyses all leads and selects the one that gives the heart rate.
    #[must_use]
    pub fn analyze(&self) -> RecordingAnalysis {
        let leads: Vec<Analysis> = self.leads.iter().map(|lead| analyze(&lead.strip)).collect();
        let best = if self.is_requested { self.selected } else { self.best(&leads) };
        RecordingAnalysis { leads, best }
    }

    /// The lead of the best quality. The selected one is preferred to one that is hardly better.
    fn best(&self, analyses: &[Analysis]) -> usize {
        let best = best_channel(analyses).unwrap_or(self.selected);
        let (Some(selected), Some(other)) = (analyses.get(self.selected), analyses.get(best)) else {
            return self.selected;
        };
        let is_as_good = selected.heart_rate.is_some() == other.heart_rate.is_some()
            && channel_quality(selected) > channel_quality(other) - SIMILAR_QUALITY;
        if is_as_good { self.selected } else { best }
    }

    /// The strip of the lead that gives the heart rate, and its analysis.
    #[must_use]
    pub fn into_best(mut self) -> (Strip, Analysis) {
        if self.is_requested {
            let strip = self.leads.swap_remove(self.selected).strip;
            let analysis = analyze(&strip);
            return (strip, analysis);
        }
        let RecordingAnalysis { mut leads, best } = self.analyze();
        (self.leads.swap_remove(best).strip, leads.swap_remove(best))
    }

    /// The strip of the selected lead.
    pub(crate) fn into_selected(mut self) -> Strip {
        self.leads.swap_remove(self.selected).strip
    }
}

/// Splits samples at NaN. Gaps of up to `longest` samples are filled by interpolation.
pub(crate) fn split_at_gaps(
    start_s: f64,
    rate_hz: f64,
    mut samples: Vec<f32>,
    longest: usize,
    out: &mut Vec<Segment>,
) {
    let mut start = 0;
    let mut at = 0;
    let segment = |samples: &[f32], start: usize| Segment {
        start_s: start_s + start as f64 / rate_hz,
        samples: samples.to_vec(),
    };
    while at < samples.len() {
        if !samples[at].is_nan() {
            at += 1;
            continue;
        }
        let end = samples[at..].iter().position(|value| !value.is_nan()).map_or(samples.len(), |n| at + n);
        if at > start && end < samples.len() && end - at <= longest {
            let (before, after) = (samples[at - 1], samples[end]);
            let steps = (end - at + 1) as f32;
            for (step, value) in samples[at..end].iter_mut().enumerate() {
                let part = (step + 1) as f32 / steps;
                *value = before * (1.0 - part) + after * part;
            }
        } else {
            if at > start {
                out.push(segment(&samples[start..at], start));
            }
            start = end;
        }
        at = end;
    }
    if start == 0 && !samples.is_empty() {
        out.push(Segment { start_s, samples });
    } else if start < samples.len() {
        out.push(segment(&samples[start..], start));
    }
}
