use super::is_field_value;

#[test]
fn one_bad_byte_anywhere_makes_a_value_bad() {
    for byte in 0..=u8::MAX {
        let is_good = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        for length in 1..=17 {
            for at in 0..length {
                for others in [b"a", b"\t", b"\xff"] {
                    let mut value = others.repeat(length);
                    value[at] = byte;
                    assert_eq!(is_field_value(&value), is_good, "{byte:#x} at {at} of {length}");
                }
            }
        }
    }
    assert!(is_field_value(b""));
}
