//! A file as people have it: known servers and own services as images, one of them built here.

use super::*;

const SYSTEM: &str = r#"
services:
  redis:
    image: localhost/redis
    command: [redis-server, --dir, /data, --save, "1 1", --protected-mode, "no"]
    volumes: ["redis:/data"]
    restart: unless-stopped
  mosquitto:
    image: localhost/mosquitto
    user: app
    command: [mosquitto, -c, /etc/mosquitto.conf]
    configs: [{ source: mosquitto, target: /etc/mosquitto.conf, mode: 0444 }]
    expose: [1883]
    restart: unless-stopped
  counter:
    build: { context: ./counter, args: { GREETING: hello } }
    depends_on:
      redis: { condition: service_healthy }
      mosquitto: { condition: service_started }
    stop_grace_period: 1s
  listener:
    image: localhost/mosquitto
    command: [mosquitto_sub, -h, mosquitto, -t, line, -v]
    depends_on: [mosquitto]
    restart: on-failure
volumes: { redis: }
configs:
  mosquitto: { content: "listener 1883 0.0.0.0\nallow_anonymous true\n" }
"#;

const DOCKERFILE: &str = r#"
FROM localhost/client
ARG GREETING
ENV GREETING=$GREETING
COPY run.sh /run.sh
STOPSIGNAL SIGKILL
CMD ["/bin/sh", "/run.sh"]
"#;

/// Counts in the one, tells the other, until somebody has heard it.
const RUN: &str = r#"
while true; do
  count=$(redis-cli -h redis incr visits) && mosquitto_pub -h mosquitto -t line -m "$GREETING $count"
  sleep 1
done
"#;

#[test]
fn a_file_with_redis_mosquitto_and_own_images_runs_unchanged() {
    let podman = Podman::start();
    podman.image("redis-bare", &["redis-server", "redis-cli"]);
    podman.image_from("redis", "redis-bare", "HEALTHCHECK --interval=5s CMD redis-cli ping");
    podman.image("mosquitto", &["mosquitto", "mosquitto_sub"]);
    podman.image("client", &["redis-cli", "mosquitto_pub"]);
    let sandbox = sandbox(&podman, "system");
    sandbox.write("compose.yaml", SYSTEM);
    sandbox.write("counter/Dockerfile", DOCKERFILE);
    sandbox.write("counter/.dockerignore", "*\n!run.sh\n");
    sandbox.write("counter/run.sh", RUN);
    sandbox.write("counter/secret.key", "not for images");
    sandbox.sinew(&["up", "-d"]).ok();
    until("what was counted is heard", PATIENCE, || {
        let logs = sandbox.sinew(&["logs", "--no-prefix", "listener"]).stdout;
        logs.contains("line hello ").then_some(())
    });
    let count = |sandbox: &Sandbox| {
        let asked = sandbox.sinew(&["exec", "redis", "--", "redis-cli", "get", "visits"]).ok();
        asked.stdout.trim().parse::<u64>().expect("a number")
    };
    let before = count(&sandbox);
    assert!(before > 0);
    let status = sandbox.sinew(&["status", "-o", "json"]).ok().json();
    let redis =
        status["services"].as_array().expect("services").iter().find(|service| service["name"] == "redis");
    assert_eq!(
        redis.expect("it is shown")["instances"][0]["health"],
        "healthy",
        "the image says how it is asked"
    );
    // What is not declared is refused, quickly, and shown.
    let outside = ["exec", "counter", "--", "sh", "-c", "nc -w 3 192.0.2.1 80 </dev/null"];
    assert_ne!(sandbox.sinew(&outside).code, 0);
    until("the refusal is shown", PATIENCE, || {
        sandbox.sinew(&["status"]).stdout.contains("192.0.2.1:80").then_some(())
    });

    // Typed again, nothing changes: the image that is built is the same.
    let containers = podman.containers();
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!(podman.containers(), containers);

    // What it kept is there after everything was down.
    sandbox.sinew(&["down"]).ok();
    assert_eq!(podman.containers(), Vec::<String>::new());
    sandbox.sinew(&["up", "-d"]).ok();
    assert!(count(&sandbox) >= before);
    sandbox.sinew(&["down", "-v"]).ok();
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

#[test]
fn an_image_that_is_not_there_is_said_before_anything_starts() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    let sandbox = sandbox(&podman, "missing");
    let refuse = |text: &str, code: i32, expected: &str| {
        sandbox.write("compose.yaml", text);
        let done = sandbox.sinew(&["up", "-d"]);
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(done.stderr.contains(expected), "{}", done.stderr);
    };
    refuse(
        "services: {a: {image: localhost/absent, pull_policy: never}}\n",
        2,
        "the image localhost/absent of `a` is not on this host, and `pull_policy: never` forbids to pull it",
    );
    refuse("services: {a: {image: localhost:1/absent}}\n", 1, "pulling the image localhost:1/absent");
    refuse(
        "services: {a: {image: localhost/busy}}\n",
        2,
        "the image localhost/busy of `a` says no command, and neither does the file",
    );
    refuse(
        "services:\n  a: {image: localhost/busy, command: [sleep, '9']}\n  b: {image: localhost/busy, command: [sleep, '9'], depends_on: {a: {condition: service_healthy}}}\n",
        2,
        "`b` waits until `a` is healthy, and neither the file nor the image of `a` says how",
    );
    sandbox.write("compose.yaml", "services: {a: {build: .}}\n");
    sandbox.write("Dockerfile", "FROM localhost/busy\nRUN exit 3\n");
    let done = sandbox.sinew(&["up", "-d"]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("building the image of `a`"), "{}", done.stderr);
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
