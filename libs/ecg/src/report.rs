//! Results beyond the heart rate: waves, intervals, beat types, rhythm, and ST levels of all leads.
//!
//! All leads of a recording show the same beats, so beats, types and rhythm are those of the lead that gives the heart
//! rate. Other leads are measured at these beats. A strip that does not support a heart rate has no results, and
//! beats in unusable segments have neither waves nor a type: a value is never invented. Beats in atrial fibrillation have no
//! P wave.

use std::borrow::Cow;

use crate::analysis::{Analysis, Beat, Quality};
use crate::beat_types::{self, BeatType, TypedBeat};
use crate::limb_leads;
use crate::recording::{Recording, RecordingAnalysis};
use crate::rhythm::{self, Finding};
use crate::st::{self, StLevels};
use crate::strip::{Segment, Strip};
use crate::waves::{self, BeatWaves, Intervals};

/// Version of the analysis. It increases with each change that can change a result, so that stored results can be
/// compared and replaced. Version 0 denotes results from before versions were recorded.
pub const ALGORITHM: u32 = 2;

/// ST levels are measured in this much of a recording, from its start. It bounds the cost of a recording with many
/// leads; the level of a longer one changes with posture and time, so that its median has no meaning.
const ST_LENGTH_S: f64 = 3600.0;
/// Longest part of a wide QRS complex before or after its R peak.
const COMPLEX_S: f64 = 0.12;
/// Longest name of a lead in characters.
const NAME_CHARS: usize = 64;

/// What the beats of a strip show beyond the heart rate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Waves, one element for each beat of the analysis.
    pub waves: Vec<BeatWaves>,
    /// Types, one element for each beat of the analysis.
    pub types: Vec<TypedBeat>,
    /// Medians of the intervals.
    pub intervals: Intervals,
    /// Findings of the rhythm in order of their start.
    pub findings: Vec<Finding>,
}

/// A lead that is in the file or derived from two that are, with what a drawing of it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadView<'a> {
    /// The lead.
    pub strip: Cow<'a, Strip>,
    /// Its analysis, with the beats of the lead that gives the heart rate.
    pub analysis: Analysis,
    /// Types and rhythm of these beats.
    pub report: Report,
}

/// ST levels of a lead.
#[derive(Debug, Clone, PartialEq)]
pub struct LeadSt {
    /// Name of the lead ([`Recording::lead_name`]).
    pub lead: String,
    /// Its levels.
    pub levels: StLevels,
}

/// Derives waves, beat types, intervals and rhythm of an analysed strip.
#[must_use]
pub fn report(strip: &Strip, analysis: &Analysis) -> Report {
    report_of(&[strip], analysis)
}

/// `leads` starts with the analysed one. A further lead contributes to the types of the beats.
fn report_of(leads: &[&Strip], analysis: &Analysis) -> Report {
    let strip = leads[0];
    let beats = &analysis.beats;
    let unknown = TypedBeat { kind: BeatType::Unknown, confidence: 0.0 };
    let no_waves = |beat: usize| BeatWaves { beat, p: None, qrs: None, t: None };
    if analysis.heart_rate.is_none() {
        return Report {
            waves: (0..beats.len()).map(no_waves).collect(),
            types: vec![unknown; beats.len()],
            ..Report::default()
        };
    }
    let mut waves = waves::delineate(strip, beats);
    let mut types = beat_types::classify_leads(leads, analysis, &waves);
    for (kind, _) in types.iter_mut().zip(beats).filter(|(_, beat)| is_cut(beat, strip)) {
        *kind = unknown;
    }
    let is_usable = usable(analysis);
    for (index, _) in beats.iter().enumerate().filter(|(_, beat)| !is_usable(beat.time_s)) {
        waves[index] = no_waves(index);
        types[index] = unknown;
    }
    let findings = rhythm::findings(strip, analysis, &waves, &types);
    // What looks like a P wave in fibrillation is a fibrillation wave.
    for finding in findings.iter().filter(|finding| finding.code == "atrial_fibrillation") {
        let fibrillates = |time_s: f64| (finding.start_s..finding.end_s).contains(&time_s);
        waves
            .iter_mut()
            .filter(|waves| fibrillates(beats[waves.beat].time_s))
            .for_each(|waves| waves.p = None);
    }
    let measured: Vec<BeatWaves> =
        waves.iter().copied().filter(|waves| is_usable(beats[waves.beat].time_s)).collect();
    let intervals = waves::intervals(&measured, beats);
    Report { waves, types, intervals, findings }
}

/// Whether a complex can be cut off by the start or the end of its segment. Its shape then says nothing about its type.
fn is_cut(beat: &Beat, strip: &Strip) -> bool {
    let margin = (COMPLEX_S * strip.sample_rate_hz) as usize;
    let length = strip.segments.get(beat.segment).map_or(0, |segment| segment.samples.len());
    beat.sample < margin || beat.sample + margin > length
}

/// Whether a time is outside of all unusable segments.
fn usable(analysis: &Analysis) -> impl Fn(f64) -> bool + '_ {
    let unusable: Vec<(f64, f64)> = analysis
        .quality_segments
        .iter()
        .filter(|segment| segment.quality == Quality::Unusable)
        .map(|segment| (segment.start_s, segment.end_s))
        .collect();
    move |time_s| {
        let next = unusable.partition_point(|(start_s, _)| *start_s <= time_s);
        next.checked_sub(1).is_none_or(|last| time_s >= unusable[last].1)
    }
}

impl Recording {
    /// Name of a lead of at most 64 characters: as in the file, or its number from 1.
    #[must_use]
    pub fn lead_name(&self, index: usize) -> String {
        let name = self.leads.get(index).and_then(|lead| lead.strip.lead.as_deref());
        name.map_or_else(|| (index + 1).to_string(), |name| name.chars().take(NAME_CHARS).collect())
    }

    /// Index of a lead by its name, ignoring case, or else by its number from 1.
    #[must_use]
    pub fn find_lead(&self, name: &str) -> Option<usize> {
        let name = name.trim();
        let is_named = |index: &usize| self.lead_name(*index).to_lowercase() == name.to_lowercase();
        let numbered = || name.parse::<usize>().ok()?.checked_sub(1);
        (0..self.leads.len()).find(is_named).or_else(|| numbered().filter(|index| *index < self.leads.len()))
    }

    /// Derives waves, beat types, intervals and rhythm of the lead that gives the heart rate. The first other lead that is
    /// usable contributes to the types: they were learned from recordings with two leads.
    #[must_use]
    pub fn report(&self, analysis: &RecordingAnalysis) -> Report {
        let best = analysis.best;
        let is_usable = |index: &usize| *index != best && analysis.leads[*index].quality != Quality::Unusable;
        let other = (0..self.leads.len()).find(is_usable);
        let leads: Vec<&Strip> =
            [Some(best), other].into_iter().flatten().map(|lead| &self.leads[lead].strip).collect();
        report_of(&leads, &analysis.leads[best])
    }

    /// Leads I and II, if both are in the file.
    fn limb_pair(&self) -> Option<(&Strip, &Strip)> {
        Some((self.standard("I")?, self.standard("II")?))
    }

    /// The lead with a standard name such as `aVR`.
    pub(crate) fn standard(&self, name: &str) -> Option<&Strip> {
        let is_it =
            |strip: &&Strip| strip.lead.as_deref().and_then(crate::leads::standard_lead) == Some(name);
        self.leads.iter().map(|lead| &lead.strip).find(is_it)
    }

    /// Names of the leads that are not in the file and can be derived from leads I and II.
    #[must_use]
    pub fn derived_names(&self) -> Vec<&'static str> {
        let Some((one, two)) = self.limb_pair() else { return Vec::new() };
        let is_possible = one.sample_rate_hz == two.sample_rate_hz;
        let missing = limb_leads::DERIVED.into_iter().filter(|name| self.standard(name).is_none());
        if is_possible { missing.collect() } else { Vec::new() }
    }

    /// The leads of [`Recording::derived_names`] from `start_s` to `end_s`. Empty if leads I and II have no common
    /// time there.
    #[must_use]
    pub fn derived(&self, start_s: f64, end_s: f64) -> Vec<Strip> {
        let names = self.derived_names();
        let Some((one, two)) = self.limb_pair().filter(|_| !names.is_empty()) else { return Vec::new() };
        let derived = limb_leads::limb_leads(&part(one, start_s, end_s), &part(two, start_s, end_s));
        let is_missing = |strip: &Strip| strip.lead.as_deref().is_some_and(|name| names.contains(&name));
        derived.into_iter().flatten().filter(is_missing).collect()
    }

    /// ST levels of all leads, including derived ones, at the beats of the lead that gives the heart rate. Leads in
    /// which no level can be measured are left out.
    #[must_use]
    pub fn st_levels(&self, analysis: &RecordingAnalysis, report: &Report) -> Vec<LeadSt> {
        let best = &analysis.leads[analysis.best];
        if best.heart_rate.is_none() {
            return Vec::new();
        }
        let measured = |strip: &Strip, quality: Quality| {
            if quality == Quality::Unusable {
                return StLevels::default();
            }
            let (beats, indices) = transfer(&best.beats, strip);
            let waves = waves::delineate(strip, &beats);
            let counts = |beat: usize| {
                let kind = report.types[indices[beat]].kind;
                matches!(kind, BeatType::Normal | BeatType::Supraventricular)
            };
            st::levels(&st::measure(strip, &beats, &waves), counts)
        };
        let own = self.leads.iter().zip(&analysis.leads).enumerate().map(|(index, (lead, own))| {
            let levels = measured(&part(&lead.strip, 0.0, ST_LENGTH_S), own.quality);
            LeadSt { lead: self.lead_name(index), levels }
        });
        let derived = self.derived(0.0, ST_LENGTH_S).into_iter().map(|strip| {
            let levels = measured(&strip, best.quality);
            LeadSt { lead: strip.lead.unwrap_or_default(), levels }
        });
        own.chain(derived).filter(|lead| lead.levels != StLevels::default()).collect()
    }

    /// A lead by its name or number, or a derived one by its name, with the beats of the lead that gives the heart
    /// rate. `None` if there is no such lead.
    #[must_use]
    pub fn view(&self, analysis: &RecordingAnalysis, report: &Report, name: &str) -> Option<LeadView<'_>> {
        let best = &analysis.leads[analysis.best];
        if let Some(index) = self.find_lead(name) {
            let strip = &self.leads[index].strip;
            if index == analysis.best {
                return Some(LeadView {
                    strip: Cow::Borrowed(strip),
                    analysis: best.clone(),
                    report: report.clone(),
                });
            }
            return Some(view_of(Cow::Borrowed(strip), &analysis.leads[index], best, report));
        }
        let is_derived = self.derived_names().iter().any(|derived| derived.eq_ignore_ascii_case(name.trim()));
        let mut derived = if is_derived { self.derived(0.0, f64::INFINITY) } else { Vec::new() };
        derived
            .retain(|strip| strip.lead.as_deref().is_some_and(|lead| lead.eq_ignore_ascii_case(name.trim())));
        Some(view_of(Cow::Owned(derived.pop()?), best, best, report))
    }
}

/// A lead with its own quality and the beats of another one.
fn view_of<'a>(strip: Cow<'a, Strip>, own: &Analysis, best: &Analysis, report: &Report) -> LeadView<'a> {
    let (beats, indices) = transfer(&best.beats, &strip);
    let types = indices.iter().map(|index| report.types[*index]).collect();
    let analysis = Analysis {
        heart_rate: best.heart_rate,
        no_heart_rate_reason: best.no_heart_rate_reason.clone(),
        beats,
        rhythm_notes: best.rhythm_notes.clone(),
        trend: best.trend.clone(),
        pacing_pulses_s: best.pacing_pulses_s.clone(),
        ..own.clone()
    };
    let report =
        Report { waves: Vec::new(), types, intervals: report.intervals, findings: report.findings.clone() };
    LeadView { strip, analysis, report }
}

/// The beats at their times in another lead, and their indices in `beats`. Beats where it has no samples are left out.
pub(crate) fn transfer(beats: &[Beat], strip: &Strip) -> (Vec<Beat>, Vec<usize>) {
    let mut segment = 0;
    let mut out = (Vec::with_capacity(beats.len()), Vec::with_capacity(beats.len()));
    for (index, beat) in beats.iter().enumerate() {
        let end_s = |of: &Segment| of.start_s + of.samples.len() as f64 / strip.sample_rate_hz;
        while strip.segments.get(segment).is_some_and(|of| end_s(of) <= beat.time_s) {
            segment += 1;
        }
        let Some(of) = strip.segments.get(segment) else { break };
        let sample = ((beat.time_s - of.start_s) * strip.sample_rate_hz).round();
        if sample >= 0.0 && (sample as usize) < of.samples.len() {
            out.0.push(Beat { segment, sample: sample as usize, ..*beat });
            out.1.push(index);
        }
    }
    out
}

/// The samples of a strip from `start_s` to `end_s`, at their times.
pub(crate) fn part(strip: &Strip, start_s: f64, end_s: f64) -> Strip {
    let cut = |segment: &Segment| {
        // The conversion to an integer saturates.
        let index = |time_s: f64| {
            let index = ((time_s - segment.start_s) * strip.sample_rate_hz).round().max(0.0) as usize;
            index.min(segment.samples.len())
        };
        let range = index(start_s)..index(end_s);
        let samples = segment.samples.get(range.clone()).unwrap_or_default().to_vec();
        let start_s = segment.start_s + range.start as f64 / strip.sample_rate_hz;
        (!samples.is_empty()).then_some(Segment { start_s, samples })
    };
    Strip {
        sample_rate_hz: strip.sample_rate_hz,
        lead: strip.lead.clone(),
        segments: strip.segments.iter().filter_map(cut).collect(),
        warnings: strip.warnings.clone(),
        rows: strip.rows.clone(),
    }
}
