use DependencyCondition::*;

use super::*;

fn view(state: InstanceState, ready: bool, exit_code: Option<i32>) -> View {
    let mut view = View::new("db".into(), 1, 1);
    view.started_unix_ms = (state != InstanceState::Waiting).then_some(1);
    (view.state, view.ready, view.exit_code) = (state, ready, exit_code);
    view
}

/// `db` with these instances; what a service that depends on it is told.
#[track_caller]
fn check(condition: DependencyCondition, required: bool, instances: &[View], expect: &str) {
    let named =
        |(index, view): (usize, &View)| (InstanceName::new(format!("db-{}", index + 1)), view.clone());
    let views = instances.iter().enumerate().map(named).collect();
    let dependency = Dependency { service: "db".into(), condition, required, restart: false };
    let verdict = match judge(&[dependency], &views) {
        Verdict::Go => "go".to_owned(),
        Verdict::Wait(waits) => format!("wait: {}", waits.join(", ")),
        Verdict::Never(reason) => format!("never: {reason}"),
    };
    assert_eq!(verdict, expect);
}

#[test]
fn started() {
    check(ServiceStarted, true, &[view(InstanceState::Waiting, false, None)], "wait: db to start");
    check(ServiceStarted, true, &[view(InstanceState::Running, false, None)], "go");
    check(ServiceStarted, true, &[], "wait: db to start");
    check(ServiceStarted, false, &[], "go");
}

#[test]
fn healthy_means_all_of_it() {
    let (ready, not_yet) =
        (view(InstanceState::Running, true, None), view(InstanceState::Running, false, None));
    check(ServiceHealthy, true, &[ready.clone(), not_yet], "wait: db to be healthy");
    check(ServiceHealthy, true, &[ready.clone(), ready], "go");
    let ended = view(InstanceState::Exited, false, Some(3));
    check(
        ServiceHealthy,
        true,
        std::slice::from_ref(&ended),
        "never: db-1 ended with code 3 before it was healthy",
    );
    check(ServiceHealthy, false, &[ended], "go");
}

#[test]
fn completed() {
    check(
        ServiceCompletedSuccessfully,
        true,
        &[view(InstanceState::Running, true, None)],
        "wait: db to complete",
    );
    check(ServiceCompletedSuccessfully, true, &[view(InstanceState::Exited, true, Some(0))], "go");
    let failed = view(InstanceState::Exited, false, Some(1));
    check(ServiceCompletedSuccessfully, true, &[failed], "never: db-1 ended with code 1");
}

#[test]
fn one_on_its_way_out_does_not_count() {
    let mut leaving = view(InstanceState::Draining, true, None);
    leaving.retiring = true;
    check(ServiceHealthy, true, &[leaving], "wait: db to be healthy");
}
