use super::{bytes, cpu_milli, duration_ms, signal};

#[track_caller]
fn check<E>(result: Result<u64, E>, expected: Option<u64>) {
    assert_eq!(result.ok(), expected);
}

#[test]
fn durations() {
    check(duration_ms("30s"), Some(30_000));
    check(duration_ms("1m30s"), Some(90_000));
    check(duration_ms("1.5h"), Some(5_400_000));
    check(duration_ms("1h0m0.5s"), Some(3_600_500));
    check(duration_ms("10us"), Some(1));
    check(duration_ms("0"), Some(0));
    check(duration_ms("0s"), Some(0));
    for text in ["", "30", "-1s", "s", "1", "1x", "1 s", "1d", "1.2.3s", "99999h", "1e3s", "NaNs", "ms1"] {
        check(duration_ms(text), None);
    }
}

#[test]
fn memory() {
    check(bytes("1024"), Some(1024));
    check(bytes("512m"), Some(512 << 20));
    check(bytes("1.5G"), Some(3 << 29));
    check(bytes("64 MiB"), Some(64 << 20));
    check(bytes("10kb"), Some(10 << 10));
    for text in ["", "m", "12x", "-1m", "999999t", "1e9", "0x10"] {
        check(bytes(text), None);
    }
}

#[test]
fn cpus() {
    check(cpu_milli("0.5"), Some(500));
    check(cpu_milli("2"), Some(2000));
    check(cpu_milli("0.0001"), Some(1));
    for text in ["", "0", "-1", "500m", "inf", "NaN", "1e9", "two"] {
        check(cpu_milli(text), None);
    }
}

#[test]
fn signals() {
    for (text, number) in [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("sigint", 2)] {
        assert_eq!(signal(text).unwrap(), number);
    }
    for text in ["", "0", "65", "-1", "SIGNAL", "SIGRTMIN+31", "99999999999"] {
        assert!(signal(text).is_err(), "{text}");
    }
    assert_eq!(signal("SIGTREM").unwrap_err().hint.unwrap(), "did you mean `SIGTERM`?");
}
