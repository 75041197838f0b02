//! Sensitivity and false alarms per hour of each alarm rule on annotated WFDB records.
//!
//!     alarm_scores DIR... [--alarms FILE]
//!
//! Each record of the folders is streamed as a live patient, in frames of 200 ms, through the analysis of the worker and the rules of
//! the alarms with their default limits, and with the alarm of atrial fibrillation switched on. The alarms are compared with the
//! episodes that follow from the annotated beats and rhythms. `benchmarks/alarm_scores/score.py` computes the same table from the
//! file of `--alarms` and the annotations that `wfdb` reads.
//!
//! Episodes of the reference; intervals in flutter or fibrillation (`[` to `]`) are left out:
//!
//! | rule | episode |
//! |---|---|
//! | asystole, pause | an interval of 4 s, 3 s: from that time after the first beat to the second one |
//! | heart rate extremely low, high | two intervals longer than that of 35/min; five with a mean above 150/min |
//! | heart rate low, high | the mean of 8 intervals is below 50/min, above 120/min, for 10 s |
//! | ventricular run | three or more beats `V` or `E` in a row |
//! | atrial fibrillation | the rhythm `(AFIB` for 30 s |
//!
//! Episodes of a rule with at most 15 s between them are one. An alarm matches an episode if it begins from 5 s before it to 15 s
//! (atrial fibrillation: 60 s) after it; an episode is also found if an alarm, or that of a stronger rule, is raised during it. An
//! alarm that begins outside is false.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use alarms::rules::limits::Effective;
use alarms::rules::{Change, Input, PatientRules};
use bus::{WaveKind, WaveMessage};
use ecg::wfdb::{self, Annotation};
use ecg_cli::wfdb_files::{RecordFiles, has_atr, headers};
use ecg_worker::PatientAnalysis;
use proto_json::alarms::{AlarmLimits, AlarmRule};
use proto_json::waveform::{Frame, MISSING_SAMPLE, StreamDescription};
use proto_json::{Channel, Device, Mrn, SampleRate, Segment, StreamId, Timestamp};

const RULES: [AlarmRule; 8] = [
    AlarmRule::Asystole,
    AlarmRule::VentricularRun,
    AlarmRule::HeartRateExtremeLow,
    AlarmRule::HeartRateExtremeHigh,
    AlarmRule::HeartRateLow,
    AlarmRule::HeartRateHigh,
    AlarmRule::Pause,
    AlarmRule::AtrialFibrillation,
];
const START_US: i64 = 1_700_000_000_000_000;
const FRAME_S: f64 = 0.2;
const SCALE: f64 = 0.001;
const BEATS: &str = "NLRaVFJASEj/QefnBr?";
const MERGE_S: f64 = 15.0;
const BEFORE_S: f64 = 5.0;

type Episode = (f64, f64);

/// An alarm: its rule, and when it was raised and over, in seconds of the record.
#[derive(Debug, Clone, Copy)]
struct Raised {
    rule: AlarmRule,
    from_s: f64,
    to_s: f64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Score {
    episodes: usize,
    found: usize,
    alarms: usize,
    false_alarms: usize,
}

fn after_s(rule: AlarmRule) -> f64 {
    if rule == AlarmRule::AtrialFibrillation { 60.0 } else { 15.0 }
}

/// The rules whose alarm stands for that of a rule.
fn detectors(rule: AlarmRule) -> &'static [AlarmRule] {
    match rule {
        AlarmRule::Pause => &[AlarmRule::Asystole],
        AlarmRule::HeartRateExtremeLow => &[AlarmRule::Asystole],
        AlarmRule::HeartRateLow => &[AlarmRule::HeartRateExtremeLow, AlarmRule::Asystole],
        AlarmRule::HeartRateHigh => &[AlarmRule::HeartRateExtremeHigh],
        _ => &[],
    }
}

fn merged(episodes: Vec<Episode>) -> Vec<Episode> {
    let mut merged: Vec<Episode> = Vec::new();
    for (from, to) in episodes {
        match merged.last_mut() {
            Some(last) if from - last.1 <= MERGE_S => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// Episodes of a condition that holds at some beats: from the first of consecutive beats to the last one, if that takes
/// at least `for_s`; the episode begins after this time.
fn at_beats(times: &[f64], holds: impl Fn(usize) -> bool, for_s: f64) -> Vec<Episode> {
    let mut episodes = Vec::new();
    let mut since: Option<usize> = None;
    for index in 0..=times.len() {
        let is_present = index < times.len() && holds(index);
        match (since, is_present) {
            (None, true) => since = Some(index),
            (Some(first), false) => {
                let (from, to) = (times[first], times[index - 1]);
                if to - from >= for_s {
                    episodes.push((from + for_s, to));
                }
                since = None;
            }
            _ => {}
        }
    }
    merged(episodes)
}

fn reference(annotations: &[Annotation], rate_hz: f64, length_s: f64) -> BTreeMap<AlarmRule, Vec<Episode>> {
    let (_, flutter) = wfdb::beats_and_flutter(annotations, rate_hz);
    let beats: Vec<(f64, char)> = annotations
        .iter()
        .filter(|one| BEATS.contains(one.symbol))
        .map(|one| (one.tick as f64 / rate_hz, one.symbol))
        .collect();
    let times: Vec<f64> = beats.iter().map(|(time, _)| *time).collect();
    // The interval before a beat; none at the start and in flutter.
    let interval = |index: usize| {
        let before = *times.get(index.checked_sub(1)?)?;
        let at = times[index];
        let is_usable = !flutter.iter().any(|(from, to)| *from < at && *to > before);
        is_usable.then_some(at - before)
    };
    let last = |index: usize, count: usize| -> Option<Vec<f64>> {
        (0..count).map(|back| interval(index.checked_sub(back)?)).collect()
    };
    let rate_of_8 = |index: usize| last(index, 8).map(|intervals| 60.0 * 8.0 / intervals.iter().sum::<f64>());
    let gaps = |limit_s: f64| {
        let long =
            (0..times.len()).filter(|index| interval(*index).is_some_and(|interval| interval >= limit_s));
        merged(long.map(|index| (times[index - 1] + limit_s, times[index])).collect())
    };
    let ventricular = |index: usize| matches!(beats[index].1, 'V' | 'E');
    let in_run = |index: usize| {
        let run = |from: usize| (from..from + 3).all(|at| at < beats.len() && ventricular(at));
        (0..3).any(|back| index.checked_sub(back).is_some_and(run))
    };
    let mut fibrillation = Vec::new();
    let mut since: Option<f64> = None;
    for annotation in annotations {
        let Some(text) = annotation.text.as_deref().filter(|text| text.starts_with('(')) else { continue };
        let time = annotation.tick as f64 / rate_hz;
        if text.starts_with("(AFIB") {
            since = since.or(Some(time));
        } else if let Some(from) = since.take() {
            fibrillation.push((from, time));
        }
    }
    fibrillation.extend(since.map(|from| (from, length_s)));
    fibrillation.retain(|(from, to)| to - from >= 30.0);
    let slow = |index| last(index, 2).is_some_and(|both| both.iter().all(|one| *one > 60.0 / 35.0));
    let fast = |index| last(index, 5).is_some_and(|five| five.iter().sum::<f64>() < 5.0 * 60.0 / 150.0);
    BTreeMap::from([
        (AlarmRule::Asystole, gaps(4.0)),
        (AlarmRule::Pause, gaps(3.0)),
        (AlarmRule::VentricularRun, at_beats(&times, in_run, 0.0)),
        (AlarmRule::HeartRateExtremeLow, at_beats(&times, slow, 0.0)),
        (AlarmRule::HeartRateExtremeHigh, at_beats(&times, fast, 0.0)),
        (AlarmRule::HeartRateLow, at_beats(&times, |at| rate_of_8(at).is_some_and(|rate| rate < 50.0), 10.0)),
        (
            AlarmRule::HeartRateHigh,
            at_beats(&times, |at| rate_of_8(at).is_some_and(|rate| rate > 120.0), 10.0),
        ),
        (AlarmRule::AtrialFibrillation, merged(fibrillation)),
    ])
}

/// Streams a record as a live patient, and returns the alarms.
fn stream(files: &RecordFiles<'_>) -> Result<Vec<Raised>, String> {
    let header = &files.header;
    let mut signals: Vec<Vec<f32>> = Vec::new();
    for index in 0..header.signals.len().min(2) {
        let bytes = files.signal_bytes(index)?;
        signals.push(wfdb::signal(header, index, &bytes).map_err(|error| error.to_string())?);
    }
    let spec = header.signals.first().ok_or("the record has no signal")?;
    let rate_hz = header.sample_rate_hz(spec);
    let rate = SampleRate::new(rate_hz.round() as u32, 1).map_err(|error| error.to_string())?;
    let channel = |(label, code): (&str, &str)| Channel {
        label: label.to_owned(),
        code: code.to_owned(),
        unit: "mV".to_owned(),
        rate,
        scale: SCALE,
        offset: 0.0,
    };
    let leads = [("II", "MDC_ECG_LEAD_II"), ("V1", "MDC_ECG_LEAD_V1")];
    let channels: Vec<Channel> = leads.into_iter().take(signals.len()).map(channel).collect();
    let mrn = Mrn::new(1).map_err(|error| error.to_string())?;
    let id = StreamId::from_uuid(uuid::Uuid::from_u128(1));
    let at = |us: i64| Timestamp::from_millis(us.div_euclid(1_000)).map_err(|error| error.to_string());
    let description = StreamDescription {
        stream: id,
        mrn,
        device: Device { name: "record".to_owned(), serial: "1".to_owned() },
        channels,
        opened_at: at(START_US)?,
        clock: None,
    };
    let message = |kind, sequence, time_us, payload: Vec<u8>| WaveMessage {
        mrn,
        stream: id,
        kind,
        sequence,
        time_us,
        payload: payload.into(),
    };
    let mut analysis = PatientAnalysis::new(mrn);
    let opened = serde_json::to_vec(&description).map_err(|error| error.to_string())?;
    analysis.take(&message(WaveKind::Open, 0, START_US, opened))?;
    let limits = Effective::of(AlarmLimits { atrial_fibrillation: Some(true), ..AlarmLimits::default() });
    let mut rules = PatientRules::default();
    let mut raised: Vec<Raised> = Vec::new();
    let (frame, length) = ((rate_hz * FRAME_S).round() as usize, signals[0].len());
    let seconds = |time: Timestamp| (time.as_millis() - START_US / 1_000) as f64 / 1_000.0;
    for (number, first) in (0..length).step_by(frame).enumerate() {
        let time_us = START_US + rate.micros(first as u64);
        let sample = |value: &f32| {
            if value.is_finite() { (f64::from(*value) / SCALE).round() as i16 } else { MISSING_SAMPLE }
        };
        let segments = signals.iter().zip(0..).map(|(signal, channel)| {
            let samples = signal[first..(first + frame).min(length)].iter().map(sample).collect();
            Segment { channel, first: first as u64, lead_off: false, samples }
        });
        let frame = Frame { sequence: number as u64, device_time_us: time_us, segments: segments.collect() };
        let frame = message(WaveKind::Frame, number as u64, time_us, frame.encode());
        for vitals in analysis.take(&frame)? {
            for change in rules.take(&Input::Vitals(Box::new(vitals)), &limits) {
                match change {
                    Change::Raised(rule, onset) => {
                        let from_s = seconds(onset.raised_at);
                        raised.push(Raised { rule, from_s, to_s: length as f64 / rate_hz });
                    }
                    Change::Over(rule, time) => {
                        let open = raised.iter_mut().rev().find(|alarm| alarm.rule == rule);
                        open.into_iter().for_each(|alarm| alarm.to_s = seconds(time));
                    }
                    Change::Worse(..) | Change::Withdrawn(..) => {}
                }
            }
        }
    }
    Ok(raised)
}

fn score(rule: AlarmRule, episodes: &[Episode], raised: &[Raised]) -> Score {
    let own: Vec<&Raised> = raised.iter().filter(|alarm| alarm.rule == rule).collect();
    let is_match =
        |alarm: &Raised, (from, to): Episode| (from - BEFORE_S..=to + after_s(rule)).contains(&alarm.from_s);
    let is_found = |episode: &Episode| {
        let stands = |alarm: &&Raised| alarm.rule == rule || detectors(rule).contains(&alarm.rule);
        raised
            .iter()
            .filter(stands)
            .any(|alarm| is_match(alarm, *episode) || (alarm.from_s <= episode.1 && alarm.to_s >= episode.0))
    };
    let is_false = |alarm: &&&Raised| !episodes.iter().any(|episode| is_match(alarm, *episode));
    Score {
        episodes: episodes.len(),
        found: episodes.iter().filter(|episode| is_found(episode)).count(),
        alarms: own.len(),
        false_alarms: own.iter().filter(is_false).count(),
    }
}

/// What one record contributes.
struct Record {
    name: String,
    hours: f64,
    raised: Vec<Raised>,
    scores: Vec<Score>,
}

fn record(path: &Path) -> Result<Record, String> {
    let files = RecordFiles::open(path)?;
    let raised = stream(&files)?;
    let spec = files.header.signals.first().ok_or("the record has no signal")?;
    let rate_hz = files.header.sample_rate_hz(spec);
    let length =
        wfdb::signal(&files.header, 0, &files.signal_bytes(0)?).map_err(|error| error.to_string())?.len();
    let length_s = length as f64 / rate_hz;
    let episodes = reference(&files.annotations("atr")?, rate_hz, length_s);
    let scores = RULES.map(|rule| score(rule, &episodes[&rule], &raised)).to_vec();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = format!("{folder}/{}", path.file_stem().unwrap_or_default().to_string_lossy());
    Ok(Record { name, hours: length_s / 3_600.0, raised, scores })
}

fn table(records: &[&Record]) -> String {
    let hours: f64 = records.iter().map(|record| record.hours).sum();
    let mut text = String::from(
        "| rule | episodes | found | sensitivity | alarms | false | false per hour |\n|---|---|---|---|---|---|---|\n",
    );
    for (index, rule) in RULES.iter().enumerate() {
        let sum =
            |of: fn(&Score) -> usize| records.iter().map(|record| of(&record.scores[index])).sum::<usize>();
        let (episodes, found) = (sum(|score| score.episodes), sum(|score| score.found));
        let (alarms, wrong) = (sum(|score| score.alarms), sum(|score| score.false_alarms));
        let sensitivity = match episodes {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", 100.0 * found as f64 / episodes as f64),
        };
        text.push_str(&format!(
            "| `{}` | {episodes} | {found} | {sensitivity} | {alarms} | {wrong} | {:.2} |\n",
            rule.name(),
            wrong as f64 / hours
        ));
    }
    text
}

fn run() -> Result<(), String> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut output: Option<PathBuf> = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--alarms" {
            output = Some(arguments.next().ok_or("--alarms needs a file")?.into());
        } else {
            folders.push(argument.into());
        }
    }
    if folders.is_empty() {
        return Err("name folders with annotated WFDB records".to_owned());
    }
    let mut paths = Vec::new();
    for folder in &folders {
        paths.extend(headers(folder, has_atr)?);
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = record(path).map_err(|error| format!("{}: {error}", path.display()));
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut records = done.into_iter().collect::<Result<Vec<Record>, _>>()?;
    records.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(output) = output {
        let mut file = std::fs::File::create(&output).map_err(|error| error.to_string())?;
        for record in &records {
            for alarm in &record.raised {
                writeln!(
                    file,
                    "{}\t{}\t{:.3}\t{:.3}",
                    record.name,
                    alarm.rule.name(),
                    alarm.from_s,
                    alarm.to_s
                )
                .map_err(|error| error.to_string())?;
            }
        }
    }
    let mut of_folders: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &records {
        of_folders.entry(record.name.split('/').next().unwrap_or_default()).or_default().push(record);
    }
    for (folder, records) in of_folders {
        let hours: f64 = records.iter().map(|record| record.hours).sum();
        println!("{folder}: {} records, {hours:.1} h\n\n{}", records.len(), table(&records));
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("alarm_scores: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
