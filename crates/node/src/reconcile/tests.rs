use super::*;
use State::*;
use Step::*;

const NEW: u64 = 2;
const OLD: u64 = 1;

#[track_caller]
fn check(replicas: u32, beside: bool, present: &[(u32, u64, State)], expect: &[Step]) {
    let present: Vec<Present> =
        present.iter().map(|&(number, version, state)| Present { number, version, state }).collect();
    assert_eq!(steps(&Wanted { replicas, version: NEW, beside }, &present), expect);
}

#[test]
fn what_is_missing_is_started_at_once_with_the_lowest_free_numbers() {
    check(3, true, &[], &[Start(1), Start(2), Start(3)]);
    check(3, true, &[(2, NEW, Ready)], &[Start(1), Start(3)]);
    check(2, true, &[(1, NEW, Retiring), (2, NEW, Ready)], &[Start(3)]);
    check(2, true, &[(1, NEW, Ready), (2, NEW, Unready)], &[]);
}

#[test]
fn what_is_too_much_goes_those_that_do_not_serve_first() {
    check(0, true, &[(1, NEW, Ready), (2, OLD, Ready)], &[Retire(1), Retire(2)]);
    check(2, true, &[(1, NEW, Unready), (2, NEW, Ready), (3, NEW, Ready)], &[Retire(1)]);
    check(2, true, &[(1, NEW, Ready), (2, NEW, Ready), (3, NEW, Ready)], &[Retire(3)]);
}

/// Plays a replacement to its end; the fewest that served and the most that were there.
fn play(replicas: u32, beside: bool) -> (usize, usize) {
    let mut present: Vec<Present> =
        (1..=replicas).map(|number| Present { number, version: OLD, state: Ready }).collect();
    let (mut served_min, mut there_max) = (usize::MAX, 0);
    for _ in 0..100 {
        for step in steps(&Wanted { replicas, version: NEW, beside }, &present) {
            match step {
                Start(number) => present.push(Present { number, version: NEW, state: Unready }),
                Retire(number) => {
                    let instance = present.iter_mut().find(|instance| instance.number == number);
                    instance.expect("only what is there is retired").state = Retiring;
                }
            }
        }
        there_max = there_max.max(present.len());
        served_min = served_min.min(present.iter().filter(|i| i.state == Ready).count());
        // One thing happens at a time: somebody leaves, else somebody gets ready.
        if let Some(gone) = present.iter().position(|instance| instance.state == Retiring) {
            present.remove(gone);
        } else if let Some(instance) = present.iter_mut().find(|instance| instance.state == Unready) {
            instance.state = Ready;
        }
    }
    assert!(present.iter().all(|instance| instance.version == NEW && instance.state == Ready));
    assert_eq!(present.len(), replicas as usize);
    (served_min, there_max)
}

#[test]
fn a_replacement_never_serves_with_fewer_and_never_holds_more_than_one_more() {
    assert_eq!(play(1, true), (1, 2));
    assert_eq!(play(3, true), (3, 4));
}

#[test]
fn what_shares_a_volume_is_replaced_in_place() {
    assert_eq!(play(1, false), (0, 1));
    assert_eq!(play(3, false), (2, 3));
}

#[test]
fn a_new_version_that_fails_leaves_the_old_one_serving() {
    check(2, true, &[(1, OLD, Ready), (2, OLD, Ready), (3, NEW, Unready)], &[]);
    check(2, true, &[(1, OLD, Unready), (2, OLD, Ready), (3, NEW, Unready)], &[Retire(1)]);
}

#[test]
fn scaling_down_in_the_middle_of_a_replacement_ends_at_the_new_version() {
    check(1, true, &[(1, OLD, Ready), (2, OLD, Ready), (3, NEW, Ready)], &[Retire(2), Retire(1)]);
}

#[test]
fn names_and_numbers() {
    let service = ServiceName::from("orders");
    assert_eq!(instance_number(&service, &instance_name(&service, 7)), Some(7));
    assert_eq!(instance_number(&service, &InstanceName::from("orders-eu-1")), None);
    assert_eq!(instance_number(&service, &InstanceName::from("stock-1")), None);
}
