//! Numbers as people read them: sizes, spans of time, rates. Pure; "now" is passed in.

use std::time::Duration;

/// `512 B`, `48.2 MiB`, `1.50 GiB`: three digits that matter.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(value), UNITS[unit])
}

/// A latency given in milliseconds: `0.42 ms`, `14.0 ms`, `1.20 s`.
pub fn milliseconds(ms: f64) -> String {
    if ms >= 999.5 { format!("{} s", three_digits(ms / 1000.0)) } else { format!("{} ms", three_digits(ms)) }
}

/// Requests per second: `0`, `0.4`, `120`, `12.3k`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        r if r <= 0.0 => "0".to_owned(),
        r if r < 9.95 => format!("{r:.1}"),
        r if r < 9_999.5 => format!("{r:.0}"),
        r => format!("{}k", three_digits(r / 1000.0)),
    }
}

/// Share of `part` in `whole`: `0%`, `0.3%`, `12%`. A part that is not zero is never shown as zero.
pub fn percent(part: u64, whole: u64) -> String {
    if part == 0 || whole == 0 {
        return "0%".to_owned();
    }
    match part as f64 * 100.0 / whole as f64 {
        p if p < 0.1 => "<0.1%".to_owned(),
        p if p < 9.95 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

/// A span of time in its largest one or two units: `0.4s`, `12s`, `3m 5s`, `2h 10m`, `5d 3h`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", span.as_millis() as f64 / 1000.0),
        10..60 => format!("{seconds}s"),
        60..3_600 => two(seconds / 60, "m", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// How long ago `then` was: `12s`, `3m 5s`. A moment that lies ahead (the clock was set back) is `0s`.
pub fn age(then_unix_ms: u64, now_unix_ms: u64) -> String {
    let elapsed_ms = now_unix_ms.saturating_sub(then_unix_ms);
    if elapsed_ms < 10_000 {
        format!("{}s", elapsed_ms / 1000)
    } else {
        span(Duration::from_millis(elapsed_ms))
    }
}

/// `1 service`, `2 services`.
pub fn count(number: usize, noun: &str) -> String {
    let (stem, ending) = match noun.strip_suffix('y') {
        Some(stem) if number != 1 => (stem, "ies"),
        _ if number != 1 => (noun, "s"),
        _ => (noun, ""),
    };
    format!("{number} {stem}{ending}")
}

/// `10`, `10s`, `1m30s`, `500ms`, `2h`, `1d`: a number alone counts seconds.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a span of time; write it like 30s, 5m, 1h30m or 500ms");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    if let Ok(seconds) = rest.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        rest = &rest[letters..];
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
    }
    Ok(total)
}

pub fn now_unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn three_digits(value: f64) -> String {
    if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit} {small}{small_unit}")
    }
}

#[cfg(test)]
mod tests;
