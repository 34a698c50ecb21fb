//! What holds for lists that nobody thought of.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Field lists, from few names and values so that they repeat.
    Block(Vec<(u8, u8, u16)>),
    /// SETTINGS_HEADER_TABLE_SIZE of the decoding side, acknowledged.
    Limit(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let field = (0..12u8, 0..6u8, prop_oneof![9 => 0..40u16, 1 => 0..5000u16]);
    let step = prop_oneof![
        8 => proptest::collection::vec(field, 0..12).prop_map(Step::Block),
        1 => prop_oneof![0..300u16, 4000..5000u16].prop_map(Step::Limit),
    ];
    proptest::collection::vec(step, 1..40)
}

fn field(&(name, letter, length): &(u8, u8, u16)) -> (&'static str, String) {
    const NAMES: [&str; 12] = [
        "content-type",
        "x-own",
        "authorization",
        "server",
        "x-request-id",
        "accept",
        "accept-encoding",
        "x-a-name-that-is-longer-than-most",
        "vary",
        "set-cookie",
        "etag",
        "grpc-status",
    ];
    let letter = [b'a', b'~', b'0', b'"', b'\t', 0xe9][usize::from(letter)];
    let mut value = vec![letter; usize::from(length)];
    if let [first, .., last] = &mut value[..] {
        (*first, *last) = (b'x', b'y');
    }
    (NAMES[usize::from(name)], value.iter().map(|&byte| char::from(byte)).collect())
}

proptest! {
    /// What the encoder writes the decoder reads, whatever the table's sizes were on the way.
    #[test]
    fn lists_come_back(steps in steps()) {
        let limits = ListLimits { bytes_max: 1 << 20, fields_max: 1000 };
        let (mut encoder, mut decoder) = (Encoder::new(8192), Decoder::default());
        let mut list = FieldList::default();
        for step in steps {
            match step {
                Step::Limit(limit) => {
                    decoder.set_limit(usize::from(limit));
                    encoder.set_limit(usize::from(limit));
                }
                Step::Block(fields) => {
                    let mut block = Vec::new();
                    encoder.begin(&mut block);
                    let mut expect = Vec::new();
                    for field in fields.iter().map(field) {
                        let value: Vec<u8> = field.1.chars().map(|byte| byte as u8).collect();
                        encoder.field(field.0.as_bytes(), &value, false, &mut block);
                        expect.push((field.0.as_bytes().to_vec(), value));
                    }
                    decoder.decode(&block, &limits, &mut list).expect("decodes");
                    let got: Vec<_> = list
                        .fields
                        .iter()
                        .map(|field| (field.name.of(&list.bytes).to_vec(), field.value.of(&list.bytes).to_vec()))
                        .collect();
                    prop_assert_eq!(got, expect);
                    prop_assert_eq!(encoder.table_size(), decoder.table_size());
                }
            }
        }
    }

    /// Anything decodes or is refused, and what is held stays within its bounds.
    #[test]
    fn any_bytes_end_within_bounds(blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20)) {
        let limits = ListLimits { bytes_max: 2000, fields_max: 10 };
        let mut decoder = Decoder::default();
        let mut list = FieldList::default();
        for block in blocks {
            if decoder.decode(&block, &limits, &mut list).is_err() {
                break;
            }
            prop_assert!(decoder.table_size() <= 4096);
            prop_assert!(list.bytes.len() <= 2 * 2000 && list.fields.len() <= 11);
        }
    }
}
