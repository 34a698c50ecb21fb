use super::*;
use crate::view::sample;

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
    let mut model = Model::new(sample::shop());
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
    assert_eq!(model.failed(), None);
    let running = instance_event("billing", "billing-1", InstanceState::Running, Health::None);
    assert_eq!(model.apply(running), ["billing: running"]);
    assert!(model.is_ready());
    assert_eq!(model.summary(Duration::from_millis(2_310)), "4 services (5 instances) up in 2.3s");
}

#[test]
fn waiting_ends_where_it_is_pointless() {
    let check = |change: fn(&mut sinew_spec::status::InstanceStatus), reason: Option<&str>| {
        let mut status = sample::shop();
        status.services.truncate(1);
        change(&mut status.services[0].instances[0]);
        let failed = Model::new(status).failed();
        assert_eq!(failed.map(|failed| failed.reason).as_deref(), reason);
    };
    check(|_| {}, None);
    check(|i| (i.state, i.exit_code) = (InstanceState::Exited, Some(3)), Some("ended with exit code 3"));
    check(|i| (i.state, i.exit_code) = (InstanceState::Exited, Some(0)), None);
    check(|i| (i.state, i.restarts) = (InstanceState::Backoff, 1), None);
    check(|i| (i.state, i.restarts) = (InstanceState::Backoff, 5), Some("ended, is tried again"));
    check(|i| i.health = Health::Unhealthy, Some("unhealthy"));

    let mut model = Model::new(sample::shop());
    let event = Event::Failed {
        unix_ms: 0,
        service: "db".into(),
        instance: None,
        reason: "no such command".to_owned(),
    };
    assert_eq!(model.apply(event), ["db: failed: no such command"]);
    assert_eq!(model.failed().map(|failed| failed.reason).as_deref(), Some("no such command"));
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
