//! A shop in some trouble, for tests of views.

use sinew_spec::status::{
    ApplicationStatus, Health, InstanceState, InstanceStatus, PublishedStatus, RefusedStatus, ServiceStatus,
    TrafficStatus,
};

pub const NOW: u64 = 1_700_000_000_000;

pub fn instance(name: &str, state: InstanceState, health: Health, number: i32) -> InstanceStatus {
    let runs = state == InstanceState::Running;
    InstanceStatus {
        name: name.into(),
        state,
        health,
        restarts: 0,
        init_pid: runs.then_some(1001 + number),
        sidecar_pid: runs.then_some(1002 + number),
        service_pid: runs.then_some(1003 + number),
        started_unix_ms: runs.then_some(NOW - 40_000),
        exit_code: None,
        processes: runs.then_some(3),
        processes_max: Some(2048),
        memory_bytes: runs.then_some(48 << 20),
        sidecar_memory_bytes: runs.then_some(3 << 20),
        init_memory_bytes: runs.then_some(512 << 10),
        message: None,
        unheard_port: None,
    }
}

pub fn service(name: &str, instances: Vec<InstanceStatus>) -> ServiceStatus {
    ServiceStatus {
        name: name.into(),
        wanted: u32::try_from(instances.len()).expect("few"),
        instances,
        waits_for: Vec::new(),
        traffic: TrafficStatus::default(),
        refused: Vec::new(),
        left_out: 0,
        loopback_only: std::collections::BTreeMap::new(),
        ready: false,
    }
}

pub fn shop() -> ApplicationStatus {
    let mut db = service("db", vec![instance("db-1", InstanceState::Running, Health::Healthy, 0)]);
    db.instances[0].started_unix_ms = Some(NOW - 185_000);
    db.traffic = TrafficStatus { connections: 6, ..TrafficStatus::default() };

    let mut orders = service(
        "orders",
        vec![
            instance("orders-1", InstanceState::Running, Health::Healthy, 10),
            instance("orders-2", InstanceState::Running, Health::Unhealthy, 20),
        ],
    );
    orders.instances[1].restarts = 2;
    orders.instances[1].message = Some("HTTP 503 from :8000/health".to_owned());
    orders.traffic = TrafficStatus {
        requests: 1204,
        requests_per_second: 120.4,
        errors: 3,
        p50_ms: Some(1.2),
        p99_ms: Some(14.02),
        connections: 40,
    };
    orders.refused = vec![
        RefusedStatus { destination: "10.0.0.7:502/tcp".to_owned(), count: 10 },
        RefusedStatus { destination: "1.1.1.1:443/tcp".to_owned(), count: 1 },
    ];

    let mut billing =
        service("billing", vec![instance("billing-1", InstanceState::Waiting, Health::Starting, 30)]);
    billing.waits_for = vec!["orders (healthy)".to_owned()];

    let mut migrate =
        service("migrate", vec![instance("migrate-1", InstanceState::Exited, Health::None, 40)]);
    migrate.instances[0].exit_code = Some(0);

    ApplicationStatus {
        name: "shop".into(),
        folder: "/srv/shop".to_owned(),
        posture: Default::default(),
        revision: 7,
        applied: 3,
        subscribed: 4,
        absent: vec!["orders-2".into()],
        silent: Vec::new(),
        outdated: Default::default(),
        proxies_lost: Default::default(),
        services: vec![db, orders, billing, migrate],
        published: vec![PublishedStatus {
            service: "orders".into(),
            listen: "127.0.0.1:8080".to_owned(),
            target: 8000,
            message: None,
            waits_for: None,
        }],
        memory_bytes: Some(15_204_352),
        ready: false,
    }
}
