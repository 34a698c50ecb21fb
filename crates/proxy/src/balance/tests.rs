use super::*;

/// One character for each endpoint: its load, `x` failing, `t` tried.
fn check(endpoints: &str, allowed: &[usize]) {
    let candidates: Vec<Candidate> = endpoints
        .chars()
        .map(|c| Candidate { outstanding: c.to_digit(10).unwrap_or(0), failing: c == 'x', tried: c == 't' })
        .collect();
    for seed in 0..200 {
        let chosen = choose(candidates.len(), |i| candidates[i], &mut Random::new(seed));
        match chosen {
            Some(chosen) => assert!(allowed.contains(&chosen), "{endpoints}, seed {seed}: {chosen}"),
            None => assert!(allowed.is_empty(), "{endpoints}, seed {seed}: none"),
        }
    }
    let reached: std::collections::HashSet<_> = (0..200)
        .filter_map(|seed| choose(candidates.len(), |i| candidates[i], &mut Random::new(seed)))
        .collect();
    assert_eq!(reached.len(), allowed.len(), "{endpoints}: not every one is ever chosen");
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    check("", &[]);
    check("5", &[0]);
    check("00", &[0, 1]);
    check("01", &[0]);
    check("90", &[1]);
    // The most loaded of three never wins against any other.
    check("129", &[0, 1]);
}

#[test]
fn what_failed_or_was_tried_is_the_last_resort() {
    check("x9", &[1]);
    check("t9", &[1]);
    check("xt", &[0]);
    check("xx", &[0, 1]);
    check("tt", &[0, 1]);
}

#[test]
fn numbers_stay_below_their_bound() {
    let mut random = Random::new(1);
    assert!((0..1000).all(|_| random.below(3) < 3));
    assert_eq!(random.below(0), 0);
}
