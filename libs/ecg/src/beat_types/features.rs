//! Features of beats: timing, group, and shape in each lead. Each compares a beat with the normal beats of its own
//! recording.

use super::BeatTable;
use super::clusters::{Groups, MOST_GROUPS, Place, group};
use super::median;
use super::shapes::{Leads, QRS_STEP_S, Shape, T_S, WAVE_STEP_S, correlation, similarity};
use crate::analysis::Beat;
use crate::strip::Strip;
use crate::waves::BeatWaves;

/// Number of features of a beat in one lead.
pub const BEAT_FEATURES: usize = TIMING + GROUP + SHAPE;
const TIMING: usize = 14;
const GROUP: usize = 14;
const SHAPE: usize = 25;

/// Name and reason of each feature, in order. RR intervals are compared as logarithms of ratios; `sinus` is the usual
/// interval between two normal beats of the surroundings.
///
/// No feature is the same for all beats of a patient, such as the heart rate: it would identify the few patients of
/// the training set that have many ectopic beats.
pub const FEATURES: [(&str, &str); BEAT_FEATURES] = [
    // Timing.
    ("rr_before / local", "An ectopic beat is early relative to its surroundings."),
    ("rr_after / local", "A pause follows an ectopic beat."),
    ("rr_after / rr_before", "An early beat with a pause, whatever the usual interval is."),
    ("rr_before / sinus", "Early relative to the sinus rhythm, also among many ectopic beats."),
    ("rr_after / sinus", "The pause relative to the sinus rhythm."),
    ("both / two sinus", "The pause after a ventricular beat is compensatory: the sinus node is not reset."),
    ("rr before that / sinus", "The beat before is ectopic, too, or ends a pause."),
    ("rr after that / sinus", "The beat after is ectopic, too."),
    ("rr_before / long", "Early relative to five minutes: a run changes its surroundings."),
    ("irregularity", "In an irregular rhythm an early beat means little."),
    ("earliness / irregularity", "Early beyond the irregularity of the rhythm."),
    ("rank of rr_before", "Share of shorter intervals nearby: small for an ectopic beat in any rhythm."),
    ("share of other shapes", "Ectopic beats come in clusters."),
    ("rr_before / shortest", "Earlier than any normal beat nearby."),
    // Group.
    ("share of the group", "Normal beats are frequent; a rare shape is ectopic or disturbed."),
    ("similarity of the group", "Beats of one origin have one shape; it differs from the normal one."),
    ("group: rr_before / sinus", "The beats of an ectopic group are early."),
    ("group: both / two sinus", "They are followed by a compensatory pause."),
    ("group: rr_after / rr_before", "The same without the sinus rhythm."),
    ("group: share of early beats", "Few beats of a normal group are early."),
    ("group: QRS width", "Ventricular complexes are wider than the patient's normal ones."),
    ("similarity to own group", "A disturbed beat fits no group."),
    ("similarity to normal", "The complex spreads as in normal beats."),
    ("same group as before", "Runs consist of beats of one origin."),
    ("same group as after", "The same."),
    ("beat before: similarity", "Ectopic beats come in couplets and runs."),
    ("beat after: similarity", "The same."),
    ("normal group", "The group is the normal one."),
    // Shape in this lead.
    ("QRS width", "A complex that starts in a ventricle is wide."),
    ("QRS width / normal", "Relative to the patient: with bundle branch block, normal beats are wide."),
    ("spread of the slope", "A width that needs no onset and end."),
    ("spread / normal", "The same relative to the patient."),
    ("QRS correlation", "Shape in this lead."),
    ("QRS height / normal", "Ventricular complexes are often higher."),
    ("QRS slope / normal", "They rise more slowly relative to their height."),
    ("QRS frequency", "They have lower frequencies."),
    ("QRS frequency - normal", "The same relative to the patient."),
    ("QRS balance, difference", "A changed axis."),
    ("QRS area, difference", "The same relative to the patient."),
    ("T correlation", "After changed activation, the T wave changes."),
    ("T height, difference", "The same."),
    ("T discordance", "The T wave is opposite to a ventricular complex."),
    ("P confidence", "Ventricular beats have no P wave before them."),
    ("P correlation", "Ectopic P waves differ in shape; ventricular beats have none."),
    ("P difference", "The same relative to the height of the QRS complex."),
    ("P projection", "The share of the normal P wave that is present in its place."),
    ("PR difference", "The conduction time of an ectopic atrial beat differs."),
    ("T before: correlation", "A P wave on the T wave before deforms it."),
    ("T before: difference", "The same."),
    ("correlation with before", "Shape changes from beat to beat."),
    ("correlation with after", "The same."),
    ("P difference / normal P", "The same as the P difference, relative to the normal P wave."),
    ("level before QRS", "A P wave or a T wave reaches into the QRS complex."),
];

/// Beats on either side from which the typical RR interval is derived, from which its irregularity is derived, and
/// the longer surroundings, which a run of ectopic beats does not change.
const NEAR: usize = 12;
const WIDE: usize = 20;
const LONG: usize = 150;
/// Beats that share the values of the longer surroundings.
const LONG_STEP: usize = 16;
/// Beats on either side among which other shapes are counted.
const CROWD: usize = 8;
/// Fewest intervals between normal beats nearby from which their median is derived.
const FEWEST: usize = 5;
/// Similarity to the normal group from which a beat of another group counts as normal for the sinus rhythm.
const LIKE_NORMAL: f64 = 0.9;
/// Irregularity of a regular rhythm, and the largest one.
const REGULAR: f64 = 0.03;
const MOST_IRREGULAR: f64 = 0.6;
/// Limit of logarithms of ratios of intervals.
const RR_LIMIT: f64 = 1.2;
/// A beat whose logarithm of `rr_before / sinus` is below this is early.
const EARLY: f64 = -0.1;
/// A P wave ends this long before the R peak, and a T wave with fewer points before it is not compared.
const BEFORE_QRS_S: f64 = 0.06;
const FEWEST_T_POINTS: usize = 8;
/// Width of a QRS complex in seconds if none is measured.
const USUAL_WIDTH_S: f64 = 0.1;
/// Indices among the features of timing.
const AFTER_BEFORE: usize = 2;
const BEFORE_SINUS: usize = 3;
const BOTH_SINUS: usize = 5;
/// Index of the irregularity among the features.
pub(super) const IRREGULARITY: usize = 9;

fn ln_ratio(this: f64, usual: f64, limit: f64) -> f64 {
    (this.max(1e-6) / usual.max(1e-6)).ln().clamp(-limit, limit)
}

/// The known values of a window around `at`.
fn around(values: &[Option<f64>], at: usize, reach: usize) -> Vec<f64> {
    let range = at.saturating_sub(reach)..(at + reach + 1).min(values.len());
    values[range].iter().flatten().copied().collect()
}

/// The features of each beat, one row per lead, and the groups. `waves` belong to the leads.
pub(super) fn table(leads: &[&Strip], beats: &[Beat], waves: &[&[BeatWaves]]) -> BeatTable {
    let shapes: Vec<Leads> =
        beats.iter().map(|beat| leads.iter().map(|strip| Shape::of(strip, beat)).collect()).collect();
    let rr: Vec<Option<f64>> = (0..beats.len())
        .map(|at| {
            let before = &beats[at.checked_sub(1)?];
            (before.segment == beats[at].segment).then(|| beats[at].time_s - before.time_s)
        })
        .collect();
    let (blocks, places) = group(&shapes, &rr);
    let is_normal: Vec<bool> = places
        .iter()
        .map(|place| place.group == blocks[place.block].dominant || place.dominant >= LIKE_NORMAL)
        .collect();
    let timing = timing(&rr, &is_normal);
    let facts: Vec<Vec<Facts>> = blocks
        .iter()
        .enumerate()
        .map(|(block, groups)| facts(block, groups, &places, &timing, waves[0]))
        .collect();
    let references: Vec<Vec<Reference>> = blocks
        .iter()
        .enumerate()
        .map(|(block, groups)| {
            (0..leads.len()).map(|lead| Reference::of(block, lead, groups, &places, waves[lead])).collect()
        })
        .collect();
    let rows = |at: usize| {
        let place = places[at];
        let group = group_features(at, &places, &blocks[place.block], &facts[place.block]);
        (0..leads.len())
            .map(|lead| {
                let usual = &references[place.block][lead];
                let shape = lead_features(at, lead, &shapes, &places, usual, waves[lead], beats);
                let mut row = [0.0_f32; BEAT_FEATURES];
                for (to, from) in row.iter_mut().zip(timing[at].iter().chain(&group).chain(&shape)) {
                    *to = *from as f32;
                }
                row
            })
            .collect()
    };
    BeatTable {
        rows: (0..beats.len()).map(rows).collect(),
        groups: places.iter().map(|place| place.block * MOST_GROUPS + place.group).collect(),
    }
}

/// Features of timing. `rr` contains the interval before each beat.
fn timing(rr: &[Option<f64>], is_normal: &[bool]) -> Vec<[f64; TIMING]> {
    let count = rr.len();
    let interval = |at: usize| rr.get(at).copied().flatten();
    // Intervals between two normal beats, and means of two successive intervals.
    let normal: Vec<Option<f64>> =
        (0..count).map(|at| rr[at].filter(|_| at > 0 && is_normal[at] && is_normal[at - 1])).collect();
    let double: Vec<Option<f64>> = (0..count).map(|at| Some((rr[at]? + interval(at + 1)?) / 2.0)).collect();
    let changes = |rr: &[Option<f64>], distance: usize| -> Vec<Option<f64>> {
        (0..count).map(|at| Some((rr[at]? - rr[at.checked_sub(distance)?]?).abs())).collect()
    };
    // Atrial bigeminy is regular at a distance of two intervals, trigeminy at three.
    let (change_1, change_2, change_3) = (changes(&normal, 1), changes(rr, 2), changes(rr, 3));
    let ratio =
        |interval: Option<f64>, to: f64| interval.map_or(0.0, |interval| ln_ratio(interval, to, RR_LIMIT));
    let (mut long_rr, mut long_irregular) = (1.0, 0.0);
    let mut of = |at: usize| {
        let local = median(around(rr, at, NEAR)).unwrap_or(1.0);
        let near = around(&normal, at, NEAR);
        let near = if near.len() >= FEWEST { near } else { around(&double, at, NEAR) };
        let sinus = median(near).unwrap_or(local);
        if at.is_multiple_of(LONG_STEP) {
            long_rr = median(around(rr, at, LONG)).unwrap_or(local);
            let change = median(around(&change_1, at, LONG));
            long_irregular = change.map_or(REGULAR, |change| change / long_rr).min(MOST_IRREGULAR);
        }
        let near = around(&change_1, at, WIDE);
        let irregular = if near.len() >= FEWEST {
            let distances = [near, around(&change_2, at, WIDE), around(&change_3, at, WIDE)];
            let least = distances.into_iter().filter_map(median).fold(f64::INFINITY, f64::min);
            (least / sinus).min(MOST_IRREGULAR)
        } else {
            long_irregular
        };
        let (before, after) = (rr[at], interval(at + 1));
        let others = around(rr, at, WIDE);
        let normal_others = around(&normal, at, WIDE).into_iter().filter(|other| rr[at] != Some(*other));
        let shortest = normal_others.fold(f64::INFINITY, f64::min);
        let rank = before.map_or(0.5, |before| {
            others.iter().filter(|other| **other < before - 1e-6).count() as f64 / others.len().max(1) as f64
        });
        let crowd = &is_normal[at.saturating_sub(CROWD)..(at + CROWD + 1).min(count)];
        [
            ratio(before, local),
            ratio(after, local),
            before.map_or(0.0, |before| ratio(after, before)),
            ratio(before, sinus),
            ratio(after, sinus),
            before.zip(after).map_or(0.0, |(before, after)| ln_ratio(before + after, 2.0 * sinus, RR_LIMIT)),
            ratio(at.checked_sub(1).and_then(|at| rr[at]), sinus),
            ratio(interval(at + 2), sinus),
            ratio(before, long_rr),
            irregular,
            (ratio(before, sinus) / (REGULAR + irregular)).clamp(-10.0, 10.0),
            rank,
            crowd.iter().filter(|normal| !**normal).count() as f64 / crowd.len() as f64,
            ratio(before.filter(|_| shortest.is_finite()), shortest),
        ]
    };
    (0..count).map(&mut of).collect()
}

/// What the beats of a group have in common.
struct Facts {
    /// Similarity to the normal group.
    similar: f64,
    /// Medians of features of timing.
    before_sinus: f64,
    both_sinus: f64,
    after_before: f64,
    /// Share of early beats.
    early: f64,
    /// Median width of the QRS complex in the first lead, in seconds.
    width: f64,
}

fn facts(
    block: usize,
    groups: &Groups,
    places: &[Place],
    timing: &[[f64; TIMING]],
    waves: &[BeatWaves],
) -> Vec<Facts> {
    let mut members = vec![Vec::new(); groups.means.len()];
    for (at, place) in places.iter().enumerate().filter(|(_, place)| place.block == block) {
        members[place.group].push(at);
    }
    let of = |(group, members): (usize, &Vec<usize>)| {
        let middle =
            |index: usize| median(members.iter().map(|at| timing[*at][index]).collect()).unwrap_or(0.0);
        let early = members.iter().filter(|at| timing[**at][BEFORE_SINUS] < EARLY).count();
        let widths = members.iter().filter_map(|at| waves[*at].qrs).map(|qrs| qrs.end_s - qrs.on_s).collect();
        Facts {
            similar: similarity(&groups.means[group], &groups.means[groups.dominant], &groups.scales).0,
            before_sinus: middle(BEFORE_SINUS),
            both_sinus: middle(BOTH_SINUS),
            after_before: middle(AFTER_BEFORE),
            early: early as f64 / members.len().max(1) as f64,
            width: median(widths).unwrap_or(USUAL_WIDTH_S),
        }
    };
    members.iter().enumerate().map(of).collect()
}

/// Features of the group of a beat, and of the beat and its neighbours relative to the groups.
fn group_features(at: usize, places: &[Place], groups: &Groups, facts: &[Facts]) -> [f64; GROUP] {
    let place = places[at];
    let own = &facts[place.group];
    let total: usize = groups.counts.iter().sum();
    let share = |group: usize| groups.counts[group] as f64 / total.max(1) as f64;
    let before = at.checked_sub(1).map(|before| places[before]);
    let after = places.get(at + 1).copied();
    let truth = |is: bool| f64::from(u8::from(is));
    let same = |other: Option<Place>| {
        other.map_or(0.5, |other| truth(other.block == place.block && other.group == place.group))
    };
    [
        share(place.group).log10(),
        own.similar,
        own.before_sinus,
        own.both_sinus,
        own.after_before,
        own.early,
        ln_ratio(own.width, facts[groups.dominant].width, 1.5),
        place.own,
        place.dominant,
        same(before),
        same(after),
        before.map_or(0.5, |other| other.dominant),
        after.map_or(0.5, |other| other.dominant),
        truth(place.group == groups.dominant),
    ]
}

/// The normal beat of a block in one lead.
struct Reference {
    mean: Shape,
    measures: Measures,
    width: f64,
    pr: Option<f64>,
    /// Height of the P segment without its line.
    p_norm: f64,
}

/// Measures of a QRS complex.
#[derive(Debug, Clone, Copy)]
struct Measures {
    height: f64,
    slope: f64,
    /// Standard deviation in time of the squared slope, in seconds: a duration that needs no borders.
    spread: f64,
    /// Logarithm of the energy of the slope over that of the signal: a mean frequency.
    frequency: f64,
    /// Whether the complex is upright (1), biphasic (0) or negative (-1).
    balance: f64,
    area: f64,
}

impl Measures {
    fn of(qrs: &[f32]) -> Self {
        let count = qrs.len().max(1) as f64;
        let (first, last) = (qrs.first().copied().unwrap_or(0.0), qrs.last().copied().unwrap_or(0.0));
        let level = f64::from(first + last) / 2.0;
        let (mut high, mut low, mut area, mut energy) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        for value in qrs {
            let value = f64::from(*value) - level;
            high = high.max(value);
            low = low.min(value);
            area += value;
            energy += value * value;
        }
        let (mut slope, mut sum, mut first_moment, mut second_moment) = (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        for (at, pair) in qrs.windows(3).enumerate() {
            let step = f64::from(pair[2] - pair[0]);
            let (square, time) = (step * step, QRS_STEP_S * at as f64);
            slope = slope.max(step.abs());
            sum += square;
            first_moment += square * time;
            second_moment += square * time * time;
        }
        let height = (high - low).max(1e-9);
        let sum = sum.max(1e-12);
        let centre = first_moment / sum;
        Measures {
            height,
            slope: slope.max(1e-9),
            spread: (second_moment / sum - centre * centre).max(0.0).sqrt(),
            frequency: (sum / energy.max(1e-12)).ln(),
            balance: (high + low) / height,
            area: area / (count * height),
        }
    }
}

/// A segment without the line through its ends.
fn without_line(piece: &[f32]) -> Vec<f32> {
    let last = piece.len().saturating_sub(1);
    let (first, end) = (piece.first().copied().unwrap_or(0.0), piece.last().copied().unwrap_or(0.0));
    let line = |at: usize| first + (end - first) * at as f32 / last.max(1) as f32;
    piece.iter().enumerate().map(|(at, value)| value - line(at)).collect()
}

fn root_mean_square(values: impl Iterator<Item = f32>) -> f64 {
    let (mut sum, mut count) = (0.0_f64, 0_usize);
    for value in values {
        sum += f64::from(value * value);
        count += 1;
    }
    (sum / count.max(1) as f64).sqrt()
}

impl Reference {
    fn of(block: usize, lead: usize, groups: &Groups, places: &[Place], waves: &[BeatWaves]) -> Self {
        let members: Vec<&BeatWaves> = places
            .iter()
            .zip(waves)
            .filter(|(place, _)| place.block == block && place.group == groups.dominant)
            .map(|(_, waves)| waves)
            .collect();
        let mean = groups.means[groups.dominant][lead].clone();
        let widths = members.iter().filter_map(|waves| waves.qrs).map(|qrs| qrs.end_s - qrs.on_s).collect();
        let pr = members.iter().filter_map(|waves| Some(waves.qrs?.on_s - waves.p?.on_s)).collect();
        Reference {
            measures: Measures::of(mean.qrs(0)),
            width: median(widths).unwrap_or(USUAL_WIDTH_S),
            pr: median(pr),
            p_norm: root_mean_square(without_line(&mean.p).into_iter()),
            mean,
        }
    }
}

fn lead_features(
    at: usize,
    lead: usize,
    shapes: &[Leads],
    places: &[Place],
    usual: &Reference,
    waves: &[BeatWaves],
    beats: &[Beat],
) -> [f64; SHAPE] {
    let shape = &shapes[at][lead];
    let shift = places[at].shift;
    let qrs = shape.qrs(0);
    let this = Measures::of(qrs);
    let width = waves[at].qrs.map_or(usual.width, |qrs| qrs.end_s - qrs.on_s);
    let mean = &usual.mean;
    let t_height = |shape: &Shape, height: f64| {
        let level = f64::from(shape.qrs(0).first().copied().unwrap_or(0.0));
        let sum: f64 = shape.t.iter().map(|value| f64::from(*value) - level).sum();
        sum / shape.t.len().max(1) as f64 / height
    };
    let (t_this, t_usual) = (t_height(shape, usual.measures.height), t_height(mean, usual.measures.height));
    let p = without_line(&shape.p);
    let p_usual = without_line(&mean.p);
    let p_product: f32 = p.iter().zip(&p_usual).map(|(left, right)| left * right).sum();
    let p_square: f32 = p_usual.iter().map(|value| value * value).sum();
    let p_rest = root_mean_square(p.iter().zip(&p_usual).map(|(left, right)| left - right));
    let pr = waves[at].qrs.zip(waves[at].p).map(|(qrs, p)| qrs.on_s - p.on_s);
    let pr_diff = match (pr, usual.pr) {
        (Some(pr), Some(usual)) => (pr - usual).clamp(-0.15, 0.15),
        (None, Some(_)) => -0.2,
        (Some(_), None) => 0.2,
        (None, None) => 0.0,
    };
    // A P wave on the T wave of the beat before deforms it. Only what precedes the QRS complex counts.
    let before = at.checked_sub(1).filter(|before| beats[*before].segment == beats[at].segment);
    let (prev_t_corr, prev_t_rest) = before.map_or((0.0, 0.0), |before| {
        let rr = beats[at].time_s - beats[before].time_s;
        let points = (((rr - BEFORE_QRS_S - T_S.start) / WAVE_STEP_S).max(0.0) as usize).min(mean.t.len());
        if points < FEWEST_T_POINTS {
            return (0.0, 0.0);
        }
        let (one, other) = (&shapes[before][lead].t, &mean.t);
        let (one, other) = (&one[..points.min(one.len())], &other[..points]);
        let (one, other) = (without_line(one), without_line(other));
        let rest = root_mean_square(one.iter().zip(&other).map(|(left, right)| left - right));
        (correlation(&one, &other), rest / usual.measures.height)
    });
    let neighbour = |other: Option<usize>| {
        other.and_then(|other| shapes.get(other)).map_or(0.5, |other| correlation(qrs, other[lead].qrs(0)))
    };
    [
        10.0 * width.clamp(0.04, 0.25),
        ln_ratio(width, usual.width, 1.5),
        100.0 * this.spread,
        ln_ratio(this.spread, usual.measures.spread, 1.5),
        correlation(shape.qrs(shift), mean.qrs(0)),
        ln_ratio(this.height, usual.measures.height, 3.0),
        ln_ratio(this.slope, usual.measures.slope, 3.0),
        this.frequency,
        this.frequency - usual.measures.frequency,
        (this.balance - usual.measures.balance).abs(),
        (this.area - usual.measures.area).abs(),
        correlation(&shape.t, &mean.t),
        (t_this - t_usual).clamp(-2.0, 2.0),
        (t_this * this.balance.signum() - t_usual * usual.measures.balance.signum()).clamp(-2.0, 2.0),
        waves[at].p.map_or(0.0, |p| f64::from(p.confidence)),
        correlation(&p, &p_usual),
        (p_rest / usual.measures.height).min(1.0),
        f64::from(p_product / p_square.max(1e-9)).clamp(-3.0, 3.0),
        pr_diff,
        prev_t_corr,
        prev_t_rest.min(1.0),
        neighbour(at.checked_sub(1)),
        neighbour(Some(at + 1)),
        (p_rest / usual.p_norm.max(1e-6)).min(10.0),
        f64::from(
            shape.p.iter().sum::<f32>() / shape.p.len().max(1) as f32
                - shape.qrs(0).first().copied().unwrap_or(0.0),
        ) / usual.measures.height,
    ]
}
