//! What a container can do, and what it cannot: its files, its user, its privileges, and a hostile one.

use super::*;

const HOSTILE: &str = r#"
services:
  other:
    image: localhost/busy
    command: [sleep, "1000"]
    environment: { TOKEN: correct-horse-battery-staple }
    stop_grace_period: 1s
    volumes: ["theirs:/data"]
  probe:
    image: localhost/hostile
    command: [python3, /probe.py]
    volumes: ["/usr:/usr:ro", "./probe.py:/probe.py:ro", "own:/data"]
    environment: ["PROBE_CONTAINER=1", PROBE_HOST_PID, PROBE_OTHERS, PROBE_PROJECT, PROBE_SECRET, PROBE_ABSTRACT, PROBE_HOST_ADDRESS, PROBE_HOST_PORT]
    depends_on: [other]
volumes: { own: , theirs: }
"#;

#[test]
fn a_hostile_container_gets_nowhere() {
    let podman = Podman::start();
    hostile_gets_nowhere(&podman, sandbox(&podman, "hostile"));
}

pub fn hostile_gets_nowhere(engine: &impl Engine, mut sandbox: Sandbox) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    engine.image("busy", &[]);
    engine.image_of_links("hostile");
    sandbox.write("compose.yaml", HOSTILE);
    sandbox.write("probe.py", include_str!("../seal/probe.py"));
    let mut host = std::process::Command::new("sleep").arg("1000").spawn().expect("a process of the host");
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a listener of the host");
    let name = format!("sinew-container-probe-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let _abstract = UnixListener::bind_addr(&address).expect("an abstract listener");
    let others = [sandbox.state().join("hostile/volumes/theirs"), sandbox.run(), engine.socket()];
    sandbox.environment.extend([
        ("PROBE_HOST_PID", host.id().to_string()),
        ("PROBE_OTHERS", others.map(|path| path.display().to_string()).join(":")),
        ("PROBE_PROJECT", sandbox.folder.display().to_string()),
        // Reversed, or it would find itself.
        ("PROBE_SECRET", "correct-horse-battery-staple".chars().rev().collect()),
        ("PROBE_ABSTRACT", format!("@{name}")),
        ("PROBE_HOST_ADDRESS", "127.0.0.2".to_owned()),
        ("PROBE_HOST_PORT", listener.local_addr().expect("an address").port().to_string()),
    ]);
    sandbox.sinew(&["up", "-d"]);
    let text = until("the probe has ended", PATIENCE, || {
        let logs = sandbox.sinew(&["logs", "--no-prefix", "probe"]).stdout;
        (logs.contains("ALL HELD") || logs.contains("SOMETHING") || logs.contains("Traceback"))
            .then_some(logs)
    });
    let not_held: Vec<&str> = text.lines().filter(|line| !line.starts_with("held: ")).collect();
    assert_eq!(not_held, ["ALL HELD"], "{text}");
    assert!(text.matches("held: ").count() > 120, "every attempt is told: {text}");
    assert!(host.try_wait().expect("look").is_none(), "the host's process lives");
    host.kill().expect("kill");
    host.wait().expect("wait");
    sandbox.sinew(&["down", "-v"]).ok();
    assert_eq!(engine.containers(), Vec::<String>::new());
}

const KEYS: &str = r#"
services:
  web:
    image: localhost/busy
    command: [sh, -c, "echo kept >> /data/file; exec sleep 1000"]
    user: app
    working_dir: /tmp
    hostname: tower
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    stop_grace_period: 1s
    mem_limit: 64m
    cpus: 0.5
    ulimits: { nofile: 512, nproc: 4096 }
    labels: { team: blue }
    volumes: ["data:/data", "./shown:/shown:ro", ".:/project:ro"]
    secrets: [token]
    configs: [{ source: settings, target: /etc/settings }]
  root:
    image: localhost/busy
    command: [sleep, "1000"]
    cap_drop: [CHOWN]
    stop_grace_period: 1s
volumes: { data: }
secrets: { token: { file: ./token.txt } }
configs: { settings: { content: "level=3" } }
"#;

#[test]
fn the_keys_of_a_container_do_what_they_say() {
    let podman = Podman::start();
    keys_do_what_they_say(&podman, &sandbox(&podman, "keys"));
}

pub fn keys_do_what_they_say(engine: &impl Engine, sandbox: &Sandbox) {
    engine.image("busy", &[]);
    sandbox.write("compose.yaml", KEYS);
    sandbox.write("token.txt", "sesame");
    sandbox.write("shown/note", "for all");
    sandbox.sinew(&["up", "-d"]).ok();
    let inside = |service: &str, script: &str| {
        let done = sandbox.sinew(&["exec", service, "--", "sh", "-c", script]);
        format!("{}{}", done.stdout, done.stderr).trim_end().to_owned()
    };
    assert_eq!(inside("web", "id -u; id -g; pwd; hostname"), "1000\n1000\n/tmp\ntower");
    assert_eq!(inside("web", "cat /data/file /shown/note; stat -c %u /data"), "kept\nfor all1000");
    assert_eq!(inside("web", "cat /run/secrets/token /etc/settings"), "sesamelevel=3");
    assert_eq!(inside("web", "echo x > /tmp/x && cat /tmp/x"), "x");
    assert!(inside("web", "echo x > /x").contains("Read-only file system"));
    assert!(inside("web", "echo x > /shown/x").contains("Read-only file system"));
    assert_eq!(inside("web", "ulimit -n"), "512");
    // Nothing of the application's own that the service was not given.
    assert_eq!(inside("web", "cat /project/compose.yaml /project/token.txt 2>/dev/null | wc -c"), "0");
    assert_eq!(inside("web", "cat /project/shown/note"), "for all");
    let status = "grep -E 'CapBnd|CapEff|NoNewPrivs|^Seccomp:' /proc/self/status | tr -d '\\t'";
    assert_eq!(
        inside("web", status),
        "CapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2"
    );
    // SETPCAP, SETUID, SETGID, KILL, FOWNER, FSETID, DAC_OVERRIDE, NET_BIND_SERVICE, SYS_CHROOT, SETFCAP; not CHOWN.
    assert!(inside("root", status).starts_with("CapEff:00000000800405fa\n"), "{}", inside("root", status));
    assert!(inside("root", "chown app /tmp").contains("Operation not permitted"));
    let described = engine.run(&[
        "inspect",
        "--format",
        "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.Config.Labels.team}}",
        &web(engine),
    ]);
    assert_eq!(described.trim_end(), "67108864 500000000 2048 blue");

    sandbox.sinew(&["down"]).ok();
    sandbox.sinew(&["up", "-d"]).ok();
    assert_eq!(inside("web", "cat /data/file"), "kept\nkept", "a volume outlives its containers");
    sandbox.sinew(&["down", "-v"]).ok();
    assert_eq!(engine.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}

fn web(engine: &impl Engine) -> String {
    engine
        .containers()
        .into_iter()
        .find(|name| name.contains("web") && !name.ends_with("-network"))
        .expect("it runs")
}

#[test]
fn what_would_open_the_seal_is_refused() {
    let podman = Podman::start();
    podman.image("busy", &[]);
    let sandbox = sandbox(&podman, "refused");
    let refuse = |keys: &str, expected: &str| {
        sandbox.write(
            "compose.yaml",
            &format!("services: {{web: {{image: localhost/busy, command: [sleep, '9'], {keys}}}}}\n"),
        );
        let done = sandbox.sinew(&["up", "-d"]);
        assert_eq!(done.code, 2, "{keys}: {}", done.stderr);
        assert!(done.stderr.contains(expected), "{keys}: {}", done.stderr);
    };
    refuse("privileged: true", "`privileged` is not supported");
    refuse("network_mode: host", "`network_mode` is not supported");
    refuse("pid: host", "`pid` is not supported");
    refuse("cap_add: [NET_ADMIN]", "the capability `NET_ADMIN` cannot be added");
    refuse("cap_add: [ALL]", "the capability `ALL` cannot be added");
    refuse(
        "security_opt: [\"seccomp=unconfined\"]",
        "the security option `seccomp=unconfined` is not supported",
    );
    refuse("volumes: [\"/:/host\"]", "/ cannot be shown to a container: it is the host itself");
    refuse("volumes: [\"/run:/run\"]", "/run cannot be shown to a container");
    let socket = podman.socket().display().to_string();
    refuse(&format!("volumes: [\"{socket}:/s\"]"), "it is a socket of the host");
    refuse("devices: [/dev/null:/dev/kmem, /dev/kmsg]", "/dev/kmsg cannot be shown to a container");
    assert_eq!(podman.containers(), Vec::<String>::new());
    assert_eq!(sandbox.left_over(), Vec::<String>::new());
}
