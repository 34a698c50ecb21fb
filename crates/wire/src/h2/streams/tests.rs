use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn stream(id: u32) -> Stream {
    Stream {
        id,
        recv: Side::Head,
        send: Side::Head,
        send_window: 0,
        recv_window: 0,
        window: 0,
        taken: 0,
        held: 0,
        recv_left: 0,
        is_recv_declared: false,
        send_left: 0,
        interim: 0,
        is_head: false,
        is_connect: false,
        wants: false,
        is_queued: false,
    }
}

#[test]
fn a_stream_is_one_cache_line() {
    assert!(size_of::<Stream>() <= 64, "{}", size_of::<Stream>());
}

#[test]
fn a_key_of_a_stream_that_is_over_finds_nothing() {
    let mut streams = Streams::default();
    let first = streams.insert(stream(1));
    streams.remove(first);
    let second = streams.insert(stream(3));
    assert_eq!(second.slot, first.slot);
    assert!(streams.get(first).is_none() && streams.find(1).is_none());
    streams.remove(first);
    assert!(streams.get(second).is_some());
}

proptest! {
    /// The table against a map. Identifiers rise, as the protocol wants it, with gaps; any may end.
    #[test]
    fn finds_what_a_map_finds(steps in proptest::collection::vec((any::<bool>(), 0..40u32), 1..400)) {
        let mut streams = Streams::default();
        let mut map = BTreeMap::new();
        let mut id = 1;
        for (is_insert, number) in steps {
            if is_insert {
                id += 2 * number;
                prop_assert_eq!(streams.find(id), None);
                map.insert(id, streams.insert(stream(id)));
                id += 2;
            } else if let Some(&found) = map.keys().nth(number as usize % map.len().max(1)) {
                let key = map.remove(&found).expect("in the map");
                streams.remove(key);
            }
            prop_assert_eq!(streams.len(), map.len());
            for (&id, &key) in &map {
                prop_assert_eq!(streams.find(id), Some(key));
            }
        }
        let mut left = map.len();
        let mut slot = 0;
        while let Some(key) = streams.next_from(slot) {
            slot = key.slot + 1;
            left -= 1;
            prop_assert_eq!(map.get(&key.id), Some(&key));
        }
        prop_assert_eq!(left, 0);
    }
}

#[test]
fn the_past_is_short() {
    let mut past = Past::default();
    for id in 0..1000 {
        past.note(id, if id % 2 == 0 { Ended::ByUs } else { Ended::ByPeer });
    }
    assert_eq!(past.get(1), None);
    assert_eq!(past.get(998), Some(Ended::ByUs));
    assert_eq!(past.get(999), Some(Ended::ByPeer));
    assert!(past.ids.len() <= PAST_MAX);
}
