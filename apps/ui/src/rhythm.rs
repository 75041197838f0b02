//! Texts about the rhythm and the intervals of a strip, for both apps.

use std::borrow::Cow;

use proto_json::{EcgAnalysis, EcgFinding, EcgInterval};

use crate::tr;

/// The intervals that were measured, with their names. QTc is that of Fridericia.
#[must_use]
pub fn named_intervals(analysis: &EcgAnalysis) -> Vec<(&'static str, EcgInterval)> {
    let intervals = &analysis.intervals;
    let named = [
        ("PR", intervals.pr),
        ("QRS", intervals.qrs),
        ("QT", intervals.qt),
        ("QTc", intervals.qtc_fridericia),
    ];
    named.into_iter().filter_map(|(name, interval)| Some((name, interval?))).collect()
}

/// The rhythm and the intervals of a strip in one line. Empty if nothing was found.
#[must_use]
pub fn rhythm_line(analysis: &EcgAnalysis) -> String {
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    for name in analysis.rhythm.iter().map(rhythm_name) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut parts: Vec<String> = names.iter().take(3).map(|name| name.clone().into_owned()).collect();
    if names.len() > 3 {
        parts.push(tr!("and {} more", names.len() - 3));
    }
    let intervals = named_intervals(analysis);
    if let Some(((name, last), others)) = intervals.split_last() {
        let others = others.iter().map(|(name, interval)| format!("{name} {:.0}", interval.median_ms));
        parts.extend(others);
        parts.push(format!("{name} {:.0} ms", last.median_ms));
    }
    parts.join(" · ")
}

/// The name of a finding of the rhythm in the language of the app.
#[must_use]
pub fn rhythm_name(finding: &EcgFinding) -> Cow<'_, str> {
    Cow::Borrowed(code_name(&finding.code).unwrap_or(&finding.message))
}

/// The name of a rhythm with this code. `None` for a code of a later version.
#[must_use]
pub fn code_name(code: &str) -> Option<&'static str> {
    Some(match code {
        "sinus_rhythm" => tr!("Sinus rhythm"),
        "sinus_bradycardia" => tr!("Sinus bradycardia"),
        "sinus_tachycardia" => tr!("Sinus tachycardia"),
        "atrial_fibrillation" => tr!("Atrial fibrillation"),
        "paced" => tr!("Paced rhythm"),
        "bigeminy" => tr!("Bigeminy"),
        "trigeminy" => tr!("Trigeminy"),
        "couplet" => tr!("Couplet"),
        "ventricular_run" => tr!("Ventricular run"),
        "supraventricular_run" => tr!("Supraventricular run"),
        "pause" => tr!("Pause"),
        _ => return None,
    })
}
