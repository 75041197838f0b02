//! The column of numerics: heart rate, oxygen saturation, respiration, pressure and temperature.

use proto_json::{EcgQuality, Numeric, Timestamp, Vitals};

/// A row of the column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumericKind {
    /// Heart rate, from the ECG.
    HeartRate,
    /// Oxygen saturation, with the pulse rate.
    Saturation,
    /// Respiration rate.
    Respiration,
    /// Non-invasive blood pressure.
    Pressure,
    /// Body temperature.
    Temperature,
}

/// A row of the column with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct NumericValue {
    /// The row.
    pub kind: NumericKind,
    /// The value, for example `72` or `120/75`. A dash if there is none.
    pub value: String,
    /// The second value: the pulse rate, or the mean pressure. Empty if there is none.
    pub second: String,
    /// When it was measured.
    pub time: Timestamp,
    /// Whether it is too old to be live. A pressure is measured from time to time and is never live.
    pub is_stale: bool,
}

/// Shown instead of a value that does not exist.
pub const NO_VALUE: &str = "–";
/// The age after which a numeric is stale, in milliseconds.
const STALE_MS: i64 = 10_000;
/// The age after which a pressure is stale, in milliseconds.
const PRESSURE_STALE_MS: i64 = 15 * 60_000;

/// The rows of a patient. A row that the device does not measure is absent.
#[must_use]
pub fn rows(vitals: &Vitals, now: Timestamp) -> Vec<NumericValue> {
    let find = |codes: &[&str]| vitals.values.iter().find(|value| codes.contains(&value.code.as_str()));
    let whole = |numeric: &Numeric| format!("{:.0}", numeric.value);
    let mut rows = Vec::new();
    let mut push = |kind, numeric: &Numeric, value: String, second: String, limit: i64| {
        let is_stale = now.millis_since(numeric.time) > limit;
        rows.push(NumericValue { kind, value, second, time: numeric.time, is_stale });
    };
    if let Some(rate) = find(&["MDC_ECG_HEART_RATE"]) {
        // The rate of an ECG that cannot be used is not shown, and neither is that of an asystole as a number of beats.
        let is_usable = vitals.quality != EcgQuality::Unusable;
        let value = if is_usable { whole(rate) } else { NO_VALUE.to_owned() };
        push(NumericKind::HeartRate, rate, value, String::new(), STALE_MS);
    }
    let pulse = find(&["MDC_PULS_OXIM_PULS_RATE", "MDC_PULS_RATE"]);
    if let Some(saturation) = find(&["MDC_PULS_OXIM_SAT_O2"]) {
        let pulse = pulse.map(whole).unwrap_or_default();
        push(NumericKind::Saturation, saturation, whole(saturation), pulse, STALE_MS);
    }
    if let Some(breaths) = find(&["MDC_RESP_RATE", "MDC_TTHOR_RESP_RATE", "MDC_CO2_RESP_RATE"]) {
        push(NumericKind::Respiration, breaths, whole(breaths), String::new(), STALE_MS);
    }
    let pressure =
        |end: &str| find(&[&format!("MDC_PRESS_BLD_NONINV_{end}"), &format!("MDC_PRESS_BLD_{end}")]);
    if let (Some(systolic), Some(diastolic)) = (pressure("SYS"), pressure("DIA")) {
        let value = format!("{}/{}", whole(systolic), whole(diastolic));
        let mean = pressure("MEAN").map(|mean| format!("({})", whole(mean))).unwrap_or_default();
        push(NumericKind::Pressure, systolic, value, mean, PRESSURE_STALE_MS);
    }
    if let Some(temperature) = find(&["MDC_TEMP_BODY", "MDC_TEMP"]) {
        push(
            NumericKind::Temperature,
            temperature,
            format!("{:.1}", temperature.value),
            String::new(),
            PRESSURE_STALE_MS,
        );
    }
    rows
}

/// The heart rate in whole beats per minute. `None` without one, or if the ECG cannot be used.
#[must_use]
pub fn heart_rate(vitals: &Vitals) -> Option<i64> {
    let rate = vitals.values.iter().find(|value| value.code == "MDC_ECG_HEART_RATE")?;
    (vitals.quality != EcgQuality::Unusable).then_some(rate.value.round() as i64)
}

#[cfg(test)]
mod tests {
    use proto_json::{Mrn, VitalsSource};

    use super::*;

    fn vitals(quality: EcgQuality, values: &[(&str, f64, i64)], now: Timestamp) -> Vitals {
        let value = |(code, value, age): &(&str, f64, i64)| Numeric {
            code: (*code).to_owned(),
            value: *value,
            unit: "1".to_owned(),
            time: now.plus_millis(-age),
        };
        Vitals {
            mrn: Mrn::new(7).unwrap(),
            stream: None,
            time: now,
            values: values.iter().map(value).collect(),
            rhythm: None,
            quality,
            lead_off: Vec::new(),
            source: VitalsSource::Analysis,
            streams: Default::default(),
            beats: None,
        }
    }

    #[test]
    fn rows_have_a_fixed_order_and_old_values_are_stale() {
        let now = Timestamp::now();
        let all = [
            ("MDC_TEMP_BODY", 36.84, 0),
            ("MDC_PRESS_BLD_NONINV_DIA", 75.0, 400_000),
            ("MDC_PRESS_BLD_NONINV_SYS", 120.4, 400_000),
            ("MDC_PRESS_BLD_NONINV_MEAN", 90.0, 400_000),
            ("MDC_PULS_OXIM_SAT_O2", 97.0, 11_000),
            ("MDC_PULS_OXIM_PULS_RATE", 71.0, 11_000),
            ("MDC_ECG_HEART_RATE", 71.6, 900),
        ];
        let shown: Vec<_> = rows(&vitals(EcgQuality::Good, &all, now), now)
            .into_iter()
            .map(|row| (row.kind, row.value, row.second, row.is_stale))
            .collect();
        let row = |kind, value: &str, second: &str, stale| (kind, value.to_owned(), second.to_owned(), stale);
        assert_eq!(
            shown,
            [
                row(NumericKind::HeartRate, "72", "", false),
                row(NumericKind::Saturation, "97", "71", true),
                row(NumericKind::Pressure, "120/75", "(90)", false),
                row(NumericKind::Temperature, "36.8", "", false),
            ]
        );
    }

    #[test]
    fn heart_rate_of_an_unusable_ecg_is_not_shown() {
        let now = Timestamp::now();
        let vitals = vitals(EcgQuality::Unusable, &[("MDC_ECG_HEART_RATE", 71.6, 0)], now);
        assert_eq!(rows(&vitals, now)[0].value, NO_VALUE);
        assert_eq!(heart_rate(&vitals), None);
    }
}
