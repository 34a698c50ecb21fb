use std::collections::BTreeMap;

use super::*;

fn generator(kind: &str, seed: u64) -> Generator {
    Generator::new("d", Physics::of(kind).expect("a known kind"), seed, 1, 1_000_000_000_000)
}

fn run(kind: &str, seed: u64, samples: u64) -> (Vec<Reading>, Vec<Label>) {
    let mut generator = generator(kind, seed);
    let sent = (0..samples).flat_map(|_| generator.tick(0.8)).collect();
    (sent, generator.labels().cloned().collect())
}

#[test]
fn the_same_seed_gives_the_same_telemetry() {
    assert_eq!(run("freezer", 7, 1000).0, run("freezer", 7, 1000).0);
    assert_ne!(run("freezer", 7, 1000).0, run("freezer", 8, 1000).0);
}

#[test]
fn every_cycle_holds_every_fault_once_and_apart() {
    for seed in 0..50 {
        let (_, labels) = run("conveyor", seed, 4 * CYCLE);
        assert_eq!(labels.len(), 4 * FAULTS.len());
        for cycle in labels.chunks(FAULTS.len()) {
            for kind in FAULTS {
                assert_eq!(
                    cycle.iter().filter(|label| label.kind == kind).count(),
                    1,
                    "{kind:?}, seed {seed}"
                );
            }
        }
        for pair in labels.windows(2) {
            assert!(pair[1].first >= pair[0].last + GUARD, "{pair:?}, seed {seed}");
        }
    }
}

#[test]
fn messages_are_counted_without_a_gap_and_samples_are_sent_as_labelled() {
    let (sent, labels) = run("freezer", 3, 2 * CYCLE);
    assert!(sent.iter().enumerate().all(|(i, reading)| reading.message == i as u64 + 1));
    let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
    for reading in &sent {
        *copies.entry(reading.sequence).or_default() += 1;
    }
    for sequence in 0..2 * CYCLE {
        let label = labels.iter().find(|label| (label.first..=label.last).contains(&sequence));
        let expected = match label.map(|label| label.kind) {
            Some(Fault::Dropout) => 0..=0,
            Some(Fault::Duplicate) => 2..=3,
            _ => 1..=1,
        };
        assert!(expected.contains(copies.get(&sequence).unwrap_or(&0)), "{sequence} {label:?}");
    }
}

#[test]
fn temperatures_stay_believable() {
    let (sent, labels) = run("freezer", 11, 10 * CYCLE);
    for reading in sent {
        let spiked =
            labels.iter().any(|l| l.kind == Fault::Spike && (l.first..=l.last).contains(&reading.sequence));
        assert!(spiked || (-30_000..-8_000).contains(&reading.millicelsius), "{reading:?}");
    }
}
