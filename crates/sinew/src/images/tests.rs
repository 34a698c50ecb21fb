use super::*;

fn image() -> Image {
    Image {
        id: "sha256:1".to_owned(),
        entrypoint: vec!["/entry".to_owned()],
        command: vec!["serve".to_owned()],
        stop_signal: "SIGQUIT".to_owned(),
        ..Image::default()
    }
}

fn service(change: impl FnOnce(&mut Container)) -> Service {
    let mut container = Container { image: "x".to_owned(), ..Container::default() };
    change(&mut container);
    Service { container: Some(container), ..Service::new("db", Vec::new()) }
}

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split_whitespace().map(str::to_owned).collect())
}

fn command(change: impl FnOnce(&mut Container)) -> String {
    let mut service = service(change);
    match complete(&mut service, &image()) {
        Ok(()) => service.command.join(" "),
        Err(failure) => failure.message,
    }
}

#[test]
fn the_file_wins_over_the_image() {
    assert_eq!(command(|_| {}), "/entry serve");
    assert_eq!(command(|container| container.command = words("migrate -v")), "/entry migrate -v");
    assert_eq!(command(|container| container.entrypoint = words("/bin/sh")), "/bin/sh");
    let both = |container: &mut Container| {
        container.entrypoint = words("/bin/sh");
        container.command = words("-c true");
    };
    assert_eq!(command(both), "/bin/sh -c true");
    assert_eq!(
        command(|container| container.entrypoint = Some(Vec::new())),
        "the image x of `db` says no command, and neither does the file"
    );
}

#[test]
fn signals_have_names_and_numbers() {
    for (text, expected) in [
        ("SIGQUIT", Some(3)),
        ("quit", Some(3)),
        ("15", Some(15)),
        ("SIGRTMIN+3", Some(37)),
        ("99", None),
        ("x", None),
    ] {
        assert_eq!(signal(text), expected, "{text}");
    }
}

#[test]
fn an_image_may_say_how_its_health_is_asked() {
    let with = |test: &[&str]| {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        let own = sinew_engine::ImageHealth { test, interval: 5_000_000_000, ..Default::default() };
        health(&Image { health: Some(own), ..image() })
    };
    let check = with(&["CMD-SHELL", "redis-cli ping"]).expect("a check");
    assert_eq!(check.probe, Probe::Command(["/bin/sh", "-c", "redis-cli ping"].map(str::to_owned).to_vec()));
    assert_eq!((check.interval_ms, check.timeout_ms, check.retries), (5_000, HEALTH_MS, HEALTH_RETRIES));
    assert_eq!(with(&["NONE"]), None);
    assert_eq!(health(&image()), None);
}
