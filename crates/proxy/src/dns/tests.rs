use std::net::Ipv4Addr;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question, RCODE, TYPE};

use super::answer;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

fn ask(name: &str, kind: TYPE) -> (RCODE, Vec<Ipv4Addr>) {
    let mut query = Packet::new_query(7);
    query.questions.push(Question::new(
        Name::new_unchecked(name),
        QTYPE::TYPE(kind),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    let query = query.build_bytes_vec().unwrap();
    let known = |name: &str| name.eq_ignore_ascii_case("orders").then_some(ADDRESS);
    let bytes = answer(&query, known).unwrap();
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!((reply.id(), reply.questions.len()), (7, 1));
    let addresses = reply.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(Ipv4Addr::from(a.address)),
        _ => None,
    });
    (reply.rcode(), addresses.collect())
}

#[test]
fn known_names_have_an_ipv4_address_only() {
    assert_eq!(ask("orders", TYPE::A), (RCODE::NoError, vec![ADDRESS]));
    assert_eq!(ask("ORDERS", TYPE::A), (RCODE::NoError, vec![ADDRESS]));
    assert_eq!(ask("orders", TYPE::AAAA), (RCODE::NoError, vec![]));
    assert_eq!(ask("orders", TYPE::MX), (RCODE::NoError, vec![]));
}

#[test]
fn other_names_do_not_exist() {
    assert_eq!(ask("example.com", TYPE::A), (RCODE::NameError, vec![]));
    assert_eq!(ask("example.com", TYPE::AAAA), (RCODE::NameError, vec![]));
}

#[test]
fn what_is_no_query_gets_no_answer_or_an_error() {
    let resolve = |_: &str| Some(ADDRESS);
    assert_eq!(answer(b"", resolve), None);
    assert_eq!(answer(&[0xff; 40], resolve), None);
    // An answer, sent to us.
    assert_eq!(answer(&Packet::new_reply(1).build_bytes_vec().unwrap(), resolve), None);
    let empty = answer(&Packet::new_query(1).build_bytes_vec().unwrap(), resolve).unwrap();
    assert_eq!(Packet::parse(&empty).unwrap().rcode(), RCODE::FormatError);
    // Whatever comes: no panic.
    let query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06orders\x00\x00\x01\x00\x01";
    for cut in 0..query.len() {
        answer(&query[..cut], resolve);
        for value in [0, 0x3f, 0xc0, 0xff] {
            let mut changed = query.to_vec();
            changed[cut] = value;
            answer(&changed, resolve);
        }
    }
}
