use super::{TraceParent, is_request_id, request_id};

const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn check(value: &str, valid: bool) {
    assert_eq!(TraceParent::parse(value.as_bytes()).is_some(), valid, "{value}");
}

#[test]
fn a_valid_parent_comes_back_as_it_was() {
    let parent = TraceParent::parse(VALID.as_bytes()).expect("valid");
    assert_eq!(parent.encode(), VALID.as_bytes());
    assert_eq!(parent.parent_id, 0x00f0_67aa_0ba9_02b7);
    let child = parent.child([0; 8]);
    assert_eq!((child.trace_id, child.parent_id, child.flags), (parent.trace_id, 1, 1));
}

#[test]
fn strictness() {
    check(VALID, true);
    check("", false);
    check(&VALID[..54], false);
    check(&VALID.to_uppercase(), false);
    check(&format!("{VALID}-"), false);
    check(&format!("{VALID}0"), false);
    check(&VALID.replacen("00", "ff", 1), false);
    check(&VALID.replacen("00", "01", 1), true);
    check(&format!("{}-what-ever", VALID.replacen("00", "cc", 1)), true);
    check(&format!("{}.what", VALID.replacen("00", "cc", 1)), false);
    check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
    check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
    check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x", false);
    check("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
    check(" 0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
}

#[test]
fn what_is_generated_is_valid_even_from_zeros() {
    for random in [[0; 24], [0xff; 24], *b"abcdefghijklmnopqrstuvwx"] {
        for sampled in [false, true] {
            let parent = TraceParent::generate(&random, sampled);
            assert_eq!(TraceParent::parse(&parent.encode()), Some(parent));
            assert_eq!(parent.flags, u8::from(sampled));
        }
    }
}

#[test]
fn request_ids_are_uuids() {
    assert_eq!(&request_id(&[0; 16]), b"00000000-0000-4000-8000-000000000000");
    assert_eq!(&request_id(&[0xff; 16]), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    assert!(is_request_id(&request_id(&[7; 16])));
    for (value, kept) in
        [("a", true), ("", false), ("a b", false), ("a\u{e9}", false), (&"x".repeat(129), false)]
    {
        assert_eq!(is_request_id(value.as_bytes()), kept, "{value}");
    }
}
