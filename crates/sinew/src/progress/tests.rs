use sinew_spec::status::{ApplicationStatus, Health, InstanceState, InstanceStatus};

use super::model::HOPELESS_FOR;
use super::*;
use crate::view::sample;

fn all(status: ApplicationStatus) -> Model {
    Model::new(status, BTreeSet::new())
}

fn instance_event(service: &str, instance: &str, state: InstanceState, health: Health) -> Event {
    Event::Instance {
        unix_ms: 0,
        service: service.into(),
        instance: instance.into(),
        state,
        health,
        message: None,
    }
}

#[test]
fn lines_tell_what_each_service_waits_for() {
    let mut model = all(sample::shop());
    assert_eq!(
        model.first_lines(),
        [
            "billing: waits for orders (healthy)",
            "db: healthy",
            "migrate: completed",
            "orders: unhealthy: HTTP 503 from :8000/health"
        ]
    );
    assert!(!model.is_ready());
    let healthy = instance_event("orders", "orders-2", InstanceState::Running, Health::Healthy);
    assert_eq!(model.apply(healthy.clone()), ["orders: 2 healthy"]);
    assert_eq!(model.apply(healthy), [""; 0], "nothing new");
    assert_eq!(
        model.apply(Event::Waits { unix_ms: 0, service: "billing".into(), waits_for: Vec::new() }),
        ["billing: starting"]
    );
    let running = instance_event("billing", "billing-1", InstanceState::Running, Health::None);
    assert_eq!(model.apply(running), ["billing: running"]);
    assert!(!model.is_ready(), "the engine has not said so");
    model.apply(Event::Ready { unix_ms: 0 });
    assert!(model.stale && !model.is_ready());
    let status =
        ApplicationStatus { services: model.services().cloned().collect(), ready: true, ..sample::shop() };
    model.resync(status);
    assert!(model.is_ready());
    assert_eq!(model.summary(Duration::from_millis(2_310)), "4 services (5 instances) up in 2.3s");
}

#[test]
fn a_declared_port_at_which_nobody_listens_is_named() {
    let mut status = sample::shop();
    let billing = status.services.iter_mut().find(|service| service.name.as_str() == "billing").unwrap();
    let instance = sample::instance("billing-1", InstanceState::Running, Health::Starting, 0);
    billing.wanted = 1;
    let message = Some("nobody listens on port 8000; it listens on 9000".to_owned());
    billing.instances = vec![InstanceStatus { unheard_port: Some(8000), message, ..instance }];
    status.services.retain(|service| service.name.as_str() == "billing");
    let mut patient = all(status.clone());
    patient.waits_for_listeners = true;
    assert_eq!(failed(&mut patient), None);
    assert_eq!(
        failed(&mut all(status.clone())).unwrap(),
        "nobody listens on port 8000; it listens on 9000 (the file declares port 8000: take it out, or name the one that \
         the service listens on; if it only needs longer, say so with --wait-timeout)"
    );
    // It is being replaced.
    status.services[0].instances[0].state = InstanceState::Draining;
    assert_eq!(failed(&mut all(status)), None);
}

/// What is said after having seen the same for long enough.
fn failed(model: &mut Model) -> Option<String> {
    let now = Instant::now();
    assert_eq!(model.failed(now).filter(|_| model.failed.is_none()), None, "not at first sight");
    model.failed(now + HOPELESS_FOR).map(|failed| failed.reason)
}

#[test]
fn waiting_ends_where_it_is_pointless() {
    let check = |change: fn(&mut InstanceStatus), reason: Option<&str>| {
        let mut status = sample::shop();
        status.services.truncate(1);
        change(&mut status.services[0].instances[0]);
        assert_eq!(failed(&mut all(status)).as_deref(), reason);
    };
    check(|_| {}, None);
    check(|i| (i.state, i.exit_code) = (InstanceState::Exited, Some(3)), Some("ended with code 3"));
    check(|i| (i.state, i.exit_code) = (InstanceState::Exited, Some(0)), None);
    check(|i| (i.state, i.restarts) = (InstanceState::Backoff, 1), None);
    check(|i| (i.state, i.restarts) = (InstanceState::Backoff, 5), Some("ended; is tried again"));
    check(|i| i.health = Health::Unhealthy, Some("unhealthy"));

    let mut model = all(sample::shop());
    let event = Event::Failed {
        unix_ms: 0,
        service: "db".into(),
        instance: None,
        reason: "no such command".to_owned(),
    };
    assert_eq!(model.apply(event), ["db: failed: no such command"]);
    assert_eq!(failed(&mut model).as_deref(), Some("no such command"));
}

#[test]
fn what_is_being_replaced_is_no_failure() {
    let mut status = sample::shop();
    status.services.truncate(1);
    let service = &mut status.services[0];
    (service.instances[0].state, service.instances[0].exit_code) = (InstanceState::Exited, Some(1));
    service.instances.push(sample::instance("db-2", InstanceState::Starting, Health::None, 50));
    assert_eq!(failed(&mut all(status)), None);
}

#[test]
fn how_something_ended_is_asked_for() {
    let mut model = all(sample::shop());
    let exited = instance_event("db", "db-1", InstanceState::Exited, Health::None);
    model.apply(exited);
    assert!(model.stale);
    assert_eq!(model.failed(Instant::now()), None);
    let mut status = sample::shop();
    let db = &mut status.services[0].instances[0];
    (db.state, db.exit_code) = (InstanceState::Exited, Some(0));
    assert_eq!(model.resync(status), ["db: completed"]);
}

#[test]
fn the_picture_has_a_line_for_each_service() {
    let status = sample::shop();
    assert_eq!(
        picture::draw(status.services.iter(), &Terminal { width: Some(40), ..Terminal::plain() }, 0),
        "+ db       healthy\n\
         x orders   unhealthy: HTTP 503 from :…\n\
         · billing  waits for orders (healthy)\n\
         + migrate  completed"
    );
}

#[test]
fn only_what_was_named_is_waited_for() {
    let mut status = sample::shop();
    status.services[0].ready = true;
    let mut model = Model::new(status.clone(), BTreeSet::from(["db".into()]));
    assert!(model.is_ready(), "the others are not ready, and nobody asked for them");
    assert_eq!(model.first_lines(), ["db: healthy"]);
    let reason = "no such command".to_owned();
    let failed = Event::Failed { unix_ms: 0, service: "billing".into(), instance: None, reason };
    assert_eq!(model.apply(failed), [""; 0]);
    assert_eq!(model.failed(Instant::now()), None);
    assert!(!Model::new(status, BTreeSet::from(["db".into(), "orders".into()])).is_ready());
}

#[test]
fn a_failed_replacement_leaves_what_was_there() {
    let mut status = sample::shop();
    status.services.truncate(2);
    for service in &mut status.services {
        service.instances.truncate(1);
        service.wanted = 1;
        let name = format!("{}-2", service.name);
        let mut fresh = sample::instance(&name, InstanceState::Exited, Health::None, 50);
        fresh.exit_code = Some(2);
        service.instances.push(fresh);
    }
    let model = all(status);
    assert_eq!(
        model.first_lines(),
        [
            "db: db-2: ended with code 2; the earlier one serves on",
            "orders: orders-2: ended with code 2; the earlier one serves on"
        ]
    );
    let failed = Failed {
        service: "db".into(),
        instance: Some("db-2".into()),
        reason: "ended with code 2".to_owned(),
    };
    let nowhere = std::path::PathBuf::from("/nowhere");
    let bases = sinew_node::folders::Bases { run: nowhere.clone(), state: nowhere };
    let failure = explain(&failed, &model, &Folders::new(&bases, &"shop".into()));
    assert_eq!(failure.message, "`db-2` does not come up: ended with code 2; neither does `orders`");
    assert_eq!(
        failure.hint.as_deref(),
        Some(
            "`sinew logs db` shows more, `sinew status` the rest; the earlier one serves on (`sinew down` would end \
             that, too)"
        )
    );
}
