use std::fmt::Write;

use sinew_spec::application::{Protocol, PublishedPort};
use sinew_spec::proxy::HopAddress;

use super::*;
use crate::registry::{GRACE, Routing};

/// `web` (published) talks to `orders`, `orders` to `stock`; `web` and `stock` share no network.
fn application() -> Application {
    let mut web = Service::new("web", vec!["web".into()]);
    web.networks = ["front".to_owned()].into();
    web.published = vec![PublishedPort {
        host: [127, 0, 0, 1].into(),
        published: Some(8080),
        target: 80,
        protocol: None,
    }];
    web.protocols = [(80, Protocol::Http)].into();
    let mut orders = Service::new("orders", vec!["orders".into()]);
    orders.networks = ["front".to_owned(), "back".to_owned()].into();
    let mut stock = Service::new("stock", vec!["stock".into()]);
    stock.networks = ["back".to_owned()].into();
    let services = [web, orders, stock].into_iter().map(|service| (service.name.clone(), service)).collect();
    Application {
        name: "shop".into(),
        folder: "/shop".into(),
        files: Vec::new(),
        services,
        volumes: BTreeMap::new(),
        gateway: Default::default(),
    }
}

fn registry(instances: &[(&str, &str)]) -> Registry {
    let mut registry = Registry::new(GRACE);
    for (service, instance) in instances {
        let hop = Some(HopAddress::Unix(format!("/run/{instance}").into()));
        registry.enter(&(*instance).into(), Instance::fresh(&(*service).into(), 1, hop)).unwrap();
        registry.route(&(*instance).into(), Routing::In);
        registry.serves(&(*instance).into());
    }
    registry
}

/// One line per proxy: `name: calls -> endpoints; called by; publishes; workers`.
#[track_caller]
fn check(application: &Application, registry: &Registry, expect: &str) {
    let mut addresses = Addresses::default();
    addresses.assign(application).unwrap();
    let trust_domain = TrustDomain::new("shop.sinew");
    let published = published(application);
    let view = View {
        application,
        published: &published,
        trust_domain: &trust_domain,
        addresses: &addresses,
        registry,
    };
    assert_eq!(view.configs(), view.configs());

    let mut found = String::new();
    for (name, config) in view.configs() {
        assert_eq!((config.revision, &config.instance), (0, &name));
        write!(found, "{name}:").unwrap();
        for destination in &config.destinations {
            let endpoints: Vec<&str> =
                destination.endpoints.iter().map(|endpoint| endpoint.instance.as_str()).collect();
            write!(found, " {}={}", destination.service, endpoints.join(",")).unwrap();
        }
        if let Some(inbound) = &config.inbound {
            let callers: Vec<&str> = inbound.callers.iter().map(ServiceName::as_str).collect();
            write!(found, " <- {}", callers.join(" ")).unwrap();
            found.push_str(if inbound.draining { " draining" } else { "" });
        }
        for published in &config.published {
            write!(found, " {}->{}:{}", published.listen, published.service, published.port).unwrap();
        }
        if let Some(workers) = config.limits.workers {
            write!(found, " x{workers}").unwrap();
        }
        if config.limits.handover_drain_ms != ProxyLimits::default().handover_drain_ms {
            write!(found, " drains {} ms", config.limits.handover_drain_ms).unwrap();
        }
        found.push('\n');
    }
    assert_eq!(found.trim(), expect.trim());
}

#[test]
fn a_gateway_has_a_worker_for_each_core_and_others_what_they_say() {
    let registry = registry(&[("web", "web-1"), ("orders", "orders-1"), ("_gateway", "_gateway-1")]);
    let mut application = application();
    application.services.get_mut("orders").unwrap().workers = Some(Workers::Count(2));
    let expect = |gateway: &str| {
        format!(
            "
_gateway-1: web=web-1 127.0.0.1:8080->web:80 x{gateway}
orders-1: orders=orders-1 stock= web=web-1 <- orders stock web x2
web-1: orders=orders-1 web=web-1 <- _gateway orders web
"
        )
    };
    check(&application, &registry, &expect("auto"));
    application.gateway.workers = Some(Workers::Count(1));
    check(&application, &registry, &expect("1"));
    application.gateway.handover_drain_ms = Some(7);
    check(&application, &registry, &expect("1 drains 7 ms"));
    application.services.get_mut("web").unwrap().handover_drain_ms = Some(8);
    check(&application, &registry, &format!("{} drains 8 ms", expect("1 drains 7 ms").trim_end()));
}

#[test]
fn who_shares_a_network_may_call() {
    let registry = registry(&[
        ("web", "web-1"),
        ("orders", "orders-1"),
        ("orders", "orders-2"),
        ("stock", "stock-1"),
        ("_gateway", "_gateway-1"),
    ]);
    check(
        &application(),
        &registry,
        "
_gateway-1: web=web-1 127.0.0.1:8080->web:80 xauto
orders-1: orders=orders-1,orders-2 stock=stock-1 web=web-1 <- orders stock web
orders-2: orders=orders-1,orders-2 stock=stock-1 web=web-1 <- orders stock web
stock-1: orders=orders-1,orders-2 stock=stock-1 <- orders stock
web-1: orders=orders-1,orders-2 web=web-1 <- _gateway orders web
",
    );
}

#[test]
fn only_who_is_ready_and_stays_is_chosen() {
    let mut registry = registry(&[("orders", "orders-1"), ("orders", "orders-2"), ("web", "web-1")]);
    registry.route(&"orders-1".into(), Routing::Out);
    registry.route(&"web-1".into(), Routing::Draining);
    check(
        &application(),
        &registry,
        "
orders-1: orders=orders-2 stock= web= <- orders stock web
orders-2: orders=orders-2 stock= web= <- orders stock web
web-1: orders=orders-2 web= <- _gateway orders web draining
",
    );
}

#[test]
fn a_service_that_left_ends_what_it_has() {
    let registry = registry(&[("orders", "orders-1"), ("gone", "gone-1")]);
    check(
        &application(),
        &registry,
        "
gone-1: <-  draining
orders-1: orders=orders-1 stock= web= <- orders stock web
",
    );
}
