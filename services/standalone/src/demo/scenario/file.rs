//! The file format of a scenario: TOML, read with `toml` and serde. Types that cannot hold other values make
//! `toml` report value and line; [`parse`] checks values that depend on each other.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use toml::Spanned;

use super::{
    At, Change, Event, MAX_PATIENTS, Noise, Patient, RECORD_NUMBERS, Rhythm, Scenario, State, Swing,
};

/// Maximum number of events.
const MAX_EVENTS: usize = 10_000;
/// Maximum length of title and names in characters.
const MAX_NAME_CHARS: usize = 100;
/// Prefix of names. It shows that a patient is simulated.
const NAME_PREFIX: &str = "Demo ";
/// Durations of events and periods.
const DURATIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// Intervals between strips.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Shortest period of a swing.
const MIN_PERIOD: Duration = Duration::from_secs(10);
/// Height of the R wave in millivolts, unless the file sets it.
const AMPLITUDE_MV: f64 = 1.1;

/// What is wrong, and the offset of the wrong place in bytes.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) at: Option<usize>,
    pub(super) reason: String,
}

impl Wrong {
    fn new(span: Range<usize>, reason: impl Into<String>) -> Self {
        Wrong { at: Some(span.start), reason: reason.into() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: Option<Title>,
    interval: Option<Spanned<Length>>,
    #[serde(default)]
    patients: Vec<Spanned<PatientEntry>>,
    #[serde(default)]
    events: Vec<Spanned<EventEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatientEntry {
    name: Spanned<Name>,
    mrn: Spanned<Whole<RecordNumber>>,
    rhythm: Option<Rhythm>,
    rate: Option<Spanned<Whole<Rate>>>,
    rate_swing: Option<Spanned<Whole<RateSwing>>>,
    rate_period: Option<Spanned<Length>>,
    ectopy: Option<Whole<Percent>>,
    noise: Option<Noise>,
    #[serde(default)]
    lead_off: bool,
    #[serde(default)]
    gaps: bool,
    amplitude: Option<Amplitude>,
    #[serde(default)]
    image: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventEntry {
    patient: Spanned<PatientRef>,
    at: Start,
    #[serde(rename = "for")]
    lasts: Option<Spanned<Length>>,
    every: Option<Spanned<Length>>,
    rhythm: Option<Rhythm>,
    rate: Option<Spanned<Whole<Rate>>>,
    ectopy: Option<Whole<Percent>>,
    noise: Option<Noise>,
    lead_off: Option<bool>,
    gaps: Option<bool>,
}

/// Parses and checks a scenario.
pub(super) fn parse(text: &str) -> Result<Scenario, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| Wrong {
        at: error.span().map(|span| span.start),
        reason: one_line(error.message()),
    })?;
    let interval = file.interval.map(|interval| within(interval, &INTERVALS, "interval")).transpose()?;
    if file.patients.is_empty() {
        return Err(Wrong { at: None, reason: "the scenario has no [[patients]]".to_owned() });
    }
    let mut patients: Vec<Patient> = Vec::new();
    for entry in file.patients {
        if patients.len() == MAX_PATIENTS {
            return Err(Wrong::new(entry.span(), format!("a scenario has at most {MAX_PATIENTS} patients")));
        }
        patients.push(patient(entry.into_inner(), &patients)?);
    }
    for (index, entry) in file.events.into_iter().enumerate() {
        let span = entry.span();
        if index == MAX_EVENTS {
            return Err(Wrong::new(span, format!("a scenario has at most {MAX_EVENTS} events")));
        }
        let entry = entry.into_inner();
        let patient = patient_of(&entry.patient, &mut patients)?;
        let event = event(entry, span, patient.base.rhythm)?;
        patient.events.push(event);
    }
    Ok(Scenario { title: file.title.map(|title| title.0), interval, patients })
}

fn patient(entry: PatientEntry, earlier: &[Patient]) -> Result<Patient, Wrong> {
    let (span, name) = (entry.name.span(), entry.name.into_inner().0);
    if earlier.iter().any(|other| other.name == name) {
        return Err(Wrong::new(span, format!("two patients have the name {name:?}")));
    }
    let (span, mrn) = (entry.mrn.span(), u64::from(entry.mrn.into_inner().value));
    if earlier.iter().any(|other| other.mrn == mrn) {
        return Err(Wrong::new(span, format!("two patients have the record number {mrn}")));
    }
    let rhythm = entry.rhythm.unwrap_or(Rhythm::Sinus);
    let rate = rate_of(rhythm, entry.rate)?;
    let swing = match (entry.rate_swing, entry.rate_period) {
        (None, None) => None,
        (Some(bpm), Some(period)) => Some(swing(rhythm, rate, bpm, period)?),
        (Some(bpm), None) => return Err(Wrong::new(bpm.span(), "`rate_swing` needs `rate_period`")),
        (None, Some(period)) => return Err(Wrong::new(period.span(), "`rate_period` needs `rate_swing`")),
    };
    Ok(Patient {
        mrn,
        name,
        base: State {
            rhythm,
            rate,
            ectopy: entry.ectopy.map_or(0.0, Whole::share),
            noise: entry.noise.unwrap_or(Noise::Low),
            lead_off: entry.lead_off,
            gaps: entry.gaps,
        },
        swing,
        amplitude_mv: entry.amplitude.map_or(AMPLITUDE_MV, |amplitude| amplitude.0),
        has_image: entry.image,
        events: Vec::new(),
    })
}

/// Returns the rate, or the default rate of the rhythm.
fn rate_of(rhythm: Rhythm, rate: Option<Spanned<Whole<Rate>>>) -> Result<f64, Wrong> {
    match (rhythm.rates(), rate) {
        (None, None) => Ok(0.0),
        (Some((_, default)), None) => Ok(f64::from(default)),
        (None, Some(rate)) => Err(Wrong::new(rate.span(), format!("{} has no rate", rhythm.name()))),
        (Some((rates, _)), Some(rate)) => {
            let (span, value) = (rate.span(), rate.into_inner().value);
            if rates.contains(&value) {
                return Ok(f64::from(value));
            }
            let (name, low, high) = (rhythm.name(), rates.start(), rates.end());
            Err(Wrong::new(span, format!("the rate of {name} is from {low} to {high}, not {value}")))
        }
    }
}

fn swing(
    rhythm: Rhythm,
    rate: f64,
    bpm: Spanned<Whole<RateSwing>>,
    period: Spanned<Length>,
) -> Result<Swing, Wrong> {
    let (span, bpm) = (bpm.span(), f64::from(bpm.into_inner().value));
    let Some((rates, _)) = rhythm.rates() else {
        return Err(Wrong::new(span, format!("{} has no rate", rhythm.name())));
    };
    let (lowest, highest) = (rate - bpm, rate + bpm);
    if lowest < f64::from(*rates.start()) || highest > f64::from(*rates.end()) {
        let (name, low, high) = (rhythm.name(), rates.start(), rates.end());
        let reason = format!(
            "with this `rate_swing` the rate is from {lowest} to {highest}; the rate of {name} is from {low} to {high}"
        );
        return Err(Wrong::new(span, reason));
    }
    Ok(Swing { bpm, period: within(period, &(MIN_PERIOD..=*DURATIONS.end()), "rate_period")? })
}

/// Finds the patient of an event.
fn patient_of<'a>(
    reference: &Spanned<PatientRef>,
    patients: &'a mut [Patient],
) -> Result<&'a mut Patient, Wrong> {
    let found = patients.iter().position(|patient| match reference.get_ref() {
        PatientRef::Name(name) => patient.name == *name,
        PatientRef::Mrn(mrn) => i64::try_from(patient.mrn) == Ok(*mrn),
    });
    let names: Vec<_> = patients.iter().take(10).map(|patient| format!("{:?}", patient.name)).collect();
    let more = if patients.len() > names.len() { ", ..." } else { "" };
    found.and_then(|index| patients.get_mut(index)).ok_or_else(|| {
        let reference_text = reference.get_ref();
        let reason =
            format!("there is no patient {reference_text}; the patients are {}{more}", names.join(", "));
        Wrong::new(reference.span(), reason)
    })
}

/// Checks an event. `base` is the rhythm of its patient.
fn event(entry: EventEntry, span: Range<usize>, base: Rhythm) -> Result<Event, Wrong> {
    let every_span = entry.every.as_ref().map_or(span.clone(), Spanned::span);
    let lasts = entry.lasts.map(|lasts| within(lasts, &DURATIONS, "for")).transpose()?;
    let every = entry.every.map(|every| within(every, &DURATIONS, "every")).transpose()?;
    match (every, lasts) {
        (Some(_), None) => return Err(Wrong::new(every_span, "`every` needs `for`")),
        (Some(every), Some(lasts)) if lasts >= every => {
            return Err(Wrong::new(every_span, "`every` must be longer than `for`"));
        }
        _ => {}
    }
    let (rhythm, rate) = match entry.rhythm {
        Some(rhythm) => (Some((rhythm, rate_of(rhythm, entry.rate)?)), None),
        None => (None, entry.rate.map(|rate| rate_of(base, Some(rate))).transpose()?),
    };
    let change = Change {
        rhythm,
        rate,
        ectopy: entry.ectopy.map(Whole::share),
        noise: entry.noise,
        lead_off: entry.lead_off,
        gaps: entry.gaps,
    };
    if change == Change::default() {
        let reason = "the event changes nothing: it needs rhythm, rate, ectopy, noise, lead_off or gaps";
        return Err(Wrong::new(span, reason));
    }
    Ok(Event { at: entry.at.0, lasts, every, change })
}

/// Returns the duration if it is in the range.
fn within(length: Spanned<Length>, range: &RangeInclusive<Duration>, field: &str) -> Result<Duration, Wrong> {
    let (span, Length(value)) = (length.span(), length.into_inner());
    if range.contains(&value) {
        return Ok(value);
    }
    let text = humantime::format_duration;
    let (low, high) = (text(*range.start()), text(*range.end()));
    Err(Wrong::new(span, format!("`{field}` is from {low} to {high}")))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// A title.
struct Title(String);

/// A name.
struct Name(String);

/// A duration.
struct Length(Duration);

/// Start of an event.
struct Start(At);

/// Height of the R wave in millivolts.
struct Amplitude(f64);

/// Record number or name of a patient.
enum PatientRef {
    Mrn(i64),
    Name(String),
}

impl fmt::Display for PatientRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatientRef::Mrn(mrn) => mrn.fmt(f),
            PatientRef::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// A whole number in the range of `B`.
struct Whole<B> {
    value: u32,
    bounds: PhantomData<B>,
}

/// Range of a whole number.
trait Bounds {
    const RANGE: RangeInclusive<u32>;
}

/// Beats per minute. Each rhythm has a narrower range.
struct Rate;
impl Bounds for Rate {
    const RANGE: RangeInclusive<u32> = 20..=280;
}

/// Beats per minute.
struct RateSwing;
impl Bounds for RateSwing {
    const RANGE: RangeInclusive<u32> = 1..=100;
}

struct Percent;
impl Bounds for Percent {
    const RANGE: RangeInclusive<u32> = 0..=50;
}

struct RecordNumber;
impl Bounds for RecordNumber {
    const RANGE: RangeInclusive<u32> = RECORD_NUMBERS;
}

impl Whole<Percent> {
    fn share(self) -> f64 {
        f64::from(self.value) / 100.0
    }
}

/// Parses a value from the types of TOML that it accepts.
trait Parse: Sized {
    /// Continues the sentence "expected".
    fn expected() -> String;
    fn from_text(_: &str) -> Option<Self> {
        None
    }
    fn from_whole(_: i64) -> Option<Self> {
        None
    }
    fn from_real(_: f64) -> Option<Self> {
        None
    }
}

struct Parser<T>(PhantomData<T>);

impl<T: Parse> Visitor<'_> for Parser<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&T::expected())
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        T::from_whole(number).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        T::from_real(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }
}

macro_rules! deserialize {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Parser(PhantomData))
            }
        }
    )*};
}
deserialize!(Title, Name, Length, Start, Amplitude, PatientRef);

impl<'de, B: Bounds> Deserialize<'de> for Whole<B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Parser(PhantomData))
    }
}

impl<B: Bounds> Parse for Whole<B> {
    fn expected() -> String {
        format!("a whole number from {} to {}", B::RANGE.start(), B::RANGE.end())
    }
    fn from_whole(number: i64) -> Option<Self> {
        let value = u32::try_from(number).ok().filter(|value| B::RANGE.contains(value))?;
        Some(Whole { value, bounds: PhantomData })
    }
}

fn is_plain(text: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

impl Parse for Title {
    fn expected() -> String {
        format!("a text of 1 to {MAX_NAME_CHARS} characters without control characters")
    }
    fn from_text(text: &str) -> Option<Self> {
        is_plain(text).then(|| Title(text.to_owned()))
    }
}

impl Parse for Name {
    fn expected() -> String {
        format!("a name that starts with {NAME_PREFIX:?}, of at most {MAX_NAME_CHARS} characters")
    }
    fn from_text(text: &str) -> Option<Self> {
        let is_marked = text.strip_prefix(NAME_PREFIX).is_some_and(|rest| !rest.trim().is_empty());
        (is_marked && is_plain(text)).then(|| Name(text.to_owned()))
    }
}

impl Parse for Length {
    fn expected() -> String {
        "a duration as in \"90s\", \"5m\" or \"1h 30m\"".to_owned()
    }
    fn from_text(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok().map(Length)
    }
}

impl Parse for Start {
    fn expected() -> String {
        "a time after the start as in \"+5m\", of at most 7 days, or a clock time as in \"10:05\"".to_owned()
    }
    fn from_text(text: &str) -> Option<Self> {
        if let Some(after) = text.strip_prefix('+') {
            let after = humantime::parse_duration(after).ok()?;
            return (after <= *DURATIONS.end()).then_some(Start(At::AfterStart(after)));
        }
        let mut parts = text.split(':').map(|part| {
            let is_two_digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse::<i8>().ok().filter(|_| is_two_digits)
        });
        let (hour, minute) = (parts.next()??, parts.next()??);
        let second = parts.next().unwrap_or(Some(0))?;
        let time = jiff::civil::Time::new(hour, minute, second, 0).ok()?;
        parts.next().is_none().then_some(Start(At::Clock(time)))
    }
}

impl Parse for Amplitude {
    fn expected() -> String {
        "a height of the R wave in millivolts, from 0.2 to 4 or, inverted, from -4 to -0.2".to_owned()
    }
    fn from_whole(number: i64) -> Option<Self> {
        i8::try_from(number).ok().and_then(|number| Self::from_real(f64::from(number)))
    }
    fn from_real(number: f64) -> Option<Self> {
        (0.2..=4.0).contains(&number.abs()).then_some(Amplitude(number))
    }
}

impl Parse for PatientRef {
    fn expected() -> String {
        "the name or the record number of a patient".to_owned()
    }
    fn from_text(text: &str) -> Option<Self> {
        Some(PatientRef::Name(text.to_owned()))
    }
    fn from_whole(number: i64) -> Option<Self> {
        Some(PatientRef::Mrn(number))
    }
}
