use super::*;

fn code(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(input, &mut out);
    assert_eq!(out.len(), encoded_len(input));
    out
}

fn check(input: &[u8], expect: Result<&[u8], &str>) {
    let mut out = Vec::new();
    match decode(input, usize::MAX, &mut out) {
        Ok(is_whole) => {
            assert!(is_whole);
            assert_eq!(Ok(&out[..]), expect);
        }
        Err(error) => assert_eq!(Err(error.reason), expect),
    }
}

#[test]
fn the_code_is_complete() {
    // Kraft's sum is one: every sequence of bits means something, and only one thing.
    let sum: u64 = LENGTHS.iter().map(|&length| 1u64 << (LENGTH_MAX - usize::from(length))).sum();
    assert_eq!(sum, 1 << LENGTH_MAX);
    assert_eq!(CODES[EOS], (1 << 30) - 1);
    // Some rows of appendix B.
    for (symbol, code, length) in
        [(b'0', 0x0, 5), (b'a', 0x3, 5), (b'&', 0xf8, 8), (b'\n', 0x3fff_fffc, 30), (0xff, 0x3ff_ffee, 26)]
    {
        assert_eq!((CODES[usize::from(symbol)], LENGTHS[usize::from(symbol)]), (code, length));
    }
}

#[test]
fn every_symbol_comes_back() {
    for first in 0..=255u8 {
        check(&code(&[first]), Ok(&[first]));
        for second in 0..=255u8 {
            let text = [first, second, first, b'a'];
            check(&code(&text), Ok(&text));
        }
    }
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    check(&code(&all), Ok(&all));
}

/// RFC 7541, 5.2: padding is shorter than a byte, all ones, and EOS does not occur.
#[test]
fn padding_and_end_of_string() {
    check(&[], Ok(b""));
    check(&[0x1f], Ok(b"a"));
    check(&[0x1f, 0xff], Err("padding longer than seven bits"));
    check(&[0xff], Err("padding longer than seven bits"));
    check(&[0x18], Err("padding that is no end of string"));
    check(&[0x1e], Err("padding that is no end of string"));
    check(&[0xff, 0xff, 0xff, 0xff], Err("end of string within a string"));
    check(&[0xff, 0xff, 0xff, 0xfc], Err("end of string within a string"));
    check(&[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff], Err("end of string within a string"));
}

#[test]
fn output_is_bounded() {
    let text = [b'0'; 100];
    let coded = code(&text);
    for bytes_max in 0..100 {
        let mut out = b"x".to_vec();
        assert_eq!(decode(&coded, bytes_max, &mut out), Ok(false));
        assert!(out.len() <= 1 + bytes_max && out.capacity() <= 256);
    }
    assert_eq!(decode(&coded, 100, &mut Vec::new()), Ok(true));
}
