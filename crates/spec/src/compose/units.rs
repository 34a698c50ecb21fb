//! Durations, amounts of memory, CPUs, signals: text -> number, or what is wrong with it.

/// What is wrong, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub what: String,
    pub hint: Option<String>,
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), hint: Some(hint.into()) }
}

/// A year. Longer is a typo.
const DURATION_MS_MAX: f64 = 366.0 * 86_400_000.0;

/// `1m30s`, `500ms`, `1.5h`: milliseconds, a fraction of one rounded up.
pub(super) fn duration_ms(text: &str) -> Result<u64, Wrong> {
    let example = "a duration is a number and a unit: `500ms`, `30s`, `1m30s`, `2h`";
    let text = text.trim();
    if text.starts_with('-') {
        return Err(wrong("a duration cannot be negative", example));
    }
    if text == "0" {
        return Ok(0);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong("the duration has no unit", format!("write `{text}s` for seconds")));
    }
    let mut rest = text;
    let mut total = 0.0;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number: f64 = rest[..digits].parse().map_err(|_| wrong("this is not a duration", example))?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(|byte| !(byte.is_ascii_digit() || *byte == b'.')).count();
        let ms = match &rest[..letters] {
            "ns" => 1e-6,
            "us" | "µs" | "μs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 60e3,
            "h" => 3_600e3,
            "d" => return Err(wrong("`d` is not a unit of time here", "write hours: `24h`")),
            _ => return Err(wrong("this is not a duration", example)),
        };
        rest = &rest[letters..];
        total += number * ms;
        parts += 1;
    }
    if parts == 0 {
        return Err(wrong("this is not a duration", example));
    }
    if total > DURATION_MS_MAX {
        return Err(wrong("the duration is longer than a year", example));
    }
    // In range, so the cast loses nothing but the fraction.
    Ok(total.ceil() as u64)
}

/// `512m`, `1.5g`, `64MiB`, `1048576`: bytes; units are powers of 1024.
pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    let example = "an amount of memory is a number and a unit: `512m`, `1.5g`";
    let text = text.trim();
    if text.starts_with('-') {
        return Err(wrong("an amount of memory cannot be negative", example));
    }
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let number: f64 =
        text[..digits].parse().map_err(|_| wrong("this is not an amount of memory", example))?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 1,
        "m" | "mb" | "mi" | "mib" => 2,
        "g" | "gb" | "gi" | "gib" => 3,
        "t" | "tb" | "ti" | "tib" => 4,
        _ => {
            let known = format!("`{}` is not a unit of memory", text[digits..].trim());
            return Err(wrong(known, "units are `b`, `k`, `m`, `g` and `t`: `512m`, `1.5g`"));
        }
    };
    let bytes = number * 1024f64.powi(power);
    // 2^50: a pebibyte.
    if bytes > 2f64.powi(50) {
        return Err(wrong("no machine has that much memory", example));
    }
    Ok(bytes.floor() as u64)
}

/// `0.5`, `2`: thousandths of a CPU, rounded up.
pub(super) fn cpu_milli(text: &str) -> Result<u64, Wrong> {
    let example = "a number of CPUs is like `0.5` or `2`";
    let text = text.trim();
    if let Some(milli) = text.strip_suffix('m')
        && let Ok(milli) = milli.parse::<u32>()
    {
        let hint = format!("write `{}`", f64::from(milli) / 1000.0);
        return Err(wrong("CPUs are counted without a unit", hint));
    }
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    let cpus: f64 =
        text.parse().ok().filter(|_| plain).ok_or_else(|| wrong("this is not a number of CPUs", example))?;
    if cpus <= 0.0 {
        return Err(wrong("a number of CPUs must be more than 0", "leave it out for no limit"));
    }
    if cpus > 100_000.0 {
        return Err(wrong("no machine has that many CPUs", example));
    }
    Ok((cpus * 1000.0).ceil() as u64)
}

/// Linux's numbers (x86 and ARM), signal(7).
const SIGNALS: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
];
const SIGNAL_MAX: i32 = 64;

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`.
pub(super) fn signal(text: &str) -> Result<i32, Wrong> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        if (1..=SIGNAL_MAX).contains(&number) {
            return Ok(number);
        }
        return Err(wrong(format!("a signal's number is between 1 and {SIGNAL_MAX}"), "`SIGTERM` is 15"));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN+").and_then(|offset| offset.parse::<i32>().ok())
        && (0..=30).contains(&offset)
    {
        return Ok(34 + offset);
    }
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let hint = super::suggest::nearest(name, SIGNALS.iter().map(|(name, _)| *name)).map_or_else(
        || "a signal is like `SIGTERM` or `SIGINT`".to_owned(),
        |near| format!("did you mean `SIG{near}`?"),
    );
    Err(wrong("there is no such signal", hint))
}

#[cfg(test)]
mod tests;
