use std::time::Duration;

use super::*;

fn record(latencies_us: impl IntoIterator<Item = u64>) -> Latency {
    let histogram = Histogram::default();
    for us in latencies_us {
        histogram.record(Duration::from_micros(us));
    }
    cumulative(&histogram.counts())
}

#[test]
fn each_latency_lies_below_the_bound_of_its_bucket_and_not_below_the_one_before() {
    let around = (0..64).flat_map(|bits| {
        let power = 1u64 << bits;
        [power - 1, power, power + 1, power + power / 3, power + power / 2]
    });
    for us in (0..5_000).chain(around).chain([u64::MAX]) {
        let i = bucket(us);
        assert!(us < upper_bound_us(i) || i == BUCKETS - 1, "{us} in {i}");
        assert!(i == 0 || us >= upper_bound_us(i - 1), "{us} in {i}");
    }
    assert!((1..BUCKETS).all(|i| upper_bound_us(i) > upper_bound_us(i - 1)));
}

#[test]
fn quantiles_are_within_ten_percent() {
    for truth in [20u64, 100, 333, 1_000, 1_234, 10_000, 99_999, 2_000_000, 59_000_000] {
        let latency = record((0..1000).map(|_| truth));
        for quantile in [0.01, 0.5, 0.99, 1.0] {
            let found = quantile_us(&latency, quantile).expect("not empty");
            assert!((found / truth as f64 - 1.0).abs() <= 0.0625, "{truth}: {found}");
        }
    }
    let latency = record(1..=10_000);
    for (quantile, truth) in [(0.1, 1_000.0), (0.5, 5_000.0), (0.99, 9_900.0), (0.999, 9_990.0)] {
        let found = quantile_us(&latency, quantile).expect("not empty");
        assert!((found / truth - 1.0f64).abs() <= 0.0625, "{quantile}: {found}");
    }
}

#[test]
fn extremes() {
    assert_eq!(quantile_us(&record([]), 0.5), None);
    assert_eq!(quantile_us(&[(0, 0)], 0.5), None);
    assert_eq!(quantile_us(&record([0]), 0.5), Some(8.0));
    let beyond = quantile_us(&record([u64::MAX]), 0.5).expect("not empty");
    assert_eq!(beyond, f64::from(1 << 26));
}

#[test]
fn a_difference_is_what_came_in_between() {
    let first = [20, 700, 700, 90_000];
    let second = [5, 650, 700, 1_000_000, 90_000, u64::MAX];
    let before = record(first);
    let now = record(first.into_iter().chain(second));
    assert_eq!(difference(&now, &before), record(second));
    assert_eq!(difference(&now, &[]), now);
    assert_eq!(difference(&now, &now), vec![]);
    assert_eq!(difference(&before, &now), before, "a restarted proxy counts from zero");
}

#[test]
fn a_merge_is_both() {
    let (a, b) = ([1, 50, 50, 3_000], [50, 70, 400_000]);
    assert_eq!(merge(&record(a), &record(b)), record(a.into_iter().chain(b)));
    assert_eq!(merge(&record(a), &[]), record(a));
}
