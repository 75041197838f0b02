//! Ages, durations and times of day.

use proto_json::Timestamp;

use crate::tr;

/// An age in milliseconds: `now`, `42 s`, `7 min`, `3 h 05 min`, `2 d`. A negative age is `now`.
#[must_use]
pub fn age(millis: i64) -> String {
    let seconds = millis / 1000;
    match seconds {
        ..1 => tr!("now").to_owned(),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration in seconds: `9.8 s`, `5 min 20 s`, `24 h 00 min`. A dash if it is negative or not finite.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "–".to_owned();
    }
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    if whole < 3_600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3_600, whole / 60 % 60)
    }
}

/// The local time of day: `14:03:22`.
#[must_use]
pub fn time_of_day(at: Timestamp) -> String {
    let full = at.local_seconds();
    full.split_once(' ').map_or(full.clone(), |(_, time)| time.to_owned())
}

/// The local date and time: `2026-03-14 14:03:22`.
#[must_use]
pub fn date_time(at: Timestamp) -> String {
    at.local_seconds()
}

/// The local date and time with the offset from UTC and the time zone: `2026-03-14 14:03:22 +01:00 (Europe/Berlin)`.
#[must_use]
pub fn date_time_zone(at: Timestamp) -> String {
    let zone = jiff::tz::TimeZone::system();
    let Ok(time) = jiff::Timestamp::from_millisecond(at.as_millis()) else { return date_time(at) };
    let text = time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
    match zone.iana_name() {
        Some(name) => format!("{text} ({name})"),
        None => text,
    }
}

/// The local time of day, preceded by the date unless it is the date of `now`.
#[must_use]
pub fn time_or_date(at: Timestamp, now: Timestamp) -> String {
    let (full, today) = (at.local_seconds(), now.local_seconds());
    match (full.split_once(' '), today.split_once(' ')) {
        (Some((day, time)), Some((this_day, _))) if day == this_day => time.to_owned(),
        _ => full,
    }
}

/// The local hour and minute: `14:03`. The date alone unless it is the date of `now`.
#[must_use]
pub fn minute_or_date(at: Timestamp, now: Timestamp) -> String {
    let full = time_or_date(at, now);
    match full.split_once(' ') {
        Some((day, _)) => day.to_owned(),
        None => full.rsplit_once(':').map_or(full.clone(), |(minute, _)| minute.to_owned()),
    }
}

/// Parses a local time that the user typed: `2026-03-14 15:09:26`, `2026-03-14 15:09`, `15:09:26` or `15:09`. A time of day
/// without a date is the latest one that is not after `now`. `None` if the text has another form.
#[must_use]
pub fn parse_time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let text = text.trim();
    let (date, time) = match text.split_once([' ', 'T']) {
        Some((date, time)) => (Some(date), time.trim()),
        None => (None, text),
    };
    let mut parts = time.split(':').map(number::<i8>);
    let time = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?, 0);
    if parts.next().is_some() {
        return None;
    }
    let on = |date: &str| {
        let mut parts = date.split('-');
        let date = (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some(())?;
        Timestamp::from_calendar(date, time, None).ok()
    };
    if let Some(date) = date {
        return on(date);
    }
    let day = |at: Timestamp| at.local_seconds().split(' ').next().and_then(on);
    let today = day(now)?;
    if today.is_in_future_of(now) { day(now.plus_millis(-86_400_000)) } else { Some(today) }
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_durations_use_the_largest_fitting_unit() {
        let ages = [-5, 0, 999, 1000, 59_999, 60_000, 3_599_999, 11_100_000, 86_400_000].map(age);
        assert_eq!(ages, ["now", "now", "now", "1 s", "59 s", "1 min", "59 min", "3 h 05 min", "1 d"]);
        assert_eq!(
            [9.8, 59.94, 59.96, 320.0, 86_400.0].map(duration),
            ["9.8 s", "59.9 s", "1 min 00 s", "5 min 20 s", "24 h 00 min"]
        );
        assert_eq!(duration(f64::NAN), "–");
    }

    #[test]
    fn time_zone_is_part_of_the_full_time() {
        let at = Timestamp::from_calendar((2026, 3, 14), (15, 9, 26, 0), None).unwrap();
        let full = date_time_zone(at);
        assert!(full.starts_with("2026-03-14 15:09:26 "), "{full}");
        let offset = full.split(' ').nth(2).unwrap();
        assert!(offset.len() == 6 && offset.starts_with(['+', '-']) && offset.contains(':'), "{full}");
    }

    #[test]
    fn minute_is_shown_for_today_and_date_for_other_days() {
        let now = Timestamp::now();
        assert_eq!(minute_or_date(now, now), time_of_day(now)[..5]);
        assert_eq!(minute_or_date(now.plus_millis(-3 * 86_400_000), now).len(), "2026-03-14".len());
    }

    #[test]
    fn times_are_parsed_with_and_without_date_and_seconds() {
        let now = Timestamp::from_calendar((2026, 3, 14), (15, 10, 0, 0), None).unwrap();
        let read = |text| parse_time(text, now).map(Timestamp::local_seconds).unwrap_or_default();
        for (text, time) in [
            ("2026-03-14 15:09:26", "2026-03-14 15:09:26"),
            (" 2026-03-13T08:05 ", "2026-03-13 08:05:00"),
            ("15:09", "2026-03-14 15:09:00"),
            ("15:09:59", "2026-03-14 15:09:59"),
            ("23:52", "2026-03-13 23:52:00"),
            ("", ""),
            ("yesterday", ""),
            ("15", ""),
            ("25:00", ""),
            ("2026-02-30 15:00", ""),
            ("2026-03-14", ""),
            ("15:09:26:1", ""),
            ("-1:09", ""),
        ] {
            assert_eq!(read(text), time, "{text:?}");
        }
    }
}
