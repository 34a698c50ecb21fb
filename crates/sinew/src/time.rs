//! Moments as people and scripts write them: RFC 3339, in UTC.

pub use sinew_spec::time::rfc3339;

use crate::units::parse_span;

/// `2026-11-21T08:30:05Z`
pub fn rfc3339_seconds(unix_ms: u64) -> String {
    let text = rfc3339(unix_ms);
    format!("{}Z", text.split_once('.').map_or(text.as_str(), |(seconds, _)| seconds))
}

/// `10m` (that long ago), `2026-11-21`, `2026-11-21T08:30` or `2026-11-21T08:30:05.5+01:00`; without zone: UTC.
/// The unix time in milliseconds.
pub fn parse_since(text: &str, now_unix_ms: u64) -> Result<u64, String> {
    if let Ok(span) = parse_span(text) {
        return Ok(now_unix_ms.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
    }
    parse_rfc3339(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .ok_or_else(|| format!("`{text}` is no time; write 10m, 1h30m or 2026-11-21T08:30:00Z"))
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, ""));
    let mut date = date.splitn(3, '-').map(digits);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, zone_minutes) = match time.rfind(['Z', 'z', '+', '-']) {
        None => (time, 0),
        Some(at) if at + 1 == time.len() => (&time[..at], 0),
        Some(at) => {
            let (hours, minutes) = time[at + 1..].split_once(':')?;
            let minutes = digits(hours)? * 60 + digits(minutes)?;
            (&time[..at], if time.as_bytes()[at] == b'-' { -minutes } else { minutes })
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let ms = digits(&format!("{fraction:0<3}")[..3])?;
    let mut second = 0;
    if !clock.is_empty() {
        let parts: Vec<i64> = clock.split(':').map(digits).collect::<Option<_>>()?;
        let (hour, minute, rest) = match parts[..] {
            [hour, minute] => (hour, minute, 0),
            [hour, minute, second] => (hour, minute, second),
            _ => return None,
        };
        if hour > 23 || minute > 59 || rest > 60 {
            return None;
        }
        second = hour * 3_600 + minute * 60 + rest;
    }
    Some((days(year, month, day) * 86_400 + second - zone_minutes * 60) * 1_000 + ms)
}

fn digits(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_795_249_805_123, "2026-11-21T08:30:05.123Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
            assert_eq!(rfc3339_seconds(unix_ms), format!("{}Z", &text[..19]));
            assert_eq!(parse_since(text, 0), Ok(unix_ms), "{text}");
        }
    }

    #[test]
    fn since_takes_spans_and_moments() {
        let now = 1_795_249_805_123;
        for (text, unix_ms) in [
            ("10m", now - 600_000),
            ("2026-11-21", 1_795_219_200_000),
            ("2026-11-21T08:30", 1_795_249_800_000),
            ("2026-11-21 09:30:05.1+01:00", 1_795_249_805_100),
            ("2026-11-21T03:30:05-05:00", 1_795_249_805_000),
        ] {
            assert_eq!(parse_since(text, now), Ok(unix_ms), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-11",
            "2026-11-21T25:00",
            "2026-11-21T08",
            "1969-01-01",
            "2026-11-21T08:30+1",
        ] {
            assert!(parse_since(text, now).is_err(), "{text}");
        }
    }
}
