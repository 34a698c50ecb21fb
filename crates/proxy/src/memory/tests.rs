use std::rc::Rc;

use super::*;

#[test]
fn it_is_short_above_seven_eighths_and_out_above_all() {
    let used = Rc::new(Cell::new(0));
    let told = used.clone();
    let budget = Budget::new(Memory { bytes_in_use: Box::new(move || told.get()), bytes_max: 800 }, 0);
    let check = |bytes: usize, expected: Pressure| {
        used.set(bytes);
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
