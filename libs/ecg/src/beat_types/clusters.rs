//! Groups of beats with the same QRS complex.
//!
//! Beats that arise at the same place spread on the same way and have the same QRS complex. A group therefore has one
//! type in most cases, and its timing tells more than that of one beat: a group whose beats are nearly always early
//! and followed by a pause is ectopic.
//!
//! Each block of [`BLOCK`] beats has groups of its own, because the QRS complex changes with the position of the body
//! during a long recording.

use super::shapes::{Leads, blend, norm, similarity};

/// Beats per block: about half an hour.
const BLOCK: usize = 2400;
/// Similarity from which a beat belongs to a group.
const SAME: f64 = 0.85;
/// Largest number of groups. Further beats join the most similar group.
pub(super) const MOST_GROUPS: usize = 24;
/// The mean of a group follows slow changes of its beats.
const LEAST_WEIGHT: f32 = 0.02;
/// A beat is early if the interval before it is shorter than this share of the one after it.
const EARLY: f64 = 0.85;

/// Groups of the beats of a block.
pub(crate) struct Groups {
    /// Mean of the beats of each group.
    pub(crate) means: Vec<Leads>,
    /// Number of beats of each group.
    pub(crate) counts: Vec<usize>,
    /// Index of the group whose beats are the normal ones.
    pub(crate) dominant: usize,
    /// Scale of each lead: the median norm of its QRS complexes.
    pub(crate) scales: Vec<f32>,
}

/// A beat's place in the groups.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) block: usize,
    pub(crate) group: usize,
    /// Similarity to the mean of the own group.
    pub(crate) own: f64,
    /// Similarity to the mean of the dominant group, and the shift that it needs.
    pub(crate) dominant: f64,
    pub(crate) shift: isize,
}

/// Groups the beats. `rr` contains the interval before each beat, as far as it is known.
pub(crate) fn group(beats: &[Leads], rr: &[Option<f64>]) -> (Vec<Groups>, Vec<Place>) {
    let count = (beats.len().div_ceil(BLOCK)).max(1);
    let length = beats.len().div_ceil(count).max(1);
    let mut blocks = Vec::new();
    let mut places = Vec::with_capacity(beats.len());
    for (index, block) in beats.chunks(length).enumerate() {
        let first = index * length;
        let is_late = |at: usize| {
            let (before, after) = (rr[first + at], rr.get(first + at + 1).copied().flatten());
            before.zip(after).is_some_and(|(before, after)| before >= EARLY * after)
        };
        let (groups, of) = block_groups(block, &is_late);
        let dominant = &groups.means[groups.dominant];
        places.extend(block.iter().zip(of).map(|(beat, (group, own))| {
            let (similar, shift) = similarity(beat, dominant, &groups.scales);
            Place { block: index, group, own, dominant: similar, shift }
        }));
        blocks.push(groups);
    }
    (blocks, places)
}

fn block_groups(beats: &[Leads], is_late: &dyn Fn(usize) -> bool) -> (Groups, Vec<(usize, f64)>) {
    let leads = beats.first().map_or(0, Vec::len);
    let scales: Vec<f32> = (0..leads)
        .map(|lead| {
            let norms = beats.iter().map(|beat| f64::from(norm(&beat[lead]))).collect();
            (super::median(norms).unwrap_or(1.0) as f32).max(f32::MIN_POSITIVE.sqrt())
        })
        .collect();
    let mut means: Vec<Leads> = Vec::new();
    let mut counts: Vec<usize> = Vec::new();
    // The most frequent groups are compared first.
    let nearest = |beat: &Leads, means: &[Leads], counts: &[usize]| {
        let mut order: Vec<usize> = (0..means.len()).collect();
        order.sort_by_key(|group| std::cmp::Reverse(counts[*group]));
        let mut best: Option<(usize, f64, isize)> = None;
        for group in order {
            let (similar, shift) = similarity(beat, &means[group], &scales);
            if best.is_none_or(|best| similar > best.1) {
                best = Some((group, similar, shift));
            }
            if similar > 0.95 {
                break;
            }
        }
        best
    };
    for beat in beats {
        match nearest(beat, &means, &counts) {
            Some((group, similar, shift)) if similar >= SAME => {
                counts[group] += 1;
                let weight = (1.0 / counts[group] as f32).max(LEAST_WEIGHT);
                blend(&mut means[group], beat, shift, weight);
            }
            _ if means.len() < MOST_GROUPS => {
                means.push(beat.clone());
                counts.push(1);
            }
            _ => {
                // A rare group gives way to the new one.
                if let Some(rare) = (0..means.len()).min_by_key(|group| counts[*group])
                    && counts[rare] == 1
                {
                    means[rare].clone_from(beat);
                }
            }
        }
    }
    // Groups that have come to resemble each other are one.
    let mut at = 0;
    while at < means.len() {
        let other = (0..at).find(|other| similarity(&means[at], &means[*other], &scales).0 >= 0.93);
        match other {
            Some(other) => {
                let (mean, count) = (means.remove(at), counts.remove(at));
                counts[other] += count;
                let shift = similarity(&mean, &means[other], &scales).1;
                let weight = count as f32 / counts[other] as f32;
                blend(&mut means[other], &mean, shift, weight);
            }
            None => at += 1,
        }
    }
    let of: Vec<(usize, f64)> = beats
        .iter()
        .map(|beat| nearest(beat, &means, &counts).map_or((0, 0.0), |(group, similar, _)| (group, similar)))
        .collect();
    counts = vec![0; means.len()];
    let mut late = vec![0; means.len()];
    for (at, (group, _)) in of.iter().enumerate() {
        counts[*group] += 1;
        late[*group] += usize::from(is_late(at));
    }
    // In bigeminy there are as many ectopic beats as normal ones, but they are early.
    let dominant = (0..means.len()).max_by_key(|group| (late[*group], counts[*group])).unwrap_or(0);
    (Groups { means, counts, dominant, scales }, of)
}
