//! Analysis of one ECG: reads a signal and produces the analysis, the details and the plot.
//!
//! The worker stores the result. The gateway returns it for the preview of a file that is not stored. Both use this
//! crate, so a preview shows what the stored ECG will show.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use ecg::beat_types::{BeatType, TypedBeat};
use ecg::plot::PlotError;
use ecg::rhythm::Finding;
use proto_json::{
    BeatMark, EcgAnalysis, EcgBeatCounts, EcgBeatType, EcgDetail, EcgFinding, EcgGap, EcgInterval,
    EcgIntervals, EcgLead, EcgLevel, EcgNote, EcgQuality, EcgQualitySegment, EcgRate, EcgRrStatistics, EcgSt,
    EcgTrendPoint, EcgWarning, EcgWave, SignalOptions,
};

/// Limit on findings and on warnings of a result.
const MOST_REMARKS: usize = 50;
/// Limit on leads of a result.
const MOST_LEADS: usize = 64;

/// Result of the analysis of a signal.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Summary of the analysis.
    pub analysis: EcgAnalysis,
    /// All beats, the quality segments and the trend.
    pub detail: EcgDetail,
    /// The plot as PNG.
    pub png: Bytes,
    /// Width of the plot in pixels.
    pub width: u32,
    /// Height of the plot in pixels.
    pub height: u32,
}

/// Error of [`analyze`].
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The bytes are not a usable ECG.
    #[error("{reason}")]
    Signal {
        /// One sentence for people.
        reason: String,
        /// Whether another sampling rate or lead could make the file readable.
        needs_options: bool,
    },
    /// The bytes could not be read completely.
    #[error("the signal could not be read: {0}")]
    Transfer(#[source] std::io::Error),
}

/// Reads, analyses and draws a signal. `time` is shown in the header of the plot. Blocks.
///
/// # Errors
/// Returns [`AnalysisError::Signal`] if the bytes are not a usable ECG, [`AnalysisError::Transfer`] if they
/// could not be read completely.
pub fn analyze(reader: impl Read, options: &SignalOptions, time: String) -> Result<Picture, AnalysisError> {
    let lead = options.lead.as_deref().map(ecg::csv::LeadChoice::of);
    let options = ecg::csv::Options { sample_rate_hz: options.sample_rate_hz, lead, ..Default::default() };
    let recording = ecg::read_recording(reader, &options).map_err(|error| match error {
        ecg::ReadError::Csv(ecg::csv::ReadError::Io(cause))
        | ecg::ReadError::Edf(ecg::edf::ReadError::Io(cause)) => AnalysisError::Transfer(cause),
        other => AnalysisError::Signal { reason: other.to_string(), needs_options: other.needs_options() },
    })?;
    let found = recording.analyze();
    let strip = &recording.leads[found.best].strip;
    let best = &found.leads[found.best];
    let report = Arc::new(recording.report(&found));
    let st = recording.st_levels(&found, &report);
    let options =
        ecg::plot::Options { recorded_at: Some(time), report: Some(report.clone()), ..Default::default() };
    let unusable =
        |error: PlotError| AnalysisError::Signal { reason: error.to_string(), needs_options: false };
    let png = ecg::plot::png(strip, best, &options).map_err(unusable)?;
    let (width, height) = png_size(&png);
    Ok(Picture {
        analysis: EcgAnalysis {
            leads: leads(&recording, &found),
            st: st.into_iter().take(MOST_LEADS).map(st_of).collect(),
            ..summary(strip, best, &report)
        },
        detail: detail(strip, best, &report),
        png: png.into(),
        width,
        height,
    })
}

/// Width and height from the IHDR chunk of a PNG file (PNG specification, 11.2.2).
fn png_size(png: &[u8]) -> (u32, u32) {
    let number =
        |at: usize| png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    (number(16), number(20))
}

/// The leads of the file, and those that can be derived. A lead that gives the rate is named even if it is not among
/// the first.
fn leads(recording: &ecg::Recording, found: &ecg::RecordingAnalysis) -> Vec<EcgLead> {
    let own = (0..recording.leads.len()).filter(|index| *index < MOST_LEADS - 1 || *index == found.best).map(
        |index| EcgLead {
            name: recording.lead_name(index),
            gives_rate: index == found.best,
            derived: false,
            quality: Some(quality(found.leads[index].quality)),
            mean_bpm: found.leads[index].heart_rate.map(|rate| round(rate.mean_bpm, 1)),
        },
    );
    let derived = recording.derived_names().into_iter().map(|name| EcgLead {
        name: name.to_owned(),
        gives_rate: false,
        derived: true,
        quality: None,
        mean_bpm: None,
    });
    own.chain(derived).take(MOST_LEADS).collect()
}

fn st_of(st: ecg::LeadSt) -> EcgSt {
    let level = |level: ecg::st::LevelMv| EcgLevel {
        median_mv: round(f64::from(level.median), 3),
        spread_mv: round(f64::from(level.spread), 3),
        beats: level.count as u64,
    };
    EcgSt { lead: st.lead, j60: st.levels.j60.map(level), j80: st.levels.j80.map(level) }
}

fn intervals(intervals: &ecg::waves::Intervals) -> EcgIntervals {
    let of = |interval: Option<ecg::waves::IntervalMs>| {
        interval.map(|interval| EcgInterval {
            median_ms: round(interval.median, 1),
            spread_ms: round(interval.spread, 1),
            beats: interval.count as u64,
        })
    };
    EcgIntervals {
        pr: of(intervals.pr),
        qrs: of(intervals.qrs),
        qt: of(intervals.qt),
        qtc_bazett: of(intervals.qtc_bazett),
        qtc_fridericia: of(intervals.qtc_fridericia),
    }
}

fn beat_counts(types: &[TypedBeat]) -> EcgBeatCounts {
    let mut counts = EcgBeatCounts::default();
    for typed in types {
        let count = match typed.kind {
            BeatType::Normal => &mut counts.normal,
            BeatType::Supraventricular => &mut counts.supraventricular,
            BeatType::Ventricular => &mut counts.ventricular,
            BeatType::Paced => &mut counts.paced,
            BeatType::Unknown => &mut counts.unknown,
        };
        *count += 1;
    }
    counts
}

fn beat_type(kind: BeatType) -> EcgBeatType {
    match kind {
        BeatType::Normal => EcgBeatType::Normal,
        BeatType::Supraventricular => EcgBeatType::Supraventricular,
        BeatType::Ventricular => EcgBeatType::Ventricular,
        BeatType::Paced => EcgBeatType::Paced,
        BeatType::Unknown => EcgBeatType::Unknown,
    }
}

fn finding(finding: &Finding) -> EcgFinding {
    EcgFinding {
        code: finding.code.to_owned(),
        message: finding.name().to_owned(),
        evidence: finding.evidence.clone(),
        start_s: round(finding.start_s, 3),
        end_s: round(finding.end_s, 3),
    }
}

/// At most [`MOST_REMARKS`] findings in order of their start. Each code has an equal share, of its longest findings.
fn main_findings(findings: &[Finding]) -> Vec<&Finding> {
    let mut longest: Vec<&Finding> = findings.iter().collect();
    longest.sort_by(|left, right| (right.end_s - right.start_s).total_cmp(&(left.end_s - left.start_s)));
    let mut ranks: HashMap<&str, usize> = HashMap::new();
    let mut ranked: Vec<(usize, &Finding)> = longest
        .into_iter()
        .map(|finding| {
            let rank = ranks.entry(finding.code).or_default();
            *rank += 1;
            (*rank, finding)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(MOST_REMARKS);
    ranked.sort_by(|(_, left), (_, right)| left.start_s.total_cmp(&right.start_s));
    ranked.into_iter().map(|(_, finding)| finding).collect()
}

fn wave(wave: ecg::waves::Wave) -> EcgWave {
    EcgWave {
        on_s: round(wave.on_s, 4),
        peak_s: round(wave.peak_s, 4),
        end_s: round(wave.end_s, 4),
        confidence: round(f64::from(wave.confidence), 2) as f32,
    }
}

fn summary(strip: &ecg::Strip, found: &ecg::Analysis, report: &ecg::Report) -> EcgAnalysis {
    EcgAnalysis {
        duration_s: round(strip.duration_s(), 3),
        sample_rate_hz: round(strip.sample_rate_hz, 4),
        lead: strip.lead.clone(),
        heart_rate: found.heart_rate.map(|rate| EcgRate {
            mean_bpm: round(rate.mean_bpm, 1),
            min_bpm: round(rate.min_bpm, 1),
            max_bpm: round(rate.max_bpm, 1),
        }),
        no_heart_rate_reason: found.no_heart_rate_reason.clone(),
        rr: found.rr.map(|rr| EcgRrStatistics {
            count: rr.count as u64,
            median_ms: round(rr.median_ms, 1),
            sdnn_ms: round(rr.sdnn_ms, 1),
            rmssd_ms: rr.rmssd_ms.map(|rmssd| round(rmssd, 1)),
        }),
        quality: quality(found.quality),
        beat_count: found.beats.len() as u64,
        algorithm: ecg::ALGORITHM,
        intervals: intervals(&report.intervals),
        rhythm: main_findings(&report.findings).into_iter().map(finding).collect(),
        rhythm_count: report.findings.len() as u64,
        beat_types: beat_counts(&report.types),
        leads: Vec::new(),
        st: Vec::new(),
        notes: found
            .rhythm_notes
            .iter()
            .take(MOST_REMARKS)
            .map(|note| EcgNote {
                code: note.code.to_owned(),
                message: note.message.clone(),
                at_s: note.at_s.map(|at| round(at, 3)),
            })
            .collect(),
        warnings: found
            .warnings
            .iter()
            .take(MOST_REMARKS)
            .map(|warning| EcgWarning { code: warning.code.to_owned(), message: warning.message.clone() })
            .collect(),
        rows_used: strip.rows.used,
        rows_skipped: strip.rows.skipped,
        first_skipped_lines: strip.rows.first_skipped_lines.clone(),
    }
}

fn detail(strip: &ecg::Strip, found: &ecg::Analysis, report: &ecg::Report) -> EcgDetail {
    EcgDetail {
        beats: found
            .beats
            .iter()
            .zip(report.types.iter().zip(&report.waves))
            .map(|(beat, (typed, waves))| BeatMark {
                time_s: round(beat.time_s, 4),
                confidence: beat.confidence,
                beat_type: beat_type(typed.kind),
                p: waves.p.map(wave),
                qrs: waves.qrs.map(wave),
                t: waves.t.map(wave),
            })
            .collect(),
        quality_segments: found
            .quality_segments
            .iter()
            .map(|segment| EcgQualitySegment {
                start_s: round(segment.start_s, 3),
                end_s: round(segment.end_s, 3),
                quality: quality(segment.quality),
                reason: segment.reason.clone(),
            })
            .collect(),
        trend: found
            .trend
            .iter()
            .map(|point| EcgTrendPoint {
                time_s: round(point.time_s, 3),
                mean_bpm: round(point.mean_bpm, 1),
                min_bpm: round(point.min_bpm, 1),
                max_bpm: round(point.max_bpm, 1),
            })
            .collect(),
        gaps: strip
            .gaps()
            .map(|gap| EcgGap { start_s: round(gap.start_s, 4), end_s: round(gap.end_s, 4) })
            .collect(),
        rhythm: report.findings.iter().map(finding).collect(),
        pacing_pulses_s: found.pacing_pulses_s.iter().map(|pulse_s| round(*pulse_s, 4)).collect(),
    }
}

fn quality(quality: ecg::Quality) -> EcgQuality {
    match quality {
        ecg::Quality::Good => EcgQuality::Good,
        ecg::Quality::Poor => EcgQuality::Poor,
        ecg::Quality::Unusable => EcgQuality::Unusable,
    }
}

/// Further digits would exceed the accuracy of the method.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use ecg::synth::{Rhythm, Settings, generate};

    use super::*;

    fn analyzed(file: &[u8]) -> Picture {
        analyze(file, &SignalOptions::default(), "2024-02-29 12:00".to_owned()).unwrap()
    }

    fn synthetic(settings: Settings) -> Picture {
        analyzed(&ecg::synth::csv(&generate(&settings).strip))
    }

    fn codes(picture: &Picture) -> Vec<&str> {
        picture.analysis.rhythm.iter().map(|finding| finding.code.as_str()).collect()
    }

    #[test]
    fn sinus_rhythm_has_waves_intervals_and_rhythm() {
        let picture = synthetic(Settings::default());
        let analysis = &picture.analysis;
        assert_eq!((analysis.algorithm, codes(&picture)), (ecg::ALGORITHM, vec!["sinus_rhythm"]));
        assert_eq!(analysis.beat_count, picture.detail.beats.len() as u64);
        assert!(analysis.beat_types.normal + 2 >= analysis.beat_count, "{:?}", analysis.beat_types);
        let EcgIntervals { pr, qrs, qt, qtc_bazett, qtc_fridericia } = analysis.intervals;
        for (name, interval, range) in [
            ("PR", pr, 100.0..220.0),
            ("QRS", qrs, 50.0..160.0),
            ("QT", qt, 300.0..460.0),
            ("Bazett", qtc_bazett, 320.0..480.0),
            ("Fridericia", qtc_fridericia, 320.0..480.0),
        ] {
            let interval = interval.unwrap_or_else(|| panic!("{name} is measured"));
            assert!(range.contains(&interval.median_ms) && interval.beats > 20, "{name}: {interval:?}");
        }
        let whole: Vec<&BeatMark> =
            picture.detail.beats.iter().filter(|beat| beat.p.is_some() && beat.t.is_some()).collect();
        assert!(whole.len() > 25);
        for beat in whole {
            let waves = [beat.p.unwrap(), beat.qrs.unwrap(), beat.t.unwrap()];
            let times: Vec<f64> =
                waves.iter().flat_map(|wave| [wave.on_s, wave.peak_s, wave.end_s]).collect();
            assert!(times.is_sorted(), "{beat:?}");
            assert!(waves.iter().all(|wave| (0.0..=1.0).contains(&wave.confidence)));
        }
    }

    #[test]
    fn fibrillation_is_found_and_has_no_pr_interval() {
        let settings = Settings {
            duration_s: 60.0,
            rhythm: Rhythm::Irregular,
            mean_bpm: 90.0,
            rr_sd_ms: 150.0,
            ..Settings::default()
        };
        let picture = synthetic(settings);
        assert!(codes(&picture).contains(&"atrial_fibrillation"), "{:?}", picture.analysis.rhythm);
        assert_eq!(picture.analysis.intervals.pr, None);
        assert!(picture.detail.beats.iter().all(|beat| beat.p.is_none()));
        let finding = &picture.analysis.rhythm[0];
        assert!(finding.evidence.contains("RR intervals") && finding.end_s > finding.start_s, "{finding:?}");
    }

    /// Beats of which the T wave has 0.9 of the height of the R wave, at 45 beats a minute.
    fn tall_t_waves(t_mv: f64) -> Vec<u8> {
        let (rate_hz, seconds) = (250.0, 30.0);
        let bump =
            |t: f64, at: f64, height: f64, width: f64| height * (-((t - at) / width).powi(2) / 2.0).exp();
        let beats: Vec<f64> =
            (0..).map(|beat| 0.6 + f64::from(beat) * 60.0 / 45.0).take_while(|at| *at < seconds).collect();
        let samples = (0..(seconds * rate_hz) as usize).map(|index| {
            let t = index as f64 / rate_hz;
            let wave = |beat: &f64| {
                bump(t, beat - 0.16, 0.12, 0.02)
                    + bump(t, *beat, 1.0, 0.011)
                    + bump(t, beat + 0.028, -0.2, 0.009)
                    + bump(t, beat + 0.32, t_mv, 0.055)
            };
            let noise = 0.004 * ((index * 7919 % 1000) as f64 / 500.0 - 1.0);
            (beats.iter().map(wave).sum::<f64>() + noise) as f32
        });
        ecg::synth::csv(&ecg::Strip::from_samples(rate_hz, samples.collect()))
    }

    #[test]
    fn tall_t_waves_are_no_beats() {
        let picture = analyzed(&tall_t_waves(0.9));
        let rate = picture.analysis.heart_rate.unwrap();
        assert!((rate.mean_bpm - 45.0).abs() < 1.0, "{rate:?}");
        assert!(codes(&picture).contains(&"sinus_bradycardia"), "{:?}", picture.analysis.rhythm);
        let qt = picture.analysis.intervals.qt.unwrap();
        assert!((380.0..560.0).contains(&qt.median_ms), "{qt:?}");
    }

    /// A file with these leads, each a factor of the same signal.
    fn leads_csv(leads: &[(&str, f64)]) -> Vec<u8> {
        let made = generate(&Settings { duration_s: 20.0, sample_rate_hz: 250.0, ..Settings::default() });
        let mut text = String::from("time");
        for (name, _) in leads {
            text.push(',');
            text.push_str(name);
        }
        for (index, sample) in made.strip.segments[0].samples.iter().enumerate() {
            write!(text, "\n{:.3}", index as f64 / 250.0).unwrap();
            for (lead, (_, factor)) in leads.iter().enumerate() {
                let noise = 0.003 * ((index * (lead + 3) * 7919 % 1000) as f64 / 500.0 - 1.0);
                write!(text, ",{:.4}", f64::from(*sample) * factor + noise).unwrap();
            }
        }
        text.into_bytes()
    }

    #[test]
    fn twelve_leads_are_listed_with_quality_and_st_level() {
        let names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
        let leads: Vec<(&str, f64)> =
            names.iter().enumerate().map(|(index, name)| (*name, 0.6 + 0.05 * index as f64)).collect();
        let analysis = analyzed(&leads_csv(&leads)).analysis;
        assert_eq!(analysis.leads.iter().map(|lead| lead.name.as_str()).collect::<Vec<_>>(), names);
        assert_eq!(analysis.leads.iter().filter(|lead| lead.gives_rate).count(), 1);
        assert!(analysis.leads.iter().all(|lead| lead.quality == Some(EcgQuality::Good) && !lead.derived));
        assert_eq!(analysis.st.len(), 12);
        assert!(
            analysis.st.iter().all(|st| st.j60.is_some_and(|level| level.beats > 10)),
            "{:?}",
            analysis.st
        );
    }

    #[test]
    fn leads_i_and_ii_give_the_other_limb_leads() {
        let analysis = analyzed(&leads_csv(&[("I", 0.5), ("II", 1.0)])).analysis;
        let names: Vec<(&str, bool)> =
            analysis.leads.iter().map(|lead| (lead.name.as_str(), lead.derived)).collect();
        let derived = [("III", true), ("aVR", true), ("aVL", true), ("aVF", true)];
        assert_eq!(names, [[("I", false), ("II", false)].as_slice(), &derived].concat());
        assert!(analysis.st.iter().any(|st| st.lead == "aVF"), "{:?}", analysis.st);
    }

    #[test]
    fn noise_has_no_results_beyond_its_quality() {
        let mut random = ecg::synth::Random::new(3);
        let samples = (0..5000).map(|_| random.normal() as f32).collect();
        let picture = analyzed(&ecg::synth::csv(&ecg::Strip::from_samples(250.0, samples)));
        let analysis = &picture.analysis;
        assert_eq!((analysis.heart_rate, analysis.intervals), (None, EcgIntervals::default()));
        assert!(analysis.rhythm.is_empty() && analysis.st.is_empty());
        assert_eq!(analysis.beat_types.unknown, analysis.beat_count);
        assert!(picture.detail.beats.iter().all(|beat| beat.qrs.is_none()));
    }

    #[test]
    fn summary_stays_small_and_keeps_each_kind_of_finding() {
        let finding = |code: &'static str, start_s: f64, length_s: f64| Finding {
            code,
            start_s,
            end_s: start_s + length_s,
            evidence: String::new(),
        };
        let mut findings: Vec<Finding> =
            (0..500).map(|number| finding("couplet", f64::from(number) * 10.0, 0.5)).collect();
        findings.push(finding("atrial_fibrillation", 80_000.0, 30.0));
        findings.push(finding("ventricular_run", 81_000.0, 2.0));
        findings.push(finding("ventricular_run", 82_000.0, 9.0));
        let main = main_findings(&findings);
        assert_eq!(main.len(), MOST_REMARKS);
        assert!(main.is_sorted_by(|left, right| left.start_s <= right.start_s));
        for code in ["couplet", "atrial_fibrillation", "ventricular_run"] {
            assert!(main.iter().any(|finding| finding.code == code), "{code}");
        }
        assert_eq!(main.iter().filter(|finding| finding.code == "ventricular_run").count(), 2);
    }
}
