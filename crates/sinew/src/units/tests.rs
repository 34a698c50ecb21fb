use super::*;

#[test]
fn sizes_keep_three_digits() {
    for (value, shown) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (50_540_314, "48.2 MiB"),
        (1023 * 1024 * 1024, "1.00 GiB"),
        (u64::MAX, "16384 PiB"),
    ] {
        assert_eq!(bytes(value), shown);
    }
}

#[test]
fn latencies_change_unit_at_a_second() {
    for (value, shown) in
        [(0.0, "0.00 ms"), (0.42, "0.42 ms"), (14.02, "14.0 ms"), (640.4, "640 ms"), (1200.0, "1.20 s")]
    {
        assert_eq!(milliseconds(value), shown);
    }
}

#[test]
fn rates_and_shares_never_hide_what_happens() {
    for (value, shown) in [(0.0, "0"), (0.44, "0.4"), (120.4, "120"), (12_345.0, "12.3k")] {
        assert_eq!(rate(value), shown);
    }
    for (part, whole, shown) in
        [(0, 0, "0%"), (0, 9, "0%"), (1, 100_000, "<0.1%"), (3, 1000, "0.3%"), (1, 8, "12%")]
    {
        assert_eq!(percent(part, whole), shown);
    }
}

#[test]
fn spans_show_two_units_at_the_most() {
    for (ms, shown) in [
        (400, "0.4s"),
        (12_000, "12s"),
        (185_000, "3m 5s"),
        (180_000, "3m"),
        (7_800_000, "2h 10m"),
        (442_800_000, "5d 3h"),
    ] {
        assert_eq!(span(Duration::from_millis(ms)), shown);
    }
    assert_eq!(age(5_000, 1_000), "0s");
    assert_eq!(age(1_000, 4_900), "3s");
}

#[test]
fn spans_are_read_as_people_write_them() {
    for (text, ms) in [
        ("10", 10_000),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("1.5h", 5_400_000),
        ("1d", 86_400_000),
    ] {
        assert_eq!(parse_span(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "s", "10x", "-3s", "1m30", "99999999999999999999999999d", "ten"] {
        assert!(parse_span(text).is_err(), "{text}");
    }
}

#[test]
fn nouns_follow_their_number() {
    assert_eq!(count(1, "service"), "1 service");
    assert_eq!(count(0, "service"), "0 services");
    assert_eq!(count(2, "proxy"), "2 proxies");
}
