//! Blocks and lists as text: `name: value|name: value`.

mod generated;
mod rfc;

use super::*;
use crate::head::FieldKind;

pub(super) const LIMITS: ListLimits = ListLimits { bytes_max: 64 * 1024, fields_max: 100 };

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// What a block says, or why it cannot be decoded. Pseudo-fields come first.
pub(super) fn read(decoder: &mut Decoder, block: &[u8]) -> String {
    let mut list = FieldList::default();
    match decoder.decode(block, &LIMITS, &mut list) {
        Ok(()) => text(&list),
        Err(error) => format!("!{}", error.reason),
    }
}

pub(super) fn text(list: &FieldList) -> String {
    let mut text = String::from_utf8_lossy(&list.bytes).trim_end().replace("\r\n", "|");
    if let Some(fault) = list.fault {
        text += &format!(" !{fault}");
    }
    if list.is_too_large {
        text += " !too large";
    }
    text
}

fn check(hex: &str, expect: &str) {
    assert_eq!(read(&mut Decoder::default(), &bytes(hex)), expect, "{hex}");
}

/// RFC 7541, 5.1.
#[test]
fn integers() {
    let decode = |hex: &str, prefix| {
        let mut at = 0;
        integer::decode(&bytes(hex), &mut at, prefix).map_err(|error| error.reason)
    };
    assert_eq!(decode("0a", 5), Ok(10));
    assert_eq!(decode("1f9a0a", 5), Ok(1337));
    assert_eq!(decode("2a", 8), Ok(42));
    assert_eq!(decode("1f8080808000", 5), Ok(31));
    assert_eq!(decode("1f808080808000", 5), Err("integer too long"));
    assert_eq!(decode("1fffffffff7f", 5), Err("integer too large"));
    assert_eq!(decode("1f80", 5), Err("block ends within an integer"));
    assert_eq!(decode("", 5), Err("block ends within an integer"));
    for value in (0..70_000).chain([(1 << 28) - 300, 1 << 28]) {
        for prefix in 1..8 {
            let (mut out, mut at) = (Vec::new(), 0);
            integer::encode(0, prefix, value, &mut out);
            assert_eq!(integer::decode(&out, &mut at, prefix), Ok(value));
            assert_eq!(at, out.len());
        }
    }
}

#[test]
fn the_static_table_agrees_with_itself() {
    for index in 1..=statics::COUNT {
        let line = statics::get(index).expect("in the table");
        let first = statics::index_of_name(line.name()).expect("by name");
        assert!(first <= index && statics::get(first).expect("in the table").name() == line.name());
        assert_eq!(line.checked, names::Checked::of(line.name(), line.value()), "{index}");
        if let Some(status) = std::str::from_utf8(line.value()).ok().and_then(|text| text.parse().ok()) {
            assert_eq!(statics::index_of_status(status), Some(index));
        }
    }
    assert!(statics::get(0).is_none() && statics::get(62).is_none());
    assert_eq!(statics::index_of_name(b"www-authenticate"), Some(61));
}

/// RFC 7541, 2.3.3, 4.2, 5.2, 6.1 and 6.3: what cannot be decoded.
#[test]
fn malformed_blocks() {
    check("80", "!index of no entry");
    check("be", "!index of no entry");
    check("ff80808008", "!index of no entry");
    check("7f00 00", "!index of no entry");
    check("40", "!block ends within a string");
    check("4001", "!block ends within a string");
    check("400161", "!block ends within a string");
    check("40016105", "!block ends within a string");
    check("00 01 61 ff ff ff ff ff ff", "!integer too long");
    check("00 01 61 82 1fff", "!padding longer than seven bits");
    check("82 20", "!size update behind a field");
    check("3fe21f", "!size update over the limit");
    check("20 21 20", "!size update over the limit");
    check("20 3fe11f 82", ":method: GET");
}

/// RFC 9113, 8.2.1 and 8.3.
#[test]
fn malformed_fields() {
    check("00 01 41 01 62", "A: b !malformed field name");
    check("00 00 01 62", ": b !malformed field name");
    check("00 01 20 01 62", " : b !malformed field name");
    check("00 02 613a 01 62", "a:: b !malformed field name");
    for value in ["0120", "0109", "02 2061", "02 6120", "010a", "010d", "0100", "017f", "02 6109"] {
        let read = read(&mut Decoder::default(), &bytes(&format!("00 01 61 {value}")));
        assert!(read.ends_with("!malformed field value"), "{value}: {read}");
    }
    check("00 02 3a61 01 62", ":a: b !unknown pseudo-field");
    check("82 82", ":method: GET|:method: GET !repeated pseudo-field");
    check("00 01 61 01 62 82", "a: b|:method: GET !pseudo-field behind a field");
}

/// What gRPC lets stand as it is.
#[test]
fn spaces_around_messages_of_grpc_are_no_part_of_them() {
    let name = "677270632d6d657373616765";
    for (value, expect) in [("01 20", ""), ("03 206120", "a"), ("05 2009612062", "a b"), ("01 62", "b")] {
        let mut decoder = Decoder::default();
        let literal = bytes(&format!("40 0c {name} {value}"));
        // As a literal and from the table, where the entry keeps its size.
        for block in [&literal[..], b"\xbe"] {
            let mut list = FieldList::default();
            decoder.decode(block, &LIMITS, &mut list).expect("it is well-formed");
            assert_eq!(list.fields[0].value.of(&list.bytes), expect.as_bytes());
            assert_eq!((list.fault, decoder.table_size()), (None, 32 + literal.len() - 3));
        }
    }
    check(&format!("00 0c {name} 01 0a"), "grpc-message: !malformed field value");
}

#[test]
fn faults_are_remembered_by_the_table() {
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, &bytes("40 01 41 01 62")), "A: b !malformed field name");
    assert_eq!(read(&mut decoder, &bytes("be")), "A: b !malformed field name");
    assert_eq!(read(&mut decoder, &bytes("40 01 61 01 0a")), "a: !malformed field value");
    assert!(read(&mut decoder, &bytes("be")).ends_with("!malformed field value"));
    assert_eq!(read(&mut decoder, &bytes("7e 00")), "a:");
}

/// RFC 9113, 8.2.3.
#[test]
fn cookies_are_joined() {
    check(
        "60 01 61 82 60 01 62 60 01 63",
        "cookie: a|:method: GET|cookie: b|cookie: c|cookie: a; b; c !pseudo-field behind a field",
    );
    check(
        "60 00 60 01 61 60 00 60 01 62 60 00",
        "cookie: |cookie: a|cookie: |cookie: b|cookie: |cookie: a; b",
    );
    check("60 00 60 00", "cookie: |cookie: |cookie:");
    let mut list = FieldList::default();
    Decoder::default()
        .decode(&bytes("1f11 01 61 00 01 78 01 79 60 01 62"), &LIMITS, &mut list)
        .expect("well-formed");
    let kinds: Vec<_> = list.fields.iter().map(|field| (field.kind, field.never_indexed)).collect();
    assert_eq!(
        kinds,
        [
            (FieldKind::Crumb, true),
            (FieldKind::EndToEnd, false),
            (FieldKind::Crumb, false),
            (FieldKind::EndToEnd, true)
        ]
    );
    assert_eq!(list.fields[3].value.of(&list.bytes), b"a; b");
}

/// Header bombs: thousands of references of one byte, or a few long strings. Nothing is held beyond the limits; the
/// table is right afterwards, or the connection over.
#[test]
fn lists_are_bounded_before_they_are_stored() {
    let mut decoder = Decoder::default();
    let mut list = FieldList::default();
    // An entry of 4000 bytes, then 60 000 references to it.
    let mut block = bytes("40 01 61 7f a1 1e");
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 60_000]);
    assert_eq!(decoder.decode(&block, &LIMITS, &mut list), Err(EXCESSIVE));
    assert!(list.is_too_large && list.bytes.len() <= LIMITS.bytes_max + 4 * LIMITS.fields_max);
    assert!(list.bytes.capacity() <= 2 * LIMITS.bytes_max && list.fields.len() <= LIMITS.fields_max);
    let mut decoder = Decoder::default();
    // Many small ones.
    decoder.decode(&[0x90; 4_000], &LIMITS, &mut list).expect("decodes");
    assert!(list.is_too_large && list.fields.len() == LIMITS.fields_max);
    assert_eq!(decoder.decode(&[0x90; 60_000], &LIMITS, &mut list), Err(EXCESSIVE));
    // Cookie crumbs.
    let crumbs = [0x60, 0x01, 0x61].repeat(5_000);
    decoder.decode(&crumbs, &LIMITS, &mut list).expect("decodes");
    assert!(list.is_too_large && list.fields.len() <= LIMITS.fields_max + 1);
    // A string that decodes to more than the limit, and then an entry that the next block can use.
    let small = ListLimits { bytes_max: 100, fields_max: 100 };
    let mut block = bytes("00 01 61 ff fb 03");
    block.extend([0; 634]);
    block.extend(bytes("40 01 62 01 63"));
    let mut list = FieldList::default();
    decoder.decode(&block, &small, &mut list).expect("decodes");
    assert!(list.is_too_large && list.bytes.capacity() < 8 * 1024, "{}", list.bytes.capacity());
    assert_eq!(read(&mut decoder, &bytes("be")), "b: c");
}

#[test]
fn exactly_the_limit_fits() {
    let mut list = FieldList::default();
    let mut check = |block: &str, bytes_max, fields_max, fits: bool| {
        let limits = ListLimits { bytes_max, fields_max };
        Decoder::default().decode(&bytes(block), &limits, &mut list).expect("decodes");
        assert_eq!(!list.is_too_large, fits, "{block} {bytes_max} {fields_max}");
    };
    check("82", 42, 1, true);
    check("82", 41, 1, false);
    check("82", 42, 0, false);
    check("82 84", 80, 2, true);
    check("82 84", 79, 2, false);
    check("82 84", 80, 1, false);
    check("00 01 61 01 62", 34, 1, true);
    check("00 01 61 01 62", 33, 1, false);
    check("40 01 61 01 62", 33, 1, false);
}

/// RFC 7541, 4.3 and 4.4.
#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, &bytes("40 01 61 01 62")), "a: b");
    let mut block = bytes("40 01 63 7f a1 1f");
    block.extend([b'x'; 4128]);
    assert!(read(&mut decoder, &block).starts_with("c: xxx"));
    assert_eq!(read(&mut decoder, &bytes("be")), "!index of no entry");
    // The same where the list has no room for it either.
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, &bytes("40 01 61 01 62")), "a: b");
    let small = ListLimits { bytes_max: 100, fields_max: 100 };
    let mut list = FieldList::default();
    decoder.decode(&block, &small, &mut list).expect("decodes");
    assert!(list.is_too_large);
    assert_eq!(read(&mut decoder, &bytes("be")), "!index of no entry");
}

/// RFC 7541, 4.2: the table changes its size when the peer has acknowledged it, and the peer says so.
#[test]
fn the_decoder_follows_its_acknowledged_limit() {
    let mut decoder = Decoder::default();
    assert_eq!(read(&mut decoder, &bytes("40 01 61 01 62")), "a: b");
    decoder.set_limit(100);
    assert_eq!(read(&mut decoder, &bytes("be")), "!size update missing");
    assert_eq!(read(&mut decoder, &bytes("3f46 be")), "!size update over the limit");
    assert_eq!(read(&mut decoder, &bytes("3f45 be")), "a: b");
    assert_eq!(read(&mut decoder, &bytes("20 3f45 82")), ":method: GET");
    assert_eq!(read(&mut decoder, &bytes("be")), "!index of no entry");
    decoder.set_limit(10_000);
    assert_eq!(read(&mut decoder, &bytes("3ff14d 82")), ":method: GET");
}

#[test]
fn the_encoder_tells_changes_of_size() {
    let mut encoder = Encoder::new(4096);
    let block = |encoder: &mut Encoder| {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        encoder.status(200, &mut out);
        out
    };
    assert_eq!(block(&mut encoder), [0x88]);
    encoder.set_limit(4096);
    assert_eq!(block(&mut encoder), [0x88]);
    encoder.set_limit(0);
    encoder.set_limit(64);
    assert_eq!(block(&mut encoder), bytes("20 3f21 88"));
    assert_eq!(block(&mut encoder), [0x88]);
    encoder.set_limit(1 << 30);
    assert_eq!(block(&mut encoder), bytes("3fe11f 88"));
    assert_eq!(block(&mut Encoder::new(100)), bytes("3f45 88"));
}

fn write(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), false, &mut out);
    }
    out
}

#[test]
fn what_is_repeated_becomes_an_index() {
    let mut encoder = Encoder::new(4096);
    let fields = [("content-type", "application/json"), ("x-own", "value"), (":path", "/")];
    let sizes: Vec<usize> = (0..4).map(|_| write(&mut encoder, &fields).len()).collect();
    assert_eq!(sizes[2..], [3, 3], "{sizes:?}");
}

/// RFC 7541, 7.1.3.
#[test]
fn secrets_never_enter_a_table() {
    for name in ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"] {
        let mut encoder = Encoder::new(4096);
        for _ in 0..3 {
            let block = write(&mut encoder, &[(name, "secret")]);
            assert_eq!(block[0] & 0xf0, 0x10, "{name}");
            let mut list = FieldList::default();
            Decoder::default().decode(&block, &LIMITS, &mut list).expect("decodes");
            assert!(list.fields[0].never_indexed);
        }
        assert_eq!(encoder.table_size(), 0);
    }
    // As it came, so it goes on: also when the same field is in the table already.
    let mut encoder = Encoder::new(4096);
    write(&mut encoder, &[("a", "b")]);
    write(&mut encoder, &[("a", "b")]);
    let mut out = Vec::new();
    encoder.field(b"a", b"b", true, &mut out);
    assert_eq!(out, bytes("10 01 61 01 62"));
}
