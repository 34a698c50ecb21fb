use super::*;

/// `exits`: code and milliseconds lived, one life after the other; the pauses in milliseconds, `None`: stays ended.
#[track_caller]
fn check(policy: RestartPolicy, exits: &[(i32, u64)], expect: &[Option<u128>]) {
    let mut restarts = Restarts::new(policy, 0);
    let pauses: Vec<Option<u128>> = exits
        .iter()
        .map(|(code, lived)| match restarts.exited(*code, Duration::from_millis(*lived)) {
            Decision::Again(pause) => Some(pause.as_millis()),
            Decision::Stay => None,
        })
        .collect();
    assert_eq!(pauses, expect);
}

#[test]
fn policies_as_compose_says() {
    check(RestartPolicy::No, &[(1, 0)], &[None]);
    check(RestartPolicy::Always, &[(0, 0), (1, 0)], &[Some(100), Some(200)]);
    check(RestartPolicy::UnlessStopped, &[(0, 0)], &[Some(100)]);
    check(RestartPolicy::OnFailure { attempts_max: None }, &[(1, 0), (0, 0)], &[Some(100), None]);
    let twice = RestartPolicy::OnFailure { attempts_max: Some(2) };
    check(twice, &[(1, 0), (1, 0), (1, 0)], &[Some(100), Some(200), None]);
}

#[test]
fn pauses_double_up_to_a_bound_and_a_stable_life_resets_them() {
    let exits = [(1, 0), (1, 0), (1, 9_999), (1, 10_000), (1, 0)];
    check(RestartPolicy::Always, &exits, &[Some(100), Some(200), Some(400), Some(100), Some(200)]);
    let mut restarts = Restarts::new(RestartPolicy::Always, 0);
    let last = (0..100).map(|_| restarts.exited(1, Duration::ZERO)).last();
    assert_eq!(last, Some(Decision::Again(PAUSE_MAX)));
    assert_eq!(restarts.total(), 100);
}

#[test]
fn a_lost_seal_is_made_again_whatever_the_policy() {
    let mut restarts = Restarts::new(RestartPolicy::No, 3);
    assert_eq!(restarts.lost(Duration::ZERO), PAUSE_MIN);
    assert_eq!(restarts.total(), 4);
}
