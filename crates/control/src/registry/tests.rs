use proptest::prelude::*;

use super::*;

/// Plays a history for ten instances `a-0`..`a-9` of one service, all held and ready at first, a letter at a time:
/// `0`-`9` the stream of that proxy ends, `b` and a digit: it serves again, `_` one second, `x` and a digit: removed,
/// `d` and a digit: drains. Says who is in routing at the end.
#[track_caller]
fn check(history: &str, expect: &str) {
    let mut registry = Registry::new(GRACE);
    let mut now = Instant::now();
    for n in 0..10 {
        registry.enter(&name(n), life(1)).unwrap();
        registry.route(&name(n), Routing::In);
        registry.serves(&name(n));
    }
    let mut letters = history.chars();
    while let Some(letter) = letters.next() {
        let mut digit = || letters.next().and_then(|letter| letter.to_digit(10)).unwrap();
        match letter {
            '_' => now += Duration::from_secs(1),
            'b' => registry.serves(&name(digit())),
            'x' => registry.remove(&name(digit())),
            'd' => drop(registry.route(&name(digit()), Routing::Draining)),
            letter => registry.stream_ended(&name(letter.to_digit(10).unwrap()), now),
        }
        registry.sweep(now);
    }
    let routing = registry.endpoints(&"a".into());
    let found: String = routing.iter().map(|endpoint| &endpoint.instance.as_str()[2..]).collect();
    assert_eq!(found, expect, "after {history}");
}

fn name(n: u32) -> InstanceName {
    InstanceName::new(format!("a-{n}"))
}

fn life(epoch: Epoch) -> Instance {
    Instance::fresh(&"a".into(), epoch, Some(HopAddress::Unix("/run/hop.sock".into())))
}

#[test]
fn the_end_of_a_stream_starts_a_grace() {
    check("3", "0123456789");
    check("3_________", "0123456789");
    check("3__________", "012456789");
    check("3_________b3_____", "0123456789");
    check("3__________b3", "0123456789");
}

#[test]
fn the_death_of_a_process_needs_no_grace() {
    check("x3", "012456789");
    check("d3", "012456789");
}

#[test]
fn a_mass_loss_removes_nobody() {
    check("012345____________________", "0123456789");
    check("01234__________", "56789");
    check("0_1_2_3_4_5________________", "0123456789");
    // It ends when most are back: who is still away then has had its grace.
    check("012345__________b0", "06789");
    check("012345__________b0b1b2b3b4b5", "0123456789");
}

#[test]
fn a_lease_is_of_one_life() {
    let mut registry = Registry::new(GRACE);
    registry.enter(&name(1), life(2)).unwrap();
    registry.route(&name(1), Routing::In);
    assert!(registry.endpoints(&"a".into()).is_empty(), "its proxy serves nothing yet");
    registry.serves(&name(1));
    assert_eq!(registry.endpoints(&"a".into()).len(), 1);

    let stale = registry.enter(&name(1), life(1)).unwrap_err();
    assert_eq!(stale.to_string(), "a-1 is in its life number 2; news of number 1 comes too late");
    assert_eq!(registry.endpoints(&"a".into()).len(), 1);

    registry.enter(&name(1), life(3)).unwrap();
    assert!(registry.endpoints(&"a".into()).is_empty(), "a new life starts out of routing");
}

#[test]
fn who_is_adopted_serves_and_has_a_grace_to_come_back() {
    let mut registry = Registry::new(GRACE);
    let start = Instant::now();
    for n in 0..3 {
        let adopted = Instance { routing: Routing::In, lease: Lease::Away { since: start }, ..life(1) };
        registry.enter(&name(n), adopted).unwrap();
    }
    assert_eq!(registry.endpoints(&"a".into()).len(), 3);
    registry.serves(&name(0));
    registry.serves(&name(1));
    assert_eq!(registry.next_expiry(), Some(start + GRACE));
    registry.sweep(start + GRACE);
    assert_eq!(registry.endpoints(&"a".into()).len(), 2);
}

#[derive(Clone, Debug)]
enum News {
    Add(u32, u64),
    Remove(u32),
    Route(u32, Routing),
    Serves(u32),
    StreamEnded(u32),
    Seconds(u64),
}

fn news() -> impl Strategy<Value = News> {
    let n = 0..6u32;
    let routing = prop_oneof![Just(Routing::In), Just(Routing::Out), Just(Routing::Draining)];
    prop_oneof![
        (n.clone(), 0..4u64).prop_map(|(n, epoch)| News::Add(n, epoch)),
        n.clone().prop_map(News::Remove),
        (n.clone(), routing).prop_map(|(n, routing)| News::Route(n, routing)),
        n.clone().prop_map(News::Serves),
        n.prop_map(News::StreamEnded),
        (0..15u64).prop_map(News::Seconds),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever the launcher and the proxies say, in whatever order.
    #[test]
    fn what_always_holds(history in proptest::collection::vec(news(), 0..80)) {
        let mut registry = Registry::new(GRACE);
        let mut now = Instant::now();
        for news in history {
            let before: BTreeMap<InstanceName, Instance> =
                registry.instances().map(|(name, instance)| (name.clone(), instance.clone())).collect();
            let changes_before = registry.visible_changes();
            let told = match &news {
                News::Add(n, epoch) => {
                    let known = registry.get(&name(*n)).map(|instance| instance.epoch);
                    let result = registry.enter(&name(*n), life(*epoch));
                    prop_assert_eq!(result.is_err(), known.is_some_and(|known| known > *epoch));
                    Some(*n)
                }
                News::Remove(n) => { registry.remove(&name(*n)); Some(*n) }
                News::Route(n, routing) => { registry.route(&name(*n), *routing); Some(*n) }
                News::Serves(n) => { registry.serves(&name(*n)); Some(*n) }
                News::StreamEnded(n) => { registry.stream_ended(&name(*n), now); Some(*n) }
                News::Seconds(seconds) => { now += Duration::from_secs(*seconds); None }
            };
            let routed_by_news: Vec<bool> = (0..6).map(|n| {
                registry.get(&name(n)).is_some_and(Instance::in_routing)
            }).collect();
            registry.sweep(now);

            for n in 0..6 {
                let instance = registry.get(&name(n));
                let was = before.get(&name(n)).is_some_and(Instance::in_routing);
                let is = instance.is_some_and(Instance::in_routing);
                // In routing means: wanted so, and once served.
                if let Some(instance) = instance.filter(|_| is) {
                    prop_assert!(instance.routing == Routing::In && instance.lease != Lease::Fresh);
                }
                // Epochs never go back.
                if let (Some(before), Some(instance)) = (before.get(&name(n)), instance) {
                    prop_assert!(instance.epoch >= before.epoch);
                }
                // News of one instance changes no other one, but for a grace that is over.
                if told != Some(n) && was != is {
                    prop_assert!(was && !is && instance.is_some_and(|i| i.lease == Lease::Expired));
                }
                // Who is swept away was away, and most others are there.
                if routed_by_news[n as usize] && !is {
                    let held = registry.instances().filter(|(_, i)| i.lease == Lease::Held).count();
                    let lost = registry.instances()
                        .filter(|(_, i)| matches!(i.lease, Lease::Away { .. } | Lease::Expired)).count();
                    prop_assert!(lost <= held, "{lost} lost, {held} held");
                }
            }
            // Whoever looks at the counter misses nothing that a proxy could be told.
            let visible = |instances: &BTreeMap<InstanceName, Instance>| -> Vec<_> {
                instances.iter().map(|(name, i)| (name.clone(), i.epoch, i.visible())).collect()
            };
            let after: BTreeMap<InstanceName, Instance> =
                registry.instances().map(|(name, instance)| (name.clone(), instance.clone())).collect();
            if visible(&before) != visible(&after) {
                prop_assert!(registry.visible_changes() > changes_before);
            }
            // Nothing that sweeping could do is left undone, so the sweeper never spins.
            prop_assert!(registry.next_expiry().is_none_or(|at| at > now));
            prop_assert_eq!(
                registry.endpoints(&"a".into()).len(),
                registry.instances().filter(|(_, instance)| instance.in_routing()).count()
            );
        }
    }
}
