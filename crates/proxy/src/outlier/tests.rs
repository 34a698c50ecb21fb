use super::*;

/// `x` failure, `.` answer, `c` connected, `t` the trial begins, `e` it ends, `_` one second. The letters of
/// `expected` after each: `i` in, `o` out.
fn check(events: &str, expected: &str) {
    let metrics = Arc::new(RouteMetrics::default());
    let outlier = Outlier::new(Arc::default(), metrics.clone());
    let mut now = Instant::now();
    let mut found = String::new();
    for event in events.chars() {
        match event {
            'x' => _ = outlier.failed(now, || true),
            '.' => outlier.answered(now),
            'c' => outlier.reached(now),
            't' => assert!(outlier.begin_trial(now), "{events}: no trial after {found}"),
            'e' => outlier.end_trial(),
            '_' => now += Duration::from_secs(1),
            other => panic!("{other}"),
        }
        found.push(if outlier.is_out(now) { 'o' } else { 'i' });
    }
    assert_eq!(found, expected, "{events}");
    drop(outlier);
    assert_eq!(metrics.endpoints_out.get(), 0, "{events}: whoever is gone is not out");
}

#[test]
fn five_failures_in_a_row_put_it_out_for_five_seconds() {
    check("xxxx", "iiii");
    check("xxxxx", "iiiio");
    check("xxxxx_____", "iiiioooooi");
}

#[test]
fn an_answer_begins_the_count_anew() {
    check("xxxx.xxxx", "iiiiiiiii");
    check("xxxx.xxxxx", "iiiiiiiiio");
    // A connection alone does not: one that breaks in each request is made anew each time.
    check("cxcxcxcxcx", "iiiiiiiiio");
}

#[test]
fn only_one_tries_it_again() {
    // Out for the others while one tries, in again when that one has connected.
    check("xxxxx_____tce", "iiiioooooioii");
    // What fails right after that is not given five chances.
    check("xxxxx_____tcex", "iiiioooooioiio");
    check("xxxxx_____tce.xxxx", "iiiioooooioiiiiiii");
}

#[test]
fn each_time_is_longer_and_none_is_longer_than_twenty_seconds() {
    // Ten seconds the second time.
    check("xxxxx_____txe_________", "iiiioooooioooooooooooo");
    check("xxxxx_____txe__________", "iiiioooooiooooooooooooi");
    let outlier = Outlier::new(Arc::default(), Arc::default());
    let mut now = Instant::now();
    (0..5).for_each(|_| {
        assert!(outlier.failed(now, || true) == (outlier.health.failures.load(Relaxed) == FAILURES_MAX))
    });
    for _ in 0..40 {
        now += OUT_MAX;
        assert!(outlier.begin_trial(now), "never longer than that");
        assert!(!outlier.begin_trial(now), "one at a time");
        outlier.failed(now, || true);
        outlier.end_trial();
        assert!(outlier.is_out(now));
    }
    // Back for that long: the first time again.
    now += OUT_MAX;
    assert!(outlier.begin_trial(now));
    outlier.reached(now);
    outlier.end_trial();
    now += OUT_MAX;
    outlier.failed(now, || true);
    assert!(outlier.is_out(now + Duration::from_secs(4)) && !outlier.is_out(now + Duration::from_secs(5)));
}

#[test]
fn a_late_answer_brings_it_back() {
    // What was frozen answers the requests that it has; their connections are used again, and none is dialed.
    check("xxxxx.", "iiiioi");
    check("xxxxx_____.xxxx", "iiiioooooiiiiii");
}

#[test]
fn late_failures_change_nothing() {
    check("xxxxxxxxxx_____", "iiiiooooooooooi");
}

#[test]
fn half_of_them_stay_in() {
    let most = |all| (0..all).filter(|out| may_go_out(*out, all)).count();
    assert_eq!([0, 1, 2, 3, 4, 5, 10].map(most), [0, 0, 1, 1, 2, 2, 5]);
    let outlier = Outlier::new(Arc::default(), Arc::default());
    let now = Instant::now();
    (0..20).for_each(|_| assert!(!outlier.failed(now, || false)));
    assert!(outlier.failed(now, || true), "as soon as there is room");
}

#[test]
fn workers_find_it_out_together() {
    let health = Arc::<Health>::default();
    let (a_metrics, b_metrics) = (Arc::new(RouteMetrics::default()), Arc::new(RouteMetrics::default()));
    let (a, b) = (Outlier::new(health.clone(), a_metrics.clone()), Outlier::new(health, b_metrics.clone()));
    let now = Instant::now();
    for outlier in [&a, &b, &a, &b] {
        assert!(!outlier.failed(now, || true));
    }
    assert!(a.failed(now, || true));
    assert!(b.is_out(now), "one has found it, both know");
    let later = now + OUT_FIRST;
    assert!(b.begin_trial(later));
    assert!(!a.begin_trial(later), "one trial of the process");
    assert_eq!((a_metrics.endpoints_out.get(), b_metrics.endpoints_out.get()), (1, 0));
    b.answered(later);
    a.answered(later);
    b.end_trial();
    assert!(!a.is_out(later));
    assert_eq!((a_metrics.endpoints_out.get(), b_metrics.endpoints_out.get()), (0, 0), "not below none");
}
