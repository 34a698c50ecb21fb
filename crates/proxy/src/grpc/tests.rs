use super::*;

#[test]
fn timeouts_are_eight_digits_and_a_unit() {
    let check =
        |value: &str, expected: Option<Duration>| assert_eq!(timeout(value.as_bytes()), expected, "{value}");
    check("1H", Some(Duration::from_secs(3600)));
    check("2M", Some(Duration::from_secs(120)));
    check("5S", Some(Duration::from_secs(5)));
    check("250m", Some(Duration::from_millis(250)));
    check("99999999u", Some(Duration::from_micros(99_999_999)));
    check("1n", Some(Duration::from_nanos(1)));
    check("0S", Some(Duration::ZERO));
    for malformed in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "5.0S", "100000000S", "99999999H", "\u{0665}S"]
    {
        check(malformed, None);
    }
}

#[test]
fn what_is_left_can_be_read() {
    let check = |left: Duration, expected: &str| {
        assert_eq!(Timeout::new(left).as_bytes(), expected.as_bytes());
    };
    check(Duration::ZERO, "0u");
    check(Duration::from_nanos(1999), "1u");
    check(Duration::from_millis(4999), "4999000u");
    check(Duration::from_secs(100), "100000m");
    check(Duration::from_secs(365 * 24 * 3600), "31536000S");
}

#[test]
fn statuses_are_numbers() {
    assert_eq!((status(b"0"), status(b"16"), status(b"17")), (0, 16, 17));
    assert_eq!((status(b""), status(b"ok"), status(b"\xff")), (u16::MAX, u16::MAX, u16::MAX));
}
