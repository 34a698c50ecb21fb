use super::*;

#[test]
fn the_accept_of_a_key_is_that_of_the_standard() {
    let key = b"dGhlIHNhbXBsZSBub25jZQ==";
    assert!(is_key(key));
    assert_eq!(&accept(key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn keys_are_sixteen_bytes() {
    let bytes: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
    assert_eq!(&key(&bytes), b"AQIDBAUGBwgJCgsMDQ4PEA==");
    assert_eq!(&key(&[255; 16]), b"/////////////////////w==");
    for malformed in [
        &b""[..],
        b"AQIDBAUGBwgJCgsMDQ4PEA",
        b"AQIDBAUGBwgJCgsMDQ4PE===",
        b"AQIDBAUGBwgJCgsMDQ4PEAA=",
        b"AQIDBAUGBwgJCgsMDQ4 EA==",
    ] {
        assert!(!is_key(malformed), "{malformed:?}");
    }
}

#[test]
fn digests_are_those_of_the_standard() {
    let check = |message: &[u8], expected: &str| {
        let hex: String = sha1::digest(message).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    };
    check(b"", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check(b"abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check(two_blocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    check(&[b'a'; 1_000_000], "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}
