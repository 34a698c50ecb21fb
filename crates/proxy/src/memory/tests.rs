use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;

#[test]
fn it_is_short_above_seven_eighths_and_out_above_all() {
    let used = Arc::new(AtomicUsize::new(0));
    let told = used.clone();
    let memory = Memory { bytes_in_use: Arc::new(move || told.load(Relaxed)), bytes_max: 800 };
    let budget = Budget::new(memory, 0);
    let check = |bytes: usize, expected: Pressure| {
        used.store(bytes, Relaxed);
        assert_eq!(budget.look(), expected, "{bytes} of {}", budget.bytes_max());
        assert_eq!(budget.is_out(), expected == Pressure::Out);
    };
    check(0, Pressure::None);
    check(699, Pressure::None);
    check(700, Pressure::Short);
    check(799, Pressure::Short);
    check(800, Pressure::Out);
    check(10_000, Pressure::Out);
    budget.configure(80_000);
    check(10_000, Pressure::None);
    budget.configure(0);
    check(10_000, Pressure::Out);
}
