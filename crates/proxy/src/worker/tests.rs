use super::*;

/// `x`: clients have come in that second; `.`: none. Expected: `!` where memory is given back. Pools keep idle
/// connections for four seconds.
fn check(seconds: &str, expected: &str) {
    let mut quiet = QuietSpell::default();
    let mut tick = |second| quiet.tick(second == 'x', Duration::from_secs(4));
    let given: String = seconds.chars().map(|second| if tick(second) { '!' } else { ' ' }).collect();
    assert_eq!(given.trim_end(), expected);
}

#[test]
fn memory_is_given_back_in_quiet_times_only() {
    check("............", "");
    check("x...........", "   !    !");
    check("xxxxx........", "       !    !");
    check("x..x..x.x..x", "");
    check("x......x............", "   !      !    !");
}
