//! Beat types: normal, supraventricular, ventricular, paced.
//!
//! Each beat is compared with the normal beats of its own recording: timing, QRS shape and width, P and T wave
//! ([`FEATURES`] lists the features with their reasons). Beats with the same QRS complex form groups; the most
//! frequent group whose beats are not early is the normal one, also if it is wide (bundle branch block).
//!
//! Two decisions follow, each a sum of small decision trees: ventricular or not, then supraventricular or normal.
//! With several leads the log-odds of the leads are averaged, so one classifier serves any number of leads. The
//! decision on ventricular beats is shared by the beats of a group, because they have the same origin. A beat is not
//! supraventricular if the rhythm is as irregular as in atrial fibrillation, where no beat is early.
//! `examples/fit_beat_types` fits [`BEAT_WEIGHTS`] on DS1 of the MIT-BIH Arrhythmia Database and cross-validates them
//! by patient.
//!
//! The timing of a beat needs its neighbours; a beat next to a gap or to the end of the strip is classified by its
//! shape. A strip with fewer than [`MIN_BEATS`] beats has no normal group, and all its beats are of unknown type.

mod clusters;
mod features;
mod model;
mod shapes;
mod weights;

use crate::analysis::{Analysis, Beat};
use crate::strip::Strip;
use crate::waves::{BeatWaves, delineate};

pub use features::{BEAT_FEATURES, FEATURES};
pub use model::{BeatWeights, DECISIONS, Forest, LEAVES, Tree};
pub(crate) use shapes::{Shape, correlation};
pub use weights::BEAT_WEIGHTS;

/// Smallest number of beats from which the normal beats are derived.
pub const MIN_BEATS: usize = 5;
/// A pacemaker pulse this long before an R peak, or shorter, paces the beat.
const PACED_S: f64 = 0.2;
/// Share of the group in the decision on ventricular beats.
const GROUP_SHARE: f32 = 0.5;
/// Irregularity from which no beat is supraventricular: the median change of the RR interval, relative to it. In atrial
/// fibrillation the intervals vary by about 20 %, so that it is about 0.19; in sinus arrhythmia it rarely exceeds 0.1.
pub const FIBRILLATION: f32 = 0.12;

/// Type of a beat (AAMI EC57 classes, with paced beats of their own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BeatType {
    /// Normal, including bundle branch block.
    Normal,
    /// Supraventricular ectopic.
    Supraventricular,
    /// Ventricular ectopic.
    Ventricular,
    /// Paced.
    Paced,
    /// Too few beats to decide.
    Unknown,
}

impl BeatType {
    /// One-letter symbol: `N`, `S`, `V`, `P` or `Q`.
    #[must_use]
    pub fn symbol(self) -> char {
        match self {
            BeatType::Normal => 'N',
            BeatType::Supraventricular => 'S',
            BeatType::Ventricular => 'V',
            BeatType::Paced => 'P',
            BeatType::Unknown => 'Q',
        }
    }
}

/// Type of a beat with its confidence, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypedBeat {
    /// Type.
    pub kind: BeatType,
    /// Probability of the type according to the classifier.
    pub confidence: f32,
}

/// Features of the beats of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct BeatTable {
    /// Features of each beat, one row per lead.
    pub rows: Vec<Vec<[f32; BEAT_FEATURES]>>,
    /// Number of the group of each beat. Beats of a group have the same QRS complex.
    pub groups: Vec<usize>,
}

impl BeatTable {
    /// Whether the rhythm around a beat is as irregular as in atrial fibrillation.
    #[must_use]
    pub fn is_irregular(&self, beat: usize) -> bool {
        let row = self.rows.get(beat).and_then(|rows| rows.first());
        row.is_some_and(|row| row[features::IRREGULARITY] >= FIBRILLATION)
    }
}

/// Classifies the beats of a strip with the weights in use. `waves` come from [`crate::waves::delineate`].
#[must_use]
pub fn classify(strip: &Strip, analysis: &Analysis, waves: &[BeatWaves]) -> Vec<TypedBeat> {
    typed(table(&[strip], &analysis.beats, &[waves]).as_ref(), analysis, &BEAT_WEIGHTS)
}

/// Like [`classify`], with further leads that were recorded at the same time. `analysis` and `waves` belong to the
/// first lead.
///
/// Leads of another sampling rate or with other gaps than the first one are not used.
#[must_use]
pub fn classify_leads(leads: &[&Strip], analysis: &Analysis, waves: &[BeatWaves]) -> Vec<TypedBeat> {
    let table = leads_table(leads, &analysis.beats, waves);
    typed(table.as_ref(), analysis, &BEAT_WEIGHTS)
}

/// The features of the beats in all leads. `waves` belong to the first lead. `None` if there are too few beats.
#[must_use]
pub fn leads_table(leads: &[&Strip], beats: &[Beat], waves: &[BeatWaves]) -> Option<BeatTable> {
    let (first, others) = leads.split_first()?;
    let shape = |strip: &Strip| -> Vec<(f64, usize)> {
        strip.segments.iter().map(|segment| (segment.start_s, segment.samples.len())).collect()
    };
    let same = |other: &&&Strip| other.sample_rate_hz == first.sample_rate_hz && shape(other) == shape(first);
    let others: Vec<&Strip> = others.iter().filter(same).copied().collect();
    let of_others: Vec<Vec<BeatWaves>> = others.iter().map(|strip| delineate(strip, beats)).collect();
    let leads: Vec<&Strip> = std::iter::once(*first).chain(others).collect();
    let waves: Vec<&[BeatWaves]> =
        std::iter::once(waves).chain(of_others.iter().map(Vec::as_slice)).collect();
    table(&leads, beats, &waves)
}

/// The features of the beats. `waves` belong to the leads.
fn table(leads: &[&Strip], beats: &[Beat], waves: &[&[BeatWaves]]) -> Option<BeatTable> {
    let fits = beats.len() >= MIN_BEATS && waves.iter().all(|waves| waves.len() == beats.len());
    fits.then(|| features::table(leads, beats, waves))
}

/// The types of beats with these features. `None` stands for too few beats.
#[must_use]
pub fn typed(table: Option<&BeatTable>, analysis: &Analysis, weights: &BeatWeights) -> Vec<TypedBeat> {
    let beats = &analysis.beats;
    let Some(table) = table.filter(|table| table.rows.len() == beats.len()) else {
        return vec![TypedBeat { kind: BeatType::Unknown, confidence: 0.0 }; beats.len()];
    };
    let probability = |log_odds: f32| 1.0 / (1.0 + (-log_odds).exp());
    let mean = |forest: &Forest, rows: &[[f32; BEAT_FEATURES]]| {
        rows.iter().map(|row| forest.log_odds(row)).sum::<f32>() / rows.len().max(1) as f32
    };
    let own: Vec<f32> = table.rows.iter().map(|rows| mean(&weights.ventricular, rows)).collect();
    let of_groups = group_medians(&own, &table.groups);
    let pulses = &analysis.pacing_pulses_s;
    let of = |at: usize| {
        let beat = &beats[at];
        let next = pulses.partition_point(|pulse| *pulse <= beat.time_s);
        let paced = next.checked_sub(1).is_some_and(|last| beat.time_s - pulses[last] <= PACED_S);
        if paced {
            return TypedBeat { kind: BeatType::Paced, confidence: beat.confidence };
        }
        let shared = own[at] + GROUP_SHARE * (of_groups[table.groups[at]] - own[at]);
        let ventricular = probability(shared);
        if ventricular >= 0.5 {
            return TypedBeat { kind: BeatType::Ventricular, confidence: ventricular };
        }
        let supraventricular = if table.is_irregular(at) {
            0.0
        } else {
            probability(mean(&weights.supraventricular, &table.rows[at]))
        };
        if supraventricular >= 0.5 {
            return TypedBeat { kind: BeatType::Supraventricular, confidence: supraventricular };
        }
        TypedBeat { kind: BeatType::Normal, confidence: (1.0 - ventricular) * (1.0 - supraventricular) }
    };
    (0..beats.len()).map(of).collect()
}

/// The median of the values of each group.
fn group_medians(values: &[f32], groups: &[usize]) -> Vec<f32> {
    let mut of = vec![Vec::new(); groups.iter().max().map_or(0, |last| last + 1)];
    for (value, group) in values.iter().zip(groups) {
        of[*group].push(f64::from(*value));
    }
    of.into_iter().map(|values| median(values).unwrap_or(0.0) as f32).collect()
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}
