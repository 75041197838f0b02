//! Times that people type.

use proto_json::Timestamp;

/// Reads `2026-03-14 15:09:26`, `2026-03-14 15:09`, `15:09:26` or `15:09` in the time zone of this computer. A time of day
/// alone is the last one that is not after `now`.
#[must_use]
pub fn parse(text: &str, now: Timestamp) -> Option<Timestamp> {
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
    fn times_are_read_with_and_without_date_and_seconds() {
        let now = Timestamp::from_calendar((2026, 3, 14), (15, 10, 0, 0), None).unwrap();
        let read = |text| parse(text, now).map(Timestamp::local_seconds).unwrap_or_default();
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
